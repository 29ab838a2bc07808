//! `bandstand dev`: the same pipeline as `serve`, that follows the files of the project.
//!
//! Owns what is watched (`rules`, `watcher`), when a burst of changes is over (`settle`), what it leads to (`course`), the
//! gate that requests wait at meanwhile, the page for code that does not start (`traceback`, `page`), and how open pages
//! learn of changes (`pages`). Outside `dev` nothing here runs: `Shared::dev` is `None`.
//!
//! ```text
//!  gate:  Booting ──first hello──► Open ──a save──► Held ──new generation──► Open
//!            └──does not start──► Broken ◄──does not start──┘  │
//!                                    └────────a save───────────┘
//! ```

pub(crate) mod course;
pub(crate) mod note;
mod page;
pub(crate) mod pages;
mod rules;
mod settle;
mod traceback;
mod watcher;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bandstand_config::Settings;
use tokio::sync::{mpsc, watch};

use self::note::Note;
use self::page::Broken;
use self::pages::Seen;
use self::rules::Watched;
use self::watcher::{Change, Eyes, Message};
use crate::exchange::{Answer, Exchange};
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::{Phase, Shared};

/// Whether requests may go on to the app.
#[derive(Debug, Clone)]
pub(crate) enum Gate {
    /// The first start is under way.
    Booting,
    /// The newest code serves.
    Open,
    /// Newer code is on its way.
    Held,
    /// The newest code does not start.
    Broken(Arc<Broken>),
}

/// More that matters, as a worker tells it. Paths are absolute.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) templates: Vec<PathBuf>,
    pub(crate) locale: Vec<PathBuf>,
    pub(crate) statics: Vec<PathBuf>,
    /// What was saved after this may not be what the worker has read.
    pub(crate) since: Option<SystemTime>,
}

/// What requests, workers' words and the course of reloads share.
pub(crate) struct Dev {
    gate: watch::Sender<Gate>,
    seen: watch::Sender<Seen>,
    eyes: Eyes,
    project: PathBuf,
    /// When the newest start began.
    begun: Mutex<SystemTime>,
}

impl Dev {
    /// Begins to watch. The changes are for `course::follow`.
    ///
    /// # Errors
    /// The thread that watches cannot be started.
    pub(crate) fn open(settings: &Settings) -> std::io::Result<(Arc<Self>, mpsc::Receiver<Change>)> {
        let project = settings.chdir.clone();
        let own = ["bandstand.toml", "pyproject.toml", ".env"].map(|name| project.join(name));
        let watched = Watched {
            files: own.into_iter().chain(settings.env_file.clone()).collect(),
            more: settings.watch.clone(),
            project: project.clone(),
            any_source: true,
            ..Watched::default()
        };
        let (eyes, changes) = watcher::open(watched, settings.watch_method)?;
        Ok((Arc::new(Self::with(eyes, project)), changes))
    }

    fn with(eyes: Eyes, project: PathBuf) -> Self {
        Self {
            gate: watch::Sender::new(Gate::Booting),
            seen: watch::Sender::new(Seen::first()),
            eyes,
            project,
            begun: Mutex::new(SystemTime::now()),
        }
    }

    /// Nobody goes on to the app until the outcome of what begins now.
    fn hold(&self) {
        self.gate.send_if_modified(|gate| {
            let stays = matches!(gate, Gate::Booting | Gate::Held);
            if !stays {
                *gate = Gate::Held;
            }
            !stays
        });
    }

    /// The newest code is about to be read.
    fn begins(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = SystemTime::now();
    }

    /// A newer generation serves, whoever asked for it. While a save holds the gate, its course knows whether this was the
    /// newest code.
    pub(crate) fn serves(&self) {
        if !matches!(*self.gate.borrow(), Gate::Held) {
            self.mended();
        }
    }

    /// The newest code serves.
    fn mended(&self) {
        self.gate.send_replace(Gate::Open);
        self.eyes.tell(Message::AnySource(false));
        self.changed(true);
    }

    /// The newest code does not start. `reason`: a sentence or a traceback.
    pub(crate) async fn broke(&self, reason: &str) {
        let (reason, project) = (reason.to_owned(), self.project.clone());
        let page = tokio::task::spawn_blocking(move || Broken::new(&reason, &project)).await;
        let Ok(page) = page else { return self.mended() };
        self.eyes.tell(Message::Told(Told { files: page.files().to_vec(), ..Told::default() }));
        self.eyes.tell(Message::AnySource(true));
        self.gate.send_replace(Gate::Broken(Arc::new(page)));
        self.changed(true);
    }

    /// Pages are to look again.
    fn changed(&self, whole_page: bool) {
        self.seen.send_modify(|seen| seen.next(whole_page));
    }

    /// Waits until the first start has gone well or not.
    async fn first_outcome(&self) {
        // It cannot end: we hold the sender.
        let _ = self.gate.subscribe().wait_for(|gate| !matches!(gate, Gate::Booting)).await;
    }

    /// What a worker said first: which files its code is made of.
    pub(crate) fn hello(&self, json: &[u8]) {
        let Ok(hello) = serde_json::from_slice::<serde_json::Value>(json) else { return };
        let paths = |name: &str| {
            let told = hello["watch"][name].as_array().into_iter().flatten();
            told.filter_map(|path| path.as_str().map(PathBuf::from)).collect()
        };
        self.eyes.tell(Message::Told(Told {
            files: paths("files"),
            templates: paths("templates"),
            locale: paths("locale"),
            statics: paths("static"),
            since: Some(*self.begun.lock().unwrap_or_else(PoisonError::into_inner)),
        }));
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Arc<Self> {
        let (eyes, _) = watcher::open(Watched::default(), bandstand_config::WatchMethod::Native).unwrap();
        Arc::new(Self::with(eyes, "/p".into()))
    }
}

/// The stage: newer code is waited for, at most for `limit`; code that does not start is shown.
pub(crate) async fn wait(shared: &Shared, exchange: &Exchange, limit: Duration) -> Step {
    let Some(dev) = &shared.dev else { return Step::Next };
    let (mut gate, mut phase) = (dev.gate.subscribe(), shared.phase.subscribe());
    let settled = async {
        gate.wait_for(|gate| !matches!(gate, Gate::Booting | Gate::Held)).await.map(|gate| gate.clone())
    };
    let settled = tokio::select! {
        settled = tokio::time::timeout(limit, settled) => settled,
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => return Step::Refuse(Refusal::Stopping),
    };
    match settled {
        Ok(Ok(Gate::Broken(page))) => {
            let state = shared.state();
            let hosts = state.project.as_ref().and_then(|project| project.hosts.as_deref());
            match page::may_see(exchange.host.name(), hosts) {
                true => Step::Answer(page.answer(exchange)),
                false => Step::Refuse(Refusal::HostNotServed),
            }
        }
        Ok(_) => Step::Next,
        Err(_) => Step::Refuse(Refusal::QueueTimeout),
    }
}

/// The filter: what the worker noted on its answer is taken out of it.
pub(crate) fn take_note(shared: &Shared, answer: &mut Answer) -> Option<Box<Note>> {
    let dev = shared.dev.as_ref()?;
    let (note, files) = note::take(answer)?;
    if !files.is_empty() {
        dev.eyes.tell(Message::Told(Told { files, ..Told::default() }));
    }
    Some(Box::new(note))
}
