//! `bandstand serve [APP]`: settings, project, Python, then the edge until it is stopped.
//!
//! Owns the order of these four, of which a reload does the first three again, from the same command line. Everything
//! that can be known before a socket is opened fails here.

use std::sync::Arc;

use bandstand_edge::{Again, Run, ServeError};
use clap::ArgMatches;

use crate::report::Failure;
use crate::{args, gunicorn, project};

/// Serves until stopped.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    until_stopped(matches, |matches| project::find(gunicorn::load(args::sources(matches)?)?))
}

/// Serves what `read` makes of the command line, now and at each reload.
///
/// # Errors
/// It cannot be read, or the run fails.
pub(crate) fn until_stopped(
    matches: &ArgMatches,
    read: fn(&ArgMatches) -> Result<Run, Failure>,
) -> Result<(), Failure> {
    let run = read(matches)?;
    let matches = matches.clone();
    let again: Again = Arc::new(move || read(&matches).map_err(|failure| failure.sentence()));
    bandstand_edge::serve(Run { again: Some(again), ..run })
        .map_err(|error: ServeError| Failure::Run { sentence: error.to_string(), code: error.exit_code() })
}
