//! `bandstand trust` and `bandstand untrust`: the local authority in the trust stores of the system and the browsers.
//!
//! Owns running the commands that `bandstand_certificates::trust` plans, each printed before it runs. What only root may goes
//! through `sudo`, where somebody is there to type a password; else it is said. Invariants: with `--dry-run` nothing is run and
//! nothing is made; a command that fails does not keep the others from being tried.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::time::SystemTime;

use bandstand_certificates::local::{self, Authority, Kept, trusted};
use bandstand_certificates::trust::{self, Command, Machine, Step, System, Wish};
use bandstand_config::Settings;
use bandstand_config::knobs::find;
use bandstand_edge::local_authority;
use clap::{Arg, ArgAction, ArgMatches};

use crate::report::{self, Failure};
use crate::{args, gunicorn};

/// The rows of settings that say where the authority is, and for which names.
const WHERE: [&str; 3] = ["chdir", "config", "state_dir"];

const DRY_RUN: &str = "dry-run";
const BROWSERS_ONLY: &str = "browsers-only";

/// The verbs.
pub(crate) fn verbs() -> [clap::Command; 2] {
    [
        verb("trust", "Have the system and the browsers trust the certificates of `--local-https`"),
        verb("untrust", "Take the local authority out of the trust stores again"),
    ]
}

fn verb(name: &'static str, about: &'static str) -> clap::Command {
    let flags = WHERE.iter().filter_map(|key| find(key)).map(args::flag);
    let switch = |name, help| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    clap::Command::new(name)
        .about(about)
        .arg(switch(DRY_RUN, "Print the commands and run none of them"))
        .arg(switch(BROWSERS_ONLY, "Leave the system's own trust store alone, for which root is needed"))
        .args(flags)
}

/// Does what `wish` says.
///
/// # Errors
/// A store could not be changed: a sentence that says what is left to do.
pub(crate) fn run(matches: &ArgMatches, wish: Wish) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Run { sentence: error.to_string(), code: 1 };
    let settings = settings(matches)?;
    let folder = local_authority::folder(&settings);
    let dry = matches.get_flag(DRY_RUN);
    if wish == Wish::Trust && !dry {
        // Another one only for names that it would be asked for.
        let names = if settings.local_https { local_authority::names(&settings) } else { Vec::new() };
        Authority::open(&folder, &names, SystemTime::now()).map_err(|error| failed(&error))?;
    }
    let (mut present, former) = local::kept(&folder);
    if dry && wish == Wish::Trust && present.is_none() {
        report::print(&format!("# would make an authority in {}\n", folder.display()))?;
        present = Some(Kept {
            file: folder.join("authority.crt"),
            name: "Bandstand local authority NEW".to_owned(),
            label: "NEW".to_owned(),
        });
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut machine = Machine::look(&home, &path);
    if matches.get_flag(BROWSERS_ONLY) {
        machine.system = System::LeftAlone;
    }
    let steps = trust::plan(&machine, wish, present.as_ref(), &former);
    let outcome = carry_out(&steps, machine.root, dry)?;
    if dry {
        return Ok(());
    }
    let label = present.as_ref().map(|kept| kept.label.as_str());
    match wish {
        Wish::Trust if outcome.done => trusted::remember(&folder, label),
        Wish::Untrust => trusted::remember(&folder, None),
        Wish::Trust => Ok(()),
    }
    .map_err(|error| failed(&error))?;
    if outcome.left.is_empty() {
        trust::forget(&former).map_err(|error| failed(&error))?;
        return conclude(wish, present.as_ref());
    }
    Err(failed(&outcome.left.join("\n")))
}

fn settings(matches: &ArgMatches) -> Result<Settings, Failure> {
    let given = |key: &str| matches.get_one::<String>(key).cloned();
    let flags = WHERE.iter().filter_map(|key| Some(((*key).to_owned(), vec![given(key)?])));
    Ok(gunicorn::load(args::surroundings(flags.collect(), Vec::new())?)?.settings)
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    /// Some store was changed.
    done: bool,
    /// What is left to do, in sentences.
    left: Vec<String>,
}

fn carry_out(steps: &[Step], is_root: bool, dry: bool) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let mut for_root = Vec::new();
    for step in steps {
        let command = match step {
            Step::Run(command) => command,
            Step::Lacking(sentence) => {
                outcome.left.push(sentence.clone());
                report::print(&format!("# {sentence}\n"))?;
                continue;
            }
        };
        let sudo = command.needs_root && !is_root;
        let line = format!("{}{command}", if sudo { "sudo " } else { "" });
        report::print(&format!("$ {line}\n"))?;
        if dry {
            continue;
        }
        if sudo && !io::stdin().is_terminal() {
            for_root.push(line);
            continue;
        }
        match execute(command, sudo) {
            Ok(()) => outcome.done |= !command.may_fail,
            Err(_) if command.may_fail => {}
            Err(why) => outcome.left.push(format!("{line}: {why}")),
        }
    }
    if !for_root.is_empty() {
        outcome.left.push(format!("the system's trust store needs root: {}", for_root.join(" && ")));
    }
    Ok(outcome)
}

/// Its output only when it fails; that of `sudo` asks for a password, and goes to the terminal.
fn execute(command: &Command, sudo: bool) -> Result<(), String> {
    let words = ["sudo"].into_iter().filter(|_| sudo).chain(command.words.iter().map(String::as_str));
    let mut words = words;
    let mut process = Process::new(words.next().unwrap_or_default());
    process.args(words);
    if sudo {
        return match process.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(status.to_string()),
            Err(error) => Err(format!("cannot be run: {error}")),
        };
    }
    let output = process.stdin(Stdio::null()).output().map_err(|error| format!("cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.trim().lines().last().map_or_else(|| output.status.to_string(), str::to_owned))
}

fn conclude(wish: Wish, present: Option<&Kept>) -> Result<(), Failure> {
    match (wish, present) {
        (Wish::Trust, Some(kept)) => report::print(&format!(
            "bandstand trust: done; browsers that run have to be started again. For programs with stores of their own\n\
             (curl --cacert, SSL_CERT_FILE, NODE_EXTRA_CA_CERTS) the certificate is {}\n",
            kept.file.display()
        )),
        (Wish::Untrust, Some(_)) => report::print("bandstand untrust: done\n"),
        (_, None) => report::print("bandstand: there is no local authority, and nothing to do\n"),
    }
}
