//! What the fleet is, for those who look: `status`, the pages of errors, the health page.
//!
//! Owns what the events have told, and the states that follow from them. The conductor keeps it, and asks it of which
//! generation a worker is; others read it behind its lock.
//! Invariant: whatever is gone is not in it.

use std::time::{Instant, SystemTime};

/// The fleet as it was at the last event.
#[derive(Debug, Default, Clone)]
pub(crate) struct FleetView {
    /// Oldest first; those that are gone are not kept.
    pub(crate) generations: Vec<GenerationView>,
    /// In the order of their numbers.
    pub(crate) workers: Vec<WorkerView>,
    /// What each generation's template does that was heard of, oldest first.
    pub(crate) templates: Vec<TemplateView>,
    /// As a person would type them.
    pub(crate) addresses: Vec<String>,
    /// How many workers there should be.
    pub(crate) wanted: usize,
    /// When a worker or template died while it started, and its traceback.
    pub(crate) last_failure: Option<(SystemTime, String)>,
    /// When, and the generation that serves since, or why it was not done.
    pub(crate) last_reload: Option<(SystemTime, Result<u32, String>)>,
}

/// A state of code and settings, and the workers that have it.
#[derive(Debug, Clone)]
pub(crate) struct GenerationView {
    /// From 1.
    pub(crate) number: u32,
    pub(crate) state: GenerationState,
    /// Of the state.
    pub(crate) since: Instant,
    /// How many are alive.
    pub(crate) workers: usize,
}

/// `docs/decisions/0006-generations.md` draws it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GenerationState {
    Booting,
    Current,
    Leaving,
    Failed,
}

impl GenerationState {
    /// One word, as `status` prints it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Current => "current",
            Self::Leaving => "leaving",
            Self::Failed => "failed",
        }
    }
}

/// One process of the fleet.
#[derive(Debug, Clone)]
pub(crate) struct WorkerView {
    pub(crate) number: u32,
    pub(crate) pid: u32,
    pub(crate) generation: u32,
    pub(crate) state: WorkerState,
    /// When the process was made.
    pub(crate) since: Instant,
}

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerState {
    Starting,
    Ready,
    Draining,
}

impl WorkerState {
    /// One word, as `status` prints it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The process that workers are forked from.
#[derive(Debug, Clone)]
pub(crate) struct TemplateView {
    pub(crate) generation: u32,
    /// One word: importing, ready, lost, none (its project has threads).
    pub(crate) state: &'static str,
    /// 0 when it is gone.
    pub(crate) pid: u32,
}

impl FleetView {
    /// A generation begins to boot.
    pub(crate) fn begin(&mut self, generation: u32) {
        let state = GenerationState::Booting;
        self.generations.push(GenerationView {
            number: generation,
            state,
            since: Instant::now(),
            workers: 0,
        });
    }

    /// This generation serves; older ones leave.
    pub(crate) fn promote(&mut self, generation: u32) {
        for other in &mut self.generations {
            let state = match other.number == generation {
                true => GenerationState::Current,
                false if other.number < generation && other.state != GenerationState::Failed => {
                    GenerationState::Leaving
                }
                false => other.state,
            };
            other.turn(state);
        }
        self.templates.retain(|template| template.generation >= generation);
        self.tidy();
    }

    /// This generation could not boot.
    pub(crate) fn fail(&mut self, generation: u32) {
        if let Some(failed) = self.generations.iter_mut().find(|other| other.number == generation) {
            failed.turn(GenerationState::Failed);
        }
        self.templates.retain(|template| template.generation != generation);
        self.tidy();
    }

    /// A worker process was started.
    pub(crate) fn start(&mut self, number: u32, generation: u32, pid: u32) {
        let state = WorkerState::Starting;
        self.workers.push(WorkerView { number, pid, generation, state, since: Instant::now() });
        self.count();
    }

    /// A worker has come so far.
    pub(crate) fn turn(&mut self, number: u32, state: WorkerState) {
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.number == number) {
            worker.state = state;
        }
    }

    /// A worker process has ended.
    pub(crate) fn end(&mut self, number: u32) {
        self.workers.retain(|worker| worker.number != number);
        self.count();
        self.tidy();
    }

    /// What a template does. Those of generations that leave have nothing more to do.
    pub(crate) fn turn_template(&mut self, template: TemplateView) {
        let alive = |generation: &GenerationView| {
            matches!(generation.state, GenerationState::Booting | GenerationState::Current)
        };
        if self.generations.iter().any(|other| other.number == template.generation && alive(other)) {
            self.templates.retain(|known| known.generation != template.generation);
            self.templates.push(template);
            self.templates.sort_by_key(|known| known.generation);
        }
    }

    /// That of the newest generation that has one.
    pub(crate) fn template(&self) -> Option<&TemplateView> {
        self.templates.last()
    }

    /// The worker of this number.
    pub(crate) fn worker(&self, number: u32) -> Option<&WorkerView> {
        self.workers.iter().find(|worker| worker.number == number)
    }

    /// The generation that serves; `None` before the first.
    pub(crate) fn current(&self) -> Option<u32> {
        let mut generations = self.generations.iter();
        generations.find(|other| other.state == GenerationState::Current).map(|current| current.number)
    }

    fn count(&mut self) {
        for generation in &mut self.generations {
            let of_it = self.workers.iter().filter(|worker| worker.generation == generation.number);
            generation.workers = of_it.count();
        }
    }

    fn tidy(&mut self) {
        self.generations.retain(|generation| {
            let over = matches!(generation.state, GenerationState::Leaving | GenerationState::Failed);
            !over || generation.workers > 0
        });
    }
}

impl GenerationView {
    fn turn(&mut self, state: GenerationState) {
        if self.state != state {
            (self.state, self.since) = (state, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(view: &FleetView) -> Vec<(u32, &'static str, usize)> {
        let row =
            |generation: &GenerationView| (generation.number, generation.state.as_str(), generation.workers);
        view.generations.iter().map(row).collect()
    }

    #[test]
    fn generations_come_and_go() {
        let mut view = FleetView::default();
        view.begin(1);
        view.start(1, 1, 101);
        view.promote(1);
        view.turn(1, WorkerState::Ready);
        assert_eq!((states(&view), view.current()), (vec![(1, "current", 1)], Some(1)));
        view.begin(2);
        view.start(2, 2, 102);
        view.fail(2);
        assert_eq!(states(&view), [(1, "current", 1), (2, "failed", 1)]);
        view.end(2);
        view.begin(3);
        view.start(3, 3, 103);
        view.promote(3);
        assert_eq!(states(&view), [(1, "leaving", 1), (3, "current", 1)]);
        assert_eq!(view.worker(1).map(|worker| worker.state), Some(WorkerState::Ready));
        view.end(1);
        assert_eq!((states(&view), view.current()), (vec![(3, "current", 1)], Some(3)));
    }

    #[test]
    fn the_template_of_the_newest_generation_is_shown() {
        let mut view = FleetView::default();
        let template = |generation, pid| TemplateView { generation, state: "ready", pid };
        view.begin(1);
        let shown = |view: &FleetView| view.template().map(|template| template.pid);
        view.turn_template(template(1, 10));
        view.promote(1);
        view.begin(2);
        view.turn_template(template(2, 20));
        view.turn_template(template(1, 11));
        assert_eq!(shown(&view), Some(20));
        view.fail(2);
        view.turn_template(template(2, 0));
        assert_eq!(shown(&view), Some(11), "the one that failed is forgotten");
        view.begin(3);
        view.promote(3);
        view.turn_template(template(1, 0));
        assert_eq!(shown(&view), None, "and so is that of a generation that leaves");
    }
}
