//! One stream of HTTP/2, as `multiplexed` sees it.
//!
//! Owns the translation to the h2 crate: windows, codes of errors (RFC 9113 §7). What fits into the client's window is the crate's,
//! and the connection sends it; a stream has its turn when the wire has room (`wire`).

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};

use super::wire::{Wire, lock};
use crate::connection::multiplexed::{Carrier, Code, Gone};

/// One request's stream.
pub(super) struct Stream {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    wire: Arc<Mutex<Wire>>,
    /// Once the head of the answer was sent.
    answer: Option<SendStream<Bytes>>,
}

impl Stream {
    pub(super) fn new(body: RecvStream, respond: SendResponse<Bytes>, wire: Arc<Mutex<Wire>>) -> Self {
        Self { body, respond, wire, answer: None }
    }
}

impl Carrier for Stream {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        self.body.poll_data(context).map_err(|_| Gone)
    }

    fn release(&mut self, bytes: usize) {
        // It fails only where more is given back than was taken, and then there is nothing to give back.
        let _ = self.body.flow_control().release_capacity(bytes);
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.answer {
            Some(answer) => answer.poll_reset(context).map(|_| ()),
            None => self.respond.poll_reset(context).map(|_| ()),
        }
    }

    fn send_interim(&mut self, head: Response<()>) -> Result<(), Gone> {
        self.respond.send_informational(head).map_err(|_| Gone)
    }

    fn send_head(&mut self, head: Response<()>, end: bool) -> Result<(), Gone> {
        self.answer = Some(self.respond.send_response(head, end).map_err(|_| Gone)?);
        Ok(())
    }

    fn poll_room(&mut self, wanted: usize, context: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        let Some(answer) = &mut self.answer else { return Poll::Ready(Ok(0)) };
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        if lock(&self.wire).poll_turn(context).is_pending() {
            // It waits for others, but its client may leave.
            return answer.poll_reset(context).map(|_| Err(Gone));
        }
        answer.reserve_capacity(wanted);
        loop {
            let room = answer.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            match ready!(answer.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
            }
        }
    }

    fn send_data(&mut self, bytes: Bytes, end: bool) -> Result<(), Gone> {
        let answer = self.answer.as_mut().ok_or(Gone)?;
        lock(&self.wire).gave(bytes.len());
        answer.send_data(bytes, end).map_err(|_| Gone)
    }

    fn send_trailers(&mut self, fields: HeaderMap) -> Result<(), Gone> {
        let answer = self.answer.as_mut().ok_or(Gone)?;
        answer.send_trailers(fields).map_err(|_| Gone)
    }

    fn poll_sent(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, code: Code) {
        let reason = match code {
            Code::Malformed => Reason::PROTOCOL_ERROR,
            Code::Internal => Reason::INTERNAL_ERROR,
            Code::Cancelled => Reason::CANCEL,
            Code::Refused => Reason::REFUSED_STREAM,
        };
        match &mut self.answer {
            Some(answer) => answer.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}
