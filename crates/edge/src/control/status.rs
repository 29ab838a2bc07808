//! The state of the server as `status` tells it: what a program may rely on, field by field.
//!
//! Owns the shape and the units, for the server that fills it and the commands that show it. Times are seconds, memory is bytes,
//! and everything that grows is counted from the start. Invariant: a field keeps its name and meaning; new ones may come, so a reader
//! takes what is missing as empty. `docs/reference/control.md` lists it.

use serde::{Deserialize, Serialize};

use crate::observe::counters::Counts;

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Of the program that serves.
    pub version: String,
    /// Of the edge.
    pub pid: u32,
    /// The project's folder.
    pub project: String,
    /// `booting`, `serving`, `reloading` or `stopping`.
    pub state: String,
    /// Since the start, in seconds.
    pub uptime: f64,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// The generation that serves; 0 before the first.
    pub generation: u32,
    /// All that have workers, oldest first.
    pub generations: Vec<Generation>,
    /// The process that workers are forked from.
    pub template: Option<Template>,
    /// How many workers there should be.
    pub wanted: usize,
    /// Those there are, by number.
    pub workers: Vec<Worker>,
    /// What waits for a worker.
    pub queue: Queue,
    /// Open connections of clients.
    pub connections: usize,
    /// Of the edge.
    pub memory: Memory,
    /// The last time that a worker or template died while it started.
    pub last_failure: Option<Failure>,
    /// The last reload that is over.
    pub last_reload: Option<Reload>,
    /// Since the start.
    pub counters: Counts,
    /// What browsers reported of the Content-Security-Policy (`csp_reports`), the most frequent first; at most 256.
    pub violations: Vec<Violation>,
}

/// Reports of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Violation {
    /// The directive that was violated, or `_other`.
    pub directive: String,
    /// Scheme, host and port of what was blocked, or a word such as `inline`; `_other` for the rest.
    pub blocked: String,
    /// How many reports.
    pub count: u64,
}

/// A state of code and settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Generation {
    /// From 1.
    pub number: u32,
    /// `booting`, `current`, `leaving` or `failed`.
    pub state: String,
    /// How long it is in that state, in seconds.
    pub since: f64,
    /// How many are alive.
    pub workers: usize,
}

/// The process that workers are forked from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Template {
    /// Whose project it has imported.
    pub generation: u32,
    /// `importing`, `ready`, `lost`, or `none` when workers import by themselves.
    pub state: String,
    /// `null` when it is gone.
    pub pid: Option<u32>,
    /// Of this process.
    pub memory: Memory,
}

/// A worker process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// Its number, never used twice.
    pub number: u32,
    /// Its process.
    pub pid: u32,
    /// Whose code it runs.
    pub generation: u32,
    /// `starting`, `ready` or `draining`.
    pub state: String,
    /// Since its process was made, in seconds.
    pub age: f64,
    /// Requests that it has answered.
    pub served: u64,
    /// Requests that its threads work on at once.
    pub threads: usize,
    /// Those of them that work.
    pub busy: usize,
    /// Requests that its event loop takes at once; 0 without a loop.
    pub tasks_most: usize,
    /// Those that it has.
    pub tasks: usize,
    /// Open WebSockets.
    pub sockets: usize,
    /// Of this process.
    pub memory: Memory,
    /// What it works on, the oldest first.
    pub running: Vec<Running>,
}

/// A request in a worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Running {
    /// As in `X-Request-ID`.
    pub request_id: String,
    /// `GET` and so on.
    pub method: String,
    /// Path and query, cut where it is long.
    pub target: String,
    /// How long the worker has it, in seconds.
    pub since: f64,
    /// Who works on it: `thread` or `loop`.
    pub on: String,
    /// Which worker; also in a worker's own list.
    pub worker: u32,
}

/// What waits for a worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// Requests.
    pub length: usize,
    /// How long the oldest waits, in seconds.
    pub oldest: f64,
}

/// What a process takes, in bytes; `null` where the system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Resident; what workers share is counted for each of them.
    pub rss: Option<u64>,
    /// Proportional: what is shared is divided. Only when asked for.
    pub pss: Option<u64>,
}

/// Why something did not start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// RFC 3339.
    pub time: String,
    /// What happened, with the traceback.
    pub reason: String,
}

/// How a reload ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reload {
    /// RFC 3339.
    pub time: String,
    /// The generation that came to serve; `null` when it failed.
    pub generation: Option<u32>,
    /// Why it failed, with the traceback.
    pub error: Option<String>,
}

/// The stacks of one worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stacks {
    /// Which worker.
    pub worker: u32,
    /// Its process.
    pub pid: u32,
    /// Why there are none: it did not answer in time, or is leaving.
    pub error: Option<String>,
    /// Its threads.
    pub threads: Vec<Stack>,
    /// The tasks of its event loop.
    pub tasks: Vec<Stack>,
}

/// One Python stack.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stack {
    /// Of the thread or task.
    pub name: Option<String>,
    /// Of the request that it works on; `null` when it works on none.
    pub request_id: Option<String>,
    /// As Python prints it, innermost call last.
    pub stack: String,
}
