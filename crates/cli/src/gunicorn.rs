//! Settings, with the Python file of gunicorn's that `-c` may name.
//!
//! Owns the one process that runs such a file: the project's own Python, in the project folder, as gunicorn would. What the file
//! means is the `config` crate's. Invariants: a file that nobody named is not run; one that never ends does not keep the server
//! from a reload, nor itself alive after it.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bandstand_config::gunicorn::Configuration;
use bandstand_config::{Errors, Loaded, Problem, Sources, python};

use crate::args;
use crate::report::Failure;

/// How long the file may take; a reload waits for it, and nothing else does.
const LIMIT: Duration = Duration::from_secs(60);
/// How often its process is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long what it has written is still awaited when it has ended: programs that it started may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Longest answer in bytes.
const ANSWER_MOST: u64 = 4 << 20;
/// What was handed to this program, and not to the file's.
const OURS: [&str; 5] = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "HEIR_OF_BANDSTAND"];

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
    let mut command = Command::new(&python.path);
    for name in OURS {
        command.env_remove(name);
    }
    command
        .args(["-m", "bandstand.worker", "--gunicorn"])
        .arg(file)
        .current_dir(&settings.chdir)
        .envs(loaded.app_env.iter().map(|(name, value)| (name, value)))
        .env("BANDSTAND_PYTHONPATH", paths)
        .stdin(Stdio::null())
        // What the file prints is for the person who starts the server.
        .stderr(Stdio::inherit());
    let output = output(&mut command, LIMIT)
        .map_err(|error| refuse(format!("{} cannot be run: {error}", python.path.display())))?
        .ok_or_else(|| refuse(format!("it has not ended after {} s", LIMIT.as_secs())))?;
    understood(&output).map_err(refuse)
}

/// What it wrote, and how it ended; `None` if it was killed after `limit`. The server's other children are not to take its end
/// for an orphan's.
fn output(command: &mut Command, limit: Duration) -> io::Result<Option<Output>> {
    let mut child = bandstand_supervisor::start_own(|| command.stdout(Stdio::piped()).spawn())?;
    let (said, says) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            let mut answer = Vec::new();
            // What was read before an error is judged like any answer.
            let _ = stdout.take(ANSWER_MOST).read_to_end(&mut answer);
            let _ = said.send(answer); // nobody listens any more: it took too long
        });
    }
    let ended = end(&mut child, limit);
    let status = bandstand_supervisor::wait_own(child)?;
    let stdout = says.recv_timeout(LAST_WORDS).unwrap_or_default();
    Ok(ended?.map(|_| Output { status, stdout, stderr: Vec::new() }))
}

/// Waits for the end, and brings it about after `limit`.
fn end(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => thread::sleep(LOOK),
            ended => return ended,
        }
    }
    child.kill()?;
    Ok(None)
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

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_file_that_never_ends_is_ended() {
        assert!(output(&mut shell("exec sleep 60"), Duration::from_millis(50)).unwrap().is_none());
    }

    #[test]
    fn what_it_writes_and_how_it_ends() {
        let output = output(&mut shell("echo said; exit 3"), LIMIT).unwrap().unwrap();
        assert_eq!((output.stdout.as_slice(), output.status.code()), (b"said\n".as_slice(), Some(3)));
    }

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
