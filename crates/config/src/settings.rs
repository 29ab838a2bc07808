//! The settings as meant: types that cannot hold a wrong value.
//!
//! Owns the struct everything else reads, and the one line per key that fills it. It checks nothing: `syntax.rs` kept every value inside
//! its row, and `load.rs` the few rules between keys. Invariant: paths are absolute, counted from the project folder.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::bind::Bind;
use crate::paths::{PathInterface, PathRules};
use crate::proxies::TrustedProxies;
use crate::ready::ReadyCheck;
use crate::values::Values;

/// Every setting. `None` means off or not set, as each field says.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `module`, `module:attribute` or `module:factory(…)`; `None`: the Django project of the folder.
    pub app: Option<String>,
    /// How the application is called.
    pub interface: Interface,
    /// Prefixes whose requests take one way; ask `interface_for`.
    pub paths: PathRules,
    /// Where the application is mounted: empty, or begins with `/` and does not end with one.
    pub root_path: String,
    /// ASGI's startup and shutdown events.
    pub lifespan: Lifespan,
    /// The project folder.
    pub chdir: PathBuf,
    /// Put before the others on `sys.path`, in this order.
    pub pythonpath: Vec<PathBuf>,
    /// The interpreter asked for: a path, or a bare name to look up on `PATH`.
    pub python: Option<PathBuf>,
    /// The env file, already read.
    pub env_file: Option<PathBuf>,
    /// At least one address.
    pub bind: Vec<Bind>,
    /// Whose forwarding fields are believed.
    pub trusted_proxies: TrustedProxies,
    /// Say `Server: bandstand`.
    pub server_header: bool,
    /// Path of the liveness answer; `None`: no such path.
    pub health_path: Option<String>,
    /// Path of the readiness answer; `None`: no such path.
    pub ready_path: Option<String>,
    /// What a new generation must answer before it is current.
    pub ready_check: ReadyCheck,
    /// Worker processes; within `workers_min` and `workers_max` where those are set.
    pub workers: NonZeroUsize,
    /// Python threads in each worker.
    pub threads: NonZeroUsize,
    /// Threads one worker may have while some wait for async views; at least `threads`.
    pub threads_max: NonZeroUsize,
    /// Requests and WebSockets one worker's event loop works on at once, 1 to 16,384.
    pub tasks: NonZeroUsize,
    /// With both interfaces, async views start on a thread and go on in the loop.
    pub bridge: bool,
    /// Event loop of the workers (the key `loop`).
    pub event_loop: EventLoop,
    /// Threads of the edge; `None`: the edge decides.
    pub edge_threads: Option<NonZeroUsize>,
    /// Workers are forked from a template that has imported the project.
    pub preload: bool,
    /// Fewest workers when their number follows the queue; `None`, like `workers_max`: it does not.
    pub workers_min: Option<NonZeroUsize>,
    /// Most workers when their number follows the queue.
    pub workers_max: Option<NonZeroUsize>,
    /// Bytes of all workers together past which none is added by itself; `None`: no limit.
    pub workers_memory: Option<u64>,
    /// Requests after which a worker is replaced; `None`: never.
    pub max_requests: Option<NonZeroU64>,
    /// Most that chance adds to `max_requests`, for each worker anew.
    pub max_requests_jitter: u64,
    /// Age at which a worker is replaced; `None`: never.
    pub max_age: Option<Duration>,
    /// Time without a request after which a worker that has served some is replaced; `None`: never.
    pub max_idle: Option<Duration>,
    /// Bytes of one worker past which it is replaced; `None`: never.
    pub max_memory: Option<u64>,
    /// How those bytes are counted.
    pub memory_measure: MemoryMeasure,
    /// Of one request in the application; `None`: no limit.
    pub timeout: Option<Duration>,
    /// From spawn to ready; `None`: no limit.
    pub boot_timeout: Option<Duration>,
    /// For requests under way at stop or reload; zero: none.
    pub graceful_timeout: Duration,
    /// Requests that may wait for a place.
    pub queue: NonZeroUsize,
    /// Longest wait for a place.
    pub queue_timeout: Duration,
    /// Largest message of a WebSocket client, in bytes after decompression.
    pub websocket_max_size: u64,
    /// Silence after which a WebSocket client is pinged; `None`: never.
    pub websocket_ping: Option<Duration>,
    /// Longest wait for a pong, for a close, and for the answer to a handshake.
    pub websocket_timeout: Duration,
    /// Negotiate permessage-deflate.
    pub websocket_compress: bool,
    /// Origins that may open a WebSocket, as browsers write them, or `same`; empty: any.
    pub websocket_origins: Vec<String>,
    /// Largest request body, in bytes.
    pub max_body: u64,
    /// Largest request head, in bytes.
    pub max_header_bytes: usize,
    /// Most header fields of a request.
    pub max_headers: usize,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// Slowest pace of a body, in bytes a second; `None`: no limit.
    pub body_min_rate: Option<u64>,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// Without a byte taken by the client while an answer is written.
    pub send_timeout: Duration,
    /// Open connections.
    pub max_connections: NonZeroUsize,
    /// Open connections of one address (IPv6: one /64), loopback and trusted proxies exempt; `None`: no limit.
    pub max_connections_per_ip: Option<NonZeroUsize>,
    /// Part of a body held in memory, in bytes.
    pub body_buffer: u64,
    /// Part of an answer held in memory for one slow client, in bytes.
    pub answer_buffer: u64,
    /// Largest part of an answer spilled for one client, in bytes; 0: nothing is.
    pub spool_max: u64,
    /// Folder of spooled bodies and answers.
    pub spool_dir: PathBuf,
    /// Static files; `None`: left to the application.
    pub static_files: Option<Mount>,
    /// Uploaded files; `None`: left to the application.
    pub media: Option<Mount>,
    /// Where access records go.
    pub access_log: Destination,
    /// Least level of events.
    pub log: Level,
    /// Form of records and events.
    pub log_format: LogFormat,
    /// File for the process id.
    pub pid: Option<PathBuf>,
    /// User to become, by name or number.
    pub user: Option<String>,
    /// Group to become, by name or number.
    pub group: Option<String>,
    /// Mode bits taken from new files, 0 to 0o777; `None`: inherited.
    pub umask: Option<u32>,
    /// The control socket; `None`: a place that follows from the project folder.
    pub control: Option<PathBuf>,
    /// Where the user's hooks are: a dotted module, or the absolute path of a Python file.
    pub hooks: Option<String>,
    /// `dev` reloads open pages.
    pub browser_reload: bool,
    /// More folders that `dev` watches.
    pub watch: Vec<PathBuf>,
    /// How `dev` sees changes.
    pub watch_method: WatchMethod,
}

/// How the application is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// Found out by the worker.
    Auto,
    /// PEP 3333, on threads.
    Wsgi,
    /// ASGI 3, on an event loop.
    Asgi,
    /// Threads and an event loop in one process.
    Both,
}

/// Event loop of the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventLoop {
    /// uvloop where it is installed.
    Auto,
    /// The standard library's.
    Asyncio,
    /// uvloop, or the worker does not start.
    Uvloop,
}

/// ASGI's startup and shutdown events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifespan {
    /// The application is asked, and served without when it has none.
    Auto,
    /// An application without them does not start.
    On,
    /// It is not asked.
    Off,
}

/// What counts as the memory of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryMeasure {
    /// All pages it has in memory (`VmRSS`).
    Rss,
    /// The same, with shared pages divided among those that share them (`Pss` of smaps_rollup).
    Pss,
}

/// How `dev` sees changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMethod {
    /// File events where they work, else polling.
    Auto,
    /// File events.
    Native,
    /// Polling.
    Poll,
}

/// A folder behind a URL prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Begins and ends with `/`, and is longer than `/`.
    pub url: String,
    /// The folder; nobody has looked whether it exists.
    pub root: PathBuf,
}

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// Levels of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What may need a look.
    Warning,
    /// What failed.
    Error,
}

/// Form of records and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

impl Interface {
    /// The word a user writes.
    pub fn as_str(self) -> &'static str {
        match self {
            Interface::Auto => "auto",
            Interface::Wsgi => "wsgi",
            Interface::Asgi => "asgi",
            Interface::Both => "both",
        }
    }
}

impl EventLoop {
    /// The word a user writes.
    pub fn as_str(self) -> &'static str {
        match self {
            EventLoop::Auto => "auto",
            EventLoop::Asyncio => "asyncio",
            EventLoop::Uvloop => "uvloop",
        }
    }
}

impl Lifespan {
    /// The word a user writes.
    pub fn as_str(self) -> &'static str {
        match self {
            Lifespan::Auto => "auto",
            Lifespan::On => "on",
            Lifespan::Off => "off",
        }
    }
}

impl Settings {
    /// The way that `[paths]` pins requests for `path` to; `path` as in the request, without its query.
    pub fn interface_for(&self, path: &[u8]) -> Option<PathInterface> {
        self.paths.interface_for(path)
    }

    /// One line per key.
    pub(crate) fn from_values(values: &Values) -> Settings {
        Settings {
            app: values.text("app"),
            interface: values.word(
                "interface",
                &[
                    ("auto", Interface::Auto),
                    ("wsgi", Interface::Wsgi),
                    ("asgi", Interface::Asgi),
                    ("both", Interface::Both),
                ],
            ),
            paths: values.path_rules("paths"),
            root_path: values.text("root_path").unwrap_or_default(),
            lifespan: values
                .word("lifespan", &[("auto", Lifespan::Auto), ("on", Lifespan::On), ("off", Lifespan::Off)]),
            chdir: values.required_path("chdir"),
            pythonpath: values.paths("pythonpath"),
            python: values.path("python"),
            env_file: values.path("env_file"),
            bind: values.binds("bind"),
            trusted_proxies: values.proxies("trusted_proxies"),
            server_header: values.switch("server_header"),
            health_path: values.text("health_path"),
            ready_path: values.text("ready_path"),
            ready_check: values.ready_check("ready_check"),
            workers: values.required_count("workers"),
            threads: values.required_count("threads"),
            threads_max: values.required_count("threads_max"),
            tasks: values.required_count("tasks"),
            bridge: values.switch("bridge"),
            event_loop: values.word(
                "loop",
                &[("auto", EventLoop::Auto), ("asyncio", EventLoop::Asyncio), ("uvloop", EventLoop::Uvloop)],
            ),
            edge_threads: values.count("edge_threads"),
            preload: values.switch("preload"),
            workers_min: values.count("workers_min"),
            workers_max: values.count("workers_max"),
            workers_memory: values.limit_bytes("workers_memory"),
            max_requests: values.limit("max_requests"),
            max_requests_jitter: values.whole("max_requests_jitter"),
            max_age: values.duration("max_age"),
            max_idle: values.duration("max_idle"),
            max_memory: values.limit_bytes("max_memory"),
            memory_measure: values
                .word("memory_measure", &[("rss", MemoryMeasure::Rss), ("pss", MemoryMeasure::Pss)]),
            timeout: values.duration("timeout"),
            boot_timeout: values.duration("boot_timeout"),
            graceful_timeout: values.required_duration("graceful_timeout"),
            queue: values.required_count("queue"),
            queue_timeout: values.required_duration("queue_timeout"),
            websocket_max_size: values.size("websocket_max_size"),
            websocket_ping: values.duration("websocket_ping"),
            websocket_timeout: values.required_duration("websocket_timeout"),
            websocket_compress: values.switch("websocket_compress"),
            websocket_origins: values.texts("websocket_origins"),
            max_body: values.size("max_body"),
            max_header_bytes: values.size("max_header_bytes") as usize,
            max_headers: values.required_count("max_headers").get(),
            header_timeout: values.required_duration("header_timeout"),
            body_min_rate: values.rate("body_min_rate"),
            idle_timeout: values.required_duration("idle_timeout"),
            send_timeout: values.required_duration("send_timeout"),
            max_connections: values.required_count("max_connections"),
            max_connections_per_ip: values.count("max_connections_per_ip"),
            body_buffer: values.size("body_buffer"),
            answer_buffer: values.size("answer_buffer"),
            spool_max: values.size("spool_max"),
            spool_dir: values.required_path("spool_dir"),
            static_files: values.mount("static"),
            media: values.mount("media"),
            access_log: values.destination("access_log"),
            log: values.word(
                "log",
                &[
                    ("debug", Level::Debug),
                    ("info", Level::Info),
                    ("warning", Level::Warning),
                    ("error", Level::Error),
                ],
            ),
            log_format: values.word(
                "log_format",
                &[("auto", LogFormat::Auto), ("json", LogFormat::Json), ("pretty", LogFormat::Pretty)],
            ),
            pid: values.path("pid"),
            user: values.text("user"),
            group: values.text("group"),
            umask: values.octal("umask"),
            control: values.path("control"),
            hooks: values.module("hooks"),
            browser_reload: values.switch("browser_reload"),
            watch: values.paths("watch"),
            watch_method: values.word(
                "watch_method",
                &[("auto", WatchMethod::Auto), ("native", WatchMethod::Native), ("poll", WatchMethod::Poll)],
            ),
        }
    }
}
