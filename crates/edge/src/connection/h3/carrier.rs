//! One request's stream of HTTP/3, as `multiplexed` wants it.
//!
//! Owns the end of a stream: with the answer, with the code that says why not, or with the client's leaving. What is sent goes
//! to the `Line`; DATA frames are written here, heads and trailers by the h3 crate. Codes are those of RFC 9114 §8.1.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use h3::error::{Code as H3Code, StreamError};
use h3::server::RequestStream;
use http::{HeaderMap, Response};

use super::line::SharedLine;
use super::transport::Request;
use crate::connection::multiplexed::{self, Code, Gone};

/// Bytes that a client is given at once; quinn's window bounds what it has not acknowledged.
const ROOM_BYTES: usize = 64 * 1024;

/// One request's stream.
pub(super) struct Carrier {
    stream: RequestStream<Request, Bytes>,
    line: SharedLine,
    /// What was read of the body to see whether there is one.
    first: Option<Bytes>,
    incoming: Body,
    stopped: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Coming,
    /// Its trailers may come.
    Ending,
    Over,
}

impl Carrier {
    /// A stream whose head has been read, and whether it ended with that.
    pub(super) fn new(stream: RequestStream<Request, Bytes>, line: SharedLine) -> (Self, bool) {
        let mut carrier = Self { stream, line, first: None, incoming: Body::Coming, stopped: None };
        // Whoever wants the body polls again.
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(Some(Ok(bytes))) = carrier.poll_body(&mut context) {
            carrier.first = Some(bytes);
        }
        let is_over = carrier.incoming == Body::Over && carrier.first.is_none();
        (carrier, is_over)
    }

    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        if self.incoming == Body::Coming {
            match ready!(self.stream.poll_recv_data(context)) {
                Ok(Some(mut bytes)) => return Poll::Ready(Some(Ok(bytes.copy_to_bytes(bytes.remaining())))),
                Ok(None) => self.incoming = Body::Ending,
                Err(error) => return Poll::Ready(Some(Err(self.fail(&error)))),
            }
        }
        if self.incoming == Body::Ending {
            if let Err(error) = ready!(self.stream.poll_recv_trailers(context)) {
                return Poll::Ready(Some(Err(self.fail(&error))));
            }
            self.incoming = Body::Over;
        }
        Poll::Ready(None)
    }

    /// The body is no good, and neither is the request.
    fn fail(&mut self, error: &StreamError) -> Gone {
        self.incoming = Body::Over;
        match error {
            StreamError::StreamError { code, .. } => self.end_with(*code),
            StreamError::HeaderTooBig { .. } => self.end_with(H3Code::H3_EXCESSIVE_LOAD),
            // `transport` has reset it, or the client has.
            _ => {}
        }
        Gone
    }

    fn end_with(&mut self, code: H3Code) {
        self.line.lock().reset(code);
        self.stream.stop_sending(code);
    }

    /// Tells quinn what it takes at once. What it does not take leaves when somebody waits for room.
    fn start(&mut self) -> Result<(), Gone> {
        let mut context = Context::from_waker(Waker::noop());
        match self.line.lock().poll_flush(&mut context) {
            Poll::Ready(Err(_)) => Err(Gone),
            _ => Ok(()),
        }
    }

    fn give(&mut self, head: Response<()>) -> Result<(), Gone> {
        // `transport` takes it at once, so the first poll is the last.
        let mut context = Context::from_waker(Waker::noop());
        match pin!(self.stream.send_response(head)).poll(&mut context) {
            Poll::Ready(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}

impl multiplexed::Carrier for Carrier {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        match self.first.take() {
            Some(bytes) => Poll::Ready(Some(Ok(bytes))),
            None => self.poll_body(context),
        }
    }

    /// quinn opens the window as bytes are read, and none are before they are asked for.
    fn release(&mut self, _: usize) {}

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut line = self.line.lock();
        // The head of an answer whose body is long in coming.
        if let Poll::Ready(Err(_)) = line.poll_flush(context) {
            return Poll::Ready(());
        }
        let stopped = self.stopped.get_or_insert_with(|| {
            let stopped = line.stream.stopped();
            Box::pin(async move {
                let _ = stopped.await;
            })
        });
        drop(line);
        stopped.as_mut().poll(context)
    }

    fn send_interim(&mut self, head: Response<()>) -> Result<(), Gone> {
        self.give(head)?;
        self.start()
    }

    fn send_head(&mut self, head: Response<()>, end: bool) -> Result<(), Gone> {
        self.give(head)?;
        if end {
            self.line.lock().end();
        }
        Ok(())
    }

    fn poll_room(&mut self, wanted: usize, context: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        let mut line = self.line.lock();
        // A head waits for what follows it: they leave as one.
        if line.is_full() {
            ready!(line.poll_flush(context)).map_err(|_| Gone)?;
        }
        Poll::Ready(Ok(wanted.min(ROOM_BYTES)))
    }

    fn send_data(&mut self, bytes: Bytes, end: bool) -> Result<(), Gone> {
        let mut line = self.line.lock();
        if !bytes.is_empty() {
            line.put_data(bytes);
        }
        if end {
            line.end();
        }
        drop(line);
        self.start()
    }

    fn send_trailers(&mut self, fields: HeaderMap) -> Result<(), Gone> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(self.stream.send_trailers(fields)).poll(&mut context) {
            Poll::Ready(Ok(())) => {}
            _ => return Err(Gone),
        }
        self.line.lock().end();
        self.start()
    }

    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.line.lock().poll_flush(context).map_err(|_| Gone)
    }

    fn reset(&mut self, code: Code) {
        self.end_with(match code {
            Code::Malformed => H3Code::H3_MESSAGE_ERROR,
            Code::Internal => H3Code::H3_INTERNAL_ERROR,
            Code::Cancelled => H3Code::H3_REQUEST_CANCELLED,
            Code::Refused => H3Code::H3_REQUEST_REJECTED,
        });
    }
}

impl Drop for Carrier {
    /// quinn would finish the stream: half an answer would pass for a whole one.
    fn drop(&mut self) {
        let is_over = self.line.lock().is_over();
        if !is_over {
            let code = if std::thread::panicking() {
                H3Code::H3_INTERNAL_ERROR
            } else {
                H3Code::H3_REQUEST_CANCELLED
            };
            self.end_with(code);
        }
    }
}
