//! What goes into the rules and what comes out of them.
//!
//! Owns the words alone. An input is what an order of the edge, a process or the time says; an action is what `keep` does
//! about it: with processes, or by telling the edge. Invariant: values only, so that a test can make, compare and count
//! them.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::TemplateState;
use crate::fleet::Scale;
use crate::plan::{GenerationNumber, Plan, Preload};
use crate::worker::{Gone, WorkerNumber};

/// What of a plan the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Terms {
    pub(crate) workers: usize,
    pub(crate) boot_timeout: Option<Duration>,
    pub(crate) graceful_timeout: Duration,
    pub(crate) preload: Preload,
}

impl From<&Plan> for Terms {
    fn from(plan: &Plan) -> Terms {
        Terms {
            workers: usize::from(plan.workers.max(1)),
            boot_timeout: plan.boot_timeout,
            graceful_timeout: plan.graceful_timeout,
            preload: plan.preload,
        }
    }
}

/// What happened, or is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    Begin(GenerationNumber, Terms),
    Promote(GenerationNumber),
    Discard(GenerationNumber),
    Scale(Scale),
    Stop {
        deadline: Instant,
    },
    StopNow,
    Hello(WorkerNumber),
    BootFailed(WorkerNumber, String),
    Replace(WorkerNumber, String),
    Recycle(WorkerNumber, String),
    Kill(WorkerNumber),
    /// The process that `Action::Start` asked for runs.
    Started(WorkerNumber),
    /// It could not be started; `again`: through no fault of its own, it is to be tried at once when that is possible.
    NotStarted {
        number: WorkerNumber,
        account: String,
        again: bool,
    },
    /// The process has ended.
    Ended {
        number: WorkerNumber,
        seen: Gone,
        last_words: String,
    },
    Template(GenerationNumber, Sign),
    /// Time has passed.
    Tick,
}

/// What is heard of a template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Sign {
    Opened {
        pid: u32,
    },
    NotOpened {
        account: String,
    },
    Ready,
    Failed {
        traceback: String,
    },
    Threads {
        names: Vec<String>,
    },
    /// It does not keep to the protocol, or does not answer.
    Broken {
        account: String,
    },
    Ended {
        seen: Gone,
        last_words: String,
    },
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    OpenTemplate(GenerationNumber),
    /// End its stream: it leaves by itself.
    CloseTemplate(GenerationNumber),
    KillTemplate(GenerationNumber),
    Start {
        number: WorkerNumber,
        generation: GenerationNumber,
        way: Way,
    },
    /// SIGTERM.
    Terminate(WorkerNumber),
    /// SIGKILL.
    Kill(WorkerNumber),
    /// Nothing of the generation is left.
    Forget(GenerationNumber),
    TellDraining {
        number: WorkerNumber,
        deadline: Instant,
    },
    TellGone {
        number: WorkerNumber,
        generation: GenerationNumber,
        reason: Gone,
    },
    TellFailed {
        generation: GenerationNumber,
        account: String,
    },
    TellGaveUp {
        traceback: String,
    },
    TellTemplate {
        generation: GenerationNumber,
        state: TemplateState,
    },
    TellFaltering {
        generation: GenerationNumber,
        account: String,
        retry: Duration,
    },
    TellScaled {
        wanted: usize,
    },
}

/// How a worker is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    Exec,
    Fork,
}
