//! Having this machine and its browsers trust the local authority, and undoing that.
//!
//! Owns what is to be done, as a list of commands made from a description of the machine; nothing is run here. `machine`
//! looks at the machine, `system` and `nss` know the stores: the system's own, which most programs read, and the databases
//! of Chromium and Firefox. Invariants: the list is a pure function of the description; doing it twice is as good as once.
//! Sources: update-ca-certificates(8), update-ca-trust(8), trust(1), security(1), certutil(1) of NSS.

mod machine;
mod nss;
mod system;

use std::fmt;
use std::path::Path;

pub use self::machine::Machine;
pub use self::nss::Database;
pub use self::system::System;
use crate::local::{Kept, forget_former};

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The present authority is trusted, those before it are not.
    Trust,
    /// None of them is trusted.
    Untrust,
}

/// One thing to do or to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A command to run.
    Run(Command),
    /// A sentence for the person: something that cannot be done here, and how it could.
    Lacking(String),
}

/// A command, and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Only root may; somebody else goes through `sudo`.
    pub needs_root: bool,
    /// It fails when there is nothing to remove, which is as good.
    pub may_fail: bool,
}

impl Command {
    fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let words = words.into_iter().map(str::to_owned).collect();
        Self { words, needs_root: false, may_fail: false }
    }

    fn with_rights(self) -> Self {
        Self { needs_root: true, ..self }
    }

    fn that_may_fail(self) -> Self {
        Self { may_fail: true, ..self }
    }
}

/// As it would be typed; without `sudo`.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.words.iter().map(|word| quoted(word)).collect();
        f.write_str(&words.join(" "))
    }
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What is to be done on `machine`; `present` is the authority, `former` those before it.
pub fn plan(machine: &Machine, wish: Wish, present: Option<&Kept>, former: &[Kept]) -> Vec<Step> {
    let (add, remove): (Option<&Kept>, Vec<&Kept>) = match wish {
        Wish::Trust => (present, former.iter().collect()),
        Wish::Untrust => (None, former.iter().chain(present).collect()),
    };
    let mut steps = system::plan(machine, add, &remove);
    steps.extend(nss::plan(machine, add, &remove));
    steps
}

/// After every command has succeeded: the certificates of former authorities are of no more use.
///
/// # Errors
/// A file cannot be removed.
pub fn forget(former: &[Kept]) -> std::io::Result<()> {
    former.iter().try_for_each(forget_former)
}

/// A path as the word of a command. Paths here are ours, or come from the environment of who runs this.
fn word(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
