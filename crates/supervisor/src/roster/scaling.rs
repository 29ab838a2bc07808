//! More workers and fewer, in the current generation and in one that boots.
//!
//! Invariant: of those that are too many, future ones go first, then the newest; a worker's successor goes with it.

use tokio::time::Instant;

use super::generations::Stage;
use super::{Action, Roster};
use crate::fleet::Scale;
use crate::plan::GenerationNumber;

/// Most workers of a generation: past it more processes only take memory from each other.
const WORKERS_MAX: usize = 1024;

impl Roster {
    pub(super) fn scale(&mut self, scale: Scale, now: Instant) {
        if self.is_stopping() {
            return;
        }
        let alive: Vec<_> = self.alive().collect();
        for &generation in &alive {
            self.generations.entry(generation).and_modify(|this| this.wanted = wanted(this.wanted, scale));
        }
        let current = alive.iter().find(|&&number| self.is_at(number, Stage::Current)).or(alive.first());
        if let Some(this) = current.and_then(|number| self.generations.get(number)) {
            self.actions.push(Action::TellScaled { wanted: this.wanted });
        }
        alive.into_iter().for_each(|generation| self.shrink(generation, now));
    }

    /// Takes places away until no more than wanted are left.
    fn shrink(&mut self, generation: GenerationNumber, now: Instant) {
        let mut surplus = self.places(generation);
        let Some(this) = self.generations.get_mut(&generation) else { return };
        surplus = surplus.saturating_sub(this.wanted);
        let deadline = now + this.terms.graceful_timeout;
        this.vacancies.retain(|vacancy| {
            let kept = vacancy.place.succeeds.is_some() || surplus == 0;
            surplus -= usize::from(!kept);
            kept
        });
        let serving = self.workers.iter().rev().filter(|(_, worker)| {
            worker.generation == generation && worker.life.is_serving() && worker.place.succeeds.is_none()
        });
        let leaving: Vec<_> = serving.map(|(&number, _)| number).take(surplus).collect();
        for number in leaving {
            self.drain(number, deadline);
            self.drop_successor(number, deadline);
        }
    }
}

fn wanted(before: usize, scale: Scale) -> usize {
    match scale {
        Scale::By(by) => {
            let by = isize::try_from(by).unwrap_or(0); // pointers have 32 bits or more here
            before.saturating_add_signed(by).clamp(1, WORKERS_MAX)
        }
        Scale::To(workers) => workers.clamp(1, WORKERS_MAX),
        Scale::Nothing => 0,
    }
}
