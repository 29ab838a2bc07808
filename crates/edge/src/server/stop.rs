//! The end: no new connections, what runs is finished, the workers leave.
//!
//! Owns the order of these, and the one deadline that bounds them all: `graceful_timeout`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bandstand_supervisor::Fleet;

use crate::shared::{Phase, Shared};

/// Waits for the connections that are open, then for the workers. The doors are closed already.
pub(super) async fn drain(shared: Arc<Shared>, fleet: Fleet) {
    let stopped = Instant::now();
    let state = shared.state();
    let deadline = stopped + state.settings.graceful_timeout;
    tracing::info!("stopping: no new connections, what runs is finished");
    shared.phase.send_replace(Phase::Draining);
    shared.connections.wake_all();
    let emptied = async {
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        while shared.connections.len() > 0 {
            poll.tick().await;
        }
    };
    if tokio::time::timeout_at(deadline.into(), emptied).await.is_err() {
        tracing::warn!(
            connections = shared.connections.len(),
            "graceful_timeout is over; what still runs is cut"
        );
    }
    shared.pool.stop();
    let expired = async {
        tokio::time::sleep_until((stopped + state.patience_at_stop()).into()).await;
        shared.pool.expire_abandoned();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = fleet.stop(deadline.max(Instant::now() + Duration::from_millis(200))) => {}
        () = expired => {}
    }
}
