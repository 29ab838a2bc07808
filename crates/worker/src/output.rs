//! Frames on their way to the edge: one buffer, written by whichever thread flushes first.
//!
//! Owns the order of bytes and of the descriptors that travel with them. The lock is held for appends only, never over
//! a system call, so a thread may append while it is attached to the interpreter. To write is a role: who holds the
//! `Writer` writes, and takes along what others append meanwhile.
//! Invariant: frames leave whole and in the order they were appended; a descriptor leaves with the first byte of its
//! frame (`Flags::DESCRIPTOR`).

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// Bytes that may wait for company before they are written.
const HOLD_BYTES: usize = 64 * 1024;
/// How long the first of them may wait: a few answers of a fast app, unnoticeable to a client.
const HOLD_TIME: Duration = Duration::from_micros(100);
/// Buffers beyond this are given back once they are written.
const KEEP_BYTES: usize = 1024 * 1024;

/// The outgoing half of the channel.
pub(crate) struct Output {
    state: Mutex<State>,
    settled: Condvar,
}

struct State {
    pending: Vec<u8>,
    descriptors: Vec<(usize, OwnedFd)>,
    /// When the first byte of `pending` was appended.
    since: Option<Instant>,
    /// `None` while a thread writes.
    writer: Option<Box<Writer>>,
    /// The edge no longer reads; everything is dropped.
    closed: bool,
    /// Threads in `finish`. A condition variable that nobody waits for still costs a system call to signal.
    finishing: usize,
}

/// What became of an attempt to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flushed {
    /// Nothing is left, or another thread is at it.
    Done,
    /// The socket is full; only without `block`.
    Full,
    /// The edge is gone.
    Closed,
}

impl Output {
    pub(crate) fn new() -> Self {
        let state = State {
            pending: Vec::with_capacity(HOLD_BYTES),
            descriptors: Vec::new(),
            since: None,
            writer: Some(Box::default()),
            closed: false,
            finishing: 0,
        };
        Self { state: Mutex::new(state), settled: Condvar::new() }
    }

    /// Appends one or more whole frames. True when they should not wait any longer.
    pub(crate) fn append(&self, now: Instant, frames: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        frames(&mut state.pending);
        let since = *state.since.get_or_insert(now);
        state.pending.len() > HOLD_BYTES || now.saturating_duration_since(since) > HOLD_TIME
    }

    /// Appends one frame with its descriptor.
    pub(crate) fn append_with(&self, descriptor: OwnedFd, frame: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let at = state.pending.len();
        state.descriptors.push((at, descriptor));
        frame(&mut state.pending);
        state.since.get_or_insert_with(Instant::now);
    }

    /// Whether anything waits to be written.
    pub(crate) fn is_pending(&self) -> bool {
        self.lock().since.is_some()
    }

    /// Whether what waits should not wait any longer; `None` when nothing does.
    pub(crate) fn pending(&self) -> Option<bool> {
        let state = self.lock();
        state.since.map(|since| state.pending.len() > HOLD_BYTES || since.elapsed() > HOLD_TIME)
    }

    /// Writes all that was appended. With `block` this may wait for the edge: the caller is detached.
    pub(crate) fn flush(&self, socket: BorrowedFd<'_>, block: bool) -> Flushed {
        let mut state = self.lock();
        let Some(mut writer) = state.writer.take() else { return Flushed::Done };
        let outcome = loop {
            if writer.is_done() && !writer.load(&mut state) {
                break Flushed::Done;
            }
            drop(state);
            let written = writer.write(socket, block);
            state = self.lock();
            match written {
                Ok(()) => {}
                Err(Errno::AGAIN) => break Flushed::Full,
                Err(_) => {
                    state.close();
                    writer = Box::default();
                    break Flushed::Closed;
                }
            }
        };
        state.writer = Some(writer);
        if state.finishing > 0 {
            self.settled.notify_all();
        }
        outcome
    }

    /// Writes what has waited for at least `age`. True while something is still pending.
    pub(crate) fn flush_older(&self, socket: BorrowedFd<'_>, age: Duration) -> bool {
        let since = self.lock().since;
        if since.is_some_and(|since| since.elapsed() >= age) {
            self.flush(socket, true);
        }
        since.is_some()
    }

    /// Writes everything and waits until it is written, also by another thread.
    pub(crate) fn finish(&self, socket: BorrowedFd<'_>) {
        loop {
            self.flush(socket, true);
            let mut state = self.lock();
            if state.writer.is_some() && state.pending.is_empty() {
                return;
            }
            state.finishing += 1;
            while state.writer.is_none() {
                state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.finishing -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self) {
        self.closed = true;
        self.pending = Vec::new();
        self.descriptors.clear();
        self.since = None;
    }
}

/// What is being written.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    at: usize,
    descriptors: VecDeque<(usize, OwnedFd)>,
}

impl Writer {
    fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Takes all that is pending; false if there is nothing.
    fn load(&mut self, state: &mut State) -> bool {
        self.at = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEEP_BYTES {
            self.bytes = Vec::with_capacity(HOLD_BYTES);
        }
        std::mem::swap(&mut self.bytes, &mut state.pending);
        self.descriptors.extend(state.descriptors.drain(..));
        state.since = None;
        !self.bytes.is_empty()
    }

    fn write(&mut self, socket: BorrowedFd<'_>, block: bool) -> Result<(), Errno> {
        let flags = if block { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::DONTWAIT };
        while !self.is_done() {
            let travels = self.descriptors.front().is_some_and(|(at, _)| *at == self.at);
            let next = self.descriptors.get(usize::from(travels)).map_or(self.bytes.len(), |(at, _)| *at);
            let piece = &self.bytes[self.at..next];
            let sent = match self.descriptors.front() {
                Some((_, descriptor)) if travels => send_with(socket, piece, descriptor.as_fd(), flags),
                _ => rustix::net::send(socket, piece, flags),
            };
            match sent {
                Ok(n) => {
                    self.at += n;
                    if travels {
                        self.descriptors.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptor: BorrowedFd<'_>,
    flags: SendFlags,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let travelling = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&travelling)) {
        return Err(Errno::INVAL);
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}
