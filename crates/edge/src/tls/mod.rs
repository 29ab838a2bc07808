//! TLS: which certificate for which name, handshakes, their limits, and what is known of a client's certificate.
//!
//! Owns everything between a client's first byte and the plain stream that versions of HTTP are read from. Where certificates
//! come from is `bandstand_certificates`'s; `files` reads the user's own, other sources hand theirs to `Store::replace`.
//! Invariant: tickets live in one `ServerConfig`, which serves one policy for clients (`CHECKLIST.md` part 2 row 33), and
//! rustls resumes no session under another name.

pub(crate) mod acme;
pub(crate) mod challenges;
mod config;
pub(crate) mod facts;
pub(crate) mod files;
pub(crate) mod handshake;
pub(crate) mod local;
mod plain;
pub(crate) mod store;
pub(crate) mod stream;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use bandstand_config::Settings;
use rustls::{CipherSuite, ServerConfig};

use self::challenges::Challenges;
use self::config::{Configs, Policy};
pub(crate) use self::facts::TlsFacts;
use self::files::Files;
use self::local::Local;
use self::store::{Source, Store};
pub(crate) use self::stream::TlsStream;

/// All of it, shared by every connection.
pub(crate) struct Tls {
    pub(crate) store: Arc<Store>,
    pub(crate) challenges: Arc<Challenges>,
    pub(crate) acme: acme::Acme,
    configs: ArcSwap<Configs>,
    /// The user's own files, as they were read last.
    files: Mutex<Files>,
    /// This machine's own authority, where it is wanted.
    local: ArcSwapOption<Local>,
    /// Handshakes that are under way.
    under_way: AtomicUsize,
}

/// What a reload brings, read and found good.
pub(crate) struct Setup {
    files: Files,
    local: Option<Local>,
    /// `None`: as before, and so are the tickets.
    configs: Option<Configs>,
}

impl Tls {
    /// Without any certificate.
    pub(crate) fn new() -> Self {
        let store = Arc::new(Store::default());
        let configs = Configs::plain(store.clone());
        Self {
            store,
            challenges: Arc::default(),
            acme: acme::Acme::default(),
            configs: ArcSwap::from_pointee(configs),
            files: Mutex::default(),
            local: ArcSwapOption::empty(),
            under_way: AtomicUsize::new(0),
        }
    }

    /// Reads what the settings name. Blocks.
    ///
    /// # Errors
    /// A sentence: a file cannot be read, or a key does not fit.
    pub(crate) fn prepare(&self, settings: &Settings) -> Result<Setup, String> {
        let before = self.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let files = before.read_again(&settings.certificate_files())?;
        let policy = Policy::read(settings)?;
        let same = self.configs.load().is_of(&policy);
        let configs = if same { None } else { Some(Configs::new(policy, self.store.clone())?) };
        let local = Local::open(settings)?;
        Ok(Setup { files, local, configs })
    }

    /// From now on handshakes go by this.
    pub(crate) fn apply(&self, setup: Setup) {
        if let Some(configs) = setup.configs {
            self.configs.store(Arc::new(configs));
        }
        self.take_files(setup.files);
        self.local.store(setup.local.map(Arc::new));
        local::take(&self.store, self.local.load_full());
    }

    /// Looks whether the user's files have changed. Blocks.
    fn look_at_files(&self, settings: &Settings) {
        let before = self.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(files) = before.look_again(&settings.certificate_files()) else { return };
        // A reload in the meantime has read them too, and perhaps others.
        let mut now = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if now.are_of(&before) {
            self.store.replace(Source::Files, files.pairs());
            *now = files;
        }
    }

    fn take_files(&self, files: Files) {
        let mut now = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.replace(Source::Files, files.pairs());
        *now = files;
    }

    /// For TCP, and a client that has offered these.
    pub(crate) fn server_config(&self, offered: &[CipherSuite]) -> Arc<ServerConfig> {
        self.configs.load().tcp(offered).clone()
    }

    /// For QUIC: TLS 1.3 and `h3` only.
    pub(crate) fn quic_config(&self) -> Arc<ServerConfig> {
        self.configs.load().quic.clone()
    }

    /// A place for one more handshake; `None`: `most` are under way.
    pub(crate) fn slot(self: &Arc<Self>, most: usize) -> Option<Slot> {
        let slot = Slot(self.clone());
        (self.under_way.fetch_add(1, Ordering::Relaxed) < most).then_some(slot)
    }
}

/// One handshake's place, given back on drop.
pub(crate) struct Slot(Arc<Tls>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row 32.
    #[test]
    fn handshakes_at_once_are_bounded() {
        let tls = Arc::new(Tls::new());
        let first = tls.slot(2);
        let second = tls.slot(2);
        assert!(first.is_some() && second.is_some());
        assert!(tls.slot(2).is_none() && tls.slot(2).is_none(), "those that are refused take no place");
        drop(first);
        assert!(tls.slot(2).is_some());
        drop(second);
        assert_eq!(tls.under_way.load(Ordering::Relaxed), 0);
    }
}
