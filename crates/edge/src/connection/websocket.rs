//! One WebSocket, from the 101 (or the 200 of a stream, RFC 8441) to its end.
//!
//! Owns the way of messages between a client and an app, both ways at their own pace, and who is told what when it ends.
//! Frames and messages are `semantics::websocket`, the bytes below them `line`, what waits for the client is `outgoing`, pings are
//! `silence`, the app's end is a `dispatch::Ticket`. At rest a WebSocket holds no buffer and no compressor.
//!
//! A client is read while the app has credit (`wire::limits::WINDOW`, less what messages cost that it has not taken). When that is
//! used up the client waits, and with it its pongs and its close frame: it cannot be heard, so it is not pinged either. The
//! app is listened to while the client takes what it is sent; credit goes back to it when the bytes have left.
//!
//! ```text
//!   Open ──app closes, worker or server restarts: our close frame──► Closing ──theirs──► Ending ──all written──► over
//!     │                                                                 └──websocket_timeout──► over
//!     ├──client closes (echoed), breaks the protocol (1002, 1007, 1009), is silent (1011)──► Ending
//!     └──client gone, or takes nothing for send_timeout──► over
//! ```

mod line;
mod outgoing;
mod silence;
#[cfg(test)]
pub(super) mod tests;

use std::task::{Context, Poll};
use std::time::Instant;

use bandstand_semantics::websocket::close;
use bandstand_semantics::websocket::message::{Event as Said, Fault, Limits, Reader};
use bandstand_wire::limits::{PIECE_MAX, WINDOW, message_cost};

use super::h1::{BODY_READ_BYTES, Connection, HEAD_READ_BYTES};
use super::multiplexed::Carrier;
use super::timer::Timer;
use crate::dispatch::{Event, Ticket};
use crate::exchange::Exchange;
use crate::observe::record::Record;
use crate::shared::{Shared, State};
use line::Line;
use outgoing::Outgoing;
use silence::{Due, Silence};

/// What a request leaves behind for the WebSocket that it became.
pub(super) struct Upgraded<'s> {
    ticket: Ticket,
    /// Window of our compressor, if messages may be compressed.
    deflate: Option<u8>,
    record: Record<'s>,
}

impl<'s> Upgraded<'s> {
    /// After the 101 was written.
    pub(super) fn new(ticket: Ticket, exchange: &Exchange, record: Record<'s>) -> Self {
        let deflate = exchange.websocket.as_ref().and_then(|offer| offer.deflate);
        Self { ticket, deflate: deflate.map(|deflate| deflate.server_window_bits), record }
    }
}

/// Serves it until it is over. Dropped, it is over at once: the app is told 1006, the client nothing.
pub(super) async fn run(connection: &mut Connection, upgraded: Upgraded<'_>) {
    let Connection { shared, state, stream, place, timer, buffer, at, ended, .. } = connection;
    let line = Line::Connection { stream, place };
    let mut socket = Socket::new(shared, state, line, timer, upgraded);
    (socket.buffer, socket.at, socket.ended) = (std::mem::take(buffer), *at, *ended);
    let end = std::future::poll_fn(|context| socket.poll(context)).await;
    *ended = socket.ended;
    drop(socket); // and write its record
    if end == End::Closed {
        connection.linger().await;
    }
}

/// The same in a stream of many. Its last word is the stream's end, or a reset.
pub(super) async fn run_in_stream(
    shared: &Shared,
    state: &State,
    carrier: &mut dyn Carrier,
    timer: &mut Timer,
    upgraded: Upgraded<'_>,
) {
    let mut socket = Socket::new(shared, state, Line::of(carrier, shared), timer, upgraded);
    let end = std::future::poll_fn(|context| socket.poll(context)).await;
    drop(socket); // and write its record
    line::end(carrier, timer, state.settings.websocket_timeout, end == End::Closed).await;
}

struct Socket<'c, 's> {
    shared: &'c Shared,
    /// As it was when the WebSocket was opened.
    state: &'c State,
    line: Line<'c>,
    timer: &'c mut Timer,
    /// Bytes read; those from `at` on are not yet used.
    buffer: Vec<u8>,
    at: usize,
    /// The client has ended its side.
    ended: bool,
    record: Record<'s>,
    phase: Phase,
    reader: Reader,
    /// The reader may have more to say about what it has been given.
    unread: bool,
    /// Bytes that the next read makes room for.
    room: usize,
    /// What messages to the app may still cost.
    credit: usize,
    /// A piece of a message for which there is not enough credit; nothing is read behind it.
    waiting: Option<Piece>,
    out: Outgoing,
    silence: Silence,
}

enum Phase {
    /// Both sides may talk.
    Open(Ticket),
    /// Our close frame is on its way, and theirs is waited for, until then.
    Closing(Instant),
    /// All has been said; what is left to write has until then.
    Ending(Instant),
}

struct Piece {
    text: bool,
    whole: bool,
    bytes: Vec<u8>,
}

/// How it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Everything was written.
    Closed,
    /// The client is gone, or does not take what is written.
    Lost,
}

/// The client is gone.
struct Gone;

impl<'c, 's> Socket<'c, 's> {
    fn new(
        shared: &'c Shared,
        state: &'c State,
        line: Line<'c>,
        timer: &'c mut Timer,
        upgraded: Upgraded<'s>,
    ) -> Self {
        let Upgraded { ticket, deflate, record } = upgraded;
        let limits = Limits { message: state.settings.websocket_max_size, piece: PIECE_MAX };
        Self {
            shared,
            state,
            line,
            timer,
            buffer: Vec::new(),
            at: 0,
            ended: false,
            record,
            phase: Phase::Open(ticket),
            reader: Reader::new(limits, deflate.is_some()),
            unread: false,
            room: HEAD_READ_BYTES,
            credit: WINDOW,
            waiting: None,
            out: Outgoing::new(deflate),
            silence: Silence::new(Instant::now()),
        }
    }

    /// Does all that can be done now.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let now = Instant::now();
        if self.server_restarts(context) {
            self.restart(now);
        }
        loop {
            let mut moved = self.hear_app(context, now);
            match self.write(context, now).and_then(|wrote| Ok(wrote | self.hear_client(context, now)?)) {
                Ok(more) => moved |= more,
                Err(Gone) => {
                    self.tell_app(close::ABNORMAL, "", Phase::Ending(now));
                    return Poll::Ready(End::Lost);
                }
            }
            if matches!(self.phase, Phase::Ending(_)) && self.out.is_empty() {
                return Poll::Ready(End::Closed);
            }
            if moved {
                continue;
            }
            let Some(deadline) = self.deadline() else { break };
            if self.timer.poll(context, deadline).is_pending() {
                break;
            }
            if let Some(end) = self.on_time(Instant::now()) {
                return Poll::Ready(end);
            }
        }
        self.out.rest();
        Poll::Pending
    }

    /// Takes in what the app has said, as long as the client takes what is written.
    fn hear_app(&mut self, context: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        while let Phase::Open(ticket) = &self.phase
            && self.out.has_room()
            && let Poll::Ready(event) = ticket.reply().poll_next(context)
        {
            moved = true;
            match event {
                Event::Message { text, whole, bytes } => self.out.message(text, whole, &bytes),
                Event::Credit(more) => {
                    self.credit = self.credit.saturating_add(more as usize);
                    self.forward(now);
                }
                Event::Close { code, reason } => {
                    self.close(sendable(code), &reason, now);
                }
                Event::Restart => self.restart(now),
                Event::Failed(_) => self.close(Some(close::SERVICE_RESTART), "", now),
                // A worker that speaks of an answer here has lost count of its exchanges.
                _ => {
                    self.tell_app(close::INTERNAL_ERROR, "", Phase::Closing(now));
                    self.close(Some(close::INTERNAL_ERROR), "", now);
                }
            }
        }
        moved
    }

    /// Writes what waits.
    fn write(&mut self, context: &mut Context<'_>, now: Instant) -> Result<bool, Gone> {
        if self.out.is_empty() {
            return Ok(false);
        }
        let within = self.state.settings.send_timeout;
        match self.out.poll_write(&mut self.line, context) {
            Poll::Ready(Ok(written @ 1..)) => {
                self.record.bytes_out += written as u64;
                if self.out.is_empty() {
                    if self.out.is_deaf() {
                        self.silence.broken(now);
                    }
                    let left = self.out.emptied();
                    if let Phase::Open(ticket) = &self.phase {
                        ticket.consumed(left);
                    }
                }
                Ok(true)
            }
            Poll::Ready(_) => Err(Gone),
            Poll::Pending => {
                self.out.blocked(now + within);
                Ok(false)
            }
        }
    }

    /// Takes in what the client has said.
    fn hear_client(&mut self, context: &mut Context<'_>, now: Instant) -> Result<bool, Gone> {
        if !self.listens() {
            return if self.line.poll_gone(context) { Err(Gone) } else { Ok(false) };
        }
        if self.unread || self.at < self.buffer.len() {
            self.read_frames(now);
            return Ok(true);
        }
        if self.ended {
            return Err(Gone);
        }
        self.buffer.clear();
        self.at = 0;
        match self.line.poll_read(context, &mut self.buffer, self.room) {
            Poll::Ready(Ok(read @ 1..)) => {
                self.record.bytes_in += read as u64;
                self.room = if read >= self.room { BODY_READ_BYTES } else { HEAD_READ_BYTES };
                self.silence.broken(now);
                Ok(true)
            }
            Poll::Ready(_) => {
                self.ended = true;
                Err(Gone)
            }
            Poll::Pending => {
                self.buffer = Vec::new();
                self.room = HEAD_READ_BYTES;
                Ok(false)
            }
        }
    }

    /// Whether the client is read: not when what it says could be passed on to nobody, nor when it takes no answers.
    fn listens(&self) -> bool {
        match self.phase {
            Phase::Open(_) => self.waiting.is_none() && !self.out.is_deaf(),
            Phase::Closing(_) => !self.out.is_deaf(),
            Phase::Ending(_) => false,
        }
    }

    fn read_frames(&mut self, now: Instant) {
        while self.listens() {
            match self.reader.read(&mut self.buffer[self.at..]) {
                Ok((used, said)) => {
                    self.at += used;
                    self.unread = said.is_some();
                    let Some(said) = said else { return };
                    self.on_said(said, now);
                }
                Err(fault) => {
                    self.unread = false;
                    self.at = self.buffer.len();
                    return self.fail(fault, now);
                }
            }
        }
    }

    fn on_said(&mut self, said: Said, now: Instant) {
        match said {
            Said::Message { text, whole, bytes } => {
                self.waiting = Some(Piece { text, whole, bytes });
                self.forward(now);
            }
            Said::Ping(payload) => self.out.pong(&payload),
            Said::Pong(_) => {} // all that comes counts as a sign of life
            Said::Close { code, reason } => {
                if matches!(self.phase, Phase::Open(_)) {
                    self.out.close(code, "");
                }
                let ending = self.ending(now);
                self.tell_app(code.unwrap_or(close::NO_STATUS), &reason, ending);
            }
        }
    }

    /// Gives the waiting piece to the app, if there is credit; throws it away if there is no app any more.
    fn forward(&mut self, now: Instant) {
        let Some(piece) = self.waiting.take() else { return };
        let Phase::Open(ticket) = &self.phase else { return };
        let cost = message_cost(piece.bytes.len());
        if cost > self.credit {
            self.waiting = Some(piece);
            return;
        }
        self.credit -= cost;
        ticket.send_message(piece.text, piece.whole, &piece.bytes);
        self.silence.broken(now);
    }

    /// The client broke the protocol. The app is told the same code: 1006 would hide from it why.
    fn fail(&mut self, fault: Fault, now: Instant) {
        if matches!(self.phase, Phase::Open(_)) {
            tracing::debug!(code = fault.code(), reason = fault.reason(), "a WebSocket client was refused");
            self.out.close(Some(fault.code()), fault.reason());
        }
        let ending = self.ending(now);
        self.tell_app(fault.code(), fault.reason(), ending);
    }

    /// We close: what has been said before is still written.
    fn close(&mut self, code: Option<u16>, reason: &str, now: Instant) {
        self.out.close(code, reason);
        let deadline = now + self.state.settings.websocket_timeout;
        if let Phase::Open(ticket) = std::mem::replace(&mut self.phase, Phase::Closing(deadline)) {
            self.record.trace = ticket.reply().trace();
        }
        self.waiting = None;
    }

    fn restart(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Open(_)) {
            self.tell_app(close::SERVICE_RESTART, "", Phase::Closing(now));
            self.close(Some(close::SERVICE_RESTART), "", now);
        }
        // A client that does not answer must not hold up the stop of the server.
        if let Phase::Closing(deadline) | Phase::Ending(deadline) = &mut self.phase
            && self.shared.is_draining()
        {
            *deadline = (*deadline).min(now + self.state.patience_at_stop());
        }
    }

    /// The app's end is over, if it was not; what comes next is `phase`.
    fn tell_app(&mut self, code: u16, reason: &str, phase: Phase) {
        if let Phase::Open(ticket) = std::mem::replace(&mut self.phase, phase) {
            self.record.trace = ticket.reply().trace();
            ticket.send_closed(code, reason);
        }
        self.waiting = None;
    }

    fn ending(&self, now: Instant) -> Phase {
        Phase::Ending(now + self.state.settings.websocket_timeout)
    }

    /// Whether the server stops. Registers for being told.
    fn server_restarts(&mut self, context: &mut Context<'_>) -> bool {
        self.line.poll_stop(self.shared, context)
    }

    /// When something has to be done if nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Closing(deadline) | Phase::Ending(deadline) => Some(deadline),
            Phase::Open(_) if !self.listens() => None,
            Phase::Open(_) => self.silence.deadline(self.state.settings.websocket_ping),
        };
        [phase, self.out.deadline()].into_iter().flatten().min()
    }

    /// A deadline has passed.
    fn on_time(&mut self, now: Instant) -> Option<End> {
        if self.out.deadline().is_some_and(|deadline| now >= deadline) {
            self.tell_app(close::ABNORMAL, "the client takes nothing", Phase::Ending(now));
            return Some(End::Lost);
        }
        match self.phase {
            Phase::Closing(deadline) | Phase::Ending(deadline) => {
                return (now >= deadline).then_some(End::Lost);
            }
            Phase::Open(_) => {}
        }
        if !self.out.is_empty() {
            self.silence.broken(now); // what is on its way has a time limit of its own
            return None;
        }
        let settings = &self.state.settings;
        match self.silence.look(now, settings.websocket_ping, settings.websocket_timeout) {
            Due::Nothing => {}
            Due::Ping(payload) => self.out.ping(&payload),
            Due::TooLong => {
                self.out.close(Some(close::INTERNAL_ERROR), "no pong");
                let ending = self.ending(now);
                self.tell_app(close::ABNORMAL, "no pong", ending);
            }
        }
        None
    }
}

/// An app may say that it closes without a code (1005); other codes that cannot be sent are its mistake.
fn sendable(code: u16) -> Option<u16> {
    match code {
        close::NO_STATUS => None,
        code if close::may_be_sent(code) => Some(code),
        _ => Some(close::INTERNAL_ERROR),
    }
}
