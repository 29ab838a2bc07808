//! The set of workers as the edge sees it: orders in, events out.
//!
//! Owns the doors; the work is done by one task in `keep`, to which orders are sent and which sends the events, so no
//! call here waits except `start` (for the first process) and `stop`. Leaves requests to the edge.
//! Invariant: orders are obeyed in the order in which they were given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::event::Event;
use crate::keep::Keeper;
use crate::plan::{GenerationNumber, Plan, SpawnError};
use crate::worker::WorkerNumber;

/// How long after SIGKILL `stop` still waits: the kernel may hold a process in a device's or file system's wait.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// A handle to the set of workers. When the last one is dropped without `stop`, all workers are killed.
#[derive(Debug, Clone)]
pub struct Fleet {
    orders: mpsc::UnboundedSender<Order>,
    /// Number of the newest generation.
    newest: Arc<AtomicU32>,
}

/// What the edge asks of the task.
#[derive(Debug)]
pub(crate) enum Order {
    Begin(GenerationNumber, Plan),
    Promote(GenerationNumber, oneshot::Sender<bool>),
    Discard(GenerationNumber),
    Ready(WorkerNumber),
    BootFailed(WorkerNumber, String),
    Replace(WorkerNumber, String),
    Recycle(WorkerNumber, String),
    Kill(WorkerNumber),
    DumpStacks(WorkerNumber),
    Scale(Scale),
    Hook(&'static str, String),
    Stop(Instant, oneshot::Sender<()>),
    StopNow,
}

/// How many workers are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scale {
    By(i32),
    To(usize),
    /// None, until somebody scales again.
    Nothing,
}

impl Fleet {
    /// Starts generation 1 and a task that keeps it; to be called inside a tokio runtime with time and I/O. Waits some
    /// milliseconds for the first process, so that a plan that cannot work is an error here. The generation is
    /// current as soon as one of its workers is ready.
    ///
    /// # Errors
    /// No process could be started.
    pub fn start(plan: Plan) -> Result<(Fleet, mpsc::UnboundedReceiver<Event>), SpawnError> {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (events, happened) = mpsc::unbounded_channel();
        let keeper = Keeper::start(plan, events)?;
        tokio::spawn(keeper.run(ordered));
        Ok((Fleet { orders, newest: Arc::new(AtomicU32::new(1)) }, happened))
    }

    /// Boots a new generation beside the current one; `Event::Failed` tells if it cannot. An older one that is still
    /// booting makes room for it.
    pub fn begin(&self, plan: Plan) -> GenerationNumber {
        let number = GenerationNumber(self.newest.fetch_add(1, Ordering::Relaxed) + 1);
        self.order(Order::Begin(number, plan));
        number
    }

    /// The generation is current from now on. Workers of older ones drain, each within its plan's graceful timeout,
    /// and their templates end. False if it is too late for that: it has failed meanwhile (`Event::Failed` was told), or
    /// the fleet ends. Waits for no process.
    pub async fn promote(&self, generation: GenerationNumber) -> bool {
        let (told, answer) = oneshot::channel();
        self.order(Order::Promote(generation, told));
        answer.await.unwrap_or(false) // the task has ended
    }

    /// Kills everything of a generation that is not current.
    pub fn discard(&self, generation: GenerationNumber) {
        self.order(Order::Discard(generation));
    }

    /// The worker has said hello.
    pub fn ready(&self, number: WorkerNumber) {
        self.order(Order::Ready(number));
    }

    /// The worker has said that it cannot import the application. In a booting generation that is the end of it; in
    /// the current one another is started, after a pause.
    pub fn boot_failed(&self, number: WorkerNumber, traceback: String) {
        self.order(Order::BootFailed(number, traceback));
    }

    /// The worker is stuck or misbehaves: another is started (at once if this one was ready for long, after a pause
    /// else), this one is drained, and killed after the graceful timeout. `why` ends the sentence "worker 3 is
    /// replaced: …".
    pub fn replace(&self, number: WorkerNumber, why: impl Into<String>) {
        self.order(Order::Replace(number, why.into()));
    }

    /// The worker has served long enough: a successor is started, and only when that is ready this one is drained.
    /// One at a time, in the order asked. `why` ends the sentence "worker 3 is recycled: …".
    pub fn recycle(&self, number: WorkerNumber, why: String) {
        self.order(Order::Recycle(number, why));
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
        self.order(Order::Scale(Scale::By(by)));
    }

    /// Wants so many workers: at least 1, at most 1024.
    pub fn scale_to(&self, workers: usize) {
        self.order(Order::Scale(Scale::To(workers)));
    }

    /// Lets all workers finish and leave, each within the graceful timeout; the fleet goes on with none until
    /// it is scaled.
    pub fn drain_all(&self) {
        self.order(Order::Scale(Scale::Nothing));
    }

    /// Has the current generation's template call the user's hook. `details`: a JSON object, whose members go with the
    /// order. Nothing happens without a template that is ready.
    pub fn hook(&self, name: &'static str, details: String) {
        self.order(Order::Hook(name, details));
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
