//! What is written to one stream, gathered so that head and first bytes leave as one.
//!
//! Owns the bytes that quinn has not taken yet, and how far the stream is from its end. Writing never waits: what is given is
//! kept, and `poll_flush` passes it on; whoever gives much asks `is_full` first.
//! Invariant: after its end or a reset nothing is written.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h3::error::Code;
use quinn::WriteError;

use super::frames::{Fault, put_header};
use super::transport::number;

/// Bytes up to this are copied beside what goes before them: one piece is cheaper than two.
const SMALL_BYTES: usize = 4 * 1024;

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
    pub(super) fault: Option<Fault>,
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
    pub(super) fn new(stream: quinn::SendStream) -> Self {
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

    pub(super) fn put(&mut self, mut bytes: impl Buf) {
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
    pub(super) fn new(stream: quinn::SendStream) -> Self {
        Self(Arc::new(Mutex::new(Line::new(stream))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
