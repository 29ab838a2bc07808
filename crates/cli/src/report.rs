//! Outcomes in words for people, on standard error, and their exit status.
//!
//! Owns the line `bandstand: …` and the statuses: 1 the run failed, 2 wrong usage or configuration. The sentences are
//! written where the failure is understood.

use std::io::Write;
use std::process::ExitCode;

use bandstand_config::{Errors, Finding, Problem};

/// Why a verb did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something written by the operator is wrong: status 2.
    Configuration(Errors),
    /// No application, no Python: status 1.
    Project(Problem),
    /// The run itself failed.
    Run {
        /// What happened.
        sentence: String,
        /// Exit status, 1 or 2.
        code: u8,
    },
}

impl Failure {
    /// What is said about it.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Failure::Configuration(errors) => errors.to_string(),
            Failure::Project(problem) => problem.to_string(),
            Failure::Run { sentence, .. } => sentence.clone(),
        }
    }

    /// Exit status.
    fn code(&self) -> u8 {
        match self {
            Failure::Configuration(_) => 2,
            Failure::Project(_) => 1,
            Failure::Run { code, .. } => *code,
        }
    }
}

/// Says why, and gives the status.
pub(crate) fn failure(failure: &Failure) -> ExitCode {
    say(&failure.sentence());
    ExitCode::from(failure.code())
}

/// A finding on one line: what, where set, what to do.
pub(crate) fn line(finding: &Finding) -> String {
    let Finding { level, what, place, advice } = finding;
    let place = if place.is_empty() { String::new() } else { format!(" ({place})") };
    let advice = if advice.is_empty() { String::new() } else { format!(": {advice}") };
    format!("{}: {what}{place}{advice}", level.as_str()).replace(['\r', '\n'], " ")
}

/// A line for the operator that is no failure.
pub(crate) fn say(text: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "bandstand: {text}");
}

/// What clap says about the command line; help and version go to standard output with status 0.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Prints a result on standard output.
///
/// # Errors
/// Status 1 when it cannot be written; a reader that left early (`| head`) is fine.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Run { sentence: format!("cannot write to standard output: {error}"), code: 1 })
        }
        _ => Ok(()),
    }
}
