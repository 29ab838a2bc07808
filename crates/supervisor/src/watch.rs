//! Waits for one worker's end and carries its output until then.
//!
//! Owns the process descriptor's readiness, the reaping, and both output pipes. Leaves what an end means to `worker`.
//! Invariant: a worker is reaped exactly once, here; its last line is in the log before its end is reported; a
//! grandchild that keeps a pipe open holds that report up by `OUTPUT_GRACE` at most. Source: pidfd_open(2), waitid(2).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{WaitId, WaitIdOptions};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::output::Output;
use crate::sys::watch_process;
use crate::worker::{Gone, WorkerNumber};

/// How long output is still read after a worker's end, when something else keeps its pipe open.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// A worker's end as the kernel tells it.
pub(crate) struct Ended {
    pub(crate) number: WorkerNumber,
    /// `Exited` or `Killed`.
    pub(crate) seen: Gone,
    /// The last lines of its standard error.
    pub(crate) last_words: String,
}

/// What is watched of a worker.
pub(crate) struct Watched {
    pub(crate) number: WorkerNumber,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Watches until the end and reports it. Dropped early, the process stays unreaped and its output stops.
pub(crate) async fn watch(watched: Watched, report: mpsc::UnboundedSender<Ended>) {
    let Watched { number, pidfd, stdout, stderr } = watched;
    let (mut out, mut err) = (Output::new(number, "stdout"), Output::new(number, "stderr"));
    let seen = {
        let mut ended = pin!(end_of(pidfd));
        let mut carried = pin!(async { tokio::join!(carry(&mut out, stdout), carry(&mut err, stderr)) });
        tokio::select! {
            seen = &mut ended => {
                let _ = tokio::time::timeout(OUTPUT_GRACE, carried).await;
                seen
            }
            _ = &mut carried => ended.await,
        }
    };
    out.finish();
    let _ = report.send(Ended { number, seen, last_words: err.finish() }); // no fleet: nobody asks any more
}

async fn carry(output: &mut Output, pipe: OwnedFd) {
    match pipe::Receiver::from_owned_fd(pipe) {
        Ok(pipe) => output.carry(pipe).await,
        Err(error) => tracing::warn!(%error, "cannot read a worker's output"),
    }
}

async fn end_of(pidfd: Arc<OwnedFd>) -> Gone {
    match reap(pidfd).await {
        Ok(seen) => seen,
        // Not reachable while this is the only reaper; the process is gone all the same.
        Err(error) => {
            tracing::error!(%error, "cannot learn how a worker ended");
            Gone::Exited(-1)
        }
    }
}

async fn reap(pidfd: Arc<OwnedFd>) -> io::Result<Gone> {
    let descriptor = watch_process(pidfd.clone())?;
    loop {
        let mut ready = descriptor.readable().await?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        if let Some(status) = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options)? {
            return Ok(match status.terminating_signal() {
                Some(signal) => Gone::Killed { signal, core: status.dumped() },
                None => Gone::Exited(status.exit_status().unwrap_or(-1)),
            });
        }
        ready.clear_ready();
    }
}
