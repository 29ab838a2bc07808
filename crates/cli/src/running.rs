//! The verbs that speak to a server that runs: their flags, and the way to it.
//!
//! Owns what these verbs have in common; each does its own work in `commands/`. The server of a project is found through the same
//! settings that started it (`edge::control::Place`), or by its socket. Invariant: with `--control` no settings are read, so that a
//! server can be asked and stopped also when they are broken.

use std::path::PathBuf;

use bandstand_config::knobs::{Knob, find};
use bandstand_edge::control::{Connection, Gone, Place, connect};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::report::Failure;
use crate::{args, gunicorn};

/// The rows of settings that say which project, and so which server.
const WHICH: [&str; 3] = ["chdir", "config", "control"];

/// The verbs.
pub(crate) fn verbs() -> Vec<Command> {
    vec![
        which("status", "Show the state of the running server").arg(json()),
        which("top", "Watch the running server: rates, times, queue, workers")
            .arg(
                Arg::new("interval")
                    .long("interval")
                    .value_name("SECONDS")
                    .value_parser(clap::value_parser!(f64))
                    .default_value("1")
                    .help("Between two looks, 0.1 to 3600"),
            )
            .arg(switch("once", "Print one look as text and end, as without a terminal")),
        which("requests", "List what runs now, for how long, in which worker").arg(json()),
        which("stacks", "Print Python stacks: of all workers, of one, or of what works on a request")
            .arg(
                Arg::new("whose")
                    .value_name("WORKER|REQUEST_ID")
                    .help("A worker's number, or a request's id"),
            )
            .arg(json()),
        which("reload", "Load settings and code anew; wait until they serve, or say why they do not"),
        which("scale", "Run more or fewer workers").arg(
            Arg::new("workers")
                .value_name("N|+N|-N")
                .required(true)
                .allow_hyphen_values(true)
                .help("How many, or how many more or fewer"),
        ),
        which("reopen", "Open the log files anew, after their rotation"),
        which("stop", "Stop the running server and wait until it is gone")
            .arg(switch("now", "Cut what runs, instead of letting it finish")),
    ]
}

fn which(name: &'static str, about: &'static str) -> Command {
    let flags = WHICH.iter().filter_map(|key| find(key)).map(|knob: &'static Knob| args::flag(knob));
    Command::new(name).about(about).args(flags.map(|flag| flag.help_heading("Which server")))
}

fn json() -> Arg {
    switch("json", "Print JSON, for programs")
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// The server that these flags mean.
///
/// # Errors
/// None runs, several do, or the settings cannot be read.
pub(crate) fn server(matches: &ArgMatches) -> Result<Connection, Failure> {
    connect(&place(matches)?).map_err(Failure::from)
}

fn place(matches: &ArgMatches) -> Result<Place, Failure> {
    let given = |key: &str| matches.get_one::<String>(key).cloned();
    if let Some(path) = given("control") {
        return Ok(Place::at(PathBuf::from(path)));
    }
    let flags = WHICH.iter().filter_map(|key| Some(((*key).to_owned(), vec![given(key)?])));
    Ok(Place::of(&gunicorn::load(args::surroundings(flags.collect(), Vec::new())?)?))
}

impl From<Gone> for Failure {
    fn from(gone: Gone) -> Self {
        Failure::Run { sentence: gone.to_string(), code: 1 }
    }
}
