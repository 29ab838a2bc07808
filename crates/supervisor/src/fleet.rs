//! The set of workers as the edge sees it: orders in, events out.
//!
//! Owns the doors; the work is done by one task in `keep`, to which orders are sent and which sends the events, so no
//! call here waits except `start` (for the first process) and `stop`. Leaves requests to the edge.
//! Invariant: every worker is told `Started` once and `Gone` once, in this order.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::keep::Keeper;
use crate::orphans::Orphans;
use crate::restart::Backoff;
use crate::spawn::{Plan, SpawnError, Spawner};
use crate::sys::Board;
use crate::worker::{Gone, WorkerNumber};

/// How long after SIGKILL `stop` still waits: the kernel may hold a process in a device's or file system's wait.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// What happened to the workers. As many as things happen to processes; the edge reads them without pause.
#[derive(Debug)]
pub enum Event {
    /// A process was started; it will say hello on its channel.
    Started {
        /// Its number in logs.
        number: WorkerNumber,
        /// Its process id.
        pid: u32,
        /// The edge's end of its channel, non-blocking. Its end of stream is the first sign of the worker's death.
        channel: UnixStream,
        /// The edge's end of its loop's lane, non-blocking; nothing ever comes over it.
        lane: UnixStream,
        /// The words shared with it.
        board: Arc<Board>,
    },
    /// Give it no more requests, and shut its channel and lane down for writing when those it has are done: then it
    /// leaves.
    Draining {
        /// Which worker.
        number: WorkerNumber,
    },
    /// The process has ended.
    Gone {
        /// Which worker.
        number: WorkerNumber,
        /// What its process id was.
        pid: u32,
        /// Why.
        reason: Gone,
    },
    /// At the first start, a worker ended before any was ever ready. The others are being killed; then events end.
    GaveUp {
        /// Python's traceback, or a sentence with the last lines of the worker's standard error.
        traceback: String,
    },
}

/// A handle to the set of workers. When the last one is dropped without `stop`, all workers are killed.
#[derive(Debug, Clone)]
pub struct Fleet {
    orders: mpsc::UnboundedSender<Order>,
}

/// What the edge asks of the task.
#[derive(Debug)]
pub(crate) enum Order {
    Ready(WorkerNumber),
    BootFailed(WorkerNumber, String),
    Replace(WorkerNumber, &'static str),
    Kill(WorkerNumber),
    DumpStacks(WorkerNumber),
    Scale(i32),
    DrainAll,
    Stop(Instant, oneshot::Sender<()>),
    StopNow,
}

impl Fleet {
    /// Starts the workers of `plan` and a task that keeps them; to be called inside a tokio runtime with time and
    /// I/O. Waits some milliseconds for the first process, so that a plan that cannot work is an error here.
    ///
    /// # Errors
    /// No process could be started.
    pub fn start(plan: Plan) -> Result<(Fleet, mpsc::UnboundedReceiver<Event>), SpawnError> {
        let orphans = Orphans::listen()?;
        let (spawner, first) = Spawner::start(plan.clone())?;
        let (orders, ordered) = mpsc::unbounded_channel();
        let (events, happened) = mpsc::unbounded_channel();
        let mut keeper = Keeper::new(plan, spawner, events);
        keeper.admit(first, Backoff::default());
        tokio::spawn(keeper.run(ordered, orphans));
        Ok((Fleet { orders }, happened))
    }

    /// The worker has said hello.
    pub fn ready(&self, number: WorkerNumber) {
        self.order(Order::Ready(number));
    }

    /// The worker has said that it cannot import the application; another is started, after a pause.
    pub fn boot_failed(&self, number: WorkerNumber, traceback: String) {
        self.order(Order::BootFailed(number, traceback));
    }

    /// The worker is stuck or misbehaves: another is started (at once if this one was ready for long, after a pause
    /// else), this one is drained, and killed after the graceful timeout. `why` ends the sentence "worker 3 is
    /// replaced: …".
    pub fn replace(&self, number: WorkerNumber, why: &'static str) {
        self.order(Order::Replace(number, why));
    }

    /// Kills the worker; it is replaced unless it was draining.
    pub fn kill(&self, number: WorkerNumber) {
        self.order(Order::Kill(number));
    }

    /// Makes the worker write the Python stacks of all its threads to its standard error, and so to the log. Does
    /// nothing before it is ready: until it has installed the handler the signal would end it.
    pub fn dump_stacks(&self, number: WorkerNumber) {
        self.order(Order::DumpStacks(number));
    }

    /// Wants `by` workers more or, negative, fewer; at least 1 and at most 1024 remain.
    pub fn scale(&self, by: i32) {
        self.order(Order::Scale(by));
    }

    /// Lets all workers finish and leave, each within the graceful timeout; the fleet goes on with none until
    /// `scale`.
    pub fn drain_all(&self) {
        self.order(Order::DrainAll);
    }

    /// Lets all workers finish and leave, kills what is left at the deadline, and returns when all are gone (or a
    /// moment after the deadline, should the kernel not let one go). No worker is started any more. Dropped early,
    /// the stop goes on.
    pub async fn stop(&self, deadline: impl Into<Instant>) {
        let deadline = deadline.into();
        let (done, all_gone) = oneshot::channel();
        self.order(Order::Stop(deadline, done));
        let _ = timeout_at(deadline + KILL_GRACE, all_gone).await; // either way there is nothing more to do
    }

    /// Kills all workers; none is started any more.
    pub fn stop_now(&self) {
        self.order(Order::StopNow);
    }

    fn order(&self, order: Order) {
        let _ = self.orders.send(order); // the task has ended: there are no workers to which it could matter
    }
}
