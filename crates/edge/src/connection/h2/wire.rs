//! The bytes of an HTTP/2 connection between the h2 crate and the socket.
//!
//! Owns a buffer of what is to be written: the crate writes each frame by itself, and the connection sends them together
//! once it has nothing more to do (one system call, one record of TLS, for many answers). Counts frames as they pass
//! (`budget`), and knows since when the client takes nothing. At rest it holds no buffer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::budget::Budget;
use crate::connection::stream::Stream;

/// Bytes that wait before more is taken from the crate.
const ROOM: usize = 64 * 1024;

/// Bytes that nobody wants any more, read at once.
const THROWN_AT_ONCE: usize = 16 * 1024;

/// The socket, and what waits for it.
pub(super) struct Wire {
    stream: Stream,
    /// What was read before it was known that this is HTTP/2.
    early: Vec<u8>,
    out: Vec<u8>,
    /// How many of `out` the socket has taken.
    at: usize,
    pub(super) budget: Budget,
    /// Since when the socket takes nothing.
    pub(super) blocked: Option<Instant>,
    /// Something has come since this was looked at last.
    pub(super) heard: bool,
}

/// The crate's end of it.
pub(super) struct Handle(pub(super) Arc<Mutex<Wire>>);

impl Wire {
    pub(super) fn new(stream: Stream, early: Vec<u8>) -> Arc<Mutex<Self>> {
        let budget = Budget::new(Instant::now());
        Arc::new(Mutex::new(Self {
            stream,
            early,
            out: Vec::new(),
            at: 0,
            budget,
            blocked: None,
            heard: false,
        }))
    }

    /// Writes what waits.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.at < self.out.len() {
            match self.stream.poll_write(context, &[IoSlice::new(&self.out[self.at..])]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.at += written;
                    self.blocked = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.blocked.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        self.out.clear();
        self.at = 0;
        Poll::Ready(Ok(()))
    }

    /// Nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Reads and forgets; `Ok(0)` at the end, or where it was broken by us.
    pub(super) fn poll_throw_away(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut thrown = Vec::new();
        self.stream.poll_read(context, &mut thrown, THROWN_AT_ONCE)
    }

    /// Gives memory back.
    pub(super) fn rest(&mut self) {
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.budget.is_over {
            // The crate reads as long as there is something: it would never come back from a flood.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if self.early.is_empty() {
            std::task::ready!(match &mut self.stream {
                Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
                Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
                Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            })?;
        } else {
            let taken = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early[..taken]);
            self.early.drain(..taken);
        }
        self.budget.received(&buffer.filled()[before..]);
        self.heard = true;
        Poll::Ready(Ok(()))
    }

    fn poll_buffer(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.out.len() - self.at >= ROOM {
            std::task::ready!(self.poll_send(context))?;
        }
        let before = self.out.len();
        slices.iter().for_each(|slice| self.out.extend_from_slice(slice));
        self.budget.sent(&self.out[before..]);
        Poll::Ready(Ok(self.out.len() - before))
    }
}

impl Handle {
    fn lock(&self) -> MutexGuard<'_, Wire> {
        lock(&self.0)
    }
}

/// Only one task has it: never waits.
pub(super) fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for Handle {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.lock().poll_read(context, buffer)
    }
}

impl AsyncWrite for Handle {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().poll_buffer(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_buffer(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What waits is sent by the connection, when there is nothing more to add.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.lock();
        std::task::ready!(wire.poll_send(context))?;
        wire.stream.shut_down_writing();
        Poll::Ready(Ok(()))
    }
}
