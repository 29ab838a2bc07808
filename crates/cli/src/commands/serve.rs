//! `bandstand serve [APP]`: settings, project, Python, then the edge until it is stopped.
//!
//! Owns the order of these four. Everything that can be known before a socket is opened fails here.

use bandstand_config::{Loaded, Project, load, python};
use bandstand_edge::{Run, ServeError};
use clap::ArgMatches;

use crate::args;
use crate::report::Failure;

/// Serves until stopped.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let loaded = load(args::sources(matches)?).map_err(Failure::Configuration)?;
    serve(prepare(loaded)?)
}

/// Finds what the edge needs beside the settings.
fn prepare(loaded: Loaded) -> Result<Run, Failure> {
    let env = args::environment();
    let project = Project::find(&loaded, &env).map_err(Failure::Project)?;
    let asked = loaded.settings.python.as_deref();
    let python =
        python::find(asked, args::program().as_deref(), &env, &project.chdir).map_err(Failure::Project)?;
    let app_env = loaded.app_env.clone();
    Ok(Run { loaded, project, python: python.path, app_env })
}

/// The one call into the edge.
fn serve(run: Run) -> Result<(), Failure> {
    bandstand_edge::serve(run)
        .map_err(|error: ServeError| Failure::Run { sentence: error.to_string(), code: error.exit_code() })
}
