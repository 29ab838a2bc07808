//! One request's life in the worker: taken from the board, answered in frames, its place freed.
//!
//! Owns place, id, clock and credit of one exchange, and turns an answer into frames. It knows nothing of Python or
//! WSGI. Methods that may wait say so; their callers are detached.
//! Invariant: no more than the credit given is ever sent; the word on the board is freed exactly once.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use bandstand_wire::head::encode_trailers;
use bandstand_wire::limits::{CHUNK_MAX, PIECE_MAX, WINDOW, message_cost};
use bandstand_wire::{Flags, Header, Kind, ResponseHead, board};
use rustix::fd::OwnedFd;

use crate::board::Board;
use crate::channel::{Channel, Posted};
use crate::child::is_child;
use crate::slot::Slot;

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
        self.head_on_loop(head, fields, body);
    }

    /// As `head`, where the loop takes what comes for this exchange.
    pub(crate) fn head_on_loop<'f>(
        &mut self,
        head: &ResponseHead<'_>,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>,
        body: &[u8],
    ) {
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

    /// More credit has come; for exchanges on the loop.
    pub(crate) fn grant(&mut self, more: u32) {
        self.credit = self.credit.saturating_add(u64::from(more));
    }

    /// Sends as much of a streamed answer as there is credit for: how many bytes that was.
    pub(crate) fn chunk_within_credit(&mut self, body: &[u8]) -> usize {
        let mut sent = 0;
        while sent < body.len() && self.credit > 0 {
            let piece = self.affordable(&body[sent..], CHUNK_MAX);
            let header = self.header(Kind::Chunk, Flags::NONE);
            self.append(|out| header.write(piece, out));
            sent += piece.len();
            self.credit -= piece.len() as u64;
        }
        sent
    }

    /// Sends as much of a WebSocket message as there is credit for, in pieces as large as they may be.
    ///
    /// # Errors
    /// How many bytes have left when the credit ended before the message.
    pub(crate) fn message_within_credit(&mut self, message: &[u8], text: bool) -> Result<(), usize> {
        let kind = if text { Flags::TEXT } else { Flags::NONE };
        let mut sent = 0;
        loop {
            let piece = &message[sent..message.len().min(sent + PIECE_MAX)];
            let cost = message_cost(piece.len()) as u64;
            if cost > self.credit {
                return Err(sent);
            }
            self.credit -= cost;
            sent += piece.len();
            let is_last = sent == message.len();
            let header = self.header(Kind::Send, if is_last { kind.with(Flags::WHOLE) } else { kind });
            self.append(|out| header.write(piece, out));
            if is_last {
                return Ok(());
            }
        }
    }

    /// Accepts the WebSocket.
    pub(crate) fn accept<'f>(
        &mut self,
        head: &ResponseHead<'_>,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>,
    ) {
        let header = self.header(Kind::Accept, Flags::NONE);
        self.append(|out| {
            let open = header.open(out);
            head.encode(fields, out);
            open.finish(out);
        });
    }

    /// The app closes the WebSocket.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        let header = self.header(Kind::Close, Flags::NONE);
        self.append(|out| header.write_close(code, reason, out));
    }

    /// The app takes `more` bytes of a streamed body, or of messages.
    pub(crate) fn want(&mut self, more: u32) {
        let header = self.header(Kind::Want, Flags::NONE);
        self.append(|out| header.write(&more.to_le_bytes(), out));
    }

    /// Fields after the body of a streamed answer; `end` follows.
    pub(crate) fn trailers<'f>(&mut self, fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>) {
        let header = self.header(Kind::Trailers, Flags::NONE);
        self.append(|out| {
            let open = header.open(out);
            encode_trailers(fields, out);
            open.finish(out);
        });
    }

    fn affordable<'b>(&self, body: &'b [u8], most: usize) -> &'b [u8] {
        let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
        &body[..body.len().min(most).min(credit)]
    }

    fn append(&mut self, frames: impl FnOnce(&mut Vec<u8>)) {
        self.channel.append(frames);
        self.unflushed = true;
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

    /// Tells the edge that this is on the loop from now on: what concerns it comes over the loop's lane.
    pub(crate) fn moved(&mut self) {
        // Credit for an answer that the thread sends after all is forwarded to its slot.
        self.channel.open_slot(self.id);
        self.channel.slot(self.id, Slot::set_moved);
        self.has_slot = true;
        let header = self.header(Kind::Moved, Flags::NONE);
        self.append(|out| header.write(&[], out));
    }

    /// Goes on elsewhere, with the place, the credit and the clock; this one has nothing left to do.
    pub(crate) fn detach(&mut self) -> Self {
        self.finished = true;
        Self { channel: Arc::clone(&self.channel), finished: false, ..*self }
    }

    /// Whether the place is free, or another's.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether there is more to come for it than its answer's credit.
    pub(crate) fn has_slot(&self) -> bool {
        self.has_slot
    }

    /// The answer must leave before what comes next, however soon that is.
    pub(crate) fn hurry(&mut self) {
        self.unflushed = true;
    }

    /// The place is free; `close()` has been called.
    pub(crate) fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) || is_child() {
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
