//! The rules of workers: how they come, serve, leave and die, and what follows.
//!
//! A single life's steps are in `worker`, the pauses in `restart`; here is what they mean for the generation.
//! Invariants: a worker that leaves service unasked has exactly one successor, unless its generation is to end; what is
//! asked to leave has a deadline.

use std::time::Duration;

use tokio::time::Instant;

use super::generations::Stage;
use super::{Action, FIRST, Roster, Way};
use crate::plan::GenerationNumber;
use crate::restart::{Backoff, History, Verdict, after_death};
use crate::worker::{Fate, Gone, Life, Step, WorkerNumber};

/// How long a worker that said it cannot import may take to end by itself: its last output is worth that.
pub(super) const FAILED_GRACE: Duration = Duration::from_secs(1);
/// How long the edge may take to read what a worker said before it ended: the frame is in the socket already.
pub(super) const LAST_WORD_GRACE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Worker {
    pub(super) generation: GenerationNumber,
    pub(super) life: Life,
    pub(super) place: Place,
    /// It ended while starting; the edge may still say why.
    pub(super) silent: Option<SilentEnd>,
}

/// What a worker takes over from the one before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) backoff: Backoff,
    /// Who serves in this place until the new one is ready.
    pub(super) succeeds: Option<WorkerNumber>,
}

/// A place to be filled at some time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Vacancy {
    pub(super) at: Instant,
    pub(super) place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SilentEnd {
    pub(super) until: Instant,
    seen: Gone,
    last_words: String,
}

impl Roster {
    pub(super) fn order(&mut self, generation: GenerationNumber, way: Way, place: Place, now: Instant) {
        self.last_number += 1;
        let number = WorkerNumber(self.last_number);
        let boot_deadline = self.generations.get(&generation).and_then(|this| this.ready_by(now));
        let life = Life::Ordered { boot_deadline, fate: Fate::Serve };
        self.workers.insert(number, Worker { generation, life, place, silent: None });
        self.actions.push(Action::Start { number, generation, way });
    }

    pub(super) fn started(&mut self, number: WorkerNumber) {
        let Some(Worker { life: Life::Ordered { fate, .. }, .. }) = self.workers.get(&number) else { return };
        let fate = fate.clone();
        self.step(number, Step::Start);
        match fate {
            Fate::Serve => {}
            Fate::Drain { deadline } => self.drain(number, deadline),
            Fate::Kill { reason } => self.kill_unasked(number, reason),
        }
    }

    pub(super) fn not_started(&mut self, number: WorkerNumber, account: String, again: bool, now: Instant) {
        let Some(worker) = self.workers.remove(&number) else { return };
        if !worker.life.is_serving() {
            return;
        }
        if !again {
            tracing::error!(worker = number.0, "{account}");
            self.vacate(number, &worker, None, now, || account);
        } else if let Some(this) = self.generations.get_mut(&worker.generation) {
            this.vacancies.push(Vacancy { at: now, place: worker.place });
        }
    }

    pub(super) fn hello(&mut self, number: WorkerNumber, now: Instant) {
        if !self.step(number, Step::Hello { now }) {
            return;
        }
        let Some(worker) = self.workers.get_mut(&number) else { return };
        let generation = worker.generation;
        // One that has ended since it said so relieves nobody: its own successor will.
        let succeeds = if worker.silent.is_none() { worker.place.succeeds.take() } else { None };
        if generation == FIRST && self.is_at(FIRST, Stage::Booting) && !self.is_stopping() {
            self.set_stage(FIRST, Stage::Current);
        }
        if let Some(old) = succeeds {
            self.relieve(old, now);
        }
    }

    pub(super) fn boot_failed(&mut self, number: WorkerNumber, traceback: String, now: Instant) {
        let step = Step::FailBoot { traceback: traceback.clone(), deadline: now + FAILED_GRACE };
        self.retire(number, step, now, || traceback);
    }

    pub(super) fn replace(&mut self, number: WorkerNumber, why: &str, now: Instant) {
        let Some(worker) = self.workers.get(&number) else { return };
        if !matches!(worker.life, Life::Starting { .. } | Life::Ready { .. }) {
            return;
        }
        tracing::warn!(worker = number.0, "worker {number} is replaced: {why}");
        let (worker, ready_for) = (worker.clone(), worker.life.ready_for(now));
        self.drain(number, now + self.graceful_timeout(worker.generation));
        self.vacate(number, &worker, ready_for, now, || format!("worker {number} is replaced: {why}"));
    }

    /// Kills a worker; its place, if it served, is filled again.
    pub(super) fn kill(&mut self, number: WorkerNumber, reason: Gone, now: Instant) {
        let ordered = matches!(self.workers.get(&number), Some(Worker { life: Life::Ordered { .. }, .. }));
        let sentence = account(number, &reason, "");
        if self.retire(number, Step::Kill { reason }, now, || sentence) && !ordered {
            self.actions.push(Action::Kill(number));
        }
    }

    fn kill_unasked(&mut self, number: WorkerNumber, reason: Gone) {
        if self.step(number, Step::Kill { reason }) {
            self.actions.push(Action::Kill(number));
        }
    }

    /// Asks a worker to leave; nobody follows it by this.
    pub(super) fn drain(&mut self, number: WorkerNumber, deadline: Instant) {
        let Some(worker) = self.workers.get(&number) else { return };
        match worker.life {
            Life::Ready { .. } => self.actions.push(Action::TellDraining { number, deadline }),
            // It holds no request and does not listen to its channel yet. Python's default is to end at once.
            Life::Starting { .. } => {
                self.actions.push(Action::TellDraining { number, deadline });
                self.actions.push(Action::Terminate(number));
            }
            Life::Ordered { .. } | Life::Draining { .. } => {}
            Life::Killed { .. } | Life::Gone(_) => return,
        }
        self.step(number, Step::Drain { deadline });
    }

    /// A worker has ended. One that was starting may have said why on its channel, which the edge reads in its own
    /// time: such an end waits a little for the edge's word.
    pub(super) fn ended(&mut self, number: WorkerNumber, seen: Gone, last_words: String, now: Instant) {
        if let Some(worker) = self.workers.get_mut(&number) {
            let starting = matches!(worker.life, Life::Starting { .. });
            let until = if starting { now + LAST_WORD_GRACE } else { now };
            worker.silent = Some(SilentEnd { until, seen, last_words });
        }
    }

    /// Buries those of whom the edge has said something by now, or will not.
    pub(super) fn bury_silent(&mut self, now: Instant) {
        let over = |worker: &Worker, end: &SilentEnd| {
            end.until <= now || !matches!(worker.life, Life::Starting { .. })
        };
        while let Some((&number, _)) = self
            .workers
            .iter()
            .find(|(_, worker)| worker.silent.as_ref().is_some_and(|end| over(worker, end)))
        {
            self.bury(number, now);
        }
    }

    fn bury(&mut self, number: WorkerNumber, now: Instant) {
        let Some(worker) = self.workers.remove(&number) else { return };
        let Some(SilentEnd { seen, last_words, .. }) = worker.silent.clone() else { return };
        let Ok(Life::Gone(reason)) = worker.life.next(Step::Exit(seen)) else { return };
        let generation = worker.generation;
        let alive = self.generations.get(&generation).is_some_and(|this| this.stage.is_alive());
        if !self.is_stopping() && alive && reason != Gone::Stopped {
            tracing::warn!(worker = number.0, "worker {number} {reason}");
        } else {
            tracing::debug!(worker = number.0, "worker {number} {reason}");
        }
        self.actions.push(Action::TellGone { number, generation, reason: reason.clone() });
        if worker.life.is_serving() {
            let ready_for = worker.life.ready_for(now);
            self.vacate(number, &worker, ready_for, now, || account(number, &reason, &last_words));
        }
    }

    /// Takes a worker out of service by this step and, if it was in service, sees to its place.
    fn retire(
        &mut self,
        number: WorkerNumber,
        step: Step,
        now: Instant,
        account: impl FnOnce() -> String,
    ) -> bool {
        let Some(worker) = self.workers.get(&number).cloned() else { return false };
        let stepped = self.step(number, step);
        if stepped && worker.life.is_serving() {
            self.vacate(number, &worker, worker.life.ready_for(now), now, account);
        }
        stepped
    }

    /// A worker is out of service unasked: its successor has its place at once if one is on the way, or one is looked
    /// for.
    fn vacate(
        &mut self,
        number: WorkerNumber,
        worker: &Worker,
        ready_for: Option<Duration>,
        now: Instant,
        account: impl FnOnce() -> String,
    ) {
        if self.is_stopping() || self.hand_over(number) {
            return;
        }
        let (generation, place) = (worker.generation, worker.place);
        let history = match self.generations.get(&generation).map(|this| this.stage) {
            Some(Stage::Booting) => History::NeverReady,
            Some(Stage::Current) => History::WasReady,
            _ => return,
        };
        match after_death(history, place.backoff, ready_for) {
            Verdict::GiveUp => self.fail_boot(generation, account(), now),
            Verdict::Restart { delay, backoff } => {
                tracing::debug!(?delay, generation = generation.0, "another worker will be started");
                if history == History::WasReady && ready_for.is_none() {
                    self.actions.push(Action::TellFaltering { generation, account: account(), retry: delay });
                }
                let vacancy = Vacancy { at: now + delay, place: Place { backoff, ..place } };
                self.generations.entry(generation).and_modify(|this| this.vacancies.push(vacancy));
            }
        }
    }

    /// Kills what is over its time, template or worker.
    pub(super) fn enforce_deadlines(&mut self, now: Instant) {
        let late = self.workers.iter().filter(|(_, worker)| {
            worker.silent.is_none() && worker.life.deadline().is_some_and(|at| at <= now)
        });
        let late: Vec<_> =
            late.map(|(&number, worker)| (number, worker.generation, worker.life.is_serving())).collect();
        for (number, generation, was_booting) in late {
            let timeout = self.generations.get(&generation).and_then(|this| this.terms.boot_timeout);
            let timeout = timeout.filter(|_| was_booting);
            self.kill(number, timeout.map_or(Gone::Overdue, Gone::BootTimeout), now);
        }
        self.enforce_template_deadlines(now);
    }

    pub(super) fn graceful_timeout(&self, generation: GenerationNumber) -> Duration {
        self.generations.get(&generation).map_or(Duration::ZERO, |this| this.terms.graceful_timeout)
    }

    /// Takes one step in a worker's life; false if it is not there or the step may not follow.
    fn step(&mut self, number: WorkerNumber, step: Step) -> bool {
        let Some(worker) = self.workers.get_mut(&number) else { return false };
        let Ok(next) = worker.life.next(step) else {
            tracing::debug!(worker = number.0, state = worker.life.name(), "a step came too late: ignored");
            return false;
        };
        tracing::debug!(worker = number.0, from = worker.life.name(), to = next.name(), "worker");
        worker.life = next;
        if !worker.life.is_serving() {
            worker.place.succeeds = None;
        }
        true
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
