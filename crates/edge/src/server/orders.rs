//! What may be asked of the running server, whoever asks: signals, the control socket, the service manager, `dev`.
//!
//! Owns the words only. One task (`conductor.rs`) obeys them, one after the other, and tells how far it is.

use tokio::sync::{mpsc, oneshot};

/// To the task that owns the server's course.
pub(crate) type Orders = mpsc::Sender<Order>;

/// What is asked.
#[derive(Debug)]
pub(crate) enum Order {
    /// Settings, project and code again, in a new generation beside the one that serves.
    Reload {
        /// Requests wait from now until the outcome.
        hold: bool,
        /// How far it is. The last word is `Done` or `Failed`.
        progress: mpsc::UnboundedSender<Progress>,
    },
    /// Another number of workers; the answer is the number that is wanted now.
    Scale {
        /// How many.
        to: Scaling,
        /// The number that is wanted now, or why it cannot be.
        reply: oneshot::Sender<Result<usize, String>>,
    },
    /// The log files anew, after their rotation.
    Reopen {
        /// Whether it could be done.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// All workers finish and leave; others come with the next reload or scaling.
    DrainWorkers,
    /// Finish what runs, then end.
    Stop,
    /// End.
    StopNow,
    /// A newer program takes over.
    Upgrade {
        /// How far it is. The last word is `Done` or `Failed`.
        progress: mpsc::UnboundedSender<Progress>,
    },
}

/// How many workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scaling {
    /// So many more, or fewer.
    By(i32),
    /// So many.
    To(usize),
}

/// How far an order is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// What is done now, for people.
    Step(String),
    /// Done: this generation serves.
    Done {
        /// Its number.
        generation: u32,
    },
    /// Not done, and nothing is changed.
    Failed {
        /// Why: a sentence, and the traceback if there is one.
        reason: String,
    },
}
