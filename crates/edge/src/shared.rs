//! What every connection of the edge shares.
//!
//! Owns no behaviour: the state of settings and project as the hot path wants it, the pool, and the phase of the server.
//! Invariant: a request sees one `State` from its beginning to its end, whatever is reloaded meanwhile; only what began
//! before the first hello takes the one that the hello brings.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use bandstand_config::{ProjectSettings, Settings};
use bandstand_semantics::forwarded::TrustedProxies;
use tokio::sync::watch;

use crate::access::passwords::Verifier;
use crate::access::rates::Rates;
use crate::assets::Manifest;
use crate::connection::registry::Registry;
use crate::dev::Dev;
use crate::dispatch::Pool;
use crate::filters::alt_svc::AltSvc;
use crate::filters::security::Security;
use crate::observe::counters::Counters;
use crate::observe::record::AccessLog;
use crate::observe::violations::Violations;
use crate::server::outage::Outage;
use crate::server::view::FleetView;
use crate::tls::Tls;

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

/// What is known once the first worker of a generation has said hello.
pub(crate) struct Project {
    pub(crate) said: ProjectSettings,
    pub(crate) assets: Manifest,
    /// Hosts that the project answers for, `domains` among them; `None`: all. See `hosts`.
    pub(crate) hosts: Option<Vec<String>>,
}

/// Settings and project of the generation that serves: swapped whole, never changed.
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) trusted: TrustedProxies,
    /// What every answer wears.
    pub(crate) security: Security,
    /// `None` until the first hello.
    pub(crate) project: Option<Project>,
    pub(crate) access_log: Option<Arc<AccessLog>>,
    /// From 1.
    pub(crate) generation: u32,
    /// What a person should know of its settings, as it was logged.
    pub(crate) notes: Vec<String>,
}

impl State {
    /// How long, once the server stops, it waits for what knows no end by itself: `graceful_timeout` is for the rest.
    pub(crate) fn patience_at_stop(&self) -> Duration {
        const MOST: Duration = Duration::from_secs(5);
        self.settings.graceful_timeout.min(MOST)
    }
}

/// Shared by all connections.
pub(crate) struct Shared {
    pub(crate) current: ArcSwap<State>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) connections: Registry,
    pub(crate) clock: DateClock,
    /// Fields that a client may not send and that were dropped.
    pub(crate) dropped_fields: AtomicU64,
    /// When the server started.
    pub(crate) started: Instant,
    /// Certificates, handshakes and challenges; there also where no TLS is spoken.
    pub(crate) tls: Arc<Tls>,
    /// How often addresses came, for the rules of `rate`.
    pub(crate) rates: Rates,
    /// Who knows a password.
    pub(crate) passwords: Verifier,
    /// What browsers report of the Content-Security-Policy.
    pub(crate) violations: Violations,
    /// The port that TLS is spoken on, 0 for none: where redirects go.
    pub(crate) https_port: AtomicU16,
    /// The ports that HTTP/3 is spoken on, for those who come by another version.
    pub(crate) alt_svc: AltSvc,
    /// What all exchanges have been since the start.
    pub(crate) counters: Counters,
    /// What `status` and pages of errors tell of processes.
    pub(crate) fleet: Mutex<FleetView>,
    /// The application does not start, for the moment.
    pub(crate) outage: Outage,
    /// What `bandstand dev` has beside: the gate that requests wait at while newer code is on its way.
    pub(crate) dev: Option<Arc<Dev>>,
}

impl Shared {
    /// Settings and project as they are now.
    pub(crate) fn state(&self) -> Arc<State> {
        self.current.load_full()
    }

    /// The fleet, to look at; held for moments only.
    pub(crate) fn fleet(&self) -> MutexGuard<'_, FleetView> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether connections are to close once they are at rest.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }

    /// The state that the first hello brings; waits for it, as everything but the health page does.
    pub(crate) async fn booted(&self) -> Arc<State> {
        let mut phase = self.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase != Phase::Booting).await;
        let state = self.state();
        if state.project.is_none() {
            // Stopped before the first hello: there is nothing to wait for.
            std::future::pending::<()>().await;
        }
        state
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
