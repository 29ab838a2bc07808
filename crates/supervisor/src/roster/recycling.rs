//! Recycling: a worker's successor is made first, and only then it leaves.
//!
//! Invariants: one at a time in the whole fleet, in the order asked; the old worker serves until its successor is ready,
//! however often that has to be tried; if the old one is gone before, its place is the successor's.

use tokio::time::Instant;

use super::Roster;
use super::generations::Stage;
use super::lives::{Place, Vacancy};
use crate::worker::{Life, WorkerNumber};

impl Roster {
    pub(super) fn recycle(&mut self, number: WorkerNumber, why: String) {
        let known = self.tired.iter().any(|(tired, _)| *tired == number);
        if !known && !self.is_stopping() && self.is_recyclable(number) && !self.has_successor(number) {
            self.tired.push_back((number, why));
        }
    }

    /// Makes room for the next successor, once the one before has left.
    pub(super) fn recycle_next(&mut self, now: Instant) {
        if self.recycled.is_some_and(|number| self.workers.contains_key(&number)) {
            return;
        }
        self.recycled = None;
        while let Some((number, why)) = self.tired.pop_front() {
            if !self.is_recyclable(number) {
                continue;
            }
            let Some(generation) = self.workers.get(&number).map(|worker| worker.generation) else {
                continue;
            };
            let Some(this) = self.generations.get_mut(&generation) else { continue };
            tracing::info!(worker = number.0, "worker {number} is recycled: {why}");
            let place = Place { succeeds: Some(number), ..Place::default() };
            this.vacancies.push(Vacancy { at: now, place });
            self.recycled = Some(number);
            return;
        }
    }

    fn is_recyclable(&self, number: WorkerNumber) -> bool {
        self.workers.get(&number).is_some_and(|worker| {
            matches!(worker.life, Life::Ready { .. }) && self.is_at(worker.generation, Stage::Current)
        })
    }

    fn has_successor(&self, number: WorkerNumber) -> bool {
        self.recycled == Some(number)
    }

    /// Its successor is ready: the old worker leaves.
    pub(super) fn relieve(&mut self, old: WorkerNumber, now: Instant) {
        if let Some(worker) = self.workers.get(&old) {
            let deadline = now + self.graceful_timeout(worker.generation);
            self.drain(old, deadline);
        }
    }

    /// Gives the place of a worker that is out of service to its successor; false if none is on the way.
    pub(super) fn hand_over(&mut self, old: WorkerNumber) -> bool {
        let vacancies = self.generations.values_mut().flat_map(|this| &mut this.vacancies);
        let vacant = vacancies.map(|vacancy| &mut vacancy.place);
        let taken = self.workers.values_mut().map(|worker| &mut worker.place);
        match vacant.chain(taken).find(|place| place.succeeds == Some(old)) {
            Some(place) => {
                place.succeeds = None;
                true
            }
            None => false,
        }
    }

    /// The old worker's place is not needed any more, and so neither is its successor.
    pub(super) fn drop_successor(&mut self, old: WorkerNumber, deadline: Instant) {
        for this in self.generations.values_mut() {
            this.vacancies.retain(|vacancy| vacancy.place.succeeds != Some(old));
        }
        let successor = self.workers.iter().find(|(_, worker)| worker.place.succeeds == Some(old));
        if let Some((&number, _)) = successor {
            self.drain(number, deadline);
        }
    }
}
