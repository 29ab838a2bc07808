//! dns-01 by a program of the operator's: `HOOK present NAME VALUE`, later `HOOK cleanup NAME VALUE`.
//!
//! Owns how it is run: with a deadline, without a shell, its output in the log. NAME is the whole name of the TXT record
//! (`_acme-challenge.shop.example`), VALUE its text. `present` ends with status 0 when the record can be seen; whatever waiting
//! that takes is the hook's. Invariant: a hook that hangs is killed. Source: RFC 8555 §8.4.

use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::challenge::Stage;

/// For one run. Records may take minutes to be seen everywhere.
const PATIENCE: Duration = Duration::from_secs(300);
/// Of its output, in bytes; the rest is read and dropped.
const OUTPUT_MOST: u64 = 64 * 1024;
/// Between two looks whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// For its last words: what it has started may hold its output open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is asked of the hook.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task {
    Present,
    Cleanup,
}

impl Task {
    fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Cleanup => "cleanup",
        }
    }
}

/// Name of the record for a name; a wildcard is proved by the name that it is below.
pub(crate) fn record(name: &str) -> String {
    format!("_acme-challenge.{}", name.strip_prefix("*.").unwrap_or(name))
}

/// Runs the hook to its end. Dropped, it runs on to its deadline unheard.
///
/// # Errors
/// It cannot be started, fails or hangs: a sentence with what it said last.
pub(crate) async fn run(
    stage: &Arc<dyn Stage>,
    hook: &Path,
    task: Task,
    name: &str,
    value: &str,
) -> Result<(), String> {
    let record = record(name);
    let shown = format!("acme_dns_hook {} {} {record}", hook.display(), task.word());
    let mut command = Command::new(hook);
    command.args([task.word(), &record, value]);
    let stage = stage.clone();
    let run = tokio::task::spawn_blocking(move || run_blocking(&*stage, command, &record));
    match run.await {
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((status, last))) if last.is_empty() => Err(format!("{shown} failed ({status})")),
        Ok(Ok((status, last))) => Err(format!("{shown} failed ({status}): {last}")),
        Ok(Err(error)) => Err(format!("{shown} cannot be run: {error}")),
        Err(_) => Err(format!("{shown} is lost")),
    }
}

fn run_blocking(stage: &dyn Stage, mut command: Command, record: &str) -> io::Result<(ExitStatus, String)> {
    let (output, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let child = stage.start(&mut command)?;
    // The writing ends are the command's: the reader sees the end when the program is gone.
    drop(command);
    let (told, last) = mpsc::channel();
    let record = record.to_owned();
    let reader = std::thread::Builder::new().name("acme-hook".to_owned());
    reader.spawn(move || told.send(log(output, &record)))?;
    let status = wait(stage, child)?;
    Ok((status, last.recv_timeout(LAST_WORDS).unwrap_or_default()))
}

fn wait(stage: &dyn Stage, mut child: Child) -> io::Result<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            tracing::warn!("acme_dns_hook has not ended within {} s and is killed", PATIENCE.as_secs());
            child.kill()?;
            break;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    stage.wait(child)
}

/// Logs each line; gives the last one.
fn log(output: PipeReader, record: &str) -> String {
    let mut last = String::new();
    let mut lines = BufReader::new(output.take(OUTPUT_MOST));
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if !text.is_empty() {
            tracing::info!(record, "acme_dns_hook: {text}");
            last = text;
        }
        line.clear();
    }
    // What is over the bound is still taken, so that the program does not wait for a reader.
    let _ = io::copy(&mut lines.into_inner().into_inner(), &mut io::sink());
    last
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::pem::Pair;
    use crate::storage::tests::Folder;

    struct Dark;

    impl Stage for Dark {
        fn put_http(&self, _: &str, _: &str) {}
        fn remove_http(&self, _: &str) {}
        fn put_alpn(&self, _: &str, _: Pair) {}
        fn remove_alpn(&self, _: &str) {}
    }

    #[tokio::test]
    async fn what_the_hook_is_told_and_what_becomes_of_it() {
        let folder = Folder::new();
        let hook = folder.0.join("hook");
        let stage: Arc<dyn Stage> = Arc::new(Dark);
        fs::write(&hook, "#!/bin/sh\necho \"$@\" >>\"$0.said\"\n[ \"$1\" = present ] && exit 0\necho no such zone >&2\nexit 3\n")
            .unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(run(&stage, &hook, Task::Present, "*.shop.test", "va;lue").await, Ok(()));
        let failed = run(&stage, &hook, Task::Cleanup, "shop.test", "va;lue").await.unwrap_err();
        assert!(failed.ends_with("failed (exit status: 3): no such zone"), "{failed}");
        let said = fs::read_to_string(folder.0.join("hook.said")).unwrap();
        assert_eq!(
            said,
            "present _acme-challenge.shop.test va;lue\ncleanup _acme-challenge.shop.test va;lue\n"
        );
        let missing = run(&stage, &folder.0.join("none"), Task::Present, "shop.test", "x").await.unwrap_err();
        assert!(missing.contains("cannot be run"), "{missing}");
    }
}
