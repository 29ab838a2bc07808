//! What the fleet tells the edge.
//!
//! Owns the words; `roster` decides when they are said. Invariants: every worker is told `Started` once and `Gone` once, in
//! this order; after `GaveUp` nothing is started.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::plan::GenerationNumber;
use crate::sys::Board;
use crate::worker::{Gone, WorkerNumber};

/// What happened to the processes. As many as things happen to them; the edge reads them without pause.
#[derive(Debug)]
pub enum Event {
    /// A worker process was started; it will say hello on its channel.
    Started {
        /// Its number in logs.
        number: WorkerNumber,
        /// The state of code and settings it is of.
        generation: GenerationNumber,
        /// Its process id.
        pid: u32,
        /// The edge's end of its channel, non-blocking. Its end of stream is the first sign of the worker's death.
        channel: UnixStream,
        /// The edge's end of its loop's lane, non-blocking; nothing ever comes over it.
        lane: UnixStream,
        /// The edge's end of its guard line, non-blocking.
        guard: UnixStream,
        /// The words shared with it.
        board: Arc<Board>,
    },
    /// Give it no more requests, and shut its channel and lane down for writing when those it has are done: then it
    /// leaves.
    Draining {
        /// Which worker.
        number: WorkerNumber,
        /// When it will be killed.
        deadline: Option<Instant>,
    },
    /// The worker process has ended.
    Gone {
        /// Which worker.
        number: WorkerNumber,
        /// Of which generation.
        generation: GenerationNumber,
        /// What its process id was.
        pid: u32,
        /// Why.
        reason: Gone,
    },
    /// A generation after the first could not boot. Everything of it is being killed; the current one is as it was.
    Failed {
        /// Which.
        generation: GenerationNumber,
        /// Python's traceback, or sentences.
        account: String,
    },
    /// At the first start, the template or a worker ended before any worker was ever ready. Everything is being
    /// killed; then events end.
    GaveUp {
        /// Python's traceback, or a sentence with the last lines of standard error.
        traceback: String,
    },
    /// What a template does.
    Template {
        /// Of which generation.
        generation: GenerationNumber,
        /// What is new.
        state: TemplateState,
    },
    /// A worker or template of the current generation died while starting; another follows.
    Faltering {
        /// Which generation.
        generation: GenerationNumber,
        /// Python's traceback, or sentences.
        account: String,
        /// After how long another is started.
        retry: Duration,
    },
    /// So many workers are wanted from now on.
    Scaled {
        /// How many.
        wanted: usize,
    },
}

/// What a template does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TemplateState {
    /// Its process runs and imports the application.
    Importing {
        /// Its process id.
        pid: u32,
    },
    /// It has imported the application and can make workers.
    Ready {
        /// Its process id.
        pid: u32,
        /// How long it took since the process was started.
        took: Duration,
    },
    /// It has ended unasked; in the current generation another is started, and workers live on.
    Lost {
        /// Python's traceback, or sentences.
        account: String,
    },
    /// The import left these threads running, which a fork would lose: workers import by themselves from now on.
    Threads {
        /// Their names.
        names: Vec<String>,
    },
}
