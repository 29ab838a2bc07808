//! The settings as meant: types that cannot hold a wrong value.
//!
//! Owns the struct everything else reads, and the questions that several keys answer together; `settings/fill.rs` fills it. It checks nothing: `syntax.rs` kept every value inside
//! its row, and `load.rs` the few rules between keys. Invariant: paths are absolute, counted from the project folder.

mod fill;
mod words;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::access::{PathSettings, PathTable, Secret, flattened};
use crate::bind::{Bind, Scheme};
use crate::networks::Networks;
use crate::paths::{PathInterface, PathRules};
use crate::ready::ReadyCheck;

pub use words::{
    AcmeChallenge, ClientCert, Destination, EventLoop, Interface, Level, Lifespan, LogFormat, MemoryMeasure,
    Mount, Protected, WatchMethod,
};

/// Every setting. `None` means off or not set, as each field says.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `module`, `module:attribute` or `module:factory(…)`; `None`: the Django project of the folder.
    pub app: Option<String>,
    /// How the application is called.
    pub interface: Interface,
    /// What `[paths]` says, as written; ask `interface_for` and `at`.
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
    pub trusted_proxies: Networks,
    /// Connections of trusted proxies begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Offer HTTP/2 over TLS.
    pub http2: bool,
    /// Hear HTTP/3 where TLS is spoken.
    pub http3: bool,
    /// Take HTTP/2 on plain addresses from clients that begin with it.
    pub h2c: bool,
    /// Names to serve over HTTPS, in lower case, the first one canonical; some may begin with `*.`.
    pub domains: Vec<String>,
    /// Own certificates: files, and folders of certbot's; ask `certificate_files`.
    pub tls_cert: Vec<PathBuf>,
    /// Their keys: none, or one for each file of `tls_cert`.
    pub tls_key: Vec<PathBuf>,
    /// Authorities of client certificates; `None`: clients are not asked for any.
    pub client_ca: Option<PathBuf>,
    /// Whether they must have one.
    pub client_cert: ClientCert,
    /// Authorities to ask, in order: a well-known name, or the URL of a directory.
    pub acme_directory: Vec<String>,
    /// PEM roots trusted for those servers; `None`: the built-in ones.
    pub acme_ca: Option<PathBuf>,
    /// Contact address.
    pub acme_email: Option<String>,
    /// External account binding, as `kid:key` with the key in base64url.
    pub acme_eab: Option<Secret>,
    /// Profile asked for.
    pub acme_profile: Option<String>,
    /// How names are proven.
    pub acme_challenge: AcmeChallenge,
    /// The program for dns-01.
    pub acme_dns_hook: Option<PathBuf>,
    /// Certificates, keys and accounts.
    pub state_dir: PathBuf,
    /// Certificates of this machine's own authority.
    pub local_https: bool,
    /// Plain requests to known names are redirected.
    pub redirect_https: bool,
    /// Requests for other domains than the first are redirected to it.
    pub canonical_host: bool,
    /// From the first byte of a TLS connection to the end of its handshake.
    pub tls_handshake_timeout: Duration,
    /// Handshakes at once.
    pub tls_handshakes: NonZeroUsize,
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
    /// Fields for every answer that lacks them; an empty value means never.
    pub headers: Vec<(String, String)>,
    /// Path where browsers report violations; `None`: nowhere.
    pub csp_reports: Option<String>,
    /// Compress what the application answers; ask `at`, which knows the path.
    pub compress: bool,
    /// Smallest answer that is compressed, in bytes.
    pub compress_min: u64,
    /// Media types that are; ask `compresses`.
    pub compress_types: Vec<String>,
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
    /// Folders the application sends files of by name, the longest prefix first.
    pub protected: Vec<Protected>,
    /// Compressed siblings of static files are made in the background.
    pub static_compress: bool,
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
    /// User that workers become, by name or number; `None`: that of the server.
    pub worker_user: Option<String>,
    /// Mode bits taken from new files, 0 to 0o777; `None`: inherited.
    pub umask: Option<u32>,
    /// The control socket; `None`: a place that follows from the project folder.
    pub control: Option<PathBuf>,
    /// Serve with `DEBUG = True` where others can reach it.
    pub allow_debug: bool,
    /// Where the user's hooks are: a dotted module, or the absolute path of a Python file.
    pub hooks: Option<String>,
    /// `dev` reloads open pages.
    pub browser_reload: bool,
    /// More folders that `dev` watches.
    pub watch: Vec<PathBuf>,
    /// How `dev` sees changes.
    pub watch_method: WatchMethod,
    /// What `at` answers from.
    pub by_path: PathTable,
}

/// Where an own certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFiles {
    /// A chain and its key; the same file may hold both.
    Pair {
        /// PEM, the leaf first.
        cert: PathBuf,
        /// PEM.
        key: PathBuf,
    },
    /// A folder whose folders each have `fullchain.pem` and `privkey.pem`, as certbot's `live`.
    Tree(PathBuf),
}

impl Settings {
    /// The way that `[paths]` pins requests for `path` to; `path` as in the request, without its query.
    pub fn interface_for(&self, path: &[u8]) -> Option<PathInterface> {
        self.paths.interface_for(path)
    }

    /// What is set for `path`, decoded (`%2F` too) and without its query: the longest prefix of `[paths]` that ends at one of its
    /// slashes or its end, over the settings themselves.
    pub fn at(&self, path: &[u8]) -> &PathSettings {
        self.by_path.at(path)
    }

    /// The same, and what is set for `path` without dot segments and doubled slashes, where that is something else. Whoever
    /// either of them stops is to be stopped: nobody knows which of the two an application looks at.
    pub fn at_strictest(&self, path: &[u8]) -> (&PathSettings, Option<&PathSettings>) {
        let plain = self.at(path);
        let flat = flattened(path).map(|flat| self.at(&flat));
        (plain, flat.filter(|flat| !std::ptr::eq(*flat, plain)))
    }

    /// Whether there is a source of certificates.
    pub fn has_certificates(&self) -> bool {
        !self.domains.is_empty() || !self.tls_cert.is_empty() || self.local_https
    }

    /// Whether certificates for `domains` are to be obtained: not while this machine's own authority makes them.
    pub fn uses_acme(&self) -> bool {
        !self.domains.is_empty() && !self.local_https
    }

    /// Whether TLS is spoken at `bind`. Of sockets that were passed only their own port can tell: see `speaks_tls_on`.
    pub fn speaks_tls(&self, bind: &Bind) -> bool {
        match bind {
            Bind::Tcp { scheme: Some(scheme), .. } => *scheme == Scheme::Https,
            Bind::Tcp { port, scheme: None, .. } => self.speaks_tls_on(*port),
            Bind::Unix(_) => false,
            Bind::Fd(_) | Bind::Systemd => self.has_certificates(),
        }
    }

    /// Whether TLS is spoken on a TCP socket of this port of which nobody said anything.
    pub fn speaks_tls_on(&self, port: u16) -> bool {
        self.has_certificates() && port != 80
    }

    /// The own certificates, in order. Looks which paths are folders.
    pub fn certificate_files(&self) -> Vec<CertificateFiles> {
        let mut keys = self.tls_key.iter();
        let files = self.tls_cert.iter().map(|cert| match cert.is_dir() {
            true => CertificateFiles::Tree(cert.clone()),
            false => CertificateFiles::Pair { cert: cert.clone(), key: keys.next().unwrap_or(cert).clone() },
        });
        files.collect()
    }

    /// Whether answers of `media_type` (without parameters) are compressed.
    pub fn compresses(&self, media_type: &str) -> bool {
        self.compress_types.iter().any(|known| match known.strip_suffix('*') {
            Some(kind) => media_type.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind)),
            None => known.eq_ignore_ascii_case(media_type),
        })
    }
}
