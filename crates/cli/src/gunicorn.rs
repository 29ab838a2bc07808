//! Settings, with the Python file of gunicorn's that `-c` may name.
//!
//! Owns the one process that runs such a file: the project's own Python, in the project folder, as gunicorn would. What the file
//! means is the `config` crate's. Invariant: a file that nobody named is not run.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use bandstand_config::gunicorn::Configuration;
use bandstand_config::{Errors, Loaded, Problem, Sources, python};

use crate::args;
use crate::report::Failure;

/// Reads everything; twice when there is a Python file, because the first reading says which Python runs it.
///
/// # Errors
/// Whatever is wrong with the settings, a file that cannot be run with its traceback included: status 2.
pub(crate) fn load(sources: Sources) -> Result<Loaded, Failure> {
    let first = bandstand_config::load(sources.clone()).map_err(Failure::Configuration)?;
    let Some(file) = &first.unread else { return Ok(first) };
    let said = run(file, &first)?;
    bandstand_config::load_with(sources, Some(&said)).map_err(Failure::Configuration)
}

fn run(file: &Path, loaded: &Loaded) -> Result<Configuration, Failure> {
    let settings = &loaded.settings;
    let env = args::environment();
    let python = python::find(settings.python.as_deref(), args::program().as_deref(), &env, &settings.chdir)
        .map_err(Failure::Project)?;
    let paths = std::env::join_paths(&settings.pythonpath).unwrap_or_default();
    let refuse = |why: String| {
        let sentence = format!("{} cannot be read: {why}", file.display());
        Failure::Configuration(Errors::from(Problem::general(sentence, "")))
    };
    let output = Command::new(&python.path)
        .args(["-m", "bandstand.worker", "--gunicorn"])
        .arg(file)
        .current_dir(&settings.chdir)
        .envs(loaded.app_env.iter().map(|(name, value)| (name, value)))
        .env("BANDSTAND_PYTHONPATH", paths)
        .stdin(Stdio::null())
        // What the file prints is for the person who starts the server.
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| refuse(format!("{} cannot be run: {error}", python.path.display())))?;
    understood(&output).map_err(refuse)
}

/// The answer in what the process wrote: its last line, because programs that the file starts may write there too.
fn understood(output: &Output) -> Result<Configuration, String> {
    let last = output.stdout.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    match Configuration::from_json(last) {
        Ok(said) if said.failed.is_some() || output.status.success() => Ok(said),
        Err(error) if output.status.success() => Err(error),
        _ => Err(format!("the project's Python ended with {}", output.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn answers() {
        let output = |code: i32, stdout: &str| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.into(),
            stderr: Vec::new(),
        };
        let said = understood(&output(0, "noise\n{\"settings\": {\"workers\": 2}}\n\n")).unwrap();
        assert_eq!(said.settings["workers"], 2);
        let failed = understood(&output(1, "{\"failed\": \"NameError\"}")).unwrap();
        assert_eq!(failed.failed.as_deref(), Some("NameError"));
        for (output, why) in [
            (output(1, ""), "ended with exit status: 1"),
            (output(1, "{}"), "ended with exit status: 1"),
            (output(0, ""), "EOF"),
            (output(0, "not json"), "expected"),
        ] {
            let error = understood(&output).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
