//! The bytes of an HTTP/2 connection between the h2 crate and the socket.
//!
//! Owns a buffer of what is to be written: the crate writes each frame by itself, and the connection sends them together
//! once it has nothing more to do (one system call, one record of TLS, for many answers). Counts frames as they pass
//! (`budget`), and knows since when the client takes nothing. At rest it holds no buffer.
//!
//! Owns also how much the streams of a connection may have under way together: a client that opens every window and reads
//! nothing (CVE-2019-9517) would else be answered into memory, each stream by as much as the crate holds for one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::budget::Budget;
use crate::connection::stream::Stream;

/// Bytes that wait before more is taken from the crate.
const ROOM: usize = 64 * 1024;

/// Bytes of answers that streams may give before all that was given is with the socket.
const GIVEN: usize = 256 * 1024;

/// Bytes that are read before others have their turn: whoever sends faster than frames are read would else never end a turn.
const READ_AT_ONCE: usize = 256 * 1024;

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
    /// Bytes read in this turn.
    read: usize,
    /// Bytes that streams have given since they were let in last.
    given: usize,
    /// Streams that have more.
    waiting: Vec<Waker>,
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
            read: 0,
            given: 0,
            waiting: Vec::new(),
        }))
    }

    /// The crate is about to have its turn.
    pub(super) fn begin(&mut self) {
        self.read = 0;
    }

    /// Whether a stream may give more now; it is woken when it may.
    pub(super) fn poll_turn(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.given < GIVEN && self.blocked.is_none() {
            return Poll::Ready(());
        }
        if !self.waiting.iter().any(|waiting| waiting.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// A stream has given so many bytes.
    pub(super) fn gave(&mut self, bytes: usize) {
        self.given += bytes;
    }

    /// Lets the next in, once the socket has taken what was given. The crate was driven since: it keeps nothing back that the client
    /// has room for.
    pub(super) fn let_in(&mut self) {
        if self.out.len() - self.at < ROOM && self.blocked.is_none() {
            self.given = 0;
            self.waiting.drain(..).for_each(Waker::wake);
        }
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
        if self.budget.is_over || self.read >= READ_AT_ONCE {
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
        self.read += buffer.filled().len() - before;
        self.budget.received(&buffer.filled()[before..]);
        self.heard = true;
        Poll::Ready(Ok(()))
    }

    fn poll_buffer(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.out.len() - self.at >= ROOM {
            std::task::ready!(self.poll_send(context))?;
        }
        // A client that is slower than its answers never takes the last byte: what it has taken does not stay.
        if self.at >= ROOM {
            self.out.drain(..self.at);
            self.at = 0;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// One without a connection.
    fn alone(stream: UnixStream) -> Wire {
        let wire = Wire::new(Stream::Unix(stream), Vec::new());
        Arc::into_inner(wire).unwrap().into_inner().unwrap()
    }

    /// CVE-2019-9517: streams wait for the socket, and for each other.
    #[tokio::test]
    async fn streams_wait_until_the_socket_has_taken_what_was_given() {
        let (ours, mut client) = UnixStream::pair().unwrap();
        let mut wire = alone(ours);
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(woken.clone());
        let context = Context::from_waker(&waker);
        let count = || woken.0.load(Ordering::SeqCst);
        assert!(wire.poll_turn(&context).is_ready());
        wire.gave(GIVEN);
        assert!(wire.poll_turn(&context).is_pending() && wire.poll_turn(&context).is_pending());
        wire.let_in();
        assert_eq!(count(), 1, "once, however often it has asked");
        assert!(wire.poll_turn(&context).is_ready());
        // Until the socket takes no more: DATA frames of 1 KiB, so that the scanner has something to read.
        let frame = [&[0, 4, 0, 0, 0, 0, 0, 0, 1][..], &[0; 1024]].concat();
        let noop = &mut Context::from_waker(Waker::noop());
        while wire.poll_buffer(noop, &[IoSlice::new(&frame)]).is_ready() {}
        assert!(wire.blocked.is_some() && wire.out.len() < 3 * ROOM, "{}", wire.out.len());
        assert!(wire.poll_turn(&context).is_pending());
        wire.let_in();
        assert_eq!(count(), 1, "not yet");
        let mut taken = vec![0; 64 * 1024];
        while wire.poll_send(&mut Context::from_waker(Waker::noop())).is_pending() {
            assert!(client.read(&mut taken).await.unwrap() > 0);
            tokio::task::yield_now().await;
        }
        wire.let_in();
        assert_eq!(count(), 2);
        assert!(wire.poll_turn(&context).is_ready());
    }

    /// Row 30: a client that always takes some, and never all.
    #[tokio::test]
    async fn what_a_slow_client_has_taken_does_not_stay() {
        let (ours, mut client) = UnixStream::pair().unwrap();
        let mut wire = alone(ours);
        let frame = [&[0, 64, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16_384]].concat();
        let (mut taken, mut space) = (0, vec![0; 16 * 1024]);
        while taken < 100 * ROOM {
            taken += std::future::poll_fn(|context| {
                while wire.poll_buffer(context, &[IoSlice::new(&frame)]).is_ready() {}
                let mut read = ReadBuf::new(&mut space);
                Pin::new(&mut client).poll_read(context, &mut read).map(|_| read.filled().len())
            })
            .await;
            assert!(wire.out.len() < 3 * ROOM, "{}", wire.out.len());
        }
    }
}
