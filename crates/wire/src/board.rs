//! The board: one shared word for each place of a worker, beside the channel.
//!
//! The edge may put a request into a busy worker's socket (`offer`) and still take it back, without a round trip, as
//! long as the worker has not begun it: both sides change the word by compare-and-swap, so exactly one wins. The word
//! also carries what must reach a busy thread at once: the client has left, and tell me when you are free.
//! Mapping the memory is the caller's (`supervisor::sys`, `worker::board`). What stands in a word is never trusted for
//! memory safety: a worker that scribbles on its board only harms its own requests.
//!
//! ```text
//!   FREE ──offer──► OFFERED ──take──► TAKEN ──finish──► FREE
//!     ▲                │                 │ + CANCELLED (edge), + NOTIFY (edge)
//!     └─────recall─────┘
//! ```
//! A word is `id << 8 | state | bits`; ids are never reused on a channel, so a stale word never matches.

use std::sync::atomic::{AtomicU64, Ordering};

const FREE: u64 = 0;
const OFFERED: u64 = 1;
const TAKEN: u64 = 2;
const STATE: u64 = 0x0f;
const CANCELLED: u64 = 0x10;
const NOTIFY: u64 = 0x20;

/// Words are a cache line apart, so that threads on different places do not slow each other.
pub const STRIDE_WORDS: usize = 8;
/// Bytes of a whole board.
pub const BOARD_BYTES: usize = crate::limits::PLACES * STRIDE_WORDS * 8;
/// Largest id that a word can hold.
pub const ID_MAX: u64 = u64::MAX >> 8;

/// Edge: this request is on its way to the worker.
pub fn offer(word: &AtomicU64, id: u64) {
    word.store(id << 8 | OFFERED, Ordering::Release);
}

/// Edge: takes a request back. True if the worker had not begun it and never will.
pub fn recall(word: &AtomicU64, id: u64) -> bool {
    word.compare_exchange(id << 8 | OFFERED, FREE, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// Edge: whether the worker has begun the request and not finished with it.
pub fn is_running(word: &AtomicU64, id: u64) -> bool {
    let now = word.load(Ordering::Acquire);
    now >> 8 == id && now & STATE == TAKEN
}

/// Edge: the client has left; a thread sees it at its next write.
pub fn cancel(word: &AtomicU64, id: u64) {
    set(word, id, CANCELLED);
}

/// Edge: asks for an `Idle` frame when the thread is done. False if it is already: no frame will come.
pub fn notify(word: &AtomicU64, id: u64) -> bool {
    set(word, id, NOTIFY)
}

/// Worker: begins a request. False if the edge took it back: the frame is to be dropped without an answer.
pub fn take(word: &AtomicU64, id: u64) -> bool {
    word.compare_exchange(id << 8 | OFFERED, id << 8 | TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// Worker: whether the client of the running request has left.
pub fn is_cancelled(word: &AtomicU64) -> bool {
    word.load(Ordering::Relaxed) & CANCELLED != 0
}

/// Worker: done with the request, `close()` included. True if an `Idle` frame was asked for.
pub fn finish(word: &AtomicU64) -> bool {
    word.swap(FREE, Ordering::AcqRel) & NOTIFY != 0
}

fn set(word: &AtomicU64, id: u64, bit: u64) -> bool {
    word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
        (now >> 8 == id && now & STATE == TAKEN).then_some(now | bit)
    })
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_word() {
        let word = AtomicU64::new(0);
        offer(&word, 7);
        assert!(!is_running(&word, 7));
        assert!(!notify(&word, 7), "nothing runs yet");
        assert!(take(&word, 7));
        assert!(is_running(&word, 7));
        assert!(!recall(&word, 7), "begun requests stay");
        assert!(!is_cancelled(&word));
        cancel(&word, 8);
        assert!(!is_cancelled(&word), "another request's id changes nothing");
        cancel(&word, 7);
        assert!(is_cancelled(&word));
        assert!(notify(&word, 7));
        assert!(finish(&word));
        assert!(!notify(&word, 7), "no frame will come");
    }

    #[test]
    fn a_recalled_request_is_not_begun() {
        let word = AtomicU64::new(0);
        offer(&word, 1);
        assert!(recall(&word, 1));
        assert!(!take(&word, 1));
        offer(&word, 2);
        assert!(!take(&word, 1), "an old frame does not take a new request's place");
        assert!(take(&word, 2));
        assert!(!finish(&word));
    }

    #[test]
    fn exactly_one_side_wins() {
        let word = AtomicU64::new(0);
        for id in 1..2000 {
            offer(&word, id);
            let (recalled, taken) = std::thread::scope(|scope| {
                let edge = scope.spawn(|| recall(&word, id));
                let worker = scope.spawn(|| take(&word, id));
                (edge.join().unwrap(), worker.join().unwrap())
            });
            assert!(recalled != taken, "id {id}");
            word.store(0, Ordering::Relaxed);
        }
    }
}
