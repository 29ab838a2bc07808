//! The system's own trust store.
//!
//! Owns a table of the families of systems: where a certificate is put and which command then builds the bundles from it.
//! Every family is known by the folder itself: who has the folder reads it, whatever the system calls itself.

use std::path::Path;

use super::{Command, Machine, Step, word};
use crate::local::Kept;

/// A family of systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// One of `TABLE`.
    Folder(&'static Row),
    /// The keychain of the user; no root is needed, the system itself asks for the password.
    MacOs,
    /// None of these.
    Unknown,
    /// Whichever it is, nothing is to be changed.
    LeftAlone,
}

/// Where certificates go, and what is run after.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// How people call it.
    pub name: &'static str,
    /// The folder of further authorities.
    pub folder: &'static str,
    /// What to run after a file came.
    add: &'static [&'static str],
    /// What to run after a file went.
    remove: &'static [&'static str],
}

/// Fedora before Debian: a system that has both folders reads the first.
pub(super) static TABLE: &[Row] = &[
    Row {
        name: "Fedora",
        folder: "/etc/pki/ca-trust/source/anchors",
        add: &["update-ca-trust", "extract"],
        remove: &["update-ca-trust", "extract"],
    },
    Row {
        name: "Arch",
        folder: "/etc/ca-certificates/trust-source/anchors",
        add: &["trust", "extract-compat"],
        remove: &["trust", "extract-compat"],
    },
    Row {
        name: "openSUSE",
        folder: "/etc/pki/trust/anchors",
        add: &["update-ca-certificates"],
        remove: &["update-ca-certificates"],
    },
    Row {
        name: "Debian",
        folder: "/usr/local/share/ca-certificates",
        add: &["update-ca-certificates"],
        // Without this the links to what is gone stay, and its text in the bundle.
        remove: &["update-ca-certificates", "--fresh"],
    },
];

/// First what goes, then what comes.
pub(super) fn plan(machine: &Machine, add: Option<&Kept>, remove: &[&Kept]) -> Vec<Step> {
    match machine.system {
        System::Folder(row) => by_folder(machine, row, add, remove),
        System::MacOs => by_keychain(machine, add, remove),
        System::Unknown => match add {
            Some(kept) => vec![Step::Lacking(format!(
                "this system's trust store is not known here: give it {} by hand",
                kept.file.display()
            ))],
            None => Vec::new(),
        },
        System::LeftAlone => Vec::new(),
    }
}

/// The name in the folder: `.crt` is what Debian looks for, and the others take.
fn anchor(row: &Row, kept: &Kept) -> String {
    word(&Path::new(row.folder).join(format!("bandstand-{}.crt", kept.label)))
}

fn by_folder(machine: &Machine, row: &'static Row, add: Option<&Kept>, remove: &[&Kept]) -> Vec<Step> {
    let mut commands = Vec::new();
    let there = |path: &String| machine.anchors.iter().any(|anchor| anchor == Path::new(path));
    let gone: Vec<String> = remove.iter().map(|kept| anchor(row, kept)).filter(there).collect();
    if !gone.is_empty() {
        commands.push(Command::new(["rm", "-f"].into_iter().chain(gone.iter().map(String::as_str))));
    }
    if let Some(kept) = add {
        commands.push(Command::new(["install", "-m", "0644", &word(&kept.file), &anchor(row, kept)]));
    }
    if !commands.is_empty() {
        let update = if gone.is_empty() { row.add } else { row.remove };
        commands.push(Command::new(update.iter().copied()));
    }
    commands.into_iter().map(|command| Step::Run(command.with_rights())).collect()
}

fn by_keychain(machine: &Machine, add: Option<&Kept>, remove: &[&Kept]) -> Vec<Step> {
    let keychain = word(&machine.home.join("Library/Keychains/login.keychain-db"));
    let mut commands: Vec<Command> = Vec::new();
    for kept in remove {
        let file = word(&kept.file);
        commands.push(Command::new(["security", "remove-trusted-cert", &file]).that_may_fail());
        let name = kept.name.as_str();
        commands
            .push(Command::new(["security", "delete-certificate", "-c", name, &keychain]).that_may_fail());
    }
    if let Some(kept) = add {
        let file = word(&kept.file);
        commands.push(Command::new([
            "security",
            "add-trusted-cert",
            "-r",
            "trustRoot",
            "-p",
            "ssl",
            "-k",
            &keychain,
            &file,
        ]));
    }
    commands.into_iter().map(Step::Run).collect()
}
