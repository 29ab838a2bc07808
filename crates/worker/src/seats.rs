//! How many threads may work at once, while some of them wait for the loop.
//!
//! Owns the count. A seat is the right to take requests; there are as many as the edge was told. A thread that waits
//! for an async view leaves its seat to another, and needs a free one for its next request. So threads that came in
//! addition never take more than was meant to run at once: they wait here.
//! Invariant: threads with a seat ≤ seats; threads ≤ `threads_max`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Shared by the threads of a worker with a loop.
pub(crate) struct Seats {
    state: Mutex<State>,
    freed: Condvar,
    seats: usize,
    threads_max: usize,
    /// Threads that have left their seat and not finished the request they left it with.
    away: AtomicUsize,
}

struct State {
    free: usize,
    /// Threads that wait for a seat.
    standing: usize,
    threads: usize,
    /// No more requests come.
    over: bool,
}

/// Who takes over a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relief {
    /// A thread that waits for one.
    Standing,
    /// One that the caller makes now; it has the seat already.
    New,
    /// Nobody: the thread keeps its seat.
    Nobody,
}

impl Seats {
    /// `seats` threads have one each. `1 ≤ seats ≤ threads_max`.
    pub(crate) fn new(seats: usize, threads_max: usize) -> Self {
        let state = State { free: 0, standing: 0, threads: seats, over: false };
        let threads_max = threads_max.max(seats);
        Self {
            state: Mutex::new(state),
            freed: Condvar::new(),
            seats,
            threads_max,
            away: AtomicUsize::new(0),
        }
    }

    /// A thread that is about to wait leaves its seat, if another can take it. With `New`, a thread that cannot be made
    /// is told with `not_made`.
    pub(crate) fn leave(&self) -> Relief {
        let mut state = self.lock();
        let relief = if state.standing > state.free {
            state.free += 1;
            self.freed.notify_one();
            Relief::Standing
        } else if state.threads < self.threads_max && !state.over {
            state.threads += 1;
            Relief::New
        } else {
            return Relief::Nobody;
        };
        self.away.fetch_add(1, Ordering::Relaxed);
        relief
    }

    /// The thread of `Relief::New` could not be made: the one that left keeps its seat.
    pub(crate) fn not_made(&self) {
        self.lock().threads -= 1;
        self.away.fetch_sub(1, Ordering::Relaxed);
    }

    /// A thread that had left its seat has finished its request; it waits for a seat. False: no more requests come. The
    /// caller is detached.
    pub(crate) fn take_again(&self) -> bool {
        self.away.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.lock();
        state.standing += 1;
        while state.free == 0 && !state.over {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.standing -= 1;
        if state.over {
            return false;
        }
        state.free -= 1;
        true
    }

    /// No more requests come.
    pub(crate) fn end(&self) {
        self.lock().over = true;
        self.freed.notify_all();
    }

    /// So many threads wait that one more would leave a seat empty.
    pub(crate) fn are_short(&self) -> bool {
        self.away.load(Ordering::Relaxed) >= self.threads_max - self.seats
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_made_up_to_the_most_and_then_nobody_leaves() {
        let seats = Seats::new(2, 4);
        assert!(!seats.are_short());
        assert_eq!(seats.leave(), Relief::New);
        assert!(!seats.are_short());
        assert_eq!(seats.leave(), Relief::New);
        assert!(seats.are_short());
        assert_eq!(seats.leave(), Relief::Nobody);
    }

    #[test]
    fn a_thread_that_cannot_be_made_changes_nothing() {
        let seats = Seats::new(1, 2);
        assert_eq!(seats.leave(), Relief::New);
        seats.not_made();
        assert!(!seats.are_short());
        assert_eq!(seats.leave(), Relief::New);
    }

    #[test]
    fn a_thread_that_comes_back_waits_for_a_seat() {
        let seats = Seats::new(1, 2);
        assert_eq!(seats.leave(), Relief::New);
        std::thread::scope(|scope| {
            let back = scope.spawn(|| seats.take_again());
            while seats.lock().standing == 0 {
                std::thread::yield_now();
            }
            assert!(!seats.are_short());
            assert_eq!(seats.leave(), Relief::Standing);
            assert!(back.join().unwrap());
        });
    }

    #[test]
    fn the_end_frees_all_that_wait() {
        let seats = Seats::new(1, 3);
        assert_eq!(seats.leave(), Relief::New);
        std::thread::scope(|scope| {
            let back = scope.spawn(|| seats.take_again());
            seats.end();
            assert!(!back.join().unwrap());
        });
        assert_eq!(seats.leave(), Relief::Nobody);
    }

    #[test]
    fn with_no_more_threads_than_seats_there_is_never_one_to_spare() {
        let seats = Seats::new(3, 3);
        assert!(seats.are_short());
        assert_eq!(seats.leave(), Relief::Nobody);
    }
}
