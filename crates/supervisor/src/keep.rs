//! The task that keeps the wanted number of workers: replaces those that die, drains and ends them.
//!
//! Owns the workers' lives and deadlines, and alone changes them. Rules are in `worker` (what may follow) and
//! `restart` (when again); processes in `spawn` and `watch`.
//! Invariants: a worker that leaves service unasked has exactly one successor; what is asked to leave has a deadline;
//! the task ends when the fleet was stopped, or nobody is left to ask or to tell, and the last worker is gone.

use std::collections::BTreeMap;
use std::future;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, pidfd_send_signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::fleet::{Event, Order};
use crate::orphans::Orphans;
use crate::restart::{Backoff, History, Verdict, after_death};
use crate::spawn::{Child, Plan, Spawner};
use crate::sys::dump_signal;
use crate::watch::{Ended, Watched, watch};
use crate::worker::{Gone, Life, Step, WorkerNumber};

/// Most workers that `scale` goes up to: past it more processes only take memory from each other.
const WORKERS_MAX: usize = 1024;
/// How long a worker that said it cannot import may take to end by itself: its last output is worth that.
const FAILED_GRACE: Duration = Duration::from_secs(1);
/// How long the edge may take to read what a worker said before it ended: the frame is in the socket already.
const LAST_WORD_GRACE: Duration = Duration::from_millis(500);

struct Worker {
    pid: u32,
    process: Pid,
    pidfd: Arc<OwnedFd>,
    life: Life,
    backoff: Backoff,
}

/// A place to be filled at some time.
struct Vacancy {
    at: Instant,
    backoff: Backoff,
}

pub(crate) struct Keeper {
    plan: Plan,
    spawner: Spawner,
    events: mpsc::UnboundedSender<Event>,
    ended: (mpsc::UnboundedSender<Ended>, mpsc::UnboundedReceiver<Ended>),
    workers: BTreeMap<WorkerNumber, Worker>,
    vacancies: Vec<Vacancy>,
    /// Workers that ended while starting, and until when the edge may say more.
    silent: Vec<(Instant, Ended)>,
    wanted: usize,
    last_number: u32,
    course: Course,
}

/// What the fleet is about.
enum Course {
    /// Keep the wanted number of workers.
    Serve(History),
    /// Let none be left, then tell these.
    Stop(Vec<oneshot::Sender<()>>),
}

impl Keeper {
    pub(crate) fn new(plan: Plan, spawner: Spawner, events: mpsc::UnboundedSender<Event>) -> Keeper {
        Keeper {
            wanted: usize::from(plan.workers.max(1)),
            plan,
            spawner,
            events,
            ended: mpsc::unbounded_channel(),
            workers: BTreeMap::new(),
            vacancies: Vec::new(),
            silent: Vec::new(),
            last_number: 0,
            course: Course::Serve(History::NeverReady),
        }
    }

    pub(crate) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>, mut orphans: Orphans) {
        let mut has_owner = true;
        self.fill_up().await;
        while !self.is_over() {
            let wake = self.next_deadline();
            tokio::select! {
                biased; // what the edge has said of a worker comes before the worker's end
                order = orders.recv(), if has_owner => match order {
                    Some(order) => self.obey(order),
                    None => {
                        has_owner = false;
                        self.stop_now();
                    }
                },
                Some(ended) = self.ended.1.recv() => self.end(ended),
                () = self.events.closed(), if !self.is_stopping() => self.stop_now(),
                () = orphans.heard() => self.spawner.reap_orphans(),
                () = until(wake) => {}
            }
            self.enforce_deadlines();
            self.bury_silent();
            self.fill_up().await;
        }
        if let Course::Stop(waiting) = self.course {
            for done in waiting {
                let _ = done.send(()); // whoever asked may have stopped waiting
            }
        }
        tracing::debug!("no worker is left");
    }

    fn obey(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Ready(number) => {
                if self.step(number, Step::Hello { now }) && !self.is_stopping() {
                    self.course = Course::Serve(History::WasReady);
                }
            }
            Order::BootFailed(number, traceback) => self.boot_failed(number, traceback),
            Order::Replace(number, why) => self.replace(number, why),
            Order::Kill(number) => self.kill(number, Gone::Ended),
            Order::DumpStacks(number) => self.dump_stacks(number),
            Order::Scale(by) => {
                let by = isize::try_from(by).unwrap_or(0); // pointers have 32 bits or more here
                self.wanted = self.wanted.saturating_add_signed(by).clamp(1, WORKERS_MAX);
                self.shrink();
            }
            Order::DrainAll => {
                self.wanted = 0;
                self.shrink();
            }
            Order::Stop(deadline, done) => self.stop(deadline, done),
            Order::StopNow => self.stop_now(),
        }
    }

    /// Takes a new process in.
    pub(crate) fn admit(&mut self, child: Child, backoff: Backoff) {
        let Child { pid: process, pidfd, channel, lane, board, stdout, stderr } = child;
        self.last_number += 1;
        let number = WorkerNumber(self.last_number);
        let pid = process.as_raw_nonzero().get().unsigned_abs();
        let pidfd = Arc::new(pidfd);
        let watched = Watched { number, pidfd: pidfd.clone(), stdout, stderr };
        tokio::spawn(watch(watched, self.ended.0.clone()));
        let life =
            Life::Starting { boot_deadline: self.plan.boot_timeout.map(|timeout| Instant::now() + timeout) };
        tracing::debug!(worker = number.0, pid, state = life.name(), "worker started");
        self.workers.insert(number, Worker { pid, process, pidfd, life, backoff });
        self.tell(Event::Started { number, pid, channel, lane, board });
    }

    /// Starts what is missing and due.
    async fn fill_up(&mut self) {
        while !self.is_stopping() {
            let now = Instant::now();
            let due = self.vacancies.iter().position(|vacancy| vacancy.at <= now);
            let backoff = match due {
                Some(index) => self.vacancies.swap_remove(index).backoff,
                None if self.places() < self.wanted => Backoff::default(),
                None => return,
            };
            match self.spawner.spawn().await {
                Ok(child) => self.admit(child, backoff),
                Err(error) => {
                    tracing::error!("{error}");
                    self.succeed(backoff, None, || error.to_string());
                }
            }
        }
    }

    /// Places taken: by workers that serve or will, and by those to be started later.
    fn places(&self) -> usize {
        self.workers.values().filter(|worker| worker.life.is_serving()).count() + self.vacancies.len()
    }

    /// A worker has ended. One that was starting may have said why on its channel, which the edge reads in its own
    /// time: such an end waits a little for the edge's word.
    fn end(&mut self, ended: Ended) {
        match self.workers.get(&ended.number) {
            Some(worker) if matches!(worker.life, Life::Starting { .. }) => {
                self.silent.push((Instant::now() + LAST_WORD_GRACE, ended));
            }
            _ => self.bury(ended),
        }
    }

    /// Buries those of whom the edge has said something by now, or will not.
    fn bury_silent(&mut self) {
        let now = Instant::now();
        let waits = |workers: &BTreeMap<WorkerNumber, Worker>, at: Instant, number: WorkerNumber| {
            at > now && matches!(workers.get(&number), Some(Worker { life: Life::Starting { .. }, .. }))
        };
        while let Some(index) =
            self.silent.iter().position(|(at, ended)| !waits(&self.workers, *at, ended.number))
        {
            let (_, ended) = self.silent.swap_remove(index);
            self.bury(ended);
        }
    }

    /// A worker is gone.
    fn bury(&mut self, ended: Ended) {
        let Ended { number, seen, last_words } = ended;
        let Some(worker) = self.workers.remove(&number) else { return };
        self.spawner.reaped(worker.process);
        let Ok(Life::Gone(reason)) = worker.life.next(Step::Exit(seen)) else { return };
        let pid = worker.pid;
        tracing::debug!(worker = number.0, pid, from = worker.life.name(), to = "gone", "worker");
        if !self.is_stopping() && reason != Gone::Stopped {
            tracing::warn!(worker = number.0, pid, "worker {number} {reason}");
        }
        self.tell(Event::Gone { number, pid, reason: reason.clone() });
        if worker.life.is_serving() {
            let ready_for = worker.life.ready_for(Instant::now());
            self.succeed(worker.backoff, ready_for, || account(number, &reason, &last_words));
        }
    }

    /// Decides what follows a place's loss.
    fn succeed(&mut self, backoff: Backoff, ready_for: Option<Duration>, account: impl FnOnce() -> String) {
        let Course::Serve(history) = self.course else { return };
        match after_death(history, backoff, ready_for) {
            Verdict::Restart { delay, backoff } => {
                tracing::debug!(?delay, "another worker will be started");
                self.vacancies.push(Vacancy { at: Instant::now() + delay, backoff });
            }
            Verdict::GiveUp => {
                self.tell(Event::GaveUp { traceback: account() });
                self.stop_now();
            }
        }
    }

    /// Takes a worker out of service by this step and, if it was in service, looks for its successor.
    fn retire(&mut self, number: WorkerNumber, step: Step, account: impl FnOnce() -> String) -> bool {
        let Some(worker) = self.workers.get(&number) else { return false };
        let (was_serving, backoff) = (worker.life.is_serving(), worker.backoff);
        let ready_for = worker.life.ready_for(Instant::now());
        let stepped = self.step(number, step);
        if stepped && was_serving {
            self.succeed(backoff, ready_for, account);
        }
        stepped
    }

    fn boot_failed(&mut self, number: WorkerNumber, traceback: String) {
        let deadline = Instant::now() + FAILED_GRACE;
        self.retire(number, Step::FailBoot { traceback: traceback.clone(), deadline }, || traceback);
    }

    fn replace(&mut self, number: WorkerNumber, why: &'static str) {
        let now = Instant::now();
        let Some(worker) = self.workers.get(&number).filter(|worker| worker.life.is_serving()) else {
            return;
        };
        let (backoff, ready_for) = (worker.backoff, worker.life.ready_for(now));
        tracing::warn!(worker = number.0, pid = worker.pid, "worker {number} is replaced: {why}");
        self.drain(number, now + self.plan.graceful_timeout);
        self.succeed(backoff, ready_for, || format!("worker {number} is replaced: {why}"));
    }

    fn dump_stacks(&self, number: WorkerNumber) {
        match self.workers.get(&number) {
            Some(worker)
                if matches!(worker.life, Life::Ready { .. } | Life::Draining { failure: None, .. }) =>
            {
                send(worker, dump_signal());
            }
            _ => tracing::debug!(worker = number.0, "no stacks: the worker is not ready"),
        }
    }

    /// Takes places away until no more than wanted are left: future ones first, then the newest.
    fn shrink(&mut self) {
        let surplus = self.places().saturating_sub(self.wanted);
        let unborn = surplus.min(self.vacancies.len());
        self.vacancies.truncate(self.vacancies.len() - unborn);
        let deadline = Instant::now() + self.plan.graceful_timeout;
        let serving = self.workers.iter().rev().filter(|(_, worker)| worker.life.is_serving());
        let leaving: Vec<_> = serving.map(|(&number, _)| number).take(surplus - unborn).collect();
        for number in leaving {
            self.drain(number, deadline);
        }
    }

    fn stop(&mut self, deadline: Instant, done: oneshot::Sender<()>) {
        self.vacancies.clear();
        match &mut self.course {
            Course::Stop(waiting) => waiting.push(done),
            Course::Serve(_) => self.course = Course::Stop(vec![done]),
        }
        let numbers: Vec<_> = self.workers.keys().copied().collect();
        for number in numbers {
            self.drain(number, deadline);
        }
    }

    fn stop_now(&mut self) {
        self.vacancies.clear();
        if let Course::Serve(_) = self.course {
            self.course = Course::Stop(Vec::new());
        }
        let numbers: Vec<_> = self.workers.keys().copied().collect();
        for number in numbers {
            self.kill(number, Gone::Ended);
        }
    }

    fn drain(&mut self, number: WorkerNumber, deadline: Instant) {
        let Some(worker) = self.workers.get(&number) else { return };
        match worker.life {
            Life::Ready { .. } => self.tell(Event::Draining { number }),
            // It holds no request and does not listen to its channel yet. Python's default is to end at once.
            Life::Starting { .. } => {
                self.tell(Event::Draining { number });
                send(worker, Signal::TERM);
            }
            Life::Draining { .. } => {}
            Life::Killed { .. } | Life::Gone(_) => return,
        }
        self.step(number, Step::Drain { deadline });
    }

    fn kill(&mut self, number: WorkerNumber, reason: Gone) {
        let sentence = account(number, &reason, "");
        if self.retire(number, Step::Kill { reason }, || sentence) {
            self.workers.get(&number).into_iter().for_each(|worker| send(worker, Signal::KILL));
        }
    }

    fn enforce_deadlines(&mut self) {
        let now = Instant::now();
        let late =
            self.workers.iter().filter(|(_, worker)| worker.life.deadline().is_some_and(|at| at <= now));
        let late: Vec<_> = late.map(|(&number, worker)| (number, worker.life.is_serving())).collect();
        for (number, was_booting) in late {
            let timeout = self.plan.boot_timeout.filter(|_| was_booting);
            self.kill(number, timeout.map_or(Gone::Overdue, Gone::BootTimeout));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let lives = self.workers.values().filter_map(|worker| worker.life.deadline());
        let silent = self.silent.iter().map(|(at, _)| *at);
        lives.chain(self.vacancies.iter().map(|vacancy| vacancy.at)).chain(silent).min()
    }

    /// Takes one step in a worker's life; false if it is not there or the step may not follow.
    fn step(&mut self, number: WorkerNumber, step: Step) -> bool {
        let Some(worker) = self.workers.get_mut(&number) else { return false };
        match worker.life.next(step) {
            Ok(next) => {
                tracing::debug!(worker = number.0, from = worker.life.name(), to = next.name(), "worker");
                worker.life = next;
                true
            }
            Err(_) => {
                tracing::debug!(
                    worker = number.0,
                    state = worker.life.name(),
                    "a step came too late: ignored"
                );
                false
            }
        }
    }

    fn is_stopping(&self) -> bool {
        matches!(self.course, Course::Stop(_))
    }

    fn is_over(&self) -> bool {
        self.is_stopping() && self.workers.is_empty()
    }

    fn tell(&self, event: Event) {
        let _ = self.events.send(event); // nobody listens: run() sees that too, and ends
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => future::pending().await,
    }
}

/// A process that has just ended cannot be told anything; its end is on its way here.
fn send(worker: &Worker, signal: Signal) {
    if let Err(error) = pidfd_send_signal(&worker.pidfd, signal) {
        tracing::debug!(pid = worker.pid, %error, "signal not sent");
    }
}

/// What to show when there is no traceback.
fn account(number: WorkerNumber, reason: &Gone, last_words: &str) -> String {
    match reason {
        Gone::BootFailed(traceback) => traceback.clone(),
        _ if last_words.is_empty() => format!("worker {number} {reason}"),
        _ => format!("{last_words}\nworker {number} {reason}"),
    }
}
