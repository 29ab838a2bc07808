//! The settings as meant: types that cannot hold a wrong value.
//!
//! Owns the struct everything else reads, and the one line per key that fills it. It checks nothing: `syntax.rs` kept every value inside
//! its row, and `load.rs` the few rules between keys. Invariant: paths are absolute, counted from the project folder.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::bind::Bind;
use crate::proxies::TrustedProxies;
use crate::value::Value;

/// Every setting. `None` means off or not set, as each field says.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `module`, `module:attribute` or `module:factory(…)`; `None`: the Django project of the folder.
    pub app: Option<String>,
    /// How the application is called.
    pub interface: Interface,
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
    /// Worker processes.
    pub workers: NonZeroUsize,
    /// Python threads in each worker.
    pub threads: NonZeroUsize,
    /// Threads of the edge; `None`: the edge decides.
    pub edge_threads: Option<NonZeroUsize>,
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
}

/// How the application is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// Found out by the worker.
    Auto,
    /// PEP 3333.
    Wsgi,
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

/// A value for every row of the table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Values(pub(crate) BTreeMap<&'static str, Value>);

impl Settings {
    /// One line per key.
    pub(crate) fn from_values(values: &Values) -> Settings {
        Settings {
            app: values.text("app"),
            interface: values.word("interface", &[("auto", Interface::Auto), ("wsgi", Interface::Wsgi)]),
            chdir: values.required_path("chdir"),
            pythonpath: values.paths("pythonpath"),
            python: values.path("python"),
            env_file: values.path("env_file"),
            bind: values.binds("bind"),
            trusted_proxies: values.proxies("trusted_proxies"),
            server_header: values.switch("server_header"),
            health_path: values.text("health_path"),
            ready_path: values.text("ready_path"),
            workers: values.required_count("workers"),
            threads: values.required_count("threads"),
            edge_threads: values.count("edge_threads"),
            timeout: values.duration("timeout"),
            boot_timeout: values.duration("boot_timeout"),
            graceful_timeout: values.required_duration("graceful_timeout"),
            queue: values.required_count("queue"),
            queue_timeout: values.required_duration("queue_timeout"),
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
        }
    }
}

/// Each of these fits one kind of row. A mismatch is a mistake in this file, and loading the defaults alone finds it: the
/// tests of `load.rs` do.
macro_rules! take {
    ($values:expr, $key:expr, $($pattern:pat $(if $guard:expr)? => $result:expr),+ $(,)?) => {
        match $values.0.get($key) {
            $(Some($pattern) $(if $guard)? => $result,)+
            other => unreachable!("the table gives `{}` another kind: {other:?}", $key),
        }
    };
}

impl Values {
    fn text(&self, key: &str) -> Option<String> {
        take!(self, key, Value::Text(text) => Some(text.clone()), Value::Unset | Value::Off => None)
    }

    fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> T {
        let written = take!(self, key, Value::Word(word) => *word);
        let found = words.iter().find(|(word, _)| *word == written);
        found.expect("the words here are the choices of the row").1
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        take!(self, key, Value::Path(path) => Some(path.clone()), Value::Unset => None)
    }

    fn required_path(&self, key: &str) -> PathBuf {
        take!(self, key, Value::Path(path) => path.clone())
    }

    fn paths(&self, key: &str) -> Vec<PathBuf> {
        take!(self, key, Value::Paths(paths) => paths.clone(), Value::Unset => Vec::new())
    }

    fn binds(&self, key: &str) -> Vec<Bind> {
        take!(self, key, Value::Binds(binds) => binds.clone())
    }

    fn proxies(&self, key: &str) -> TrustedProxies {
        take!(self, key, Value::Proxies(proxies) => proxies.clone(), Value::Unset => TrustedProxies::default())
    }

    fn switch(&self, key: &str) -> bool {
        take!(self, key, Value::Switch(on) => *on)
    }

    fn count(&self, key: &str) -> Option<NonZeroUsize> {
        take!(self, key, Value::Count(number) => NonZeroUsize::new(*number as usize), Value::Auto | Value::Off => None)
    }

    fn required_count(&self, key: &str) -> NonZeroUsize {
        self.count(key).expect("the row's range begins at 1")
    }

    fn duration(&self, key: &str) -> Option<Duration> {
        take!(self, key, Value::Duration(duration) => Some(*duration), Value::Off => None)
    }

    fn required_duration(&self, key: &str) -> Duration {
        self.duration(key).expect("the row has no word off")
    }

    fn size(&self, key: &str) -> u64 {
        take!(self, key, Value::Size(bytes) => *bytes)
    }

    fn rate(&self, key: &str) -> Option<u64> {
        take!(self, key, Value::Rate(bytes) => Some(*bytes), Value::Off => None)
    }

    fn octal(&self, key: &str) -> Option<u32> {
        take!(self, key, Value::Octal(bits) => Some(*bits), Value::Unset => None)
    }

    fn mount(&self, key: &str) -> Option<Mount> {
        take!(self, key,
            Value::Mount { url: Some(url), root } => Some(Mount { url: url.clone(), root: root.clone() }),
            Value::Unset | Value::Off => None)
    }

    fn destination(&self, key: &str) -> Destination {
        take!(self, key,
            Value::Off => Destination::Off,
            Value::Path(path) if path.as_os_str() == "-" => Destination::Stdout,
            Value::Path(path) => Destination::File(path.clone()))
    }
}
