//! The futures of one connection: its streams', in one task of the runtime.
//!
//! Owns which of them are to be polled, and waking the task when it sleeps. What one of them wakes while the task is at work
//! costs a push on a list and no trip to the runtime. The memory of a future that has ended is used for the next.
//! Invariant: a future is on the list at most once, and one that is on it is polled before the task sleeps, or wakes it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Places that are kept, with the memory of their futures, when no stream is open.
const KEPT: usize = 8;

/// Who wants to be polled.
#[derive(Default)]
pub(super) struct Board {
    inner: Mutex<Ready>,
}

#[derive(Default)]
struct Ready {
    list: VecDeque<usize>,
    /// The task's, while it sleeps.
    asleep: Option<Waker>,
}

/// The waker of one future.
struct Bell {
    index: usize,
    is_listed: AtomicBool,
    board: Arc<Board>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many want to be polled.
    pub(super) fn len(&self) -> usize {
        self.lock().list.len()
    }

    /// The next that wants to be polled.
    pub(super) fn next(&self) -> Option<usize> {
        self.lock().list.pop_front()
    }

    /// Whether the task may sleep; it is woken then as soon as somebody wants to be polled.
    pub(super) fn sleep(&self, context: &Context<'_>) -> bool {
        let mut ready = self.lock();
        if !ready.list.is_empty() {
            return false;
        }
        match &mut ready.asleep {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        true
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut ready = self.board.lock();
        ready.list.push_back(self.index);
        let asleep = ready.asleep.take();
        drop(ready);
        if let Some(waker) = asleep {
            waker.wake();
        }
    }
}

/// One that may be polled: a bell, and the waker that rings it.
pub(super) struct Turn {
    bell: Arc<Bell>,
    waker: Waker,
}

impl Turn {
    /// Number `index` on `board`.
    pub(super) fn new(board: &Arc<Board>, index: usize) -> Self {
        let bell = Arc::new(Bell { index, is_listed: AtomicBool::new(false), board: board.clone() });
        Self { waker: Waker::from(bell.clone()), bell }
    }

    /// It is about to be polled: what wakes it from here on is news.
    pub(super) fn begin(&self) -> Context<'_> {
        self.bell.is_listed.store(false, Ordering::Release);
        self.context()
    }

    /// For something else that it waits for.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// Asks for being polled.
    pub(super) fn ask(&self) {
        self.bell.wake_by_ref();
    }
}

/// The futures. Their numbers begin with 1: 0 is the connection's own.
pub(super) struct Tasks<F> {
    board: Arc<Board>,
    slots: Vec<Slot<F>>,
    free: Vec<usize>,
}

struct Slot<F> {
    turn: Turn,
    future: Pin<Box<Option<F>>>,
}

impl<F: Future> Tasks<F> {
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self { board, slots: Vec::new(), free: Vec::new() }
    }

    /// How many have not ended.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds one, which wants to be polled.
    pub(super) fn add(&mut self, future: F) {
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at].future.set(Some(future));
                at
            }
            None => {
                let at = self.slots.len();
                let turn = Turn::new(&self.board, at + 1);
                self.slots.push(Slot { turn, future: Box::pin(Some(future)) });
                at
            }
        };
        self.slots[at].turn.ask();
    }

    /// Polls number `index`; gives what it has ended with.
    pub(super) fn poll(&mut self, index: usize) -> Option<F::Output> {
        let slot = self.slots.get_mut(index.checked_sub(1)?)?;
        let mut context = slot.turn.begin();
        // One that has ended may have been woken since.
        let Poll::Ready(output) = slot.future.as_mut().as_pin_mut()?.poll(&mut context) else { return None };
        slot.future.set(None);
        self.free.push(index - 1);
        Some(output)
    }

    /// Gives memory back, where no future is left.
    pub(super) fn rest(&mut self) {
        if self.len() == 0 && self.slots.len() > KEPT {
            self.slots.truncate(KEPT);
            self.free.retain(|&at| at < KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// Polls whoever asks until all sleep; gives what ended.
    fn run<F: Future>(tasks: &mut Tasks<F>, board: &Board) -> Vec<F::Output> {
        let mut ended = Vec::new();
        loop {
            while let Some(index) = board.next() {
                ended.extend(tasks.poll(index));
            }
            if board.sleep(&Context::from_waker(Waker::noop())) {
                return ended;
            }
        }
    }

    #[test]
    fn each_is_polled_when_it_was_woken_and_its_place_used_again() {
        let board = Arc::new(Board::default());
        let mut tasks = Tasks::new(board.clone());
        let wait = |got: oneshot::Receiver<u32>| async move { got.await.unwrap_or(0) };
        let mut senders = Vec::new();
        for _ in 0..20 {
            let (sender, receiver) = oneshot::channel();
            senders.push(sender);
            tasks.add(wait(receiver));
        }
        assert!(run(&mut tasks, &board).is_empty());
        senders.remove(7).send(7).unwrap();
        senders.remove(3).send(3).unwrap();
        assert_eq!(run(&mut tasks, &board), [7, 3]);
        assert_eq!(tasks.len(), 18);
        let (sender, receiver) = oneshot::channel();
        tasks.add(wait(receiver));
        assert_eq!(tasks.slots.len(), 20, "a place is used again");
        sender.send(9).unwrap();
        assert_eq!(run(&mut tasks, &board), [9]);
        drop(senders);
        assert_eq!(run(&mut tasks, &board).len(), 18);
        tasks.rest();
        assert_eq!((tasks.len(), tasks.slots.len()), (0, KEPT));
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_task_is_woken_only_when_it_sleeps() {
        let board = Arc::new(Board::default());
        let turn = Turn::new(&board, 5);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        turn.ask();
        turn.ask();
        assert!(!board.sleep(&Context::from_waker(&waker)), "somebody wants to be polled");
        assert_eq!((board.next(), board.next()), (Some(5), None));
        turn.begin();
        assert!(board.sleep(&Context::from_waker(&waker)));
        assert!(!woken.0.load(Ordering::SeqCst));
        turn.ask();
        assert!(woken.0.load(Ordering::SeqCst));
    }
}
