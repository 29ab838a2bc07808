//! What every connection of the edge shares.
//!
//! Owns no behaviour: settings as the hot path wants them, the pool, the files, the logs, and the state of the server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bandstand_config::{ProjectSettings, Settings};
use bandstand_semantics::forwarded::TrustedProxies;
use tokio::sync::watch;

use crate::assets::Manifest;
use crate::connection::registry::Registry;
use crate::dispatch::Pool;
use crate::observe::record::AccessLog;

/// State of the server as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No worker has said hello yet: what is static is not known.
    Booting,
    /// Serving.
    Open,
    /// Finishing what is there; connections close as they come to rest.
    Draining,
}

/// What is known once the first worker has said hello.
pub(crate) struct Project {
    pub(crate) said: ProjectSettings,
    pub(crate) assets: Manifest,
    /// Hosts that the project answers for; `None`: all.
    pub(crate) hosts: Option<Vec<String>>,
}

/// Shared by all connections.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) trusted: TrustedProxies,
    pub(crate) pool: Arc<Pool>,
    pub(crate) project: OnceLock<Project>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) connections: Registry,
    pub(crate) clock: DateClock,
    /// Fields that a client may not send and that were dropped.
    pub(crate) dropped_fields: AtomicU64,
}

impl Shared {
    /// How long, once the server stops, it waits for what knows no end by itself: `graceful_timeout` is for the rest.
    pub(crate) fn patience_at_stop(&self) -> Duration {
        const MOST: Duration = Duration::from_secs(5);
        self.settings.graceful_timeout.min(MOST)
    }

    /// Whether connections are to close once they are at rest.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }

    /// What the first hello told; waits for it, as everything but the health page does.
    pub(crate) async fn project(&self) -> &Project {
        loop {
            if let Some(project) = self.project.get() {
                return project;
            }
            let mut phase = self.phase.subscribe();
            if phase.wait_for(|phase| *phase != Phase::Booting).await.is_err() {
                std::future::pending::<()>().await;
            }
            if self.project.get().is_none() {
                // Stopped before the first hello: there is nothing to wait for.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The `Date` field, made once a second (RFC 9110 §6.6.1).
pub(crate) struct DateClock {
    started: Instant,
    second: AtomicU64,
    text: Mutex<[u8; 29]>,
}

impl DateClock {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), second: AtomicU64::new(u64::MAX), text: Mutex::new([b' '; 29]) }
    }

    /// Appends an IMF-fixdate of 29 bytes.
    pub(crate) fn append(&self, now: Instant, out: &mut Vec<u8>) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        // A tenth of a second is near enough, and needs no look at the wall clock for each answer.
        let tick = (now.saturating_duration_since(self.started).as_millis() / Self::TICK.as_millis()) as u64;
        if self.second.swap(tick, Ordering::Relaxed) != tick {
            let date = httpdate::fmt_http_date(SystemTime::now());
            if let Ok(bytes) = <[u8; 29]>::try_from(date.as_bytes()) {
                *text = bytes;
            }
        }
        out.extend_from_slice(&*text);
    }

    const TICK: Duration = Duration::from_millis(100);
}
