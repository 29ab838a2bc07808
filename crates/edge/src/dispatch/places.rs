//! The places of one worker: which exchange is at which, and which may be used again.
//!
//! Owns the worker's board, the table beside it and the ids. What an exchange means to the worker's load is `link`'s.
//! Invariant: a place is used again only when its word on the board is free. Low places come first, and the table grows
//! with the highest one in use, so that nothing here costs more than the exchanges that there are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use bandstand_supervisor::Board;
use bandstand_wire::sequence::Answer;
use bandstand_wire::{board, limits};

use super::queue::{Job, Work};

/// Answered exchanges of the loop whose words were not free are looked through when there are so many more: about as
/// many as there were, within these bounds, so that looking costs a few words for each answer.
const SWEEP: (usize, usize) = (64, 1024);

/// An exchange that a worker has.
pub(crate) struct Held {
    pub(crate) id: u64,
    pub(crate) job: Job,
    /// What of the worker it takes: its job's, until it is moved.
    pub(crate) work: Work,
    pub(crate) answer: Answer,
    /// Last frame about it, or when it was offered.
    pub(crate) touched: Instant,
    /// Bytes from the app sent to the connection and not yet granted again.
    pub(crate) unconsumed: usize,
    /// Interim answers so far.
    pub(crate) interims: u8,
    /// Its answer is a stream of events, whose client comes again by itself (HTML, 9.2.3).
    pub(crate) is_events: bool,
    /// Its connection has left, or was told that the time is over.
    pub(crate) abandoned: bool,
    /// It was told to end: its time is over.
    pub(crate) expired: bool,
    /// A WebSocket whose app was told that it is over.
    pub(crate) closed: bool,
}

/// A worker's places.
pub(crate) struct Places {
    board: Arc<Board>,
    /// By place.
    slots: Vec<Option<Held>>,
    held: usize,
    /// Places of `slots` that may be used again.
    free: BinaryHeap<Reverse<u16>>,
    /// Answered, but a thread is still in `close()`: `(place, id)`.
    on_threads: Vec<(u16, u64)>,
    /// Answered, but the loop has not finished with it: `(place, id)`.
    on_loop: Vec<(u16, u64)>,
    /// Length of `on_loop` at which it is looked through.
    sweep_at: usize,
    next_id: u64,
}

impl Places {
    pub(crate) fn new(board: Arc<Board>) -> Self {
        Self {
            board,
            slots: Vec::new(),
            held: 0,
            free: BinaryHeap::new(),
            on_threads: Vec::new(),
            on_loop: Vec::new(),
            sweep_at: SWEEP.0,
            next_id: 1,
        }
    }

    /// Places that nobody has.
    pub(crate) fn free(&self) -> usize {
        limits::PLACES - self.slots.len() + self.free.len()
    }

    /// Offers the next id at the lowest free place: `(place, id)`.
    pub(crate) fn offer(&mut self) -> Option<(u16, u64)> {
        let place = match self.free.pop() {
            Some(Reverse(place)) => place,
            None if self.slots.len() < limits::PLACES => {
                self.slots.push(None);
                (self.slots.len() - 1) as u16
            }
            None => return None,
        };
        let id = self.next_id;
        self.next_id = (self.next_id + 1) & board::ID_MAX;
        board::offer(self.board.word(place), id);
        Some((place, id))
    }

    /// What was offered at `place`.
    pub(crate) fn hold(&mut self, place: u16, held: Held) {
        self.slots[usize::from(place)] = Some(held);
        self.held += 1;
    }

    /// What is at a place.
    pub(crate) fn at(&self, place: u16) -> Option<&Held> {
        self.slots.get(usize::from(place))?.as_ref()
    }

    /// What is at a place, if it has this id.
    pub(crate) fn named(&mut self, place: u16, id: u64) -> Option<&mut Held> {
        self.slots.get_mut(usize::from(place))?.as_mut().filter(|held| held.id == id)
    }

    /// All that are held, by place. Costs what there is, as long as it lies low.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Held)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(place, slot)| Some((place as u16, slot.as_ref()?))).take(self.held)
    }

    /// Places of all that are held, oldest first.
    pub(crate) fn by_age(&self) -> Vec<u16> {
        let mut ages: Vec<(u64, u16)> = self.iter().map(|(place, held)| (held.id, place)).collect();
        ages.sort_unstable();
        ages.into_iter().map(|(_, place)| place).collect()
    }

    /// Takes an exchange back, if the worker has not begun it: then it never will.
    pub(crate) fn recall(&mut self, place: u16) -> Option<Held> {
        let id = self.at(place)?.id;
        if !board::recall(self.board.word(place), id) {
            return None;
        }
        self.free.push(Reverse(place));
        self.take(place)
    }

    /// The answer is complete: the place is free, or will be when the worker has finished with it.
    pub(crate) fn release(&mut self, place: u16) -> Option<Held> {
        let held = self.take(place)?;
        if !board::is_running(self.board.word(place), held.id) {
            self.free.push(Reverse(place));
        } else if held.work == Work::Thread {
            self.on_threads.push((place, held.id));
        } else {
            self.on_loop.push((place, held.id));
            if self.on_loop.len() >= self.sweep_at {
                sweep(&self.board, &mut self.on_loop, &mut self.free);
                self.sweep_at = self.on_loop.len() + self.on_loop.len().clamp(SWEEP.0, SWEEP.1);
            }
        }
        Some(held)
    }

    /// Takes one out whose worker is lost: whether it was begun. What can still be taken back never was; a word that is
    /// free again belongs to a request that was begun and finished.
    pub(crate) fn salvage(&mut self, place: u16) -> Option<(bool, Held)> {
        let held = self.take(place)?;
        Some((!board::recall(self.board.word(place), held.id), held))
    }

    /// Nothing of it is left: it was answered, and the worker has finished with it.
    pub(crate) fn is_over(&self, place: u16, id: u64) -> bool {
        self.at(place).is_none_or(|held| held.id != id) && !board::is_running(self.board.word(place), id)
    }

    /// Threads that are still in `close()` of what they have answered.
    pub(crate) fn closing(&mut self) -> usize {
        sweep(&self.board, &mut self.on_threads, &mut self.free);
        self.on_threads.len()
    }

    /// Answered exchanges of the loop that it still works on. Costs a look at each.
    pub(crate) fn lingering(&mut self) -> usize {
        sweep(&self.board, &mut self.on_loop, &mut self.free);
        self.on_loop.len()
    }

    /// Asks to be told when the threads that are in `close()` come back.
    pub(crate) fn ask_for_idle(&self) {
        for &(place, id) in &self.on_threads {
            board::notify(self.board.word(place), id);
        }
    }

    /// The client has left: a thread sees it at its next write.
    pub(crate) fn cancel(&self, place: u16, id: u64) {
        board::cancel(self.board.word(place), id);
    }

    /// What the books say, for tests that hold them against each other: places in the table, held, free, and answered
    /// ones that the worker may not have finished with.
    #[cfg(test)]
    pub(crate) fn books(&self) -> (usize, usize, usize, usize) {
        (self.slots.len(), self.held, self.free.len(), self.on_threads.len() + self.on_loop.len())
    }

    fn take(&mut self, place: u16) -> Option<Held> {
        let held = self.slots.get_mut(usize::from(place))?.take()?;
        self.held -= 1;
        Some(held)
    }
}

/// Moves what the worker has finished with to the free places.
fn sweep(board: &Board, running: &mut Vec<(u16, u64)>, free: &mut BinaryHeap<Reverse<u16>>) {
    running.retain(|&(place, id)| {
        let runs = board::is_running(board.word(place), id);
        if !runs {
            free.push(Reverse(place));
        }
        runs
    });
}
