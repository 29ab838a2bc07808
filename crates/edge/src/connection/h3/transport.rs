//! quinn's connections and streams as the h3 crate wants them.
//!
//! Owns the bridge between the two, with what `h3-quinn` does not give: everything read passes `Frames`, a fault ends its
//! stream (or the connection) with the code it deserves, and what is written to a request's stream is gathered in a `Line`
//! that its carrier shares, so that head and first bytes leave as one, and writing is never a future.
//! Invariant: h3's writes to a request's stream are done at their first poll; the carrier waits for the client.

use std::fmt;
use std::future::Future;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, RecvStream as _, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ReadError, VarInt, WriteError};
use tokio::io::ReadBuf;

use super::MOST_IN_VAIN;
use super::frames::{Fault, Frames, Kind};
use super::line::{Line, SharedLine};

/// Bytes read at once.
const READ_BYTES: usize = 8 * 1024;
/// HEADERS with nothing but `:status: 431` (RFC 9204 §4.5.4: the static table's 24th name), for fields that are too many to
/// be decoded.
const TOO_LARGE: &[u8] = &[0x01, 0x08, 0x00, 0x00, 0x5f, 0x09, 0x03, b'4', b'3', b'1'];

type Coming<T> = Pin<Box<dyn Future<Output = Result<T, quinn::ConnectionError>> + Send + Sync>>;

/// A QUIC connection.
pub(super) struct Quic {
    connection: quinn::Connection,
    request: Option<Coming<(quinn::SendStream, quinn::RecvStream)>>,
    one_way: Option<Coming<quinn::RecvStream>>,
    opening: Option<Coming<quinn::SendStream>>,
    /// Clients' streams that have not said yet what they are.
    untyped: Vec<Receiver>,
    /// QPACK's, encoder and decoder.
    qpack: [Option<Receiver>; 2],
    requests: Arc<AtomicU32>,
    /// The sending side of the request that was accepted last.
    pub(super) accepted: Option<SharedLine>,
    /// Requests that come now are rejected; `None`: they are taken. The h3 crate, which could do it, would announce in the
    /// same breath that the last one it took was not served.
    pub(super) rejected: Option<u64>,
}

impl Quic {
    pub(super) fn new(connection: quinn::Connection) -> Self {
        Self {
            connection,
            request: None,
            one_way: None,
            opening: None,
            untyped: Vec::new(),
            qpack: [const { None }; 2],
            requests: Arc::default(),
            accepted: None,
            rejected: None,
        }
    }

    fn close(&self, code: Code) {
        self.connection.close(number(code), b"");
    }

    /// A client's next stream of its own.
    fn poll_one_way(&mut self, context: &mut Context<'_>) -> Poll<Result<Receiver, ConnectionErrorIncoming>> {
        let connection = &self.connection;
        let coming = self.one_way.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_uni().await })
        });
        let stream = ready!(coming.as_mut().poll(context));
        self.one_way = None;
        let frames = Frames::of_one_way(self.requests.clone());
        let connection = self.connection.clone();
        Poll::Ready(stream.map(|stream| Receiver::new(stream, frames, connection, None)).map_err(lost))
    }

    /// Puts the streams that have said what they are where they belong, but for a control stream, which is given.
    fn poll_control(&mut self, context: &mut Context<'_>) -> Poll<Receiver> {
        let mut at = 0;
        while at < self.untyped.len() {
            let Poll::Ready(kind) = self.untyped[at].poll_kind(context) else {
                at += 1;
                continue;
            };
            let mut stream = self.untyped.swap_remove(at);
            let which = match kind {
                Some(Kind::Control) => return Poll::Ready(stream),
                Some(Kind::QpackEncoder) => 0,
                Some(Kind::QpackDecoder) => 1,
                // Nobody knows it (RFC 9114 §6.2).
                Some(Kind::Unknown) => {
                    let _ = stream.stream.stop(number(Code::H3_STREAM_CREATION_ERROR));
                    continue;
                }
                // It has ended before it said anything, which it may.
                None => continue,
            };
            if self.qpack[which].replace(stream).is_some() {
                self.close(Code::H3_STREAM_CREATION_ERROR);
            }
        }
        Poll::Pending
    }

    /// Reads what QPACK has to say; the streams that it is said on may not end (RFC 9204 §4.2).
    fn poll_qpack(&mut self, context: &mut Context<'_>) {
        for at in 0..self.qpack.len() {
            let Some(stream) = &mut self.qpack[at] else { continue };
            if stream.poll_data(context).is_ready() {
                let is_closed = stream.fault.is_some(); // with a code of its own
                self.qpack[at] = None;
                if !is_closed {
                    self.close(Code::H3_CLOSED_CRITICAL_STREAM);
                }
            }
        }
    }

    /// One that is not taken; too many of them are a flood.
    fn reject(&mut self, (mut send, mut receive): (quinn::SendStream, quinn::RecvStream), rejected: u64) {
        let code = number(Code::H3_REQUEST_REJECTED);
        let _ = (send.reset(code), receive.stop(code));
        self.rejected = Some(rejected + 1);
        if rejected == MOST_IN_VAIN {
            self.close(Code::H3_EXCESSIVE_LOAD);
        }
    }
}

impl<B: Buf> quic::Connection<B> for Quic {
    type RecvStream = Receiver;
    type OpenStreams = Self;

    fn poll_accept_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Receiver, ConnectionErrorIncoming>> {
        while let Poll::Ready(stream) = self.poll_one_way(context) {
            self.untyped.push(stream?);
        }
        if let Poll::Ready(control) = self.poll_control(context) {
            return Poll::Ready(Ok(control));
        }
        self.poll_qpack(context);
        Poll::Pending
    }

    fn poll_accept_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Request, ConnectionErrorIncoming>> {
        let (send, receive) = loop {
            let connection = &self.connection;
            let coming = self.request.get_or_insert_with(|| {
                let connection = connection.clone();
                Box::pin(async move { connection.accept_bi().await })
            });
            let streams = ready!(coming.as_mut().poll(context));
            self.request = None;
            let streams = streams.map_err(lost)?;
            match self.rejected {
                None => break streams,
                Some(rejected) => self.reject(streams, rejected),
            }
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        let line = SharedLine::new(send);
        self.accepted = Some(line.clone());
        let receiver =
            Receiver::new(receive, Frames::of_request(), self.connection.clone(), Some(line.clone()));
        Poll::Ready(Ok(Request { line, receiver }))
    }

    fn opener(&self) -> Self {
        Self::new(self.connection.clone())
    }
}

impl<B: Buf> quic::OpenStreams<B> for Quic {
    type BidiStream = Request;
    type SendStream = OneWay;

    /// A server asks nothing.
    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Request, StreamErrorIncoming>> {
        let error = ConnectionErrorIncoming::InternalError("a server opens no request".to_owned());
        Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error: error }))
    }

    fn poll_open_send(&mut self, context: &mut Context<'_>) -> Poll<Result<OneWay, StreamErrorIncoming>> {
        let connection = &self.connection;
        let opening = self.opening.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.open_uni().await })
        });
        let stream = ready!(opening.as_mut().poll(context));
        self.opening = None;
        Poll::Ready(match stream {
            Ok(stream) => Ok(OneWay(Line::new(stream))),
            Err(error) => Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }),
        })
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(number(code), reason);
    }
}

/// A request's stream.
pub(super) struct Request {
    line: SharedLine,
    receiver: Receiver,
}

impl<B: Buf> quic::SendStream<B> for Request {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.line.lock().put(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.line.lock().end();
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, code: u64) {
        self.line.lock().reset(Code::from(code));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.line.lock().stream.id())
    }
}

impl quic::RecvStream for Request {
    type Buf = Bytes;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receiver.poll_data(context)
    }

    fn stop_sending(&mut self, code: u64) {
        self.receiver.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receiver.recv_id()
    }
}

/// A stream of ours in one direction: control, QPACK.
pub(super) struct OneWay(Line);

impl<B: Buf> quic::SendStream<B> for OneWay {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.0.poll_flush(context).map_err(not_written)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.0.put(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.0.end();
        self.0.poll_flush(context).map_err(not_written)
    }

    fn reset(&mut self, code: u64) {
        self.0.reset(Code::from(code));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.0.stream.id())
    }
}

/// The receiving side of a stream.
pub(super) struct Receiver {
    stream: quinn::RecvStream,
    frames: Frames,
    connection: quinn::Connection,
    /// The other side of a request.
    line: Option<SharedLine>,
    /// What was read with the type.
    first: Option<Bytes>,
    fault: Option<Fault>,
}

impl Receiver {
    fn new(
        stream: quinn::RecvStream,
        frames: Frames,
        connection: quinn::Connection,
        line: Option<SharedLine>,
    ) -> Self {
        Self { stream, frames, connection, line, first: None, fault: None }
    }

    /// What the stream is, of one direction. `None`: it ended before it said so.
    fn poll_kind(&mut self, context: &mut Context<'_>) -> Poll<Option<Kind>> {
        let read = self.poll_data(context);
        match (self.frames.kind(), read) {
            (None, Poll::Pending) => Poll::Pending,
            (kind, Poll::Ready(Ok(first))) => {
                self.first = first;
                Poll::Ready(kind)
            }
            (kind, _) => Poll::Ready(kind),
        }
    }

    /// Ends what the fault is of.
    fn fail(&mut self, fault: Fault) -> StreamErrorIncoming {
        self.fault = Some(fault);
        if let Some(line) = &self.line {
            line.lock().fault = Some(fault);
        }
        match fault {
            Fault::Connection(code) => self.connection.close(number(code), b""),
            Fault::Message => self.end(Code::H3_MESSAGE_ERROR),
            Fault::TrailersTooLarge => self.end(Code::H3_EXCESSIVE_LOAD),
            Fault::TooLarge => {
                let _ = self.stream.stop(number(Code::H3_EXCESSIVE_LOAD));
                if let Some(line) = &self.line {
                    line.lock().put(TOO_LARGE);
                }
            }
        }
        StreamErrorIncoming::Unknown(Box::new(fault))
    }

    /// Both ways.
    fn end(&mut self, code: Code) {
        let _ = self.stream.stop(number(code));
        if let Some(line) = &self.line {
            line.lock().reset(code);
        }
    }
}

impl quic::RecvStream for Receiver {
    type Buf = Bytes;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        if let Some(fault) = self.fault {
            return Poll::Ready(Err(StreamErrorIncoming::Unknown(Box::new(fault))));
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        loop {
            let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut read = ReadBuf::uninit(&mut bytes);
            if let Err(error) = ready!(self.stream.poll_read_buf(context, &mut read)) {
                return Poll::Ready(Err(not_read(error)));
            }
            if read.filled().is_empty() {
                let ended = self.frames.end().map_err(|fault| self.fail(fault));
                return Poll::Ready(ended.map(|()| None));
            }
            let mut passed = BytesMut::with_capacity(read.filled().len());
            if let Err(fault) = self.frames.pass(read.filled(), &mut passed) {
                return Poll::Ready(Err(self.fail(fault)));
            }
            if !passed.is_empty() {
                return Poll::Ready(Ok(Some(passed.freeze())));
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        let _ = self.stream.stop(number(Code::from(code)));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for Receiver {
    /// A body that nobody wants to its end is no error (RFC 9114 §4.1.1).
    fn drop(&mut self) {
        let _ = self.stream.stop(number(Code::H3_NO_ERROR));
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(code) => write!(f, "{code}"),
            Self::Message => f.write_str("the request is malformed"),
            Self::TooLarge | Self::TrailersTooLarge => f.write_str("the field section is too large"),
        }
    }
}

impl std::error::Error for Fault {}

/// Codes of HTTP/3 are small; what a client has sent fits as well.
pub(super) fn number(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX)
}

fn stream_id(id: quinn::StreamId) -> StreamId {
    let id: u64 = VarInt::from(id).into_inner();
    StreamId::try_from(id).expect("both are numbers of 62 bits")
}

fn lost(error: quinn::ConnectionError) -> ConnectionErrorIncoming {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        quinn::ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn not_read(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        ReadError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
        }
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

fn not_written(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        WriteError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
        }
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}
