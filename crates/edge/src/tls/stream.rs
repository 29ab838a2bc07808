//! One TLS connection over TCP: plain bytes in and out, records on the wire.
//!
//! Owns the pumping between rustls and the socket, and a polite end (`close_notify`, RFC 8446 §6.1). Leaves the handshake to
//! `handshake`, and what is said to versions of HTTP.
//! Invariants: a write is done when its last record is in the kernel's hands, so that limits of time see what the client takes,
//! and who was told "later" comes back with the same bytes; plain bytes that rustls holds count as readable.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Plain bytes that are encrypted at once: four records, one system call.
pub(crate) const WRITE_BYTES: usize = 64 * 1024;

/// A client's connection after its handshake.
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
    /// Plain bytes of the last write whose records have not all left.
    taken: usize,
    /// Plain bytes wait in rustls.
    holds: bool,
    /// The socket has said its last.
    ended: bool,
    side: Side,
}

/// Our side of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Open,
    /// `close_notify` is on its way; the socket's end follows it.
    Closing,
    Closed,
    /// Nobody may take this end for a good one.
    Aborted,
}

impl TlsStream {
    /// A session whose handshake goes over `socket`.
    pub(super) fn new(socket: TcpStream, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(WRITE_BYTES));
        Self { socket, session, taken: 0, holds: false, ended: false, side: Side::Open }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn session(&self) -> &ServerConnection {
        &self.session
    }

    /// Whether plain bytes can be read without the socket.
    pub(crate) fn holds(&self) -> bool {
        self.holds
    }

    /// What was read behind the client's hello.
    ///
    /// # Errors
    /// It is no part of a handshake.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.session.read_tls(&mut bytes)?;
            let fed = self.session.process_new_packets();
            fed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Ok(())
    }

    /// One step of a handshake after the other.
    ///
    /// # Errors
    /// The client broke off, or something it said was refused; it has been told then.
    pub(super) fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            ready!(self.poll_records(context))?;
            if self.session.is_handshaking() && ready!(self.poll_fill(context))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        // Tickets. If the socket takes no more now, they leave with the next bytes.
        if let Poll::Ready(Err(error)) = self.poll_records(context) {
            return Poll::Ready(Err(error));
        }
        self.look_what_is_held();
        Poll::Ready(Ok(()))
    }

    /// Adds plain bytes to `buffer`; `Ok(0)` at the end, which a client that only closes its socket reaches too: what it has
    /// announced and not sent is missed by who reads.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        let before = buffer.len();
        while buffer.len() - before < room {
            match self.poll_plain(context) {
                Poll::Ready(Ok(plain)) if !plain.is_empty() => {
                    let count = plain.len();
                    buffer.extend_from_slice(plain);
                    self.consume(count);
                }
                // What has been read is given first; the next call comes to the same point.
                _ if buffer.len() > before => break,
                Poll::Ready(result) => return Poll::Ready(result.map(|_| 0)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(buffer.len() - before))
    }

    /// Plain bytes, at least one; none at the end.
    fn poll_plain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        // Alerts and answers to a change of keys leave beside what is read.
        if self.poll_records(context)?.is_ready() && self.side == Side::Closing {
            self.shut_socket();
        }
        while !self.holds && !self.ended {
            // rustls takes a buffer before it knows whether there is anything to read; who rests must not have one.
            ready!(self.socket.poll_read_ready(context))?;
            let count = ready!(self.poll_fill(context))?;
            self.look_what_is_held();
            self.ended = count == 0 || (!self.holds && self.peer_has_closed());
        }
        if self.holds { Poll::Ready(self.session.reader().into_first_chunk()) } else { Poll::Ready(Ok(&[])) }
    }

    fn consume(&mut self, count: usize) {
        self.session.reader().consume(count);
        self.look_what_is_held();
    }

    fn look_what_is_held(&mut self) {
        self.holds = self.session.reader().fill_buf().is_ok_and(|plain| !plain.is_empty());
    }

    /// The client has sent `close_notify`.
    fn peer_has_closed(&mut self) -> bool {
        matches!(self.session.reader().fill_buf(), Ok([]))
    }

    /// Reads records of the socket, as much as there is room for; `Ok(0)` at its end.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let count = match self.session.read_tls(&mut Pipe { socket: &mut self.socket, context }) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            result => result?,
        };
        if let Err(error) = self.session.process_new_packets() {
            // The alert that says why; if the socket does not take it the client sees the end all the same.
            let _ = self.poll_records(context);
            self.side = Side::Closed;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(count))
    }

    /// Writes the records that wait.
    fn poll_records(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Pipe { socket: &mut self.socket, context }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes some of `slices`. After `Pending` it has to be called with the same bytes again, more may follow them.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.taken == 0 {
            ready!(self.poll_records(context))?;
            self.taken = match slices {
                [one] => self.session.writer().write(one)?,
                many => self.session.writer().write_vectored(many)?,
            };
        }
        ready!(self.poll_records(context))?;
        Poll::Ready(Ok(std::mem::take(&mut self.taken)))
    }

    /// Ends our side: `close_notify`, then the end of the socket, now or as soon as it takes it.
    pub(crate) fn shut_down_writing(&mut self) {
        if self.side != Side::Open {
            return;
        }
        self.session.send_close_notify();
        self.side = Side::Closing;
        if self.write_now() {
            self.shut_socket();
        }
    }

    /// The end of the socket will not look like a good one.
    pub(crate) fn abort(&mut self) {
        self.side = Side::Aborted;
    }

    fn shut_socket(&mut self) {
        self.side = Side::Closed;
        // The other end may be gone already, which is what we are about to find out anyway.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
    }

    /// Writes what the socket takes without waiting; whether that was all.
    fn write_now(&mut self) -> bool {
        while self.session.wants_write() {
            if !self.session.write_tls(&mut AtOnce(&self.socket)).is_ok_and(|count| count > 0) {
                return false;
            }
        }
        true
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        if self.side == Side::Open && !self.session.is_handshaking() {
            self.session.send_close_notify();
            self.write_now();
        }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        while buffer.remaining() > 0 {
            match self.poll_plain(context) {
                Poll::Ready(Ok(plain)) if !plain.is_empty() => {
                    let count = plain.len().min(buffer.remaining());
                    buffer.put_slice(&plain[..count]);
                    self.consume(count);
                }
                _ if buffer.filled().len() > before => break,
                Poll::Ready(result) => return Poll::Ready(result.map(|_| ())),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The socket as rustls wants it, within one poll.
struct Pipe<'s, 'c, 'w> {
    socket: &'s mut TcpStream,
    context: &'c mut Context<'w>,
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Pipe<'_, '_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        now(Pin::new(&mut *self.socket).poll_read(self.context, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Write for Pipe<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.socket).poll_write(self.context, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.socket).poll_write_vectored(self.context, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket, without waiting for it.
struct AtOnce<'s>(&'s TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
