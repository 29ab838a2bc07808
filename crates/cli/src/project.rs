//! The project as its own Python tells it: found, then asked in a worker that describes instead of serving.
//!
//! Owns the way from settings to something that can be run, which `serve` shares with the verbs that only look, and the one process
//! these verbs start. What the answer means is the `config` crate's. Invariant: the process asked has the environment of a
//! worker, so that what it tells is what a worker would do.

use std::process::{Command, Output, Stdio};

use bandstand_config::{Description, Loaded, Project, python};
use bandstand_edge::{Mode, Run, worker_environment};

use crate::args;
use crate::report::Failure;

/// Finds what the edge needs beside the settings.
///
/// # Errors
/// No application or no Python was found.
pub(crate) fn find(loaded: Loaded) -> Result<Run, Failure> {
    let env = args::environment();
    let project = Project::find(&loaded, &env).map_err(Failure::Project)?;
    let asked = loaded.settings.python.as_deref();
    let python =
        python::find(asked, args::program().as_deref(), &env, &project.chdir).map_err(Failure::Project)?;
    let app_env = loaded.app_env.clone();
    Ok(Run { loaded, project, python: python.path, app_env, mode: Mode::Serve, again: None })
}

/// Imports the project in its own Python and lets it describe itself; `wishes` are further words for the worker (`--check`).
///
/// # Errors
/// Why there is no answer: one line, then the traceback if there is one.
pub(crate) fn describe(run: &Run, wishes: &[&str]) -> Result<Description, String> {
    let output = Command::new(&run.python)
        .args(["-m", "bandstand.worker", "--describe"])
        .args(wishes)
        .current_dir(&run.project.chdir)
        .env_clear()
        .envs(worker_environment(run))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} cannot be run: {error}", run.python.display()))?;
    understood(&output)
}

/// The answer in what the process wrote.
fn understood(output: &Output) -> Result<Description, String> {
    // Programs that the project starts may write there too: the answer is the last line.
    let last = output.stdout.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    match Description::from_json(last) {
        Ok(Description { failed: Some(why), .. }) => Err(why.trim_end().to_owned()),
        Ok(description) if output.status.success() => Ok(description),
        Err(error) if output.status.success() => {
            Err(format!("the description of the project cannot be read: {error}"))
        }
        // Python itself gave up: without the package, or killed.
        _ => Err(match String::from_utf8_lossy(&output.stderr).trim() {
            "" => format!("the project's Python ended with {}, and gave no reason", output.status),
            said => said.to_owned(),
        }),
    }
}

/// The line of `why` that says most: the last of a bare traceback, else the first.
pub(crate) fn headline(why: &str) -> &str {
    let mut lines = why.lines().filter(|line| !line.trim().is_empty());
    let line = if why.starts_with("Traceback") { lines.next_back() } else { lines.next() };
    line.unwrap_or(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output { status: ExitStatus::from_raw(code << 8), stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn answers() {
        let answer =
            understood(&output(0, "hello from settings.py\n{\"app\": \"shop:app\"}\n\n", "a warning"))
                .unwrap();
        assert_eq!(answer.project.app.as_deref(), Some("shop:app"));
        for (output, wanted) in [
            (
                output(1, r#"{"failed": "ImportError: no shop\n\nTraceback"}"#, "x"),
                "ImportError: no shop\n\nTraceback",
            ),
            (output(1, "", "no module named bandstand\n"), "no module named bandstand"),
            (output(3, "", "\n"), "ended with exit status: 3"),
            (output(0, "", ""), "cannot be read"),
            (output(0, "not json", ""), "cannot be read"),
        ] {
            let why = understood(&output).unwrap_err();
            assert!(why.contains(wanted), "{why}");
        }
    }

    #[test]
    fn headlines() {
        for (why, wanted) in [
            ("ImportError: no shop\n\nTraceback (most recent call last):\n  File", "ImportError: no shop"),
            ("Traceback (most recent call last):\n  File x\nKeyError: 'KEY'\n", "KeyError: 'KEY'"),
            ("", ""),
        ] {
            assert_eq!(headline(why), wanted);
        }
    }
}
