//! `bandstand config`: each effective value with its origin.
//!
//! Owns the choice of form. What the Django project says is asked of the project's own Python when the folder has one; when it
//! cannot answer, a note says so and the rest is printed.

use bandstand_config::{Loaded, ProjectSettings, explain, reference};
use clap::ArgMatches;

use crate::report::{self, Failure};
use crate::{args, gunicorn, project};

/// Prints the settings, or with `--reference` the page that describes them.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    if matches.get_flag("reference") {
        return report::print(&reference::markdown());
    }
    let mut loaded = gunicorn::load(args::sources(matches)?)?;
    match ask(&loaded) {
        Ok(said) => loaded = loaded.with_django(&said),
        Err(why) => loaded.notes.push(format!("the project's own settings are not in here: {why}")),
    }
    match matches.get_one::<String>("format").map(String::as_str) {
        Some("json") => report::print(&explain::to_json(&loaded)),
        _ => report::print(&explain::to_toml(&loaded)),
    }
}

/// The project's word, or why there is none, in a line.
fn ask(loaded: &Loaded) -> Result<ProjectSettings, String> {
    let run = project::find(loaded.clone()).map_err(|failure| failure.sentence())?;
    let described = project::describe(&run, &[]);
    described.map(|described| described.project).map_err(|why| project::headline(&why).to_owned())
}
