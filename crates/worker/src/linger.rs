//! The watch over answers that wait for company in the output buffer.
//!
//! A thread with more requests at hand writes several answers at once. If the next request turns out to be slow, the
//! answers before it must not wait for it: this native thread (it never touches Python) writes what is older than
//! `AGE`. It sleeps while nothing is held back, so that an idle worker is truly idle, and costs one wake-up in a
//! millisecond otherwise.
//! Invariant: `watch` returned true ⇒ the answer leaves within about two `AGE`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::channel::Channel;

/// Oldest that an answer may grow in the buffer, before scheduling.
const AGE: Duration = Duration::from_millis(1);
/// Rounds without anything held back before the thread sleeps.
const ROUNDS: u32 = 20;

/// Handle to the thread.
#[derive(Default)]
pub(crate) struct Linger {
    awake: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Linger {
    /// Starts the thread. Without it (no memory, a limit on threads) nothing is ever held back.
    pub(crate) fn start(channel: &Arc<Channel>) {
        let watched = Arc::clone(channel);
        let started = thread::Builder::new().name("bandstand-flush".to_owned()).spawn(move || run(&watched));
        if let Ok(handle) = started {
            // Set once, by the only caller; a second call would leave the first thread in charge.
            let _ = channel.linger().thread.set(handle.thread().clone());
        }
    }

    /// Something is held back. False when nobody watches: it must be written now.
    pub(crate) fn watch(&self) -> bool {
        let Some(thread) = self.thread.get() else { return false };
        if !self.awake.load(Ordering::SeqCst) && !self.awake.swap(true, Ordering::SeqCst) {
            thread.unpark();
        }
        true
    }
}

fn run(channel: &Channel) {
    let awake = &channel.linger().awake;
    loop {
        let mut quiet = 0;
        while quiet < ROUNDS {
            thread::sleep(AGE);
            quiet = if channel.flush_older(AGE) { 0 } else { quiet + 1 };
        }
        awake.store(false, Ordering::SeqCst);
        // What was held back before the store is found here; what comes after it wakes us.
        while !awake.load(Ordering::SeqCst) {
            if channel.flush_older(Duration::ZERO) {
                break;
            }
            thread::park();
        }
    }
}
