//! A client's socket, TCP or Unix, or TLS over TCP.
//!
//! Owns reading, writing and sending files, without copying them through us where nothing has to be encrypted. A file that is not in memory is read ahead
//! on the blocking pool first, so that a slow disk holds up one client and not the reactor.

use std::fs::File;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::{AsyncReadExt, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::TlsStream;

/// Bytes of one `sendfile`: large enough to fill a socket, small enough to let others have their turn.
const SEND_BYTES: u64 = 1024 * 1024;

/// A client's socket.
pub(crate) enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
    /// TLS, after its handshake.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Reads into the spare room of `buffer`, at least `room` bytes; `Ok(0)` at the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        if !matches!(self, Self::Tls(_)) {
            buffer.reserve(room);
        }
        // The future holds no state of its own: made anew for each poll, it is a plain read.
        match self {
            Self::Tcp(stream) => std::pin::pin!(stream.read_buf(buffer)).poll(context),
            Self::Unix(stream) => std::pin::pin!(stream.read_buf(buffer)).poll(context),
            Self::Tls(stream) => stream.poll_read(context, buffer, room),
        }
    }

    /// Writes some of `slices`. After `Pending` it has to be called with the same bytes again; more may follow them.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (self, slices) {
            (Self::Tcp(stream), [one]) => Pin::new(stream).poll_write(context, one),
            (Self::Tcp(stream), many) => Pin::new(stream).poll_write_vectored(context, many),
            (Self::Unix(stream), [one]) => Pin::new(stream).poll_write(context, one),
            (Self::Unix(stream), many) => Pin::new(stream).poll_write_vectored(context, many),
            (Self::Tls(stream), slices) => stream.poll_write(context, slices),
        }
    }

    /// Sends some of a file; `Ok(0)` when the file ends before `offset`. Waits until the socket takes more.
    pub(crate) async fn send_file(&mut self, file: &Arc<File>, offset: u64, length: u64) -> io::Result<u64> {
        let count = length.min(SEND_BYTES);
        if !is_cached(file, offset) {
            read_ahead(file.clone(), offset, count).await?;
        }
        let copy = |socket: BorrowedFd<'_>| {
            let mut at = offset;
            let sent = rustix::fs::sendfile(socket, file.as_fd(), Some(&mut at), count as usize);
            Ok(sent? as u64)
        };
        match self {
            Self::Tcp(stream) => stream.async_io(Interest::WRITABLE, || copy(stream.as_fd())).await,
            Self::Unix(stream) => stream.async_io(Interest::WRITABLE, || copy(stream.as_fd())).await,
            Self::Tls(stream) => send_encrypted(stream, file, offset, count).await,
        }
    }

    /// Makes the end of the connection one that nobody takes for the end of an answer: a reset instead of a FIN.
    pub(crate) fn reset_on_close(&mut self) {
        let socket = match self {
            Self::Tcp(stream) => &*stream,
            Self::Tls(stream) => {
                stream.abort();
                stream.socket()
            }
            Self::Unix(_) => return,
        };
        // If it fails the connection ends with a FIN, as it would have without us.
        let _ = socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Ends our side; the client still may send.
    pub(crate) fn shut_down_writing(&mut self) {
        // The other end may be gone already, which is what we are about to find out anyway.
        let _ = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
            Self::Unix(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
            Self::Tls(stream) => {
                stream.shut_down_writing();
                Ok(())
            }
        };
    }

    /// What the other end does, while nothing is read from it. Registers for a change of `Silent`; what else is seen
    /// stays readable, so that the reactor has no more news of it and the caller has to look again.
    pub(crate) fn poll_other(&self, context: &mut Context<'_>) -> Other {
        if matches!(self, Self::Tls(stream) if stream.holds()) {
            return Other::Speaks;
        }
        for _ in 0..2 {
            let ready = match self {
                Self::Tcp(stream) => stream.poll_read_ready(context),
                Self::Unix(stream) => stream.poll_read_ready(context),
                Self::Tls(stream) => stream.socket().poll_read_ready(context),
            };
            match ready {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Other::Gone,
                Poll::Pending => return Other::Silent,
            }
            let (other, nothing) = (self.look(), || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            // All that was there has been read: the reactor is told, and then asked once more.
            let _ = match self {
                _ if other != Other::Silent => return other,
                Self::Tcp(stream) => stream.try_io(Interest::READABLE, nothing),
                Self::Unix(stream) => stream.try_io(Interest::READABLE, nothing),
                Self::Tls(stream) => stream.socket().try_io(Interest::READABLE, nothing),
            };
        }
        Other::Speaks
    }

    fn look(&self) -> Other {
        let wanted = PollFlags::IN | PollFlags::RDHUP;
        let mut fds = [match self {
            Self::Tcp(stream) => PollFd::new(stream, wanted),
            Self::Unix(stream) => PollFd::new(stream, wanted),
            Self::Tls(stream) => PollFd::new(stream.socket(), wanted),
        }];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::event::poll(&mut fds, Some(&at_once)).is_err() {
            return Other::Speaks; // interrupted: the next look tells
        }
        let seen = fds[0].revents();
        if seen.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            Other::Gone
        } else if seen.contains(PollFlags::RDHUP) {
            // The other end of a Unix socket hangs up when it closes: this one has not.
            if matches!(self, Self::Unix(_)) { Other::Speaks } else { Other::Ended }
        } else if seen.contains(PollFlags::IN) {
            Other::Speaks
        } else {
            Other::Silent
        }
    }
}

/// What the other end of a stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    /// Nothing.
    Silent,
    /// It has sent what is not read yet.
    Speaks,
    /// It has sent FIN: it has shut its sending side, or closed.
    Ended,
    /// It has closed or reset the connection.
    Gone,
}

/// One piece of a file, read into memory and encrypted. The kernel could do both, where it has the module for it and the library
/// follows a change of keys; neither is common enough to count on.
async fn send_encrypted(
    stream: &mut TlsStream,
    file: &Arc<File>,
    offset: u64,
    count: u64,
) -> io::Result<u64> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    // It is in memory, or is on its way there.
    let mut read = |piece: &mut [u8]| {
        let room = piece.len().min(count);
        Ok(rustix::io::pread(file, &mut piece[..room], offset)?)
    };
    Ok(std::future::poll_fn(|context| stream.poll_write_from(context, &mut read)).await? as u64)
}

/// Whether the next byte can be read without waiting for a disk. Read-ahead makes one byte stand for its neighbours.
fn is_cached(file: &File, offset: u64) -> bool {
    let mut byte = [0];
    let result = rustix::io::preadv2(
        file,
        &mut [IoSliceMut::new(&mut byte)],
        offset,
        rustix::io::ReadWriteFlags::NOWAIT,
    );
    // File systems that cannot tell (EOPNOTSUPP) are read as they are: tmpfs on old kernels, mostly.
    !matches!(result, Err(rustix::io::Errno::AGAIN))
}

async fn read_ahead(file: Arc<File>, offset: u64, length: u64) -> io::Result<()> {
    tokio::task::spawn_blocking(move || {
        let length = std::num::NonZeroU64::new(length);
        // Advice only: `sendfile` reads what this did not bring.
        let _ = rustix::fs::fadvise(&file, offset, length, rustix::fs::Advice::WillNeed);
        let mut byte = [0];
        rustix::io::pread(&file, &mut byte, offset).map(|_| ()).map_err(io::Error::from)
    })
    .await
    .map_err(io::Error::other)?
}
