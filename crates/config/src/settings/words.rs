//! The words that some settings choose from, as types.
//!
//! Owns one type per choice, and the folders behind URLs. Which word stands for which is `settings/fill.rs`.

use std::path::PathBuf;

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

/// Whether clients must show a certificate, where `client_ca` says whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCert {
    /// A client without one is refused in the handshake.
    Required,
    /// A client without one is served; the application can tell.
    Optional,
}

/// How an authority sees that a name is served here (RFC 8555 section 8, RFC 8737).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// What the addresses allow.
    Auto,
    /// A file over HTTP, port 80.
    Http01,
    /// A certificate over TLS, port 443.
    TlsAlpn01,
    /// A DNS record that the user's program makes.
    Dns01,
}

/// Files that the application sends by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    /// Begins and ends with `/`, and is longer than `/`.
    pub url: String,
    /// The folder; nobody has looked whether it exists.
    pub root: PathBuf,
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

impl AcmeChallenge {
    /// The word a user writes.
    pub fn as_str(self) -> &'static str {
        match self {
            AcmeChallenge::Auto => "auto",
            AcmeChallenge::Http01 => "http-01",
            AcmeChallenge::TlsAlpn01 => "tls-alpn-01",
            AcmeChallenge::Dns01 => "dns-01",
        }
    }
}
