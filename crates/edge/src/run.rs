//! From settings to a running server, and from a signal to its end.
//!
//! Owns the order of starting (bind, give rights away, start workers, first hello, ready line) and of stopping (no new
//! connections, finish what runs, workers leave, end), and what signals and workers' fates mean. Knows nothing of requests.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bandstand_config::{Loaded, Project as ProjectSource, ProjectSettings, Settings};
use bandstand_semantics::forwarded::TrustedProxies;
use bandstand_supervisor::{Command, Event, Fleet, Plan, WorkerNumber};
use tokio::sync::{mpsc, watch};

use crate::assets::{HashedNames, Manifest, Root, RootKind};
use crate::connection::registry::Registry;
use crate::dispatch::{Limits, Notice, Pace, Pool, Sockets, Writers, run_channel};
use crate::listener::{Listener, bind_all};
use crate::observe::{logging, record::AccessLog};
use crate::shared::{DateClock, Phase, Project, Shared};

/// How long a worker may live after its channel has ended.
const AFTER_CHANNEL: Duration = Duration::from_secs(1);

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

/// Serves until a signal stops it.
///
/// # Errors
/// An address cannot be bound, the app does not import, rights cannot be given away: a sentence that says what to do.
pub fn serve(run: Run) -> Result<(), ServeError> {
    let settings = run.loaded.settings.clone();
    let cannot =
        |what: &'static str| move |error: std::io::Error| ServeError::new(format!("{what}: {error}"));
    logging::start(settings.log, settings.log_format).map_err(cannot("cannot start the log"))?;
    let access_log = AccessLog::open(&settings.access_log, settings.log_format)
        .map_err(cannot("cannot open the access log"))?;
    let listeners = bind_all(&settings.bind).map_err(|error| ServeError::new(error.to_string()))?;
    let pid_file = PidFile::write(settings.pid.as_deref())?;
    bandstand_supervisor::drop_privileges(settings.user.as_deref(), settings.group.as_deref())
        .map_err(|error| ServeError::new(error.to_string()))?;
    raise_descriptor_limit();
    let pace = Pace::default();
    let runtime = runtime(&settings, &pace).map_err(cannot("cannot start the runtime"))?;
    let result = runtime.block_on(serve_until_stopped(run, settings, access_log, listeners, pace));
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(pid_file);
    logging::flush();
    result
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

async fn serve_until_stopped(
    run: Run,
    settings: Settings,
    access_log: Option<AccessLog>,
    listeners: Vec<Listener>,
    pace: Pace,
) -> Result<(), ServeError> {
    let mut commands = bandstand_supervisor::listen()
        .map_err(|error| ServeError::new(format!("cannot listen to signals: {error}")))?;
    let shared = Arc::new(share(&settings, access_log));
    pace.follow(&shared.pool);
    let (fleet, events) =
        Fleet::start(plan(&run, &settings)).map_err(|error| ServeError::new(error.to_string()))?;
    let urls: Vec<String> = listeners.iter().map(Listener::url).collect();
    for listener in listeners {
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Err(error) = listener.accept(shared).await {
                tracing::error!(%error, "a listener failed");
            }
        });
    }
    let (notices, noticed) = mpsc::unbounded_channel();
    let (fatal, mut failed) = mpsc::channel::<ServeError>(1);
    tokio::spawn(follow_fleet(shared.clone(), fleet.clone(), events, notices, fatal.clone()));
    let greeting = Greeting { loaded: run.loaded, urls, wanted: settings.workers.get(), greeted: 0 };
    tokio::spawn(follow_workers(shared.clone(), fleet.clone(), noticed, greeting, fatal));
    tokio::spawn(watch_clock(shared.clone(), fleet.clone()));
    loop {
        tokio::select! {
            failure = failed.recv() => {
                fleet.stop_now();
                return Err(failure.unwrap_or_else(|| ServeError::new("the workers could not be followed")));
            }
            command = commands.recv() => match command {
                Some(Command::Stop) | None => break,
                Some(Command::StopNow) => {
                    fleet.stop_now();
                    finish(&shared);
                    return Ok(());
                }
                Some(other) => obey(&shared, &fleet, other),
            }
        }
    }
    let deadline = Instant::now() + settings.graceful_timeout;
    tokio::select! {
        () = drain(&shared, &fleet, deadline) => {}
        // Asked a second time, it means it.
        _ = commands.recv() => fleet.stop_now(),
    }
    finish(&shared);
    Ok(())
}

fn finish(shared: &Shared) {
    if let Some(log) = &shared.access_log {
        log.flush();
    }
}

fn obey(shared: &Shared, fleet: &Fleet, command: Command) {
    match command {
        Command::MoreWorkers => fleet.scale(1),
        Command::FewerWorkers => fleet.scale(-1),
        Command::ReopenLogs => {
            if let Some(log) = &shared.access_log {
                log.reopen();
            }
        }
        Command::DrainWorkers => fleet.drain_all(),
        Command::Reload | Command::Upgrade => {
            tracing::warn!("this version cannot reload or upgrade in place: stop and start it instead");
        }
        Command::Stop | Command::StopNow => {}
    }
}

pub(crate) fn share(settings: &Settings, access_log: Option<AccessLog>) -> Shared {
    let peers = &settings.trusted_proxies;
    let networks = peers.networks.iter().map(|network| (network.address, network.prefix));
    let trusted = TrustedProxies::from_networks(networks, peers.unix);
    let pool = Pool::new(Limits {
        queue: settings.queue.get(),
        queue_timeout: settings.queue_timeout,
        timeout: settings.timeout,
    });
    Shared {
        trusted,
        pool,
        project: OnceLock::new(),
        phase: watch::Sender::new(Phase::Booting),
        access_log,
        connections: Registry::new(
            settings.max_connections.get(),
            settings.max_connections_per_ip.map(std::num::NonZeroUsize::get),
        ),
        clock: DateClock::new(),
        dropped_fields: std::sync::atomic::AtomicU64::new(0),
        settings: settings.clone(),
    }
}

fn plan(run: &Run, settings: &Settings) -> Plan {
    Plan {
        python: run.python.clone(),
        arguments: ["-m", "bandstand.worker"].map(OsString::from).to_vec(),
        directory: run.project.chdir.clone(),
        environment: worker_environment(run),
        workers: u16::try_from(settings.workers.get()).unwrap_or(u16::MAX),
        boot_timeout: settings.boot_timeout,
        graceful_timeout: settings.graceful_timeout,
        umask: settings.umask,
    }
}

/// The whole environment of a worker, but the descriptors, which the supervisor adds.
pub fn worker_environment(run: &Run) -> Vec<(OsString, OsString)> {
    let Run { project, app_env, loaded, .. } = run;
    let settings = &loaded.settings;
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| !matches!(name.to_str(), Some("LISTEN_FDS" | "LISTEN_PID" | "LISTEN_FDNAMES")))
        .collect();
    let mut set = |name: &str, value: OsString| {
        environment.retain(|(known, _)| known != name);
        environment.push((name.into(), value));
    };
    for (name, value) in app_env {
        set(name, value.into());
    }
    if let Some(module) = &project.settings_module {
        set("DJANGO_SETTINGS_MODULE", module.into());
    }
    let paths = std::env::join_paths(&project.pythonpath).unwrap_or_default();
    set("BANDSTAND_APP", project.app.clone().unwrap_or_default().into());
    set("BANDSTAND_THREADS", settings.threads.to_string().into());
    set("BANDSTAND_THREADS_MAX", settings.threads_max.to_string().into());
    set("BANDSTAND_TASKS", settings.tasks.to_string().into());
    set("BANDSTAND_INTERFACE", settings.interface.as_str().into());
    set("BANDSTAND_BRIDGE", u8::from(settings.bridge).to_string().into());
    set("BANDSTAND_LOOP", settings.event_loop.as_str().into());
    set("BANDSTAND_LIFESPAN", settings.lifespan.as_str().into());
    set("BANDSTAND_MULTIPROCESS", u8::from(settings.workers.get() > 1).to_string().into());
    set("BANDSTAND_PYTHONPATH", paths);
    // Lines of the app reach the log as they are written, not when 8 KiB have come together.
    set("PYTHONUNBUFFERED", "1".into());
    environment
}

/// Processes: started, leaving, gone.
async fn follow_fleet(
    shared: Arc<Shared>,
    fleet: Fleet,
    mut events: mpsc::UnboundedReceiver<Event>,
    notices: mpsc::UnboundedSender<Notice>,
    fatal: mpsc::Sender<ServeError>,
) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Started { number, pid, channel, lane, board } => {
                tracing::debug!(worker = number.0, pid, "worker started");
                let writers = Writers::default();
                shared.pool.add(number.0, board, writers.clone());
                let sockets = Sockets { channel, lane };
                tokio::spawn(run_channel(shared.pool.clone(), number.0, sockets, writers, notices.clone()));
            }
            Event::Draining { number } => shared.pool.retire(number.0),
            // The supervisor has logged it; what the worker held is seen to when its channel ends.
            Event::Gone { .. } => {}
            Event::GaveUp { traceback } => {
                let sentence = format!("the application could not be started:\n{}", traceback.trim_end());
                let _ = fatal.send(ServeError::new(sentence)).await;
                break;
            }
        }
    }
    drop(fleet);
}

/// What is said once the first workers are ready.
struct Greeting {
    loaded: Loaded,
    urls: Vec<String>,
    wanted: usize,
    greeted: usize,
}

/// Channels: hello, failed, lost.
async fn follow_workers(
    shared: Arc<Shared>,
    fleet: Fleet,
    mut notices: mpsc::UnboundedReceiver<Notice>,
    mut greeting: Greeting,
    fatal: mpsc::Sender<ServeError>,
) {
    while let Some(notice) = notices.recv().await {
        match notice {
            Notice::Hello { number, project } => {
                fleet.ready(WorkerNumber(number));
                if let Err(error) = greet(&shared, &project, &mut greeting) {
                    let _ = fatal.send(error).await;
                    return;
                }
            }
            Notice::Failed { number, traceback } => {
                // At the first start it is the last word of the program, and not said twice.
                if shared.project.get().is_some() {
                    tracing::error!(
                        worker = number,
                        "the application could not be imported\n{}",
                        traceback.trim_end()
                    );
                }
                fleet.boot_failed(WorkerNumber(number), traceback);
            }
            Notice::Lost { number, error } => {
                if let Some(error) = error {
                    tracing::error!(worker = number, error, "the worker broke the channel and is replaced");
                    fleet.kill(WorkerNumber(number));
                } else {
                    let fleet = fleet.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(AFTER_CHANNEL).await;
                        fleet.kill(WorkerNumber(number));
                    });
                }
            }
        }
    }
}

fn greet(shared: &Shared, project: &[u8], greeting: &mut Greeting) -> Result<(), ServeError> {
    if shared.project.get().is_none() {
        let said = ProjectSettings::from_json(project)
            .map_err(|error| ServeError::new(format!("the worker's hello cannot be read: {error}")))?;
        let loaded = greeting.loaded.with_django(&said);
        for note in &loaded.notes {
            tracing::info!("{note}");
        }
        let assets = open_assets(&loaded.settings)?;
        let hosts = hosts_of(&said);
        // Only this task sets it.
        let _ = shared.project.set(Project { said, assets, hosts });
        shared.phase.send_if_modified(|phase| {
            let booting = *phase == Phase::Booting;
            if booting {
                *phase = Phase::Open;
            }
            booting
        });
    }
    greeting.greeted += 1;
    if greeting.greeted == greeting.wanted {
        say_ready(shared, greeting);
    }
    Ok(())
}

#[allow(clippy::print_stderr, reason = "the line that scripts and people wait for, whatever the log's form")]
fn say_ready(shared: &Shared, greeting: &Greeting) {
    let workers = match greeting.wanted {
        1 => "1 worker".to_owned(),
        n => format!("{n} workers"),
    };
    let app = shared.project.get().and_then(|project| project.said.app.clone()).unwrap_or_default();
    let app = app.strip_suffix(":application").unwrap_or(&app);
    logging::flush();
    eprintln!("bandstand: ready on {} ({workers}, {app})", greeting.urls.join(", "));
}

fn open_assets(settings: &Settings) -> Result<Manifest, ServeError> {
    let mut roots = Vec::new();
    if let Some(mount) = &settings.static_files {
        roots.push(Root {
            prefix: mount.url.clone(),
            dir: mount.root.clone(),
            kind: RootKind::Static,
            hashed: HashedNames::Detect,
        });
    }
    if let Some(mount) = &settings.media {
        roots.push(Root {
            prefix: mount.url.clone(),
            dir: mount.root.clone(),
            kind: RootKind::Media,
            hashed: HashedNames::Never,
        });
    }
    let assets = Manifest::new(roots).map_err(|error| ServeError::new(error.to_string()))?;
    for warning in assets.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(assets)
}

/// Django's `ALLOWED_HOSTS`; with `DEBUG` and none given, Django answers for this machine only (its documentation of the
/// setting). `None` for other apps: they answer for any host.
fn hosts_of(said: &ProjectSettings) -> Option<Vec<String>> {
    let django = said.django.as_ref()?;
    if django.debug && django.allowed_hosts.is_empty() {
        return Some([".localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec());
    }
    Some(django.allowed_hosts.clone())
}

/// Requests that take too long: their client has its 504, their worker, if it is held up, is looked at and replaced.
async fn watch_clock(shared: Arc<Shared>, fleet: Fleet) {
    shared
        .pool
        .watch_clock(|late| {
            let worker = WorkerNumber(late.worker);
            if !late.stuck {
                tracing::error!(
                    worker = late.worker,
                    request_id = late.name.as_str(),
                    "a request ran out of time and was cancelled"
                );
                return;
            }
            tracing::error!(
                worker = late.worker,
                request_id = late.name.as_str(),
                "a request ran out of time; the stacks of its worker follow"
            );
            fleet.dump_stacks(worker);
            fleet.replace(worker, "a request ran out of time");
        })
        .await;
}

/// No new connections; those that are open finish; then the workers leave.
async fn drain(shared: &Arc<Shared>, fleet: &Fleet, deadline: Instant) {
    let stopped = Instant::now();
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
        tokio::time::sleep_until((stopped + shared.patience_at_stop()).into()).await;
        shared.pool.expire_abandoned();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = fleet.stop(deadline.max(Instant::now() + Duration::from_millis(200))) => {}
        () = expired => {}
    }
}

/// The file with our process id, removed at the end.
struct PidFile(Option<PathBuf>);

impl PidFile {
    fn write(path: Option<&std::path::Path>) -> Result<Self, ServeError> {
        let Some(path) = path else { return Ok(Self(None)) };
        std::fs::write(path, format!("{}\n", std::process::id())).map_err(|error| {
            ServeError::new(format!("cannot write the pid file {}: {error}", path.display()))
        })?;
        Ok(Self(Some(path.to_owned())))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Without it the next start overwrites the file.
            let _ = std::fs::remove_file(path);
        }
    }
}
