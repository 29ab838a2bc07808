//! How seldom the edge wakes up when its workers have enough to do.
//!
//! Owns one decision: before the reactor goes to sleep, whether it first rests for a moment in which nothing can wake it.
//! At saturation every answer and every new request would else wake the edge by itself, and a wake-up (an interrupt to
//! another core, on a virtual machine an exit to its host) costs more than all we do for a request. Network cards call the
//! same thing interrupt moderation. It happens only while every worker has work ahead for longer than the rest, so no
//! worker waits for it; a client waits `REST` longer at the most, at a load where it waits for milliseconds anyway.
//! `docs/decisions/0003-dispatch.md` has the measurement.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::pool::Pool;

/// Longest rest.
const REST: Duration = Duration::from_micros(1000);

/// The pool whose workers are looked at, once there is one.
#[derive(Clone, Default)]
pub(crate) struct Pace {
    pool: Arc<OnceLock<Arc<Pool>>>,
}

impl Pace {
    /// From now on this pool decides.
    pub(crate) fn follow(&self, pool: &Arc<Pool>) {
        // There is one pool in the life of a server; a second one would change nothing.
        let _ = self.pool.set(pool.clone());
    }

    /// Called by the reactor's only thread when it has nothing to do.
    pub(crate) fn rest(&self) {
        let Some(pool) = self.pool.get() else { return };
        // Half the lead: what is done in the rest must not bring a worker to its end.
        let rest = (pool.lead() / 2).min(REST);
        if rest >= REST / 2 {
            std::thread::sleep(rest);
        }
    }
}
