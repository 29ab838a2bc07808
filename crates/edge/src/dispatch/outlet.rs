//! What the edge says to a worker, on its way to the worker's sockets.
//!
//! Owns the outboxes, one for each socket, and the frames about an exchange that a worker holds; the request itself is
//! `link`'s, moving bytes is `channel`'s and `guard::line`'s.
//! Invariant: what is said about an exchange goes over the lane of those who work on it, and only while it is held.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use bandstand_wire::sequence::Answer;
use bandstand_wire::{Flags, Header, Kind, limits};
use tokio::sync::Notify;

use super::link::Link;
use super::queue::{Job, Lane, Work};

/// Bytes on their way to a worker that does not read them; past it, it is given nothing.
const OUTBOX_MOST: usize = 4 * limits::FRAME_MAX;

/// A worker's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// To its threads.
    Channel,
    /// To its event loop.
    Lane,
    /// To the thread that tells stacks and interrupts.
    Guard,
}

impl From<Lane> for Line {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Threads => Self::Channel,
            Lane::Loop => Self::Lane,
        }
    }
}

/// What wakes the writers of a worker, by `Line`.
pub(crate) type Writers = [Arc<Notify>; 3];

/// Bytes, and descriptors between them, on their way to a worker.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) bytes: Vec<u8>,
    /// `(offset in bytes of the frame it belongs to, descriptor)`, ascending.
    pub(crate) descriptors: VecDeque<(usize, Arc<File>)>,
}

/// The outboxes of one worker.
pub(crate) struct Outlets {
    outboxes: [Outbox; 3],
    writers: Writers,
}

impl Outlets {
    pub(crate) fn new(writers: Writers) -> Self {
        Self { outboxes: Default::default(), writers }
    }

    /// Something is to be written, or nothing will be any more.
    pub(crate) fn wake(&self) {
        self.writers.iter().for_each(|writer| writer.notify_one());
    }

    /// The worker reads what is written to it.
    pub(crate) fn reads(&self, line: Line) -> bool {
        self.outboxes[line as usize].bytes.len() < OUTBOX_MOST
    }

    /// Swaps an outbox with an empty one.
    pub(crate) fn take(&mut self, line: Line, outbox: &mut Outbox) {
        std::mem::swap(&mut self.outboxes[line as usize], outbox);
    }

    /// A request, and the descriptor that travels with it.
    pub(crate) fn request(&mut self, job: &Job, place: u16, id: u64) {
        let line = Line::from(job.work.lane()) as usize;
        let outbox = &mut self.outboxes[line];
        if let Some(descriptor) = &job.descriptor {
            outbox.descriptors.push_back((outbox.bytes.len(), descriptor.clone()));
        }
        Header { kind: Kind::Request, flags: job.flags, place, id }.write(&job.payload, &mut outbox.bytes);
        self.writers[line].notify_one();
    }

    /// Where the next frame is to be appended.
    pub(crate) fn open(&mut self, line: Line) -> &mut Vec<u8> {
        self.writers[line as usize].notify_one();
        &mut self.outboxes[line as usize].bytes
    }
}

impl Link {
    /// The client has left, or with `Flags::BROKEN` its time is over. A thread sees it on the board at its next write, and
    /// one that waits for credit is woken to see it; the loop is told.
    pub(crate) fn cancel(&mut self, place: u16, id: u64, flags: Flags) {
        let Some(held) = self.places.named(place, id) else { return };
        let work = held.work;
        // In its handshake a WebSocket is a task that owes an answer; an open one learns that its connection is gone.
        let ends = flags.has(Flags::BROKEN) && (work != Work::Socket || held.answer == Answer::Waiting);
        held.expired |= ends;
        held.closed |= ends && work == Work::Socket;
        self.places.cancel(place, id);
        match work {
            Work::Thread => self.grant(place, id, limits::WINDOW as u32),
            // A connection that is gone without a word (RFC 6455 §7.1.5).
            Work::Socket if !ends => self.close(place, id, 1006, ""),
            Work::Task | Work::Socket if ends && self.cancels_later(place, id) => {}
            Work::Task | Work::Socket => self.say(Kind::Cancel, flags, place, id, &[]),
        }
    }

    /// What is still done for it, although nobody waits, is to end: the loop is told to cancel it. Said once; true then.
    pub(crate) fn expire(&mut self, place: u16, id: u64) -> bool {
        let work = match self.places.named(place, id) {
            Some(held) if !held.expired => {
                held.expired = true;
                held.work
            }
            _ => return false,
        };
        if work != Work::Thread && !self.cancels_later(place, id) {
            self.say(Kind::Cancel, Flags::BROKEN, place, id, &[]);
        }
        true
    }

    /// Now, if the worker still has it.
    pub(crate) fn cancel_task(&mut self, place: u16, id: u64) {
        if self.places.named(place, id).is_some_and(|held| held.work != Work::Thread) {
            self.say(Kind::Cancel, Flags::BROKEN, place, id, &[]);
        }
    }

    /// Lets the worker send more of an answer.
    pub(crate) fn grant(&mut self, place: u16, id: u64, bytes: u32) {
        self.say(Kind::Grant, Flags::NONE, place, id, &bytes.to_le_bytes());
    }

    /// A message of the client for the app of a WebSocket; nothing once it was closed.
    pub(crate) fn message(&mut self, place: u16, id: u64, flags: Flags, bytes: &[u8]) {
        if self.places.named(place, id).is_some_and(|held| held.work == Work::Socket && !held.closed) {
            self.say(Kind::Message, flags, place, id, bytes);
        }
    }

    /// The WebSocket is over; said once.
    pub(crate) fn close(&mut self, place: u16, id: u64, code: u16, reason: &str) {
        match self.places.named(place, id) {
            Some(held) if held.work == Work::Socket && !held.closed => held.closed = true,
            _ => return,
        }
        let header = Header { kind: Kind::Closed, flags: Flags::NONE, place, id };
        header.write_close(code, reason, self.outlets.open(Line::Lane));
    }

    /// Puts a frame about a held exchange into the outbox of those who work on it.
    fn say(&mut self, kind: Kind, flags: Flags, place: u16, id: u64, payload: &[u8]) {
        if let Some(lane) = self.places.named(place, id).map(|held| held.work.lane()) {
            Header { kind, flags, place, id }.write(payload, self.outlets.open(lane.into()));
        }
    }
}
