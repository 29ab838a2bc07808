//! quinn's connections and streams as the h3 crate wants them.
//!
//! Owns the bridge between the two, with what `h3-quinn` does not give: everything read passes `Frames`, a fault ends its
//! stream (or the connection) with the code it deserves, and what is written to a request's stream is gathered in a `Line`
//! that its carrier shares, so that head and first bytes leave as one, and writing is never a future.
//! Invariant: h3's writes to a request's stream are done at their first poll; the carrier waits for the client.

use std::fmt;
use std::future::Future;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ReadError, VarInt, WriteError};
use tokio::io::ReadBuf;

use super::frames::{Fault, Frames, put_header};

/// Bytes read at once.
const READ_BYTES: usize = 8 * 1024;
/// Bytes up to this are copied beside what goes before them: one piece is cheaper than two.
const SMALL_BYTES: usize = 4 * 1024;
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
    requests: Arc<AtomicU32>,
    /// The sending side of the request that was accepted last.
    pub(super) accepted: Option<SharedLine>,
}

impl Quic {
    pub(super) fn new(connection: quinn::Connection) -> Self {
        let requests = Arc::new(AtomicU32::new(0));
        Self { connection, request: None, one_way: None, opening: None, requests, accepted: None }
    }
}

impl<B: Buf> quic::Connection<B> for Quic {
    type RecvStream = Receiver;
    type OpenStreams = Self;

    fn poll_accept_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Receiver, ConnectionErrorIncoming>> {
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

    fn poll_accept_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Request, ConnectionErrorIncoming>> {
        let connection = &self.connection;
        let coming = self.request.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_bi().await })
        });
        let streams = ready!(coming.as_mut().poll(context));
        self.request = None;
        let (send, receive) = streams.map_err(lost)?;
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

/// What is written to one stream.
pub(super) struct Line {
    pub(super) stream: quinn::SendStream,
    /// Heads, and what is small.
    staged: BytesMut,
    /// What is next, in this order, before `staged`. Empty ones are done.
    leaving: [Bytes; 2],
    end: End,
    /// Bytes of the body so far.
    given: u64,
    /// What was wrong with the request.
    fault: Option<Fault>,
}

/// How far a line is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may be given.
    Open,
    /// Nothing more will be.
    Wanted,
    /// quinn has all of it.
    Finished,
    Reset,
}

impl Line {
    fn new(stream: quinn::SendStream) -> Self {
        Self {
            stream,
            staged: BytesMut::new(),
            leaving: [const { Bytes::new() }; 2],
            end: End::Open,
            given: 0,
            fault: None,
        }
    }

    /// A DATA frame around `bytes`. What was given before, if it was much, has left (`poll_flush`).
    pub(super) fn put_data(&mut self, bytes: Bytes) {
        self.given += bytes.len() as u64;
        put_header(0, bytes.len() as u64, &mut self.staged);
        if bytes.len() <= SMALL_BYTES {
            self.staged.extend_from_slice(&bytes);
        } else {
            self.leaving = [self.staged.split().freeze(), bytes];
        }
    }

    fn put(&mut self, mut bytes: impl Buf) {
        self.staged.reserve(bytes.remaining());
        self.staged.put(&mut bytes);
    }

    /// Whether something waits that is too much to have more beside it.
    pub(super) fn is_full(&self) -> bool {
        !self.leaving[1].is_empty() || self.staged.len() > SMALL_BYTES
    }

    /// No more will be given.
    pub(super) fn end(&mut self) {
        if self.end == End::Open {
            self.end = End::Wanted;
        }
    }

    /// quinn has all of it.
    pub(super) fn is_finished(&self) -> bool {
        self.end == End::Finished
    }

    /// Nothing more happens here.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.end, End::Finished | End::Reset)
    }

    /// Bytes of the body so far.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// What was wrong with the request.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Ready once quinn has all of it, and knows of the end if there is one.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        if self.end == End::Reset {
            return Poll::Ready(Err(WriteError::ClosedStream));
        }
        loop {
            if self.leaving.iter().all(Bytes::is_empty) {
                if self.staged.is_empty() {
                    break;
                }
                self.leaving[0] = self.staged.split().freeze();
            }
            // Cancel safe: what was not written is still there.
            ready!(pin!(self.stream.write_chunks(&mut self.leaving)).poll(context))?;
        }
        if self.end == End::Wanted {
            self.end = End::Finished;
            self.stream.finish().map_err(|_| WriteError::ClosedStream)?;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn reset(&mut self, code: Code) {
        if !self.is_over() {
            self.end = End::Reset;
            // Stopped already is as good.
            let _ = self.stream.reset(number(code));
        }
    }
}

/// The sending side of a request, which h3 and the carrier both write to, one after the other.
#[derive(Clone)]
pub(super) struct SharedLine(Arc<Mutex<Line>>);

impl SharedLine {
    fn new(stream: quinn::SendStream) -> Self {
        Self(Arc::new(Mutex::new(Line::new(stream))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    fault: Option<Fault>,
}

impl Receiver {
    fn new(
        stream: quinn::RecvStream,
        frames: Frames,
        connection: quinn::Connection,
        line: Option<SharedLine>,
    ) -> Self {
        Self { stream, frames, connection, line, fault: None }
    }

    /// Ends what the fault is of.
    fn fail(&mut self, fault: Fault) -> StreamErrorIncoming {
        self.fault = Some(fault);
        if let Some(line) = &self.line {
            line.lock().fault = Some(fault);
        }
        match fault {
            Fault::Connection(code) => self.connection.close(number(code), b""),
            Fault::Message => {
                let _ = self.stream.stop(number(Code::H3_MESSAGE_ERROR));
                if let Some(line) = &self.line {
                    line.lock().reset(Code::H3_MESSAGE_ERROR);
                }
            }
            Fault::TooLarge => {
                let _ = self.stream.stop(number(Code::H3_EXCESSIVE_LOAD));
                if let Some(line) = &self.line {
                    line.lock().put(TOO_LARGE);
                }
            }
        }
        StreamErrorIncoming::Unknown(Box::new(fault))
    }
}

impl quic::RecvStream for Receiver {
    type Buf = Bytes;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        if let Some(fault) = self.fault {
            return Poll::Ready(Err(StreamErrorIncoming::Unknown(Box::new(fault))));
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
            Self::TooLarge => f.write_str("the field section is too large"),
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
