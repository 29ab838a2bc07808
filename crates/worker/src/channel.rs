//! The channel as threads see it: requests to take, credit to wait for, frames to send.
//!
//! Owns the inbox and the reading role. There is no reader thread: a thread that needs something and finds it neither
//! in the inbox nor someone reading takes the `Source`, reads once (detached), sorts all that came into the inbox and
//! hands the role on. So one thread costs one read and one write for a request, fewer when requests queue up.
//! Invariant: as long as a thread waits, some thread reads; a thread that leaves the role wakes another.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bandstand_wire::limits::PLACES;
use bandstand_wire::{Flags, Frame, Header, Kind, WireError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::linger::Linger;
use crate::output::{Flushed, Output};
use crate::slot::Slot;
use crate::source::{Received, Source};

/// How often a thread that waits within an exchange looks whether the client has left. The edge sends a frame when that
/// happens, so this is only a net below it.
const GLANCE: Duration = Duration::from_secs(1);

/// A request as it came: `payload` is its head, fields and inline body.
pub(crate) struct Request {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    pub(crate) body: Option<OwnedFd>,
}

/// What a waiting thread gets.
pub(crate) enum Next {
    /// Work.
    Request(Request),
    /// A signal came; Python may want to handle it.
    Interrupted,
    /// No more work will come.
    End,
}

/// How the channel stands.
#[derive(Clone, PartialEq, Eq)]
enum Life {
    Open,
    /// No new requests; credit and bodies of those in hand still come.
    Draining,
    /// Nothing comes any more.
    Closed,
    /// The edge or this worker broke the protocol.
    Broken(String),
}

struct Inbox {
    ready: VecDeque<Request>,
    slots: HashMap<u64, Slot>,
    /// `None` while a thread reads.
    source: Option<Box<Source>>,
    /// Threads that wait for a request.
    idle: usize,
    /// Threads that wait within an exchange.
    parked: usize,
    life: Life,
}

/// The worker's end of the channel, shared by its threads.
pub(crate) struct Channel {
    socket: OwnedFd,
    inbox: Mutex<Inbox>,
    work: Condvar,
    progress: Condvar,
    output: Output,
    linger: Linger,
}

impl Channel {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        let inbox = Inbox {
            ready: VecDeque::new(),
            slots: HashMap::new(),
            source: Some(Box::default()),
            idle: 0,
            parked: 0,
            life: Life::Open,
        };
        Self {
            socket,
            inbox: Mutex::new(inbox),
            work: Condvar::new(),
            progress: Condvar::new(),
            output: Output::new(),
            linger: Linger::default(),
        }
    }

    /// A request that is already here. Does not wait. What is held back in the output buffer is watched from now on.
    pub(crate) fn ready(&self) -> Option<Request> {
        let request = self.lock().ready.pop_front()?;
        if self.output.is_pending() && !self.linger.watch() {
            // Nobody watches: it leaves now, or, if the socket is full, with the next flush.
            self.flush(false);
        }
        Some(request)
    }

    /// Writes what is pending, then waits for a request. The caller is detached.
    pub(crate) fn next(&self) -> Next {
        self.flush(true);
        let mut inbox = self.lock();
        loop {
            if let Some(request) = inbox.ready.pop_front() {
                self.hand_over(&inbox);
                return Next::Request(request);
            }
            if inbox.life != Life::Open {
                self.work.notify_all();
                self.progress.notify_all();
                return Next::End;
            }
            if let Some(source) = inbox.source.take() {
                let interrupted;
                (inbox, interrupted) = self.read(inbox, source, None);
                if interrupted {
                    self.hand_over(&inbox);
                    return Next::Interrupted;
                }
            } else {
                inbox.idle += 1;
                inbox = self.work.wait(inbox).unwrap_or_else(PoisonError::into_inner);
                inbox.idle -= 1;
            }
        }
    }

    /// Opens a slot for what may come for an exchange beside its request.
    pub(crate) fn open_slot(&self, id: u64) {
        self.lock().slots.entry(id).or_default();
    }

    /// Forgets it; late frames are dropped.
    pub(crate) fn close_slot(&self, id: u64) {
        self.lock().slots.remove(&id);
    }

    /// A look into a slot without waiting; `None` when it was never opened.
    pub(crate) fn slot<T>(&self, id: u64, look: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        self.lock().slots.get_mut(&id).map(look)
    }

    /// Writes what is pending, then waits until `take` finds what it wants in the slot. `None` when it will never
    /// come: the client has left (`is_cancelled`), or the channel has ended. The caller is detached.
    pub(crate) fn wait<T>(
        &self,
        id: u64,
        is_cancelled: impl Fn() -> bool,
        mut take: impl FnMut(&mut Slot) -> Option<T>,
    ) -> Option<T> {
        self.flush(true);
        let mut inbox = self.lock();
        let taken = loop {
            let Some(slot) = inbox.slots.get_mut(&id) else { break None };
            if let Some(taken) = take(slot) {
                break Some(taken);
            }
            let may_read = !slot.is_moved();
            if is_cancelled() || matches!(inbox.life, Life::Closed | Life::Broken(_)) {
                break None;
            }
            if may_read && let Some(source) = inbox.source.take() {
                let patience = Timespec::try_from(GLANCE).ok();
                (inbox, _) = self.read(inbox, source, patience);
                if inbox.idle > 0 && !inbox.ready.is_empty() {
                    self.work.notify_one();
                }
            } else {
                inbox.parked += 1;
                let woken = self.progress.wait_timeout(inbox, GLANCE);
                inbox = woken.unwrap_or_else(PoisonError::into_inner).0;
                inbox.parked -= 1;
            }
        };
        self.hand_over(&inbox);
        taken
    }

    /// From the loop: a frame of its lane for an exchange that a thread still answers, which has said `Moved`. Nothing
    /// happens when there is no such exchange any more.
    ///
    /// # Errors
    /// The edge sent what it may not.
    pub(crate) fn forward(&self, header: Header, payload: &[u8]) -> Result<(), WireError> {
        let mut inbox = self.lock();
        if let Some(slot) = inbox.slots.get_mut(&header.id) {
            match header.kind {
                Kind::Grant => slot.grant(Frame { header, payload }.number()?),
                Kind::Body => slot.receive(header.flags, payload)?,
                // The board says that the client has left; this only wakes the thread.
                _ => {}
            }
        }
        if inbox.parked > 0 {
            self.progress.notify_all();
        }
        Ok(())
    }

    /// Appends frames that may wait a moment for others; bounded in bytes and time.
    pub(crate) fn post(&self, now: Instant, frames: impl FnOnce(&mut Vec<u8>)) -> Posted {
        if self.output.append(now, frames) { Posted::Due } else { Posted::Waiting }
    }

    /// Appends frames; the caller flushes.
    pub(crate) fn append(&self, frames: impl FnOnce(&mut Vec<u8>)) {
        self.output.append(Instant::now(), frames);
    }

    /// Appends a frame and the descriptor that travels with it; the caller flushes.
    pub(crate) fn append_with(&self, descriptor: OwnedFd, frame: impl FnOnce(&mut Vec<u8>)) {
        self.output.append_with(descriptor, frame);
    }

    /// Writes what is pending. With `block` the caller is detached; without, false means that it must come again.
    pub(crate) fn flush(&self, block: bool) -> bool {
        match self.output.flush(self.socket(), block) {
            Flushed::Done => true,
            Flushed::Full => false,
            Flushed::Closed => {
                self.leave(Life::Closed);
                true
            }
        }
    }

    /// For `Linger`: writes what has waited for `age`; true while something is pending.
    pub(crate) fn flush_older(&self, age: Duration) -> bool {
        self.output.flush_older(self.socket(), age)
    }

    /// The thread that watches over answers that wait; see `linger`.
    pub(crate) fn linger(&self) -> &Linger {
        &self.linger
    }

    /// The edge sent what it may not: nothing more is read, and `verdict` will say so.
    pub(crate) fn break_off(&self, error: impl std::fmt::Display) {
        self.leave(Life::Broken(error.to_string()));
    }

    /// Whether anything waits to be written, and whether it should wait any longer.
    pub(crate) fn pending(&self) -> Option<Posted> {
        self.output.pending().map(|due| if due { Posted::Due } else { Posted::Waiting })
    }

    /// Whether the edge has closed its end: nothing that is sent will arrive.
    pub(crate) fn is_abandoned(&self) -> bool {
        let mut watched = [PollFd::from_borrowed_fd(self.socket(), PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut watched, Some(&now)).is_ok()
            && watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Writes the rest. The reason why the channel was broken off, if it was.
    pub(crate) fn verdict(&self) -> Option<String> {
        self.output.finish(self.socket());
        match &self.lock().life {
            Life::Broken(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    fn leave(&self, life: Life) {
        let mut inbox = self.lock();
        inbox.end(life);
        // Nobody is there to be answered.
        inbox.ready.clear();
        drop(inbox);
        // Whoever reads now returns with the end of the stream.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Read);
        self.work.notify_all();
        self.progress.notify_all();
    }

    /// One turn at reading; the lock is given up meanwhile. True when a signal ended it.
    fn read<'a>(
        &'a self,
        inbox: MutexGuard<'a, Inbox>,
        mut source: Box<Source>,
        patience: Option<Timespec>,
    ) -> (MutexGuard<'a, Inbox>, bool) {
        drop(inbox);
        let received = source.receive(self.socket(), patience);
        let mut inbox = self.lock();
        let interrupted = matches!(received, Ok(Received::Interrupted));
        match received {
            Ok(Received::Bytes) => {
                if let Err(error) = inbox.sort(&mut source) {
                    inbox.end(Life::Broken(error.to_string()));
                }
            }
            Ok(Received::End) => inbox.end(Life::Closed),
            Ok(Received::Nothing | Received::Interrupted) => {}
            Err(error) => inbox.end(Life::Broken(error)),
        }
        inbox.source = Some(source);
        if inbox.parked > 0 {
            self.progress.notify_all();
        }
        (inbox, interrupted)
    }

    /// Called by a thread that goes to work: another takes what is left, or reads.
    fn hand_over(&self, inbox: &Inbox) {
        let reads = inbox.source.is_some();
        if inbox.idle > 0 && (reads || !inbox.ready.is_empty()) {
            self.work.notify_one();
        } else if inbox.parked > 0 && reads {
            self.progress.notify_all();
        }
    }

    /// The socket, for a loop that watches whether it can be written.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether frames may wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Posted {
    /// They leave with the next flush, or within a millisecond or two.
    Waiting,
    /// Flush now.
    Due,
}

impl Inbox {
    /// Sorts all whole frames into place.
    fn sort(&mut self, source: &mut Source) -> Result<(), WireError> {
        loop {
            // The frame borrows the decoder; requests are copied out of it, so that the next read can use its buffer.
            let Some(Frame { header, payload }) = source.decoder.next()? else { return Ok(()) };
            match header.kind {
                Kind::Request => {
                    let payload = payload.to_vec();
                    self.request(header, payload, source)?;
                }
                Kind::Grant => {
                    let more = Frame { header, payload }.number()?;
                    if let Some(slot) = self.slots.get_mut(&header.id) {
                        slot.grant(more);
                    }
                }
                Kind::Body => {
                    if let Some(slot) = self.slots.get_mut(&header.id) {
                        slot.receive(header.flags, payload)?;
                    }
                }
                Kind::Drain => self.end(Life::Draining),
                _ => return Err(WireError::OutOfSequence("a frame that only workers send")),
            }
        }
    }

    fn request(&mut self, header: Header, payload: Vec<u8>, source: &mut Source) -> Result<(), WireError> {
        let body = header.flags.has(Flags::DESCRIPTOR).then(|| source.descriptor()).transpose()?;
        // Those that the edge took back still lie here until a thread drops them, so there may be more than places; a
        // thread that hangs sees a few of them a second.
        if self.ready.len() >= PLACES * 16 {
            return Err(WireError::OutOfSequence("more requests than places"));
        }
        if header.flags.has(Flags::STREAM) {
            self.slots.insert(header.id, Slot::default());
        }
        self.ready.push_back(Request { header, payload, body });
        Ok(())
    }

    /// The worse state wins: a drained channel can still close or break, a broken one stays so.
    fn end(&mut self, life: Life) {
        match (&self.life, &life) {
            (Life::Broken(_), _) | (Life::Closed, Life::Draining | Life::Closed) => {}
            _ => self.life = life,
        }
        if matches!(self.life, Life::Broken(_)) {
            self.ready.clear();
        }
    }
}
