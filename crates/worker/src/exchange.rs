//! One request's life in the worker: taken from the board, answered in frames, its place freed.
//!
//! Owns place, id, clock and credit of one exchange, and turns an answer into frames. It knows nothing of Python or
//! WSGI. Methods that may wait say so; their callers are detached.
//! Invariant: no more than the credit given is ever sent; the word on the board is freed exactly once.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use bandstand_wire::limits::{CHUNK_MAX, WINDOW};
use bandstand_wire::{Flags, Header, Kind, ResponseHead, board};
use rustix::fd::OwnedFd;

use crate::board::Board;
use crate::channel::{Channel, Posted};

/// A request in hand.
pub(crate) struct Exchange {
    channel: Arc<Channel>,
    word: &'static AtomicU64,
    place: u16,
    id: u64,
    started: Instant,
    /// Bytes of body that may still be sent.
    credit: u64,
    has_slot: bool,
    /// Bytes were appended that nobody has flushed.
    unflushed: bool,
    finished: bool,
}

/// The client has left, or the channel has ended: nothing that is sent will arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl Exchange {
    /// Begins a request. `None` if the edge has taken it back: nothing may be answered.
    pub(crate) fn begin(channel: &Arc<Channel>, board: Board, header: Header) -> Option<Self> {
        let word = board.word(header.place);
        let has_slot = header.flags.has(Flags::STREAM);
        if !board::take(word, header.id) {
            if has_slot {
                channel.close_slot(header.id);
            }
            return None;
        }
        Some(Self {
            channel: Arc::clone(channel),
            word,
            place: header.place,
            id: header.id,
            started: Instant::now(),
            credit: WINDOW as u64,
            has_slot,
            unflushed: false,
            finished: false,
        })
    }

    /// The channel, for what else belongs to this exchange (`Input`).
    pub(crate) fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Its id on the channel.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Its place on the board.
    pub(crate) fn place(&self) -> u16 {
        self.place
    }

    /// The word of its place.
    pub(crate) fn word(&self) -> &'static AtomicU64 {
        self.word
    }

    /// Whether the client has left.
    pub(crate) fn is_cancelled(&self) -> bool {
        board::is_cancelled(self.word)
    }

    /// An answer that is complete: one frame. It may wait a moment in the buffer. `body` is at most `CHUNK_MAX` in all.
    pub(crate) fn whole<'f>(
        &mut self,
        mut head: ResponseHead<'_>,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>,
        body: &[&[u8]],
    ) {
        let now = Instant::now();
        head.service_us = micros(self.started, now);
        let header = self.header(Kind::Response, Flags::WHOLE);
        let posted = self.channel.post(now, |out| {
            let open = header.open(out);
            head.encode(fields, out);
            for piece in body {
                out.extend_from_slice(piece);
            }
            open.finish(out);
        });
        self.unflushed |= posted == Posted::Due;
    }

    /// An answer whose body is a file.
    pub(crate) fn file<'f>(
        &mut self,
        mut head: ResponseHead<'_>,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>,
        file: OwnedFd,
    ) {
        head.service_us = micros(self.started, Instant::now());
        let header = self.header(Kind::Response, Flags::DESCRIPTOR);
        self.channel.append_with(file, |out| {
            let open = header.open(out);
            head.encode(fields, out);
            open.finish(out);
        });
        self.unflushed = true;
    }

    /// The head of an answer that is streamed; `body` follows in `chunk`.
    pub(crate) fn head<'f>(
        &mut self,
        head: &ResponseHead<'_>,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>,
        body: &[u8],
    ) {
        debug_assert!(body.len() <= CHUNK_MAX);
        // Credit for this answer may come as soon as its head has left.
        self.channel.open_slot(self.id);
        self.has_slot = true;
        self.credit -= body.len() as u64;
        let header = self.header(Kind::Response, Flags::NONE);
        self.channel.append(|out| {
            let open = header.open(out);
            head.encode(fields, out);
            out.extend_from_slice(body);
            open.finish(out);
        });
        self.unflushed = true;
    }

    /// An interim answer (103).
    pub(crate) fn interim<'f>(
        &mut self,
        head: &ResponseHead<'_>,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>,
    ) {
        let header = self.header(Kind::Interim, Flags::NONE);
        self.channel.append(|out| {
            let open = header.open(out);
            head.encode(fields, out);
            open.finish(out);
        });
        self.unflushed = true;
    }

    /// Whether `body` goes into one frame without waiting for credit.
    pub(crate) fn has_room(&self, body: &[u8]) -> bool {
        body.len() <= CHUNK_MAX && body.len() as u64 <= self.credit
    }

    /// The next bytes of a streamed answer, in as many frames as it takes. Waits for credit unless `has_room`.
    ///
    /// # Errors
    /// `Gone` when no credit will come.
    pub(crate) fn chunk(&mut self, mut body: &[u8]) -> Result<(), Gone> {
        while !body.is_empty() {
            if self.credit == 0 {
                self.refill()?;
            }
            let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
            let (piece, rest) = body.split_at(body.len().min(CHUNK_MAX).min(credit));
            let header = self.header(Kind::Chunk, Flags::NONE);
            self.channel.append(|out| header.write(piece, out));
            self.unflushed = true;
            self.credit -= piece.len() as u64;
            body = rest;
        }
        Ok(())
    }

    /// The end of a streamed answer. With `broken` the client sees that it is not complete.
    pub(crate) fn end(&mut self, broken: bool) {
        let flags = if broken { Flags::BROKEN } else { Flags::NONE };
        let header = self.header(Kind::End, flags);
        let service_us = micros(self.started, Instant::now());
        self.channel.append(|out| header.write(&service_us.to_le_bytes(), out));
        self.unflushed = true;
    }

    /// Writes what this exchange has appended, if that must not wait. Without `block`, false means: come again, detached.
    pub(crate) fn flush(&mut self, block: bool) -> bool {
        let done = !self.unflushed || self.channel.flush(block);
        self.unflushed = !done;
        done
    }

    /// The answer must leave before what comes next, however soon that is.
    pub(crate) fn hurry(&mut self) {
        self.unflushed = true;
    }

    /// The place is free; `close()` has been called.
    pub(crate) fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if self.has_slot {
            self.channel.close_slot(self.id);
        }
        if board::finish(self.word) {
            let header = self.header(Kind::Idle, Flags::NONE);
            self.channel.append(|out| header.write(&[], out));
            self.unflushed = true;
        }
    }

    fn refill(&mut self) -> Result<(), Gone> {
        let word = self.word;
        let credit = self.channel.wait(
            self.id,
            || board::is_cancelled(word),
            |slot| Some(slot.take_credit()).filter(|&credit| credit > 0),
        );
        self.credit += credit.ok_or(Gone)?;
        // Credit also comes to wake a thread whose client has left.
        if self.is_cancelled() { Err(Gone) } else { Ok(()) }
    }

    fn header(&self, kind: Kind, flags: Flags) -> Header {
        Header { kind, flags, place: self.place, id: self.id }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.finish();
    }
}

fn micros(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u32::MAX)
}
