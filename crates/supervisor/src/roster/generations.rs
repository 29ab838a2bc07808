//! One generation's course: it boots, is current, leaves; or fails while it boots.
//!
//! ```text
//!   Booting ──promoted──► Current ──a newer one was promoted──► Leaving ──nothing left──► forgotten
//!      └──could not boot, discarded──► Failed (killed) ────────────────────────────────────▲
//! ```
//! Who promotes is the edge, but for the first generation, which is current with its first ready worker.
//! Invariants: at most one generation is current; a failing one touches nothing but itself.

use tokio::time::Instant;

use super::lives::Vacancy;
use super::templates::Template;
use super::{Action, Course, FIRST, Roster, Terms, Way};
use crate::plan::{GenerationNumber, Preload};
use crate::restart::Backoff;
use crate::worker::{Gone, WorkerNumber};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Generation {
    pub(super) terms: Terms,
    pub(super) stage: Stage,
    pub(super) wanted: usize,
    /// Until when template and first workers must be ready.
    pub(super) boot_deadline: Option<Instant>,
    pub(super) template: Template,
    pub(super) vacancies: Vec<Vacancy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Booting,
    Current,
    Leaving,
    Failed,
}

impl Stage {
    /// Whether workers of it are made.
    pub(super) fn is_alive(self) -> bool {
        matches!(self, Self::Booting | Self::Current)
    }

    /// One word for logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Current => "current",
            Self::Leaving => "leaving",
            Self::Failed => "failed",
        }
    }
}

impl Generation {
    pub(super) fn new(terms: Terms, now: Instant) -> Generation {
        let template = match terms.preload {
            Preload::Template => Template::Vacant { at: now, backoff: Backoff::default() },
            Preload::Direct => Template::None,
        };
        let boot_deadline = terms.boot_timeout.map(|timeout| now + timeout);
        let wanted = terms.workers;
        Generation { terms, stage: Stage::Booting, wanted, boot_deadline, template, vacancies: Vec::new() }
    }

    /// How a worker can be made now, if one can.
    pub(super) fn way(&self) -> Option<Way> {
        match (self.terms.preload, &self.template) {
            (Preload::Direct, _) => Some(Way::Exec),
            (Preload::Template, Template::Ready { .. }) => Some(Way::Fork),
            _ => None,
        }
    }

    /// Until when what is started now must be ready.
    pub(super) fn ready_by(&self, now: Instant) -> Option<Instant> {
        match self.boot_deadline {
            Some(deadline) if self.stage == Stage::Booting && deadline > now => Some(deadline),
            _ => self.terms.boot_timeout.map(|timeout| now + timeout),
        }
    }
}

impl Roster {
    pub(super) fn begin(&mut self, generation: GenerationNumber, terms: Terms, now: Instant) {
        if self.is_stopping() {
            return;
        }
        let booting = |this: &Generation| this.stage == Stage::Booting;
        let older = self.generations.iter().filter(|&(&number, this)| number != FIRST && booting(this));
        let older: Vec<_> = older.map(|(&number, _)| number).collect();
        for number in older {
            self.fail_boot(number, "a newer reload took its place".to_owned(), now);
        }
        tracing::debug!(generation = generation.0, "generation boots");
        self.generations.insert(generation, Generation::new(terms, now));
    }

    pub(super) fn promote(&mut self, generation: GenerationNumber, now: Instant) {
        if self.is_stopping() || !self.is_at(generation, Stage::Booting) {
            return;
        }
        self.set_stage(generation, Stage::Current);
        let older: Vec<_> = self.alive().filter(|&number| number < generation).collect();
        for number in older {
            self.set_stage(number, Stage::Leaving);
            let Some(this) = self.generations.get_mut(&number) else { continue };
            this.vacancies.clear();
            let deadline = now + this.terms.graceful_timeout;
            self.close_template(number, now);
            for worker in self.workers_of(number) {
                self.drain(worker, deadline);
            }
        }
    }

    pub(super) fn discard(&mut self, generation: GenerationNumber, now: Instant) {
        match self.generations.get(&generation).map(|this| this.stage) {
            Some(Stage::Booting) if generation == FIRST => {}
            Some(Stage::Booting | Stage::Leaving) => self.kill_generation(generation, now),
            _ => {}
        }
    }

    /// A generation that boots cannot. The first one ends the fleet.
    pub(super) fn fail_boot(&mut self, generation: GenerationNumber, account: String, now: Instant) {
        if generation == FIRST {
            self.actions.push(Action::TellGaveUp { traceback: account });
            self.stop_now(now);
        } else {
            self.actions.push(Action::TellFailed { generation, account });
            self.kill_generation(generation, now);
        }
    }

    fn kill_generation(&mut self, generation: GenerationNumber, now: Instant) {
        self.set_stage(generation, Stage::Failed);
        if let Some(this) = self.generations.get_mut(&generation) {
            this.vacancies.clear();
        }
        self.kill_template(generation);
        for number in self.workers_of(generation) {
            self.kill(number, Gone::Ended, now);
        }
    }

    pub(super) fn stop(&mut self, deadline: Instant, now: Instant) {
        self.start_no_more();
        let numbers: Vec<_> = self.generations.keys().copied().collect();
        for number in numbers {
            if !self.stays(number) {
                self.close_template(number, now);
            }
        }
        let numbers: Vec<_> = self.workers.keys().copied().collect();
        for number in numbers {
            self.drain(number, deadline);
        }
    }

    pub(super) fn stop_now(&mut self, now: Instant) {
        self.start_no_more();
        let numbers: Vec<_> = self.generations.keys().copied().collect();
        for number in numbers {
            if !self.stays(number) {
                self.kill_template(number);
            }
        }
        let numbers: Vec<_> = self.workers.keys().copied().collect();
        for number in numbers {
            self.kill(number, Gone::Ended, now);
        }
    }

    /// In a stop the current template stays for the hooks of its last workers' ends.
    fn stays(&self, generation: GenerationNumber) -> bool {
        let ready = |this: &Generation| matches!(this.template, Template::Ready { .. });
        self.generations.get(&generation).is_some_and(|this| this.stage == Stage::Current && ready(this))
    }

    fn start_no_more(&mut self) {
        self.course = Course::Stop;
        self.tired.clear();
        self.generations.values_mut().for_each(|this| this.vacancies.clear());
    }

    pub(super) fn is_at(&self, generation: GenerationNumber, stage: Stage) -> bool {
        self.generations.get(&generation).is_some_and(|this| this.stage == stage)
    }

    pub(super) fn set_stage(&mut self, generation: GenerationNumber, stage: Stage) {
        let Some(this) = self.generations.get_mut(&generation) else { return };
        tracing::debug!(generation = generation.0, from = this.stage.name(), to = stage.name(), "generation");
        this.stage = stage;
    }

    pub(super) fn workers_of(&self, generation: GenerationNumber) -> Vec<WorkerNumber> {
        let own = self.workers.iter().filter(|(_, worker)| worker.generation == generation);
        own.map(|(&number, _)| number).collect()
    }
}
