//! What the fleet does by itself, looked at once a second: workers that are worn are replaced, more come when requests wait.
//!
//! Owns the looking; the rules are `recycle`'s and `scale`'s. Memory is read beside the runtime, every few seconds and only
//! when a rule asks for it. Invariant: with nothing of it configured there is no clock and no look.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bandstand_config::{MemoryMeasure, Settings};
use bandstand_supervisor::{Fleet, WorkerNumber};
use tokio::sync::mpsc;

use super::conductor::Word;
use super::recycle::{self, Bounds, Worn};
use super::scale::{self, Look, Memory, Scaler};
use super::view::{WorkerState, WorkerView};
use crate::control::memory;
use crate::dispatch::{LinkSnapshot, PoolSnapshot};
use crate::observe::counters::Times;
use crate::shared::Shared;

/// How often memory is read; between two readings a worker may grow past its bound.
const MEMORY_PERIOD: Duration = Duration::from_secs(3);
/// The share of requests whose wait counts.
const MOST_WAITS: f64 = 0.9;

/// What was seen so far.
#[derive(Default)]
pub(super) struct Care {
    bounds: HashMap<u32, Bounds>,
    /// Those that are to be replaced already.
    worn: HashSet<u32>,
    scaler: Scaler,
    memory: Measured,
    measured: Option<Instant>,
    /// Whether memory is being read: with a slow system the next reading waits for this one.
    measures: bool,
    waits: Times,
}

/// Memory of the workers, by number, in bytes.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// As `memory_measure` wants it.
    pub(super) of: HashMap<u32, u64>,
    /// Shared pages divided; only where the number of workers follows the queue.
    pub(super) proportional: HashMap<u32, u64>,
    pub(super) budget_bytes: Option<u64>,
}

/// Whether there is anything to look at.
pub(super) fn is_needed(settings: &Settings) -> bool {
    recycle::is_on(settings) || bounds_of(settings).is_some()
}

/// Between which numbers the workers are kept; `None`: their number follows nothing. One that is not set is the number that
/// there should be at the start.
pub(super) fn bounds_of(settings: &Settings) -> Option<(usize, usize)> {
    if settings.workers_min.is_none() && settings.workers_max.is_none() {
        return None;
    }
    let least = settings.workers_min.unwrap_or(settings.workers).get();
    let most = settings.workers_max.unwrap_or(settings.workers).get();
    Some((least.min(most), most))
}

impl Care {
    /// A worker is ready: its own bounds are drawn.
    pub(super) fn ready(&mut self, number: u32, settings: &Settings) {
        if recycle::is_on(settings) {
            let mut chance = [0; 8];
            // Without randomness all have the same bounds, which is what nobody notices who has few workers.
            let _ = getrandom::fill(&mut chance);
            self.bounds.insert(number, Bounds::draw(settings, u64::from_le_bytes(chance)));
        }
    }

    /// A worker is gone.
    pub(super) fn gone(&mut self, number: u32) {
        self.bounds.remove(&number);
        self.worn.remove(&number);
    }

    /// Memory was read.
    pub(super) fn measured(&mut self, memory: Measured) {
        self.memory = memory;
        self.measures = false;
    }

    /// One look. The number of workers that there should be from now on, if it is another.
    pub(super) fn look(
        &mut self,
        shared: &Shared,
        fleet: &Fleet,
        words: &mpsc::UnboundedSender<Word>,
    ) -> Option<usize> {
        let now = Instant::now();
        let state = shared.state();
        let settings = &state.settings;
        let view = shared.fleet().clone();
        let pool = shared.pool.snapshot();
        let ready = |worker: &&WorkerView| {
            worker.state == WorkerState::Ready && worker.generation == state.generation
        };
        let workers: Vec<&WorkerView> = view.workers.iter().filter(ready).collect();
        self.recycle(now, &workers, &pool, fleet);
        self.measure(now, settings, &workers, words);
        let bounds = bounds_of(settings)?;
        let counts = shared.counters.snapshot().queue;
        let lately = counts.since(&self.waits).quantile(MOST_WAITS).unwrap_or_default();
        self.waits = counts;
        let look = Look {
            wait: pool.oldest.max(lately),
            wanted: view.wanted,
            ready: workers.len(),
            busy: busy(&pool),
            memory: self.room(),
        };
        self.scaler.look(now, &look, bounds)
    }

    fn recycle(&mut self, now: Instant, workers: &[&WorkerView], pool: &PoolSnapshot, fleet: &Fleet) {
        for worker in workers {
            let Some(bounds) = self.bounds.get(&worker.number) else { continue };
            let Some(link) = pool.links.iter().find(|link| link.number == worker.number) else { continue };
            let worn = Worn {
                served: link.served,
                age: now.saturating_duration_since(worker.since),
                idle: link.idle_since.map(|since| now.saturating_duration_since(since)),
                memory_bytes: self.memory.of.get(&worker.number).copied(),
            };
            if let Some(why) = bounds.exceeded(&worn)
                && self.worn.insert(worker.number)
            {
                fleet.recycle(WorkerNumber(worker.number), why);
            }
        }
    }

    fn measure(
        &mut self,
        now: Instant,
        settings: &Settings,
        workers: &[&WorkerView],
        words: &mpsc::UnboundedSender<Word>,
    ) {
        let scales = bounds_of(settings).is_some();
        let due = self.measured.is_none_or(|last| now >= last + MEMORY_PERIOD);
        if !due || self.measures || (settings.max_memory.is_none() && !scales) {
            return;
        }
        (self.measured, self.measures) = (Some(now), true);
        let processes: Vec<(u32, u32)> = workers.iter().map(|worker| (worker.number, worker.pid)).collect();
        let proportional = settings.max_memory.is_some() && settings.memory_measure == MemoryMeasure::Pss;
        let budget = settings.workers_memory;
        let words = words.clone();
        tokio::task::spawn_blocking(move || {
            let mut measured = Measured::default();
            for (number, pid) in processes {
                let found = memory::of(pid, proportional || scales);
                let of = if proportional { found.pss } else { found.rss };
                measured.of.extend(of.map(|bytes| (number, bytes)));
                measured.proportional.extend(found.pss.or(found.rss).map(|bytes| (number, bytes)));
            }
            if scales {
                measured.budget_bytes = budget.or_else(scale::budget_of_group);
            }
            let _ = words.send(Word::Measured(measured)); // nobody listens any more at the end
        });
    }

    fn room(&self) -> Memory {
        let of = &self.memory.proportional;
        Memory {
            all_bytes: of.values().sum(),
            // Its share of shared pages included: rather too much than too little.
            one_bytes: of.values().copied().max().unwrap_or(0),
            budget_bytes: self.memory.budget_bytes,
        }
    }
}

/// The share of seats that are taken, of threads or of loops, whichever is more.
fn busy(pool: &PoolSnapshot) -> f64 {
    let of = |seats: fn(&LinkSnapshot) -> usize, work: usize| {
        let links = || pool.links.iter().filter(|link| link.accepting);
        let all: usize = links().map(seats).sum();
        let taken: usize = links().map(|link| link.load[work].min(seats(link))).sum();
        if all == 0 { 0.0 } else { taken as f64 / all as f64 }
    };
    of(|link| link.threads, 0).max(of(|link| link.tasks, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::shared;

    #[test]
    fn bounds_of_the_number_of_workers() {
        let settings = |workers: usize, least: usize, most: usize| {
            let shared = shared(|settings| {
                settings.workers = workers.try_into().unwrap();
                settings.workers_min = least.try_into().ok();
                settings.workers_max = most.try_into().ok();
            });
            shared.state().settings.clone()
        };
        for (workers, least, most, wanted) in [
            (2, 0, 0, None),
            (2, 1, 0, Some((1, 2))),
            (2, 0, 4, Some((2, 4))),
            (2, 1, 4, Some((1, 4))),
            (2, 4, 3, Some((3, 3))),
        ] {
            let settings = settings(workers, least, most);
            assert_eq!(bounds_of(&settings), wanted, "{workers} {least} {most}");
            assert_eq!(is_needed(&settings), wanted.is_some());
        }
    }
}
