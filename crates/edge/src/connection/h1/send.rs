//! The body of an answer, from wherever it is to the client.
//!
//! Owns the pace: a worker's stream is read while the client takes it; what a slow client does not take is kept in memory
//! up to `answer_buffer` and then in an unlinked file up to `spool_max`, so that the worker is free. Past both, the worker
//! waits for credit. Fewer bytes than announced cut the connection.

use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bandstand_config::Settings;

use super::super::timer::Timer;
use super::super::write::{self, Asked, Framing};
use super::watch::Vigil;
use super::{Broken, Connection, Kept};
use crate::assets::Part;
use crate::body::encode::Encoder;
use crate::body::pace::Pace;
use crate::body::spool::Spool;
use crate::dispatch::{Event, Ticket};
use crate::exchange::{Answer, AnswerBody};
use crate::observe::record::Record;

/// A body up to this size leaves in the same buffer as its head: one copy is cheaper than a second slice.
const JOIN_BYTES: usize = 16 * 1024;

impl Connection {
    /// Writes head and body.
    pub(super) async fn send_answer(
        &mut self,
        answer: Answer,
        asked: Asked<'_>,
        record: &mut Record<'_>,
    ) -> Result<Kept, Broken> {
        let framing = write::framing(&answer, &asked);
        let mut keep = asked.keeps(framing);
        let mut vigil = Vigil::new(&answer, framing);
        record.status = answer.status;
        record.refusal = answer.refusal;
        let mut head = Vec::new();
        write::head(
            &self.shared.clock,
            self.state.settings.server_header,
            &answer,
            &asked,
            framing,
            keep,
            &mut head,
        );
        let mut pace = Pace::new(answer.limit_rate);
        let body = if framing == Framing::None { end_unsent(answer.body).await } else { answer.body };
        let sent = match body {
            AnswerBody::Empty | AnswerBody::Upgrade(_) => self.write_all(&[&head]).await.map(|()| 0),
            AnswerBody::Memory(bytes) => self.send_bytes(head, &bytes, &mut pace).await,
            AnswerBody::Frame(payload, at) => self.send_bytes(head, &payload[at..], &mut pace).await,
            AnswerBody::File { file, offset, length } => {
                self.write_all(&[&head]).await?;
                self.send_file(&file, offset, length, &mut pace).await
            }
            AnswerBody::Parts(parts) => {
                self.write_all(&[&head]).await?;
                self.send_parts(parts, &mut pace).await
            }
            AnswerBody::Stream { ticket, first, offset, encoder } => {
                let mut outgoing = Outgoing::new(head, framing, asked.trailers, &self.state.settings);
                (outgoing.encoder, outgoing.pace) = (encoder, pace);
                outgoing.spool_most = if answer.unbuffered { 0 } else { self.state.settings.spool_max };
                let result = self.send_stream(&mut outgoing, &ticket, &first[offset..], &mut vigil).await;
                if result.is_err() {
                    record.bytes_out = outgoing.left;
                }
                record.trace = ticket.reply().trace();
                keep &= !vigil.stop.is_over;
                result
            }
        };
        if sent == Err(Broken::Answer) && framing == Framing::Close {
            self.stream.reset_on_close();
        }
        record.bytes_out += *sent.as_ref().unwrap_or(&0);
        // Another number of bytes than was announced: what comes next would be taken for the rest of this answer.
        if let Framing::Length(length) = framing
            && sent? != length
        {
            return Err(Broken::Answer);
        }
        sent?;
        Ok(if keep { Kept::Open } else { Kept::Close })
    }

    async fn send_bytes(&mut self, mut head: Vec<u8>, body: &[u8], pace: &mut Pace) -> Result<u64, Broken> {
        if pace.is_limited() {
            self.write_all(&[&head]).await?;
            return self.send_paced(body, pace).await;
        }
        if body.len() <= JOIN_BYTES {
            head.extend_from_slice(body);
            self.write_all(&[&head]).await?;
        } else {
            self.write_all(&[&head, body]).await?;
        }
        Ok(body.len() as u64)
    }

    /// As [`Self::send_bytes`], where the body may not leave at once.
    async fn send_paced(&mut self, body: &[u8], pace: &mut Pace) -> Result<u64, Broken> {
        let mut rest = body;
        while !rest.is_empty() {
            let room = usize::try_from(wait_for_room(pace).await).unwrap_or(usize::MAX);
            let (piece, after) = rest.split_at(room.min(rest.len()));
            self.write_all(&[piece]).await?;
            pace.left(piece.len() as u64);
            rest = after;
        }
        Ok(body.len() as u64)
    }

    async fn send_file(
        &mut self,
        file: &Arc<File>,
        offset: u64,
        length: u64,
        pace: &mut Pace,
    ) -> Result<u64, Broken> {
        let mut sent = 0;
        while sent < length {
            let limit = self.state.settings.send_timeout;
            let room = wait_for_room(pace).await;
            let send = self.stream.send_file(file, offset + sent, (length - sent).min(room));
            match tokio::time::timeout(limit, send).await {
                Ok(Ok(0)) => return Err(Broken::Answer), // the file is shorter than it was
                Ok(Ok(n)) => {
                    pace.left(n);
                    sent += n;
                }
                Ok(Err(_)) | Err(_) => return Err(Broken::Client),
            }
        }
        Ok(sent)
    }

    async fn send_parts(&mut self, parts: Vec<Part>, pace: &mut Pace) -> Result<u64, Broken> {
        let mut sent = 0;
        for part in parts {
            sent += match part {
                Part::Memory(bytes) => self.send_paced(&bytes, pace).await?,
                Part::File { file, offset, len } => self.send_file(&file, offset, len, pace).await?,
            };
        }
        Ok(sent)
    }

    /// Reads from the worker and writes to the client at the same time.
    async fn send_stream(
        &mut self,
        outgoing: &mut Outgoing,
        ticket: &Ticket,
        first: &[u8],
        vigil: &mut Vigil,
    ) -> Result<u64, Broken> {
        let mut spool: Option<Spool> = None;
        let spool_most = outgoing.spool_most;
        outgoing.push(first)?;
        ticket.consumed(first.len());
        let mut ended = false;
        loop {
            // What has left the memory makes room for what was spooled; order is kept because nothing else is added
            // to memory while the spool holds something.
            if outgoing.is_empty()
                && let Some(from) = spool.as_mut()
            {
                match from.read().await {
                    Ok(Some(bytes)) => outgoing.push_framed(bytes),
                    Ok(None) => spool = None,
                    Err(_) => return Err(Broken::Answer),
                }
                continue;
            }
            if outgoing.is_empty() && ended {
                break;
            }
            let full =
                spool.as_ref().map_or(outgoing.held >= outgoing.most_in_memory && spool_most == 0, |spool| {
                    spool.file_bytes() >= spool_most
                });
            match self.step(outgoing, (!ended && !full).then_some(ticket), vigil).await? {
                Moved::Written => {}
                Moved::Event(Event::Chunk(bytes)) => {
                    if spool.is_none() && outgoing.held < outgoing.most_in_memory {
                        outgoing.push(&bytes)?;
                    } else {
                        let framed = outgoing.framed(&bytes)?;
                        let into = match spool.take() {
                            Some(spool) => spool,
                            None => Spool::create(&self.state.settings.spool_dir)
                                .await
                                .map_err(|_| Broken::Answer)?,
                        };
                        spool = Some(into.append(framed).await.map_err(|_| Broken::Answer)?);
                    }
                    ticket.consumed(bytes.len());
                }
                Moved::Event(Event::Trailers(payload)) => outgoing.keep_trailers(&payload)?,
                Moved::Event(Event::End { broken: false, .. }) => {
                    ended = true;
                    let end = outgoing.end()?;
                    match spool.take() {
                        Some(into) => spool = Some(into.append(end).await.map_err(|_| Broken::Answer)?),
                        None => outgoing.push_framed(end),
                    }
                }
                // Cut, once what came before has left: nobody may take this for whole.
                Moved::Event(_) => {
                    while !outgoing.is_empty() {
                        self.step(outgoing, None, vigil).await?;
                    }
                    return Err(Broken::Answer);
                }
            }
        }
        Ok(outgoing.body_bytes)
    }

    /// Waits for whichever comes first: room at the client, or an event of the worker.
    async fn step(
        &mut self,
        outgoing: &mut Outgoing,
        ticket: Option<&Ticket>,
        vigil: &mut Vigil,
    ) -> Result<Moved, Broken> {
        let limit = self.state.settings.send_timeout;
        let Self { stream, timer, place, shared, state, .. } = self;
        std::future::poll_fn(|context| {
            let room = outgoing.poll_room(timer, context);
            if let Some(front) = outgoing.memory.front() {
                let piece = &front[outgoing.at..];
                let write = match room {
                    Poll::Ready(room) => {
                        stream.poll_write(context, &[IoSlice::new(&piece[..room.min(piece.len())])])
                    }
                    Poll::Pending => Poll::Pending,
                };
                match write {
                    Poll::Ready(Ok(n @ 1..)) => {
                        outgoing.advance(n);
                        vigil.spoke();
                        return Poll::Ready(Ok(Moved::Written));
                    }
                    Poll::Ready(_) => return Poll::Ready(Err(Broken::Client)),
                    // It is not the client that lets it wait.
                    Poll::Pending if room.is_pending() => {}
                    Poll::Pending => {
                        let deadline = *outgoing.deadline.get_or_insert_with(|| Instant::now() + limit);
                        if timer.poll(context, deadline).is_ready() {
                            return Poll::Ready(Err(Broken::Client));
                        }
                    }
                }
            } else if vigil.is_alone(stream, timer, ticket, context) {
                return Poll::Ready(Err(Broken::Client));
            }
            let Some(ticket) = ticket else { return Poll::Pending };
            if let Some(end) = vigil.poll_stop((shared, state), place, timer, ticket, context) {
                return Poll::Ready(Ok(Moved::Event(end)));
            }
            ticket.reply().poll_next(context).map(|event| Ok(Moved::Event(event)))
        })
        .await
    }
}

enum Moved {
    Written,
    Event(Event),
}

/// What is on its way to the client, framed.
struct Outgoing {
    memory: VecDeque<Vec<u8>>,
    /// Bytes of the front piece that have left.
    at: usize,
    /// Bytes in `memory`.
    held: usize,
    framing: Framing,
    takes_trailers: bool,
    /// Lines for after the body.
    trailers: Vec<u8>,
    /// Bytes of the body so far, framing not counted.
    body_bytes: u64,
    /// Bytes of the head that have not left.
    head: usize,
    /// Bytes after the head that have left, framing counted: what a client got of an answer that was cut.
    left: u64,
    most_in_memory: usize,
    /// Most bytes in the spool.
    spool_most: u64,
    /// Until when the client must take something; what the worker sends meanwhile gives it no more time.
    deadline: Option<Instant>,
    /// What the body is compressed with, before it is framed.
    encoder: Option<Box<Encoder>>,
    pace: Pace,
}

impl Outgoing {
    fn new(head: Vec<u8>, framing: Framing, takes_trailers: bool, settings: &Settings) -> Self {
        Self {
            head: head.len(),
            memory: VecDeque::from([head]),
            at: 0,
            held: 0,
            framing,
            takes_trailers,
            trailers: Vec::new(),
            body_bytes: 0,
            left: 0,
            most_in_memory: usize::try_from(settings.answer_buffer).unwrap_or(usize::MAX),
            spool_most: settings.spool_max,
            deadline: None,
            encoder: None,
            pace: Pace::default(),
        }
    }

    /// Adds what the app gave to what is in memory.
    fn push(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let encoded;
        let bytes = match &mut self.encoder {
            Some(encoder) => {
                encoded = encoder.push(bytes);
                &encoded
            }
            None => bytes,
        };
        // A short first piece leaves together with the head.
        let mut piece = if self.memory.len() == 1 && self.at == 0 && bytes.len() <= JOIN_BYTES {
            self.memory.pop_back().unwrap_or_default()
        } else {
            Vec::with_capacity(bytes.len() + 16)
        };
        self.held = self.held.saturating_sub(piece.len());
        self.frame(bytes, &mut piece)?;
        self.push_framed(piece);
        Ok(())
    }

    /// What the app gave, as it leaves.
    fn framed(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut framed = Vec::with_capacity(bytes.len() + 16);
        match &mut self.encoder {
            Some(encoder) => {
                let encoded = encoder.push(bytes);
                self.frame(&encoded, &mut framed)?;
            }
            None => self.frame(bytes, &mut framed)?,
        }
        Ok(framed)
    }

    fn push_framed(&mut self, piece: Vec<u8>) {
        if !piece.is_empty() {
            self.held += piece.len();
            self.memory.push_back(piece);
        }
    }

    /// Appends `bytes` as this answer's framing wants them. More than was announced is an app's mistake that would be
    /// read as the next answer.
    fn frame(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        self.body_bytes += bytes.len() as u64;
        match self.framing {
            Framing::Length(length) if self.body_bytes > length => return Err(Broken::Answer),
            Framing::Chunked if bytes.is_empty() => {}
            Framing::Chunked => {
                write::chunk_head(bytes.len(), out);
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            _ => out.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// Trailers leave with the last chunk. Where the client does not take them, or there are no chunks, they are dropped:
    /// they are never more than an addition (RFC 9110 §6.5.1).
    fn keep_trailers(&mut self, payload: &[u8]) -> Result<(), Broken> {
        if self.takes_trailers && self.framing == Framing::Chunked {
            self.trailers = write::trailers(payload).ok_or(Broken::Answer)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Vec<u8>, Broken> {
        let mut end = Vec::new();
        if let Some(encoder) = self.encoder.take() {
            self.frame(&encoder.finish(), &mut end)?;
        }
        match self.framing {
            Framing::Chunked => end.extend(write::last_chunk(&self.trailers)),
            Framing::Length(length) if self.body_bytes < length => return Err(Broken::Answer),
            _ => {}
        }
        Ok(end)
    }

    /// How many bytes may leave now. The head is not counted, and what frames the body is.
    fn poll_room(&mut self, timer: &mut Timer, context: &mut Context<'_>) -> Poll<usize> {
        if self.head > 0 || self.memory.is_empty() {
            return Poll::Ready(usize::MAX);
        }
        loop {
            match self.pace.room(Instant::now()) {
                Ok(room) => return Poll::Ready(usize::try_from(room).unwrap_or(usize::MAX)),
                Err(then) => std::task::ready!(timer.poll(context, then)),
            }
        }
    }

    fn advance(&mut self, n: usize) {
        self.at += n;
        let of_head = n.min(self.head);
        self.head -= of_head;
        self.left += (n - of_head) as u64;
        self.pace.left((n - of_head) as u64);
        self.deadline = None;
        self.held = self.held.saturating_sub(n);
        if self.memory.front().is_some_and(|front| self.at >= front.len()) {
            self.memory.pop_front();
            self.at = 0;
        }
    }

    fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }
}

/// Waits until some of the body may leave; gives how much.
async fn wait_for_room(pace: &mut Pace) -> u64 {
    loop {
        match pace.room(Instant::now()) {
            Ok(room) => return room,
            Err(then) => tokio::time::sleep_until(then.into()).await,
        }
    }
}

/// HEAD and bodiless answers: a worker that still streams is told that nobody listens.
async fn end_unsent(body: AnswerBody) -> AnswerBody {
    if let AnswerBody::Stream { ticket, .. } = body {
        drop(ticket);
    }
    AnswerBody::Empty
}
