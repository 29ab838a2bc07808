//! Which Python runs the workers.
//!
//! Owns the search: the one asked for, else the environment bandstand is installed in, else `VIRTUAL_ENV`, else `.venv` in
//! the project folder, else `PATH`. It runs nothing. Invariant: the path is absolute, executable, and not resolved through
//! links, because a virtual environment is recognised by the place of its link.
//! Source: PEP 405 (layout of a virtual environment).

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::problem::{Place, Problem};

/// An interpreter, and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// Absolute path.
    pub path: PathBuf,
    /// The place it was found in, for people.
    pub because: &'static str,
}

/// Finds it. `asked` is the setting `python`, `program` the running executable, `project` the project folder.
///
/// # Errors
/// A sentence that says where was looked.
pub fn find(
    asked: Option<&Path>,
    program: Option<&Path>,
    env: &[(OsString, OsString)],
    project: &Path,
) -> Result<Interpreter, Problem> {
    let path_variable = variable(env, "PATH").unwrap_or_default();
    if let Some(asked) = asked {
        return named(asked, &path_variable).ok_or_else(|| {
            let sentence = format!("{} is no program that can be run", asked.display());
            Problem::new(
                Place::Name("python".into()),
                sentence,
                "give the path of an interpreter, such as .venv/bin/python",
            )
        });
    }
    let virtual_env = variable(env, "VIRTUAL_ENV").map(PathBuf::from).filter(|path| path.is_absolute());
    let places = [
        (program.and_then(Path::parent).map(Path::to_owned), "the environment bandstand is installed in"),
        (virtual_env.map(|path| path.join("bin")), "VIRTUAL_ENV"),
        (Some(project.join(".venv/bin")), ".venv in the project folder"),
    ];
    for (folder, because) in places {
        if let Some(path) = folder.and_then(|folder| within(&folder)) {
            return Ok(Interpreter { path, because });
        }
    }
    std::env::split_paths(&path_variable)
        .filter(|folder| folder.is_absolute())
        .find_map(|folder| within(&folder))
        .map(|path| Interpreter { path, because: "PATH" })
        .ok_or_else(|| {
            Problem::general(
                "no Python was found: not beside bandstand, not in VIRTUAL_ENV, not in .venv, not on PATH",
                "name one with --python",
            )
        })
}

/// A path, the folder of a virtual environment, or a bare name on `PATH`.
fn named(asked: &Path, path_variable: &std::ffi::OsStr) -> Option<Interpreter> {
    let because = "the setting python";
    if asked.is_absolute() {
        let path = if asked.is_dir() { within(&asked.join("bin"))? } else { asked.to_owned() };
        return runnable(&path).then_some(Interpreter { path, because });
    }
    std::env::split_paths(path_variable)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(asked))
        .find(|path| runnable(path))
        .map(|path| Interpreter { path, because })
}

/// The interpreter in a `bin` folder.
fn within(folder: &Path) -> Option<PathBuf> {
    ["python3", "python"].iter().map(|name| folder.join(name)).find(|path| runnable(path))
}

fn runnable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn variable(env: &[(OsString, OsString)], name: &str) -> Option<OsString> {
    env.iter()
        .find(|(other, _)| other == name)
        .map(|(_, value)| value.clone())
        .filter(|value| !value.is_empty())
}
