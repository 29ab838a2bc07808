//! `bandstand stop`: the running server finishes what runs and ends; `--now` cuts it.
//!
//! Owns nothing but the words: the server ends by itself, within `graceful_timeout`, and the command waits until its process is gone.

use clap::ArgMatches;

use crate::report::{self, Failure};
use crate::running;

/// Stops it and waits.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    running::server(matches)?.stop(matches.get_flag("now"))?;
    report::print("stopped\n")
}
