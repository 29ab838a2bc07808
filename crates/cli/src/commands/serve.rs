//! `bandstand serve [APP]`: settings, project, Python, then the edge until it is stopped.
//!
//! Owns the order of these four. Everything that can be known before a socket is opened fails here.

use bandstand_config::load;
use bandstand_edge::ServeError;
use clap::ArgMatches;

use crate::report::Failure;
use crate::{args, project};

/// Serves until stopped.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let loaded = load(args::sources(matches)?).map_err(Failure::Configuration)?;
    bandstand_edge::serve(project::find(loaded)?)
        .map_err(|error: ServeError| Failure::Run { sentence: error.to_string(), code: error.exit_code() })
}
