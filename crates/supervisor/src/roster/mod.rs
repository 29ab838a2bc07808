//! The rules of the fleet: generations, their templates, their workers, and what follows what.
//!
//! A pure machine: an [`Input`] and the time go in, [`Action`]s come out; `keep` carries them out and holds the
//! processes. `lives` has the rules of workers, `generations` those of generations, `templates` those of templates,
//! `recycling` and `scaling` theirs. Invariants, each explored in `tests`: never below capacity, all or nothing, one
//! current, replacement first, every worker told once, nothing started after a stop. Source: decision 0006.

mod generations;
mod lives;
mod recycling;
mod scaling;
mod steps;
mod templates;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use tokio::time::Instant;

use crate::plan::GenerationNumber;
use crate::worker::{Gone, WorkerNumber};
use generations::{Generation, Stage};
use lives::{Place, Worker};
pub(crate) use steps::{Action, Input, Sign, Terms, Way};
use templates::Template;

/// The generation of the first start: if it fails, the program ends.
pub(crate) const FIRST: GenerationNumber = GenerationNumber(1);

/// What the fleet is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Course {
    Serve,
    /// Let nothing be left.
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Roster {
    generations: BTreeMap<GenerationNumber, Generation>,
    workers: BTreeMap<WorkerNumber, Worker>,
    /// Who is to be recycled, and why.
    tired: VecDeque<(WorkerNumber, String)>,
    /// Who was recycled last, and may still be leaving.
    recycled: Option<WorkerNumber>,
    last_number: u32,
    course: Course,
    actions: Vec<Action>,
}

impl Roster {
    /// The fleet with its first generation, and what is to be done first: a process to be started, the rest after it.
    pub(crate) fn start(terms: Terms, now: Instant) -> (Roster, Vec<Action>) {
        let mut roster = Roster {
            generations: BTreeMap::from([(FIRST, Generation::new(terms, now))]),
            workers: BTreeMap::new(),
            tired: VecDeque::new(),
            recycled: None,
            last_number: 0,
            course: Course::Serve,
            actions: Vec::new(),
        };
        let actions = roster.apply(Input::Tick, now);
        (roster, actions)
    }

    /// Takes one input in. Inputs that come too late change nothing.
    pub(crate) fn apply(&mut self, input: Input, now: Instant) -> Vec<Action> {
        match input {
            Input::Begin(generation, terms) => self.begin(generation, terms, now),
            Input::Promote(generation) => self.promote(generation, now),
            Input::Discard(generation) => self.discard(generation, now),
            Input::Scale(scale) => self.scale(scale, now),
            Input::Stop { deadline } => self.stop(deadline, now),
            Input::StopNow => self.stop_now(now),
            Input::Hello(number) => self.hello(number, now),
            Input::BootFailed(number, traceback) => self.boot_failed(number, traceback, now),
            Input::Replace(number, why) => self.replace(number, &why, now),
            Input::Recycle(number, why) => self.recycle(number, why),
            Input::Kill(number) => self.kill(number, Gone::Ended, now),
            Input::Started(number) => self.started(number),
            Input::NotStarted { number, account, again } => self.not_started(number, account, again, now),
            Input::Ended { number, seen, last_words } => self.ended(number, seen, last_words, now),
            Input::Template(generation, sign) => self.template(generation, sign, now),
            Input::Tick => {}
        }
        self.enforce_deadlines(now);
        self.bury_silent(now);
        self.settle(now);
        mem::take(&mut self.actions)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.course == Course::Stop
    }

    /// Whether nothing is left, and nothing will come.
    pub(crate) fn is_over(&self) -> bool {
        self.is_stopping() && self.generations.is_empty()
    }

    /// Whether this generation is the one that serves.
    pub(crate) fn is_current(&self, generation: GenerationNumber) -> bool {
        !self.is_stopping() && self.is_at(generation, Stage::Current)
    }

    /// Whether a worker can be told something by signal.
    pub(crate) fn is_listening(&self, number: WorkerNumber) -> bool {
        self.workers.get(&number).is_some_and(|worker| worker.life.is_listening())
    }

    /// The generation whose template calls hooks.
    pub(crate) fn hooks(&self) -> Option<GenerationNumber> {
        // In a stop it still reads what it was told before its stream ended.
        let leaving = |template: &Template| {
            self.is_stopping() && matches!(template, Template::Ending { kill_at: Some(_), loss: None })
        };
        let ready = |generation: &Generation| {
            matches!(generation.template, Template::Ready { .. }) || leaving(&generation.template)
        };
        let mut current = self.generations.iter().filter(|(_, this)| this.stage == Stage::Current);
        current.find(|(_, this)| ready(this)).map(|(&number, _)| number)
    }

    /// When `Input::Tick` should come.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let workers = self.workers.values().filter_map(|worker| match &worker.silent {
            Some(end) => Some(end.until),
            None => worker.life.deadline(),
        });
        let templates = self.generations.values().filter_map(|this| this.template.deadline());
        // What waits for a template waits for no time.
        let able = self.generations.values().filter(|this| this.way().is_some());
        let vacancies = able.flat_map(|this| this.vacancies.iter().map(|vacancy| vacancy.at));
        workers.chain(templates).chain(vacancies).min()
    }

    /// Starts what is missing and due, and forgets what is over.
    fn settle(&mut self, now: Instant) {
        if self.is_stopping() {
            self.close_idle_templates(now);
        } else {
            self.recycle_next(now);
            let alive: Vec<_> = self.alive().collect();
            for generation in alive {
                self.open_due_template(generation, now);
                self.fill_up(generation, now);
            }
        }
        self.forget_finished();
    }

    /// Generations that have or will have workers, oldest first.
    fn alive(&self) -> impl Iterator<Item = GenerationNumber> + '_ {
        self.generations.iter().filter(|(_, this)| this.stage.is_alive()).map(|(&number, _)| number)
    }

    /// Orders the workers that are missing, if they can be made.
    fn fill_up(&mut self, generation: GenerationNumber, now: Instant) {
        loop {
            let places = self.places(generation);
            let Some(this) = self.generations.get_mut(&generation) else { return };
            let Some(way) = this.way() else { return };
            let due = this.vacancies.iter().position(|vacancy| vacancy.at <= now);
            let place = match due {
                Some(index) => this.vacancies.swap_remove(index).place,
                None if places < this.wanted => Place::default(),
                None => return,
            };
            self.order(generation, way, place, now);
        }
    }

    /// Places taken: by workers that serve or will, and by those to be started later. Successors have none until the
    /// worker that they are to succeed is out of service.
    fn places(&self, generation: GenerationNumber) -> usize {
        let serving = |worker: &&Worker| worker.generation == generation && worker.life.is_serving();
        let own = |place: &Place| place.succeeds.is_none();
        let taken = self.workers.values().filter(serving).filter(|worker| own(&worker.place)).count();
        let vacant = self
            .generations
            .get(&generation)
            .map_or(0, |this| this.vacancies.iter().filter(|vacancy| own(&vacancy.place)).count());
        taken + vacant
    }

    fn forget_finished(&mut self) {
        let stopping = self.is_stopping();
        let workers = &self.workers;
        let actions = &mut self.actions;
        self.generations.retain(|&number, this| {
            let busy = workers.values().any(|worker| worker.generation == number);
            let kept = busy || (this.stage.is_alive() && !stopping) || !this.template.is_absent();
            if !kept {
                tracing::debug!(generation = number.0, stage = this.stage.name(), "generation is gone");
                actions.push(Action::Forget(number));
            }
            kept
        });
    }
}
