//! Orphans: processes left behind by workers, which become children of the init process or of a subreaper.
//!
//! In a container this program often is that init (PID 1), and with a template it declares itself a subreaper, so that
//! forked workers become its children. Owns hearing of orphans, reaping them, and the list of children that are
//! somebody's. The list is the whole process's, since the kernel shows all ended children to everybody; whoever makes
//! a child holds it until the child is in it. Invariant: a child on the list is never reaped here, so its owner learns
//! how it ended. Source: wait(2), PR_SET_CHILD_SUBREAPER in prctl(2).

use std::collections::BTreeSet;
use std::future;
use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, RawPid, WaitOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::plan::SpawnError;
use crate::sys;

static OWNED: Mutex<BTreeSet<RawPid>> = Mutex::new(BTreeSet::new());

/// The children of this process that are somebody's. No orphan is reaped while this is held.
pub(crate) struct Owned(MutexGuard<'static, BTreeSet<RawPid>>);

impl Owned {
    pub(crate) fn hold() -> Owned {
        Owned(OWNED.lock().unwrap_or_else(PoisonError::into_inner)) // a set is whole whatever happened
    }

    pub(crate) fn add(&mut self, pid: Pid) {
        self.0.insert(pid.as_raw_pid());
    }

    /// The child was reaped: its number may now be any other process's.
    pub(crate) fn remove(&mut self, pid: Pid) {
        self.0.remove(&pid.as_raw_pid());
    }

    /// Reaps ended children up to the first that is owned: the kernel shows them in its order only. To be called again
    /// once that one's owner has reaped it.
    pub(crate) fn reap_others(&self) {
        if !are_adopted() {
            return;
        }
        while let Some(pid) = sys::next_zombie().filter(|pid| !self.0.contains(&pid.as_raw_pid())) {
            if rustix::process::waitpid(Some(pid), WaitOptions::NOHANG).is_err() {
                return; // another thread was quicker; it was its own child
            }
            tracing::debug!(pid = pid.as_raw_pid(), "reaped an orphan");
        }
    }
}

/// Starts a child that is no worker, and leaves its end to the caller. Without this its end would be taken for an
/// orphan's as soon as a fleet runs.
///
/// # Errors
/// Those of `start`.
pub fn start_own(start: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
    let mut owned = Owned::hold();
    let child = start()?;
    owned.add(Pid::from_child(&child));
    Ok(child)
}

/// Waits for the end of a child that `start_own` started; blocks. Its number is nobody's after that.
///
/// # Errors
/// Those of wait(2).
pub fn wait_own(mut child: Child) -> io::Result<ExitStatus> {
    let pid = Pid::from_child(&child);
    let status = child.wait();
    let mut owned = Owned::hold();
    owned.remove(pid);
    owned.reap_others();
    status
}

/// News of ended children, if orphans are this program's to reap.
pub(crate) struct Orphans(Option<Signal>);

impl Orphans {
    /// Listens, inside a runtime, if this program is the init process or a declared subreaper.
    pub(crate) fn listen() -> Result<Orphans, SpawnError> {
        let heard = are_adopted().then(|| signal(SignalKind::child())).transpose();
        heard.map(Orphans).map_err(|cause| SpawnError::Resource { what: "a signal handler", cause })
    }

    /// Makes orphans below this program its own: forked workers are, once their template let them go.
    pub(crate) fn adopt(&mut self) -> Result<(), SpawnError> {
        let resource = |what| move |cause| SpawnError::Resource { what, cause };
        let this = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(this))
            .map_err(|error| resource("a parent")(io::Error::from(error)))?;
        if self.0.is_none() {
            self.0 = Some(signal(SignalKind::child()).map_err(resource("a signal handler"))?);
        }
        Ok(())
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
