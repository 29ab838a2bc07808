//! `bandstand reload`: settings and code anew, in a new generation beside the one that serves.
//!
//! Owns what is printed while it waits, which is the server's own words. It ends when the new generation serves (status 0), or has failed and everything is as before (1).

use bandstand_edge::control::{Command, Gone};
use clap::ArgMatches;

use crate::report::{self, Failure};
use crate::running;

/// Reloads and waits for the outcome, as long as it takes.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let server = running::server(matches)?;
    let mut unheard = Ok(());
    let done = server.order(&Command::Reload, None, |step| {
        // A reader that has left does not stop the reload.
        unheard = report::print(&format!("{step}\n"));
    });
    done.map_err(|gone| match gone {
        Gone::Refused(reason) => Failure::Run {
            sentence: format!("the reload failed, and what served before goes on: {}", reason.trim_end()),
            code: 1,
        },
        other => other.into(),
    })?;
    unheard
}
