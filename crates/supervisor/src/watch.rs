//! Waits for one process's end and carries its output until then; hears what a template says of its import.
//!
//! Owns the process descriptor's readiness, the reaping, and both output pipes. Leaves what an end means to `roster`.
//! Invariant: a process is reaped exactly once, here; its last line is in the log, and what it said is told, before its
//! end is reported; a grandchild that keeps a pipe open holds that report up by `OUTPUT_GRACE` at most. Source:
//! pidfd_open(2), waitid(2).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{WaitId, WaitIdOptions};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::keep::Report;
use crate::output::{Output, Source};
use crate::plan::GenerationNumber;
use crate::roster::{Input, Sign};
use crate::sys::watch_readable;
use crate::template::{Line, Message};
use crate::worker::{Gone, WorkerNumber};

/// How long output is still read after a process's end, when something else keeps its pipe open.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// How long a template that has closed its line may take to end.
const CLOSED_GRACE: Duration = Duration::from_secs(1);

/// What is watched of a process.
pub(crate) struct Watched {
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Watches a worker until its end and reports it. Dropped early, the process stays unreaped and its output stops.
pub(crate) async fn watch_worker(
    number: WorkerNumber,
    watched: Watched,
    reports: mpsc::UnboundedSender<Report>,
) {
    let (seen, last_words) = end(Source::Worker(number), watched).await;
    // No fleet: nobody asks any more.
    let _ = reports.send(Report::Heard(Input::Ended { number, seen, last_words }));
}

/// Watches a template until its end, tells how its import went, and reports the end. Dropped early, as above.
pub(crate) async fn watch_template(
    generation: GenerationNumber,
    line: Line,
    watched: Watched,
    reports: mpsc::UnboundedSender<Report>,
) {
    let tell = |sign: Sign| {
        let _ = reports.send(Report::Heard(Input::Template(generation, sign)));
    };
    let mut ended = pin!(end(Source::Template(generation), watched));
    let (seen, last_words) = {
        let mut said = pin!(listen(generation, line.clone()));
        tokio::select! {
            biased; // what it said is in the socket before its end is seen
            sign = &mut said => {
                tell(sign);
                ended.await
            }
            end = &mut ended => {
                if let Ok(Some(packet)) = line.receive() {
                    tell(understand(generation, &packet));
                }
                end
            }
        }
    };
    tell(Sign::Ended { seen, last_words });
}

/// The one message of a template that is importing.
async fn listen(generation: GenerationNumber, line: Line) -> Sign {
    match hear(&line).await {
        Ok(Some(packet)) => understand(generation, &packet),
        Ok(None) => {
            // Usually because it is ending, which says more.
            tokio::time::sleep(CLOSED_GRACE).await;
            Sign::Broken { account: "the template has closed its line".to_owned() }
        }
        Err(error) => Sign::Broken { account: format!("the template cannot be heard: {error}") },
    }
}

async fn hear(line: &Line) -> io::Result<Option<Vec<u8>>> {
    let descriptor = watch_readable(line.0.clone())?;
    loop {
        let mut ready = descriptor.readable().await?;
        match line.receive() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            heard => return heard,
        }
    }
}

fn understand(generation: GenerationNumber, packet: &[u8]) -> Sign {
    match Message::parse(packet) {
        Some(Message::Ready { warnings }) => {
            for warning in warnings {
                tracing::warn!(generation = generation.0, "{warning}");
            }
            Sign::Ready
        }
        Some(Message::Failed { traceback }) => Sign::Failed { traceback },
        Some(Message::Threads { names }) => Sign::Threads { names },
        Some(Message::Forked { .. } | Message::ForkFailed { .. }) => {
            Sign::Broken { account: "the template answered what nobody asked".to_owned() }
        }
        None => Sign::Broken { account: "the template said gibberish".to_owned() },
    }
}

/// The process's end, and the last lines of its standard error.
async fn end(source: Source, watched: Watched) -> (Gone, String) {
    let Watched { pidfd, stdout, stderr } = watched;
    let (mut out, mut err) = (Output::new(source, "stdout"), Output::new(source, "stderr"));
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
    (seen, err.finish())
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
    let descriptor = watch_readable(pidfd.clone())?;
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
