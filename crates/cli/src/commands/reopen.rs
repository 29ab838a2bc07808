//! `bandstand reopen`: the log files anew, after something has renamed them (logrotate's `postrotate`).
//!
//! Owns nothing but the order; USR1 is the same.

use bandstand_edge::control::Command;
use clap::ArgMatches;

use crate::report::Failure;
use crate::running;

/// Orders it; silent when it is done, as scripts like it.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    running::server(matches)?.order(&Command::Reopen, None, |_| {})?;
    Ok(())
}
