//! An answer on its way into a stream of HTTP/2 or HTTP/3, from wherever its body is.
//!
//! Owns the pace: nothing is given to the stream that its client has no room for, and what an app says meanwhile waits in
//! memory and then in a file (`body::backlog`), so that the worker is free. A client that takes nothing for `send_timeout`
//! is reset. Another number of bytes than was announced resets the stream too: nobody may take a piece for the whole.

use std::fs::File;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bandstand_semantics::Version;
use bytes::Bytes;
use http::HeaderMap;

use super::carrier::{Carrier, Code, Gone};
use super::{fields, file};
use crate::assets::Part;
use crate::body::backlog::{Backlog, Together};
use crate::body::encode::Encoder;
use crate::body::pace::Pace;
use crate::connection::stop::Stop;
use crate::connection::timer::Timer;
use crate::connection::write::{self, Framing};
use crate::dispatch::reply::Reply;
use crate::dispatch::{Event, Ticket};
use crate::exchange::{Answer, AnswerBody};
use crate::observe::record::Record;
use crate::shared::{Shared, State};

/// Bytes given to a stream at once: a few frames, so that others have their turn.
const PIECE: usize = 64 * 1024;

/// What the answer has to know of its request.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) version: Version,
    pub(super) head: bool,
    pub(super) request_id: &'a [u8],
    /// The client takes fields after the body.
    pub(super) trailers: bool,
    /// What its connection's answers hold.
    pub(super) together: &'a Together,
}

/// The answer did not leave whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The client is gone, or takes nothing.
    Client,
    /// The app or a file gave less, or more, than was announced.
    Answer,
}

/// Writes one answer.
pub(super) struct Sender<'c> {
    shared: &'c Shared,
    state: &'c State,
    carrier: &'c mut dyn Carrier,
    timer: &'c mut Timer,
    pace: Pace,
    /// Bytes that were announced.
    announced: Option<u64>,
    sent: u64,
    /// Until when the client must take something.
    deadline: Option<Instant>,
    /// What a worker still does for a client that has left.
    pub(super) trail: Option<Weak<Reply>>,
}

struct Streamed {
    ticket: Ticket,
    backlog: Backlog,
    encoder: Option<Box<Encoder>>,
    /// Bytes of the body so far, as they leave.
    given: u64,
    trailers: Option<HeaderMap>,
    takes_trailers: bool,
    is_over: bool,
    stop: Stop,
}

enum Moved {
    /// The client takes so many bytes of what is at hand.
    Room(usize),
    Event(Event),
}

impl<'c> Sender<'c> {
    pub(super) fn new(
        shared: &'c Shared,
        state: &'c State,
        carrier: &'c mut dyn Carrier,
        timer: &'c mut Timer,
    ) -> Self {
        let pace = Pace::default();
        Self { shared, state, carrier, timer, pace, announced: None, sent: 0, deadline: None, trail: None }
    }

    /// Writes head and body; resets the stream where that cannot be done.
    ///
    /// # Errors
    /// Whose fault it is.
    pub(super) async fn send(
        &mut self,
        answer: Answer,
        asked: Asked<'_>,
        record: &mut Record<'_>,
    ) -> Result<(), Broken> {
        record.status = answer.status;
        record.refusal = answer.refusal;
        self.pace = Pace::new(answer.limit_rate);
        let result = self.send_all(answer, asked, record).await;
        record.bytes_out = self.sent;
        match result {
            Ok(()) => {}
            Err(Broken::Answer) => self.carrier.reset(Code::Internal),
            Err(Broken::Client) => self.carrier.reset(Code::Cancelled),
        }
        result
    }

    /// The head of a WebSocket that was accepted: what is a 101 in HTTP/1.1 is a 200 here, and the stream stays open (RFC 8441 §5).
    ///
    /// # Errors
    /// Whose fault it is.
    pub(super) async fn open(
        &mut self,
        mut answer: Answer,
        asked: Asked<'_>,
        record: &mut Record<'_>,
    ) -> Result<(), Broken> {
        record.status = answer.status;
        answer.status = 200;
        let head = fields::head(&self.shared.clock, self.state, &answer, asked, Framing::None);
        self.wait_for_turn().await?;
        self.carrier.send_head(head, false).map_err(|_| Broken::Client)
    }

    async fn send_all(
        &mut self,
        answer: Answer,
        asked: Asked<'_>,
        record: &mut Record<'_>,
    ) -> Result<(), Broken> {
        let asked_of_framing = write::Asked {
            version: asked.version,
            head: asked.head,
            keep: true,
            request_id: asked.request_id,
            trailers: asked.trailers,
        };
        let framing = write::framing(&answer, &asked_of_framing);
        let stop = Stop::new(&answer.fields, framing);
        let ends = matches!(framing, Framing::None | Framing::Length(0));
        self.announced = if let Framing::Length(length) = framing { Some(length) } else { None };
        let head = fields::head(&self.shared.clock, self.state, &answer, asked, framing);
        self.wait_for_turn().await?;
        self.carrier.send_head(head, ends).map_err(|_| Broken::Client)?;
        if ends {
            drop(answer); // and with it the ticket of a worker that still streams: nobody listens
            return self.wait_until_sent().await;
        }
        match answer.body {
            // A length that is not 0 and nothing behind it.
            AnswerBody::Empty | AnswerBody::Upgrade(_) => return Err(Broken::Answer),
            AnswerBody::Memory(bytes) => self.send_bytes(bytes, true).await?,
            AnswerBody::Frame(payload, at) => {
                let mut bytes = Bytes::from(payload);
                self.send_bytes(bytes.split_off(at), true).await?;
            }
            AnswerBody::File { file, offset, length } => self.send_file(&file, offset, length, true).await?,
            AnswerBody::Parts(parts) => self.send_parts(parts).await?,
            AnswerBody::Stream { ticket, first, offset, encoder } => {
                let spool_most = if answer.unbuffered { 0 } else { self.state.settings.spool_max };
                let mut streamed = Streamed {
                    ticket,
                    backlog: Backlog::new(self.state.settings.answer_buffer, spool_most).of(asked.together),
                    encoder,
                    given: 0,
                    trailers: None,
                    takes_trailers: asked.trailers,
                    is_over: false,
                    stop,
                };
                let first = Bytes::from(first).split_off(offset);
                let result = self.send_stream(&mut streamed, first).await;
                record.trace = streamed.ticket.reply().trace();
                if result == Err(Broken::Client) {
                    self.trail = Some(streamed.ticket.trail());
                }
                result?;
            }
        }
        self.wait_until_sent().await
    }

    /// All of `bytes`; `last`: nothing follows.
    async fn send_bytes(&mut self, mut bytes: Bytes, last: bool) -> Result<(), Broken> {
        self.check_announced(bytes.len() as u64, last)?;
        while !bytes.is_empty() {
            let room = self.wait_for_room(bytes.len()).await?;
            let piece = bytes.split_to(room);
            self.give(piece, last && bytes.is_empty())?;
        }
        Ok(())
    }

    async fn send_file(
        &mut self,
        from: &Arc<File>,
        offset: u64,
        length: u64,
        last: bool,
    ) -> Result<(), Broken> {
        self.check_announced(length, last)?;
        let mut done = 0;
        while done < length {
            let left = usize::try_from(length - done).unwrap_or(usize::MAX);
            let room = self.wait_for_room(left).await?;
            let piece = file::read(from, offset + done, room).await.map_err(|_| Broken::Answer)?;
            if piece.is_empty() {
                return Err(Broken::Answer); // the file is shorter than it was
            }
            done += piece.len() as u64;
            self.give(piece, last && done == length)?;
        }
        Ok(())
    }

    async fn send_parts(&mut self, parts: Vec<Part>) -> Result<(), Broken> {
        let mut left = parts.len();
        for part in parts {
            left -= 1;
            match part {
                Part::Memory(bytes) => self.send_bytes(bytes, left == 0).await?,
                Part::File { file, offset, len } => self.send_file(&file, offset, len, left == 0).await?,
            }
        }
        Ok(())
    }

    /// Whether what follows makes as many bytes as were announced. Before it is sent: an end cannot be taken back.
    fn check_announced(&self, more: u64, last: bool) -> Result<(), Broken> {
        let Some(announced) = self.announced else { return Ok(()) };
        let sum = self.sent.saturating_add(more);
        if if last { sum == announced } else { sum <= announced } { Ok(()) } else { Err(Broken::Answer) }
    }

    /// Reads from the worker and writes to the client at the same time.
    async fn send_stream(&mut self, streamed: &mut Streamed, first: Bytes) -> Result<(), Broken> {
        let mut phase = self.shared.phase.subscribe();
        let draining = async move {
            let stopped = phase.wait_for(|phase| *phase == crate::shared::Phase::Draining);
            let _ = stopped.await;
        };
        let mut draining = std::pin::pin!(draining);
        let mut is_draining = false;
        self.take_chunk(streamed, first).await?;
        loop {
            streamed.backlog.refill().await.map_err(|_| Broken::Answer)?;
            if streamed.is_over && streamed.backlog.is_empty() {
                return self.end_stream(streamed).await;
            }
            let moved = std::future::poll_fn(|context| {
                if !is_draining && streamed.stop.is_open {
                    is_draining = draining.as_mut().poll(context).is_ready();
                }
                self.poll_step(streamed, is_draining, context)
            });
            match moved.await? {
                Moved::Room(room) => {
                    let piece = streamed.backlog.take(room);
                    streamed.stop.spoken = Instant::now();
                    let ends = streamed.is_over && streamed.backlog.is_empty() && streamed.trailers.is_none();
                    self.give(piece, ends)?;
                    if ends {
                        return Ok(());
                    }
                }
                Moved::Event(Event::Chunk(bytes)) => {
                    self.take_chunk(streamed, bytes.into()).await?;
                }
                Moved::Event(Event::Trailers(payload)) => {
                    let trailers = fields::trailers(&payload).ok_or(Broken::Answer)?;
                    streamed.trailers =
                        Some(trailers).filter(|fields| streamed.takes_trailers && !fields.is_empty());
                }
                Moved::Event(Event::End { broken: false, .. }) => {
                    streamed.is_over = true;
                    if let Some(encoder) = streamed.encoder.take() {
                        let rest = encoder.finish();
                        self.keep(streamed, rest.into()).await?;
                    }
                    if self.announced.is_some_and(|announced| streamed.given != announced) {
                        return Err(Broken::Answer);
                    }
                }
                // Cut, once what came before has left: nobody may take this for whole.
                Moved::Event(_) => {
                    self.empty(streamed).await?;
                    return Err(Broken::Answer);
                }
            }
        }
    }

    /// What the app said, by way of its encoder into the backlog.
    async fn take_chunk(&mut self, streamed: &mut Streamed, bytes: Bytes) -> Result<(), Broken> {
        let taken = bytes.len();
        let bytes = match &mut streamed.encoder {
            Some(encoder) if !bytes.is_empty() => encoder.push(&bytes).into(),
            _ => bytes,
        };
        self.keep(streamed, bytes).await?;
        streamed.ticket.consumed(taken);
        Ok(())
    }

    async fn keep(&mut self, streamed: &mut Streamed, bytes: Bytes) -> Result<(), Broken> {
        streamed.given += bytes.len() as u64;
        // More than was announced is an app's mistake; nothing past it leaves.
        if self.announced.is_some_and(|announced| streamed.given > announced) {
            return Err(Broken::Answer);
        }
        let directory = &self.state.settings.spool_dir;
        streamed.backlog.push(bytes, directory).await.map_err(|_| Broken::Answer)
    }

    async fn empty(&mut self, streamed: &mut Streamed) -> Result<(), Broken> {
        while !streamed.backlog.is_empty() {
            streamed.backlog.refill().await.map_err(|_| Broken::Answer)?;
            let wanted = streamed.backlog.at_hand();
            if wanted > 0 {
                let room = self.wait_for_room(wanted).await?;
                self.give(streamed.backlog.take(room), false)?;
            }
        }
        Ok(())
    }

    async fn end_stream(&mut self, streamed: &mut Streamed) -> Result<(), Broken> {
        self.wait_for_turn().await?;
        let ended = match streamed.trailers.take() {
            Some(trailers) => self.carrier.send_trailers(trailers),
            None => self.carrier.send_data(Bytes::new(), true),
        };
        ended.map_err(|Gone| Broken::Client)
    }

    /// Whichever comes first: room at the client, or an event of the worker.
    fn poll_step(
        &mut self,
        streamed: &mut Streamed,
        is_draining: bool,
        context: &mut Context<'_>,
    ) -> Poll<Result<Moved, Broken>> {
        let wanted = streamed.backlog.at_hand();
        if wanted > 0 {
            if let Poll::Ready(room) = self.poll_room(wanted, context) {
                return Poll::Ready(room.map(Moved::Room));
            }
        } else if self.carrier.poll_gone(context).is_ready() {
            return Poll::Ready(Err(Broken::Client));
        }
        if streamed.is_over || streamed.backlog.is_full() {
            return Poll::Pending;
        }
        if is_draining
            && let Some(end) = streamed.stop.poll(self.state, self.timer, &streamed.ticket, context)
        {
            return Poll::Ready(Ok(Moved::Event(end)));
        }
        streamed.ticket.reply().poll_next(context).map(|event| Ok(Moved::Event(event)))
    }

    /// Room for some of `wanted` bytes, if the client makes some in time.
    fn poll_room(&mut self, wanted: usize, context: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        let allowed = match self.pace.room(Instant::now()) {
            Ok(allowed) => usize::try_from(allowed).unwrap_or(usize::MAX),
            // It is not the client that lets it wait, but it may leave.
            Err(then) => {
                if self.carrier.poll_gone(context).is_ready() {
                    return Poll::Ready(Err(Broken::Client));
                }
                if self.timer.poll(context, then).is_ready() {
                    context.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        };
        let wanted = wanted.min(allowed).min(PIECE);
        if let Poll::Ready(room) = self.carrier.poll_room(wanted, context) {
            self.deadline = None;
            return Poll::Ready(room.map(|room| room.min(wanted)).map_err(|Gone| Broken::Client));
        }
        self.poll_deadline(context).map(|()| Err(Broken::Client))
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let within = self.state.settings.send_timeout;
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + within);
        self.timer.poll(context, deadline)
    }

    async fn wait_for_room(&mut self, wanted: usize) -> Result<usize, Broken> {
        std::future::poll_fn(|context| self.poll_room(wanted, context)).await
    }

    /// Until what was given before has left the carrier.
    async fn wait_for_turn(&mut self) -> Result<(), Broken> {
        std::future::poll_fn(|context| {
            if let Poll::Ready(room) = self.carrier.poll_room(0, context) {
                self.deadline = None;
                return Poll::Ready(room.map(|_| ()).map_err(|Gone| Broken::Client));
            }
            self.poll_deadline(context).map(|()| Err(Broken::Client))
        })
        .await
    }

    async fn wait_until_sent(&mut self) -> Result<(), Broken> {
        std::future::poll_fn(|context| {
            if let Poll::Ready(sent) = self.carrier.poll_sent(context) {
                return Poll::Ready(sent.map_err(|Gone| Broken::Client));
            }
            self.poll_deadline(context).map(|()| Err(Broken::Client))
        })
        .await
    }

    fn give(&mut self, piece: Bytes, end: bool) -> Result<(), Broken> {
        let length = piece.len() as u64;
        self.carrier.send_data(piece, end).map_err(|Gone| Broken::Client)?;
        self.pace.left(length);
        self.sent += length;
        Ok(())
    }
}
