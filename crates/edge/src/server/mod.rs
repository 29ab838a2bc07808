//! From settings to a running server.
//!
//! Owns the order of starting: sockets, rights given away, runtime, fleet, and only then what follows it. What happens from
//! there on is the conductor's, who alone decides about the fleet. Knows nothing of requests.
//! Invariant: no process is started before everything else that can fail has been tried.
//!
//! `conductor` is the task; `coming` a generation on its way, `prepare` what a reload needs before anything changes, `greet`
//! what a hello leads to, `probe` its test; `doors` the addresses; `care` (with `recycle` and `scale`) what the fleet does
//! by itself; `outage` what clients are told while nothing starts; `view` what others see of it all.

mod care;
mod clock;
mod coming;
mod conductor;
mod doors;
mod environment;
mod greet;
pub(crate) mod orders;
pub(crate) mod outage;
mod pid_file;
mod prepare;
mod probe;
mod quic;
mod recycle;
mod rights;
mod scale;
mod service;
mod stop;
mod upgrade;
pub(crate) mod view;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bandstand_config::{Loaded, Project as ProjectSource, Settings};
use bandstand_semantics::forwarded::TrustedProxies;
use tokio::sync::{mpsc, watch};

use self::conductor::{Conductor, Parts};
use self::doors::Bound;
pub use self::environment::worker_environment;
use self::outage::Outage;
use self::pid_file::PidFile;
pub use self::rights::{is_low, unprivileged};
use self::view::FleetView;
use crate::access::passwords::Verifier;
use crate::access::rates::Rates;
use crate::connection::registry::Registry;
use crate::control::{self, Control, Place};
use crate::dev::Dev;
use crate::dispatch::{Limits, Pace, Pool};
use crate::filters::alt_svc::AltSvc;
use crate::filters::security::Security;
use crate::handed_down::HandedDown;
use crate::observe::counters::Counters;
use crate::observe::violations::Violations;
use crate::observe::{logging, record::AccessLog};
use crate::shared::{DateClock, Phase, Project, Shared, State};
use crate::tls::Tls;

/// Orders that may wait for the conductor; who gives more waits.
const ORDERS: usize = 16;

/// What to serve.
pub struct Run {
    /// The settings.
    pub loaded: Loaded,
    /// The application.
    pub project: ProjectSource,
    /// The interpreter.
    pub python: PathBuf,
    /// Variables for the application, beside the environment.
    pub app_env: Vec<(String, String)>,
    /// What it is for.
    pub mode: Mode,
    /// Reads everything again, as at a start; `None`: it cannot be reloaded.
    pub again: Option<Again>,
}

/// Reads settings and project again. Blocks; the error is a sentence for people.
pub type Again = Arc<dyn Fn() -> Result<Run, String> + Send + Sync>;

/// What the server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Clients.
    Serve,
    /// The person who writes the project: it follows the files, and shows what is wrong with them.
    Dev,
}

/// Why the server could not run. The sentence is for people.
#[derive(Debug)]
pub struct ServeError {
    sentence: String,
    code: u8,
}

impl ServeError {
    fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), code: 1 }
    }

    /// Exit status: 1, the run failed; 2, wrong configuration.
    pub fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for ServeError {}

/// Serves until a signal or an order stops it.
///
/// # Errors
/// An address cannot be bound, the app does not import, rights cannot be given away: a sentence that says what to do.
pub fn serve(run: Run) -> Result<(), ServeError> {
    let settings = run.loaded.settings.clone();
    let cannot =
        |what: &'static str| move |error: std::io::Error| ServeError::new(format!("{what}: {error}"));
    rights::give_away_early(&settings)?;
    let mut handed_down = HandedDown::take();
    logging::start(settings.log, settings.log_format).map_err(cannot("cannot start the log"))?;
    let access_log = AccessLog::open(&settings.access_log, settings.log_format, owner_of_logs(&settings)?)
        .map_err(cannot("cannot open the access log"))?;
    // As whoever starts: keys are often root's alone.
    let tls = Arc::new(Tls::new());
    tls.apply(tls.prepare(&settings).map_err(ServeError::new)?);
    let mut bound =
        Bound::all(&settings.bind, &mut handed_down).map_err(|error| ServeError::new(error.to_string()))?;
    bound.add_udp(&settings, &mut handed_down).map_err(|error| ServeError::new(error.to_string()))?;
    bound.let_in(settings.umask, account(&settings)?);
    let control = open_control(&run, &mut handed_down)?;
    let pid_file = Arc::new(PidFile::at(settings.pid.as_deref()));
    if handed_down.ready.is_none() {
        pid_file.write().map_err(ServeError::new)?;
    }
    rights::give_away(&settings, run.mode)?;
    raise_descriptor_limit();
    let pace = Pace::default();
    let runtime = runtime(&settings, &pace).map_err(cannot("cannot start the runtime"))?;
    let result = runtime.block_on(async {
        let shared = Shared { tls, ..share(&settings, access_log.map(Arc::new)) };
        let heir_of = handed_down.ready.take();
        // What nobody has claimed is closed, here and in the service manager's store.
        service::forget(&handed_down.unclaimed());
        drop(handed_down);
        let foundations = Foundations { bound, control, pid_file: pid_file.clone(), heir_of };
        serve_until_stopped(run, shared, pace, foundations).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(pid_file);
    logging::flush();
    result
}

/// The user that root is about to become: it must be able to open the same files anew.
fn owner_of_logs(settings: &Settings) -> Result<Option<rustix::fs::Uid>, ServeError> {
    Ok(account(settings)?.map(|(uid, _)| rustix::fs::Uid::from_raw(uid)))
}

/// User and group that root is about to become.
fn account(settings: &Settings) -> Result<Option<(u32, u32)>, ServeError> {
    let user = settings.user.as_deref().filter(|_| rustix::process::geteuid().is_root());
    let account = user.map(bandstand_supervisor::account_of).transpose();
    account.map_err(|error| ServeError::new(error.to_string()))
}

/// The control socket, of the program before this one or a new one. Without one everything else works: only a place that
/// somebody has asked for must be had.
fn open_control(run: &Run, handed_down: &mut HandedDown) -> Result<Option<Control>, ServeError> {
    let opened = match handed_down.control.take() {
        Some((path, socket)) => Control::inherited(socket, path.into()),
        None => control::open(&Place::of(&run.loaded)),
    };
    match opened {
        Ok(control) => Ok(Some(control)),
        Err(error) if run.loaded.settings.control.is_some() => {
            Err(ServeError::new(format!("cannot open the control socket: {error}")))
        }
        Err(error) => {
            tracing::warn!(%error, "there is no control socket: `bandstand status` and the like find nothing");
            Ok(None)
        }
    }
}

/// One thread has no locks to contend for and no core to take from the workers; `edge_threads` asks for more.
fn runtime(settings: &Settings, pace: &Pace) -> std::io::Result<tokio::runtime::Runtime> {
    match settings.edge_threads.map_or(1, std::num::NonZeroUsize::get) {
        1 => {
            let pace = pace.clone();
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_park(move || pace.rest())
                .build()
        }
        threads => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("bandstand-edge")
            .enable_all()
            .build(),
    }
}

/// Many connections want many descriptors; the soft limit is low for the sake of `select(2)`, which nobody uses here.
fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // As it was, then: the log says so when it is reached.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

/// What was opened before rights were given away.
struct Foundations {
    bound: Bound,
    control: Option<Control>,
    pid_file: Arc<PidFile>,
    /// Where the program before this one waits for a word.
    heir_of: Option<std::os::fd::OwnedFd>,
}

async fn serve_until_stopped(
    run: Run,
    mut shared: Shared,
    pace: Pace,
    foundations: Foundations,
) -> Result<(), ServeError> {
    let Foundations { bound, control, pid_file, heir_of } = foundations;
    let signals = bandstand_supervisor::listen()
        .map_err(|error| ServeError::new(format!("cannot listen to signals: {error}")))?;
    let mut changes = None;
    if run.mode == Mode::Dev {
        let (dev, changed) = Dev::open(&run.loaded.settings)
            .map_err(|error| ServeError::new(format!("cannot watch the project: {error}")))?;
        changes = Some((dev.clone(), changed));
        shared.dev = Some(dev);
    }
    let shared = Arc::new(shared);
    pace.follow(&shared.pool);
    let (orders, ordered) = mpsc::channel(ORDERS);
    let control = control.map(Arc::new);
    let parts = Parts { run, shared: shared.clone(), bound, control: control.clone(), pid_file, heir_of };
    // From here on there are processes, and nothing but the conductor's end.
    let conductor = Conductor::start(parts)?;
    if let Some(control) = control {
        let (shared, orders) = (shared.clone(), orders.clone());
        tokio::spawn(async move { control.serve(shared, orders).await });
    }
    if let Some((dev, changed)) = changes {
        tokio::spawn(crate::dev::course::follow(dev, changed, orders.clone()));
    }
    tokio::spawn(service::keep_alive());
    tokio::spawn(crate::tls::local::keep(shared.tls.clone()));
    tokio::spawn(crate::tls::files::watch(shared.clone()));
    let result = conductor.run(signals, ordered).await;
    if let Some(log) = &shared.state().access_log {
        log.flush();
    }
    result
}

/// The server before its first worker.
pub(crate) fn share(settings: &Settings, access_log: Option<Arc<AccessLog>>) -> Shared {
    Shared {
        current: ArcSwap::from_pointee(state_of(settings, None, access_log, 1)),
        pool: Pool::new(limits(settings)),
        phase: watch::Sender::new(Phase::Booting),
        connections: Registry::new(
            settings.max_connections.get(),
            settings.max_connections_per_ip.map(std::num::NonZeroUsize::get),
        ),
        clock: DateClock::new(),
        started: Instant::now(),
        tls: Arc::new(Tls::new()),
        rates: Rates::new(Instant::now()),
        passwords: Verifier::new(),
        violations: Violations::default(),
        https_port: AtomicU16::new(0),
        alt_svc: AltSvc::default(),
        counters: Counters::new(),
        dropped_fields: AtomicU64::new(0),
        fleet: Mutex::new(FleetView::default()),
        outage: Outage::default(),
        dev: None,
    }
}

/// What a generation brings.
pub(crate) fn state_of(
    settings: &Settings,
    project: Option<Project>,
    access_log: Option<Arc<AccessLog>>,
    generation: u32,
) -> State {
    let peers = &settings.trusted_proxies;
    let networks = peers.networks.iter().map(|network| (network.address, network.prefix));
    State {
        trusted: TrustedProxies::from_networks(networks, peers.unix),
        security: Security::new(settings, project.as_ref().and_then(|project| project.said.django.as_ref())),
        settings: settings.clone(),
        project,
        access_log,
        generation,
        notes: Vec::new(),
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits { queue: settings.queue.get(), queue_timeout: settings.queue_timeout, timeout: settings.timeout }
}
