//! The databases of NSS: one for Chromium and its like, one for every profile of Firefox.
//!
//! Owns the calls of `certutil`, and what is said when it is missing. A name is tried away before it is added, so that a
//! database never holds two certificates of one name.

use std::path::PathBuf;

use super::{Command, Machine, Step, word};
use crate::local::Kept;

/// A folder with, or for, a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The folder.
    pub folder: PathBuf,
    /// Whose it is: `Chromium`, `Firefox`.
    pub browser: &'static str,
    /// Whether there is one; a browser that was never started has none yet.
    pub made: bool,
}

/// In every database what goes, then what comes.
pub(super) fn plan(machine: &Machine, add: Option<&Kept>, remove: &[&Kept]) -> Vec<Step> {
    let databases: Vec<&Database> =
        machine.databases.iter().filter(|database| database.made || add.is_some()).collect();
    if databases.is_empty() || (add.is_none() && remove.is_empty()) {
        return Vec::new();
    }
    if !machine.certutil {
        return vec![Step::Lacking(lacking(&databases, machine.packages))];
    }
    databases.into_iter().flat_map(|database| one(database, add, remove)).map(Step::Run).collect()
}

fn lacking(databases: &[&Database], packages: &str) -> String {
    let mut browsers: Vec<&str> = databases.iter().map(|database| database.browser).collect();
    browsers.dedup();
    format!(
        "{} cannot be told without certutil, the tool of NSS: install it ({packages}) and do this again",
        browsers.join(" and ")
    )
}

fn one(database: &Database, add: Option<&Kept>, remove: &[&Kept]) -> Vec<Command> {
    let folder = word(&database.folder);
    let store = format!("sql:{folder}");
    let mut commands = Vec::new();
    if !database.made {
        commands.push(Command::new(["mkdir", "-p", &folder]));
        commands.push(Command::new(["certutil", "-N", "-d", &store, "--empty-password"]));
    } else {
        let names = remove.iter().copied().chain(add).map(|kept| kept.name.as_str());
        let delete = |name| Command::new(["certutil", "-D", "-d", &store, "-n", name]).that_may_fail();
        commands.extend(names.map(delete));
    }
    if let Some(kept) = add {
        let file = word(&kept.file);
        // `C`: an authority for servers; nothing for mail, nothing for programs.
        commands
            .push(Command::new(["certutil", "-A", "-d", &store, "-t", "C,,", "-n", &kept.name, "-i", &file]));
    }
    commands
}
