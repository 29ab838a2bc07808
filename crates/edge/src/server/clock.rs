//! What the fleet does about workers whose requests run over their time.
//!
//! Owns the step from a verdict to an order, and no more: when an exchange is over its time is `dispatch::clock`'s, what
//! that means for its worker `dispatch::guard`'s, and both have answered the client and written the log by then.

use std::sync::Arc;

use bandstand_supervisor::{Fleet, WorkerNumber};

use crate::dispatch::Verdict;
use crate::shared::Shared;

/// Runs for ever, once a server: nothing runs out of time without it, and no leaving worker sends its WebSockets away.
pub(super) async fn watch_clock(shared: Arc<Shared>, fleet: Fleet) {
    let obey = |verdict| match verdict {
        Verdict::Dump { worker } => fleet.dump_stacks(WorkerNumber(worker)),
        Verdict::Replace { worker, why } => fleet.replace(WorkerNumber(worker), why),
        Verdict::Kill { worker } => fleet.kill(WorkerNumber(worker)),
    };
    shared.pool.watch_clock(obey).await;
}
