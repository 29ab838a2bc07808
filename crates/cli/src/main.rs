//! The bandstand program: reads the command line, does one verb, ends with a status.
//!
//! Owns the way from arguments to a verb and from an outcome to an exit status: 0 fine, 1 the run failed, 2 wrong usage or
//! configuration. Settings are the `config` crate's, serving is the edge's, and words for people are `report.rs`.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod figures;
mod gunicorn;
mod habits;
mod project;
mod report;
mod running;

use std::process::ExitCode;

use bandstand_certificates::trust::Wish;

/// Requests allocate and free many small pieces from several threads; measured faster than the system's allocator there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = match args::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return report::usage(&error),
    };
    let outcome = match matches.subcommand() {
        Some(("dev", matches)) => commands::dev::run(matches),
        Some(("serve", matches)) => commands::serve::run(matches),
        Some(("check", matches)) => commands::check::run(matches),
        Some(("explain", matches)) => commands::explain::run(matches),
        Some(("config", matches)) => commands::config::run(matches),
        Some(("status", matches)) => commands::status::run(matches),
        Some(("requests", matches)) => commands::requests::run(matches),
        Some(("stacks", matches)) => commands::stacks::run(matches),
        Some(("top", matches)) => commands::top::run(matches),
        Some(("reload", matches)) => commands::reload::run(matches),
        Some(("scale", matches)) => commands::scale::run(matches),
        Some(("reopen", matches)) => commands::reopen::run(matches),
        Some(("stop", matches)) => commands::stop::run(matches),
        Some(("cert", matches)) => commands::cert::run(matches),
        Some(("trust", matches)) => commands::trust::run(matches, Wish::Trust),
        Some(("untrust", matches)) => commands::trust::run(matches, Wish::Untrust),
        Some(("version", _)) => commands::version::run(),
        _ => unreachable!("clap asks for one of the verbs that args.rs names"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report::failure(&failure),
    }
}
