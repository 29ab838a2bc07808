//! Certificates of this machine's own authority: for `localhost` and the names in the settings at once, for names below them when
//! a client asks for one.
//!
//! Owns when they are made and renewed; making them is `bandstand_certificates::local`'s. The authority is read once, before rights
//! are given away. Invariant: of names that clients choose at most `ASKED_MOST` have a certificate at a time, each of them one that
//! the authority is bound to.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bandstand_certificates::local::{Authority, renewal_of, trusted};
use bandstand_certificates::pem::Pair;
use bandstand_config::{Bind, Settings};

use super::Tls;
use super::store::{Source, Store};

/// Names below `localhost`, and the like, that somebody has asked for; a project with so many tenants is rare, and the oldest is
/// made again when it is wanted.
const ASKED_MOST: usize = 64;
/// How often is looked whether a certificate has to be renewed. The lifetime is days.
const LOOK: Duration = Duration::from_mins(10);
/// Below `state_dir`.
const FOLDER: &str = "local";

/// The folder of the authority.
pub fn folder(settings: &Settings) -> PathBuf {
    settings.state_dir.join(FOLDER)
}

/// Names and addresses that the settings have beside `localhost`.
pub fn names(settings: &Settings) -> Vec<String> {
    let hosts = settings.bind.iter().filter_map(|bind| match bind {
        Bind::Tcp { host, .. } if !matches!(host.as_str(), "" | "0.0.0.0" | "::") => Some(host),
        _ => None,
    });
    let mut names: Vec<String> = Vec::new();
    for name in settings.domains.iter().chain(hosts) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The authority and what it has signed for this process.
pub(super) struct Local {
    authority: Authority,
    names: Vec<String>,
    /// Whether `bandstand trust` has been run since the authority was made.
    is_trusted: bool,
    signed: Mutex<Signed>,
}

struct Signed {
    base: Pair,
    /// The oldest first.
    asked: VecDeque<Pair>,
}

impl Local {
    /// `None`: the settings do not want it. Blocks.
    ///
    /// # Errors
    /// A sentence: there is no authority and none can be made, or it must not sign these names.
    pub(super) fn open(settings: &Settings) -> Result<Option<Self>, String> {
        if !settings.local_https {
            return Ok(None);
        }
        let (names, now) = (names(settings), SystemTime::now());
        let authority = Authority::open(&folder(settings), &names, now).map_err(|error| error.to_string())?;
        let base = authority.issue(&names, now).map_err(|error| error.to_string())?;
        let is_trusted = trusted::is_present(&folder(settings));
        let signed = Mutex::new(Signed { base, asked: VecDeque::new() });
        Ok(Some(Self { authority, names, is_trusted, signed }))
    }

    /// All of them, the one for `localhost` first.
    fn pairs(&self) -> Vec<Pair> {
        let signed = self.signed();
        std::iter::once(&signed.base).chain(&signed.asked).cloned().collect()
    }

    /// A client wants `host`, for which there is none; `true`: now there is.
    fn make(&self, host: &str) -> bool {
        let Some(pair) = self.authority.issue_for(host, SystemTime::now()) else { return false };
        let mut signed = self.signed();
        if signed.asked.len() >= ASKED_MOST {
            signed.asked.pop_front();
        }
        signed.asked.push_back(pair);
        true
    }

    /// Another for `localhost`, and those for other names away, when it is time for the first. True if so.
    fn renew(&self, now: SystemTime) -> bool {
        let mut signed = self.signed();
        if now < renewal_of(&signed.base) {
            // A name that was asked for later than that is made again by who asks next.
            let before = signed.asked.len();
            signed.asked.retain(|pair| now < renewal_of(pair));
            return signed.asked.len() != before;
        }
        match self.authority.issue(&self.names, now) {
            Ok(pair) => *signed = Signed { base: pair, asked: VecDeque::new() },
            Err(error) => tracing::error!(%error, "the local certificate cannot be renewed"),
        }
        true
    }

    fn signed(&self) -> MutexGuard<'_, Signed> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From now on the store has these certificates; none, if there is no `local`.
pub(super) fn take(store: &Store, local: Option<Arc<Local>>) {
    store.replace(Source::Local, local.as_ref().map(|local| local.pairs()).unwrap_or_default());
    store.make_on_demand(local.map(|local| -> super::store::OnDemand {
        Box::new(move |host| local.make(host).then(|| local.pairs()))
    }));
}

/// Renews, for ever.
pub(crate) async fn keep(tls: Arc<Tls>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Some(local) = tls.local.load_full()
            && local.renew(SystemTime::now())
        {
            tls.store.replace(Source::Local, local.pairs());
        }
    }
}

/// What to tell whoever opens the pages in a browser; `None`: as far as is known, the browser believes us already.
pub(crate) fn hint(tls: &Tls) -> Option<&'static str> {
    let local = tls.local.load();
    let distrusted = local.as_ref().is_some_and(|local| !local.is_trusted);
    distrusted.then_some("browsers warn of these certificates until `bandstand trust` has been run once")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::shared;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("bandstand-tls-local-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn settings(&self, domains: &[&str]) -> Settings {
            Settings {
                local_https: true,
                state_dir: self.0.clone(),
                domains: domains.iter().map(|name| (*name).to_owned()).collect(),
                ..shared(|_| {}).state().settings.clone()
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn names_are_answered_for_at_once_or_when_asked_for() {
        let folder = Folder::new("names");
        let settings = folder.settings(&["shop.test", "shop.example"]);
        let local = Arc::new(Local::open(&settings).unwrap().unwrap());
        let store = Store::default();
        take(&store, Some(local.clone()));
        for (name, wanted) in [
            (None, true),
            (Some("localhost"), true),
            (Some("shop.test"), true),
            (Some("shop.example"), true),
            (Some("admin.localhost"), true),
            (Some("Admin.LOCALHOST"), true),
            (Some("a.b.shop.example"), true),
            (Some("example"), false),
            (Some("evil.example"), false),
            (Some("localhost.evil.example"), false),
        ] {
            assert_eq!(store.answers(name), wanted, "{name:?}");
            let shown = store.shown(name.map(str::to_ascii_lowercase).as_deref());
            assert_eq!(shown.is_some(), wanted, "{name:?}");
            if let (Some(name), Some(facts)) = (name, shown) {
                assert!(facts.covers(&name.to_ascii_lowercase()), "{name}: {facts:?}");
            }
        }
        assert_eq!(local.pairs().len(), 3);
        take(&store, None);
        assert!(!store.answers(Some("localhost")) && !store.answers(Some("a.localhost")));
    }

    #[test]
    fn names_that_clients_choose_are_bounded() {
        let folder = Folder::new("bounded");
        let local = Arc::new(Local::open(&folder.settings(&[])).unwrap().unwrap());
        let store = Store::default();
        take(&store, Some(local.clone()));
        for number in 0..ASKED_MOST + 10 {
            assert!(store.answers(Some(&format!("n{number}.localhost"))));
        }
        assert_eq!(local.pairs().len(), ASKED_MOST + 1);
        assert!(store.shown(Some("localhost")).is_some(), "the first is never pushed out");
    }

    #[test]
    fn it_is_renewed_at_two_thirds() {
        let folder = Folder::new("renewed");
        let local = Local::open(&folder.settings(&[])).unwrap().unwrap();
        let first = local.pairs()[0].facts.clone();
        assert!(local.make("a.localhost"));
        let day = Duration::from_hours(24);
        assert!(!local.renew(SystemTime::now() + 4 * day));
        assert!(local.renew(SystemTime::now() + 5 * day));
        let renewed = local.pairs();
        assert_ne!(renewed[0].facts.serial, first.serial);
        assert!(renewed[0].facts.not_after > first.not_after);
        assert_eq!(renewed.len(), 1, "the others are made when they are asked for");
    }
}
