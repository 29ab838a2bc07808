//! Orphans: processes left behind by workers, which become children of the init process.
//!
//! In a container this program often is that init (PID 1), and nobody else reaps them. Owns hearing of them and
//! reaping them; runs in the spawning thread, which knows what is a worker. Invariant: a worker is never reaped here,
//! so its watcher learns how it ended. Any other child that this program starts as init must be waited for before the
//! fleet starts. Source: wait(2), PR_SET_CHILD_SUBREAPER in prctl(2).

use std::collections::HashSet;
use std::future;

use rustix::process::{Pid, WaitOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::spawn::SpawnError;
use crate::sys;

/// News of ended children, if orphans are this program's to reap.
pub(crate) struct Orphans(Option<Signal>);

impl Orphans {
    /// Listens, inside a runtime, if this program is the init process or a declared subreaper.
    pub(crate) fn listen() -> Result<Orphans, SpawnError> {
        let heard = are_adopted().then(|| signal(SignalKind::child())).transpose();
        heard.map(Orphans).map_err(|cause| SpawnError::Resource { what: "a signal handler", cause })
    }

    /// Returns when a child has ended, whichever; never, if orphans go elsewhere.
    pub(crate) async fn heard(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => future::pending().await,
        }
    }
}

fn are_adopted() -> bool {
    rustix::process::getpid().is_init() || matches!(rustix::process::child_subreaper(), Ok(Some(_)))
}

/// Reaps ended children up to the first that is a worker: the kernel shows them in its order only. To be called again
/// once that worker's watcher has reaped it.
pub(crate) fn reap(workers: &HashSet<Pid>) {
    if !are_adopted() {
        return;
    }
    while let Some(pid) = sys::next_zombie().filter(|pid| !workers.contains(pid)) {
        if rustix::process::waitpid(Some(pid), WaitOptions::NOHANG).is_err() {
            return; // another thread was quicker; it was its own child
        }
        tracing::debug!(pid = pid.as_raw_nonzero().get(), "reaped an orphan");
    }
}
