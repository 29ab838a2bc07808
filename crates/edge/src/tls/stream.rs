//! One TLS connection over TCP: plain bytes in and out, records on the wire.
//!
//! Owns the pumping between rustls and the socket, and a polite end (`close_notify`, RFC 8446 §6.1). Leaves the handshake to
//! `handshake`, and what is said to versions of HTTP.
//! Invariants: a write is done when its last record is in the kernel's hands, so that limits of time see what the client takes,
//! and who was told "later" comes back with the same bytes; what has been read of the socket and not been given out counts as
//! readable, and is at most `AHEAD_BYTES` and one record; a connection that waits holds no buffer.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, BufRead, IoSlice, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Plain bytes that are encrypted at once: four records, one system call.
const WRITE_BYTES: usize = 64 * 1024;
/// Bytes read of the socket at once. rustls by itself takes 4 KiB, a quarter of a record.
const AHEAD_BYTES: usize = 32 * 1024;

/// A client's connection after its handshake.
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
    /// Read of the socket, and not yet taken by rustls from `at` on.
    ahead: Vec<u8>,
    at: usize,
    /// Plain bytes of the last write whose records have not all left.
    taken: usize,
    /// Plain bytes wait in rustls.
    holds: bool,
    /// The client has said its last: with `close_notify`, or by the end of the socket.
    ended: bool,
    side: Side,
}

thread_local! {
    /// For all connections of a thread: nothing waits while it is in use.
    static PIECE: RefCell<Piece> = const { RefCell::new(Piece(Vec::new())) };
}

/// A buffer that lies in the middle of a page. Records are made behind a few bytes at the start of one, and copying with `rep movsb`
/// from where the page begins to just behind that takes three times as long (glibc bug 30994, AMD Zen 3 and later).
struct Piece(Vec<u8>);

const PAGE_BYTES: usize = 4096;

impl Piece {
    fn bytes(&mut self) -> &mut [u8] {
        self.0.resize(WRITE_BYTES + PAGE_BYTES, 0);
        let begin = (PAGE_BYTES / 2).wrapping_sub(self.0.as_ptr().addr()) % PAGE_BYTES;
        &mut self.0[begin..begin + WRITE_BYTES]
    }
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
    /// A session whose handshake goes over `socket`; `ahead` was read behind the client's hello.
    pub(super) fn new(socket: TcpStream, mut session: ServerConnection, ahead: Vec<u8>) -> Self {
        session.set_buffer_limit(Some(WRITE_BYTES));
        Self { socket, session, ahead, at: 0, taken: 0, holds: false, ended: false, side: Side::Open }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn session(&self) -> &ServerConnection {
        &self.session
    }

    /// Whether there is something to read without the socket.
    pub(crate) fn holds(&self) -> bool {
        self.holds || self.at < self.ahead.len()
    }

    /// One step of a handshake after the other.
    ///
    /// # Errors
    /// The client broke off, or something it said was refused; it has been told then.
    pub(super) fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            ready!(self.poll_records(context))?;
            if self.session.is_handshaking() {
                ready!(self.poll_fill(context))?;
                if self.ended {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
        // Tickets. If the socket takes no more now, they leave with the next bytes.
        if let Poll::Ready(Err(error)) = self.poll_records(context) {
            return Poll::Ready(Err(error));
        }
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
            ready!(self.poll_fill(context))?;
        }
        if self.holds { Poll::Ready(self.session.reader().into_first_chunk()) } else { Poll::Ready(Ok(&[])) }
    }

    fn consume(&mut self, count: usize) {
        self.session.reader().consume(count);
        self.look_what_is_held();
    }

    fn look_what_is_held(&mut self) {
        (self.holds, self.ended) = match self.session.reader().fill_buf() {
            Ok(plain) => (!plain.is_empty(), plain.is_empty()),
            Err(error) => (false, error.kind() != io::ErrorKind::WouldBlock),
        };
    }

    /// Gives rustls some of what was read of the socket, or its end.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ahead(context))?;
        let mut bytes = &self.ahead[self.at..];
        let taken = self.session.read_tls(&mut bytes)?;
        self.at += taken;
        if let Err(error) = self.session.process_new_packets() {
            // The alert that says why; if the socket does not take it the client sees the end all the same.
            let _ = self.poll_records(context);
            self.side = Side::Closed;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        self.look_what_is_held();
        Poll::Ready(Ok(()))
    }

    /// Reads of the socket, once all that was read before has been taken; nothing more comes at its end.
    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.at < self.ahead.len() {
            return Poll::Ready(Ok(()));
        }
        self.at = 0;
        self.ahead.clear();
        let read = match self.socket.poll_read_ready(context)? {
            Poll::Ready(()) => {
                self.ahead.reserve(AHEAD_BYTES);
                // The future holds no state of its own: made anew for each poll, it is a plain read.
                pin!(self.socket.read_buf(&mut self.ahead)).poll(context)
            }
            Poll::Pending => Poll::Pending,
        };
        if read.is_pending() {
            // Who rests must not have a buffer.
            self.ahead = Vec::new();
        }
        read.map_ok(|_| ())
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

    /// Writes what `read` puts into a buffer, at most `WRITE_BYTES`; `Ok(0)` when it puts nothing there. It is asked once the
    /// socket takes more: who waits for that holds no buffer.
    ///
    /// # Errors
    /// Those of `read`, and those of the socket.
    pub(crate) fn poll_write_from(
        &mut self,
        context: &mut Context<'_>,
        read: &mut impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.taken == 0 {
            ready!(self.poll_records(context))?;
            self.taken = PIECE.with_borrow_mut(|piece| {
                let piece = piece.bytes();
                let count = read(piece)?;
                self.session.writer().write(&piece[..count])
            })?;
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

fn now(poll: Poll<io::Result<usize>>) -> io::Result<usize> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::{Arc, OnceLock};

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

    use super::*;
    use crate::tls::store::tests::pair;

    type Client = StreamOwned<ClientConnection, std::net::TcpStream>;

    fn configs() -> &'static (Arc<ClientConfig>, Arc<ServerConfig>) {
        static CONFIGS: OnceLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = OnceLock::new();
        CONFIGS.get_or_init(|| {
            let pair = pair(&["shop.example"]);
            let mut roots = RootCertStore::empty();
            roots.add(pair.chain[0].clone()).unwrap();
            let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let client = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .unwrap();
            let server = ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .unwrap();
            let server =
                server.with_no_client_auth().with_single_cert(pair.chain.clone(), pair.key.clone_key());
            (Arc::new(client.with_root_certificates(roots).with_no_client_auth()), Arc::new(server.unwrap()))
        })
    }

    /// A server's stream after its handshake with a client that does `then` in a thread of its own.
    async fn meet<T: Send + 'static>(
        then: impl FnOnce(Client) -> T + Send + 'static,
    ) -> (TlsStream, tokio::task::JoinHandle<T>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::task::spawn_blocking(move || {
            let name = ServerName::try_from("shop.example").unwrap();
            let session = ClientConnection::new(configs().0.clone(), name).unwrap();
            then(StreamOwned::new(session, std::net::TcpStream::connect(address).unwrap()))
        });
        let session = ServerConnection::new(configs().1.clone()).unwrap();
        let mut stream = TlsStream::new(listener.accept().await.unwrap().0, session, Vec::new());
        std::future::poll_fn(|context| stream.poll_handshake(context)).await.unwrap();
        (stream, client)
    }

    async fn read(stream: &mut TlsStream, room: usize) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::new();
        std::future::poll_fn(|context| stream.poll_read(context, &mut buffer, room)).await?;
        Ok(buffer)
    }

    async fn read_to_end(stream: &mut TlsStream) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let some = read(stream, 64 * 1024).await.unwrap();
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 7) as u8).collect()
    }

    #[test]
    fn a_piece_lies_in_the_middle_of_a_page() {
        let mut piece = Piece(Vec::new());
        for _ in 0..2 {
            assert_eq!(piece.bytes().len(), WRITE_BYTES);
            assert_eq!(piece.bytes().as_ptr().addr() % PAGE_BYTES, PAGE_BYTES / 2);
        }
    }

    /// In pieces, to a client that takes its time; the source says where it ends.
    #[tokio::test]
    async fn what_is_read_piece_by_piece_arrives_whole() {
        let (mut stream, client) = meet(|mut client| {
            let mut all = Vec::new();
            client.read_to_end(&mut all).map(|_| all).unwrap()
        })
        .await;
        let whole = content(3 * WRITE_BYTES + 5);
        let mut at = 0;
        loop {
            let mut read = |piece: &mut [u8]| {
                let count = piece.len().min(whole.len() - at);
                piece[..count].copy_from_slice(&whole[at..at + count]);
                Ok(count)
            };
            match std::future::poll_fn(|context| stream.poll_write_from(context, &mut read)).await.unwrap() {
                0 => break,
                count => at += count,
            }
        }
        drop(stream);
        assert_eq!(client.await.unwrap(), whole);
    }

    /// The end is seen where it was said, and not when the socket closes.
    #[tokio::test]
    async fn close_notify_in_the_same_segment_is_the_end() {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let (mut stream, client) = meet(move |mut client| {
            client.flush().unwrap(); // the handshake
            client.conn.writer().write_all(b"hello").unwrap();
            client.conn.send_close_notify();
            let mut wire = Vec::new();
            while client.conn.wants_write() {
                client.conn.write_tls(&mut wire).unwrap();
            }
            client.sock.write_all(&wire).unwrap();
            told.recv().unwrap(); // the socket stays open until then
        })
        .await;
        assert_eq!(read(&mut stream, 4096).await.unwrap(), b"hello");
        assert_eq!(read(&mut stream, 4096).await.unwrap(), b"");
        tell.send(()).unwrap();
        client.await.unwrap();
    }

    /// Whoever reads knows what was announced; a socket that only closes is an end as well (RFC 9112 §9.8), and so is one that does
    /// in the middle of a record.
    #[tokio::test]
    async fn a_socket_that_closes_without_a_word() {
        for cut in [0, 3] {
            let (mut stream, client) = meet(move |mut client| {
                client.write_all(b"hello").unwrap();
                client.flush().unwrap();
                client.conn.writer().write_all(b"lost").unwrap();
                let mut wire = Vec::new();
                client.conn.write_tls(&mut wire).unwrap();
                client.sock.write_all(&wire[..cut]).unwrap();
                client.sock.shutdown(std::net::Shutdown::Write).unwrap();
                // Closed with tickets unread, the socket would be reset.
                client.sock.read_to_end(&mut Vec::new()).unwrap();
            })
            .await;
            assert_eq!(read_to_end(&mut stream).await, b"hello");
            assert!(stream.ahead.is_empty() && !stream.holds());
            drop(stream);
            client.await.unwrap();
        }
    }

    /// Records of all sizes, read in rooms of all sizes; at rest nothing is kept.
    #[tokio::test]
    async fn uploads_arrive_whole() {
        for (record, room) in [(1, 1), (700, 4096), (16_000, 1000), (16_384, 64 * 1024), (1_000_000, 4096)] {
            let sent = content((record * 40).min(1_000_000));
            let pieces = sent.clone();
            let (mut stream, client) = meet(move |mut client| {
                pieces.chunks(record).for_each(|piece| client.write_all(piece).unwrap());
                client.flush().unwrap();
                client
            })
            .await;
            let mut all = Vec::new();
            while all.len() < sent.len() {
                let some = read(&mut stream, room).await.unwrap();
                assert!(!some.is_empty() && some.len() < room + 16_385);
                all.extend(some);
            }
            assert!(all == sent, "{record} {room}");
            let nothing = std::future::poll_fn(|context| {
                Poll::Ready(stream.poll_read(context, &mut Vec::new(), room).is_pending())
            });
            assert!(nothing.await && stream.ahead.capacity() == 0 && !stream.holds());
            client.await.unwrap();
        }
    }

    /// A client that takes nothing makes us wait, with what fits one write; then it gets all of it, and the end is a good one.
    #[tokio::test]
    async fn a_client_that_takes_its_time() {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let (mut stream, client) = meet(move |mut client| {
            client.flush().unwrap();
            told.recv().unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap(); // fails without close_notify
            all
        })
        .await;
        let sent = content(8_000_000);
        let (mut at, mut waited) = (0, false);
        while at < sent.len() {
            at += std::future::poll_fn(|context| {
                // More may follow what was offered before, never other bytes.
                let most = if waited { sent.len() } else { sent.len().min(at + 100_000) };
                let (one, two) = sent[at..most].split_at((most - at) / 3);
                let write = stream.poll_write(context, &[IoSlice::new(one), IoSlice::new(two)]);
                if write.is_pending() && !waited {
                    waited = true;
                    tell.send(()).unwrap();
                }
                write
            })
            .await
            .unwrap();
        }
        assert!(waited);
        stream.shut_down_writing();
        assert_eq!(read_to_end(&mut stream).await, b"", "and what could not leave at once leaves meanwhile");
        assert!(client.await.unwrap() == sent);
    }

    /// What is dropped says that it ends; what was aborted does not.
    #[tokio::test]
    async fn the_end_is_a_good_one_or_is_not() {
        for aborted in [false, true] {
            let (mut stream, client) = meet(|mut client| {
                client.flush().unwrap();
                client.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
            })
            .await;
            if aborted {
                stream.abort();
            }
            drop(stream);
            let wanted = if aborted { Err(io::ErrorKind::UnexpectedEof) } else { Ok(0) };
            assert_eq!(client.await.unwrap(), wanted);
        }
    }

    /// A record that was changed on its way is answered with an alert, and is the end.
    #[tokio::test]
    async fn a_damaged_record() {
        let (mut stream, client) = meet(|mut client| {
            client.flush().unwrap();
            client
                .sock
                .write_all(&[23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
                .unwrap();
            client.read_to_end(&mut Vec::new()).map_err(|error| error.to_string())
        })
        .await;
        assert_eq!(read(&mut stream, 4096).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(stream);
        let told = client.await.unwrap().unwrap_err();
        assert!(told.contains("BadRecordMac"), "{told}");
    }
}
