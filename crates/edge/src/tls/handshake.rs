//! From a client's first byte to a session.
//!
//! Owns one handshake: its time, its place among those at once, who is refused and how. A name nobody has is refused with
//! `unrecognized_name` (RFC 6066 §3) before anything is signed, an authority's look at a challenge ends with the handshake
//! (RFC 8737 §3), and plain HTTP is answered by `plain`. Until its first byte a connection is one at rest, which makes room
//! for others; from then on it counts as a handshake, and one too many is closed at once (`CHECKLIST.md` part 2 row 32).

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustls::server::{Accepted, Acceptor};
use rustls::{ServerConfig, ServerConnection};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::config::ACME_ALPN;
use super::stream::TlsStream;
use super::{Slot, TlsFacts, plain};
use crate::connection::registry::Place;
use crate::connection::timer::Timer;
use crate::shared::Shared;

/// Bytes read at once: a hello with a post-quantum key has about 1,800.
const READ_BYTES: usize = 4 * 1024;
/// A connection that says nothing when the server stops is kept this long for a hello that is on its way already.
const LAST_CALL: Duration = Duration::from_secs(2);
/// First byte of every handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// A fatal alert, in plain, as all are before the server's hello: `unrecognized_name`.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A session, ready for requests.
pub(crate) struct Secured {
    pub(crate) stream: Box<TlsStream>,
    pub(crate) facts: Arc<TlsFacts>,
    /// `h2` was agreed on.
    pub(crate) is_h2: bool,
}

/// Why there is no session.
#[derive(Debug)]
enum Refused {
    /// No byte came, or the place was wanted for another.
    Silent,
    /// Too many at once.
    Full,
    /// Something else than TLS, which has been answered if it could be.
    NotTls,
    /// It asked for a name that nobody has.
    UnknownName,
    /// An authority has seen what it came for.
    Challenge,
    /// The handshake failed.
    Failed(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Secures a connection that was just accepted. `None`: there will be none, and it is closed.
pub(crate) async fn secure(shared: &Arc<Shared>, socket: TcpStream, place: &Place) -> Option<Secured> {
    let limit = shared.current.load().settings.tls_handshake_timeout;
    match tokio::time::timeout(limit, run(shared, socket, place)).await {
        Ok(Ok(secured)) => Some(secured),
        Ok(Err(Refused::Failed(error))) => {
            tracing::debug!(%error, "no TLS connection");
            None
        }
        Ok(Err(why)) => {
            tracing::debug!(?why, "no TLS connection");
            None
        }
        Err(_) => {
            tracing::debug!("a handshake took too long");
            None
        }
    }
}

async fn run(shared: &Arc<Shared>, mut socket: TcpStream, place: &Place) -> Result<Secured, Refused> {
    let first = first_bytes(shared, &mut socket, place).await?;
    place.busy();
    let state = shared.state();
    let _slot: Slot = shared.tls.slot(state.settings.tls_handshakes.get()).ok_or(Refused::Full)?;
    if first[0] != HANDSHAKE {
        if plain::is_http(&first) {
            plain::answer(&mut socket, first, &state).await?;
        }
        return Err(Refused::NotTls);
    }
    drop(state);
    let (accepted, rest) = hello(&mut socket, first).await?;
    let (config, is_challenge) = choose(shared, &accepted).inspect_err(|_| {
        tell(&socket, |bytes| bytes.write_all(&UNRECOGNIZED_NAME));
    })?;
    let session = match accepted.into_connection(config) {
        Ok(session) => session,
        Err((error, mut alert)) => {
            tell(&socket, |bytes| alert.write_all(bytes));
            return Err(Refused::Failed(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
    };
    let mut stream = Box::new(TlsStream::new(socket, session, rest));
    std::future::poll_fn(|context| stream.poll_handshake(context)).await?;
    if is_challenge {
        return Err(Refused::Challenge);
    }
    let facts = Arc::new(facts_of(shared, stream.session()));
    let is_h2 = stream.session().alpn_protocol() == Some(b"h2");
    Ok(Secured { stream, facts, is_h2 })
}

/// The first bytes, at least one. A server that stops waits for them no longer than for a request.
async fn first_bytes(shared: &Shared, socket: &mut TcpStream, place: &Place) -> Result<Vec<u8>, Refused> {
    let (mut first, mut timer) = (Vec::new(), Timer::default());
    let last_call = Instant::now() + LAST_CALL;
    std::future::poll_fn(|context| {
        if place.handle.poll_closed(context) {
            return Poll::Ready(Ok(()));
        }
        // No buffer for those who say nothing.
        if socket.poll_read_ready(context)?.is_ready() {
            first.reserve(READ_BYTES);
            return pin!(socket.read_buf(&mut first)).as_mut().poll(context).map_ok(|_| ());
        }
        if shared.is_draining() || place.is_leaving() {
            return timer.poll(context, last_call).map(Ok);
        }
        Poll::Pending
    })
    .await
    .map_err(Refused::Failed)?;
    if first.is_empty() { Err(Refused::Silent) } else { Ok(first) }
}

/// The client's hello, and what came behind it.
async fn hello(socket: &mut TcpStream, mut read: Vec<u8>) -> Result<(Accepted, Vec<u8>), Refused> {
    let mut acceptor = Acceptor::default();
    loop {
        let mut rest = read.as_slice();
        while !rest.is_empty() {
            acceptor.read_tls(&mut rest)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok((accepted, rest.to_vec())),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    tell(socket, |bytes| alert.write_all(bytes));
                    return Err(Refused::Failed(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
        }
        read.clear();
        if socket.read_buf(&mut read).await? == 0 {
            return Err(Refused::Failed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// What the handshake goes on with, and whether it is an authority's look at a challenge.
fn choose(shared: &Shared, accepted: &Accepted) -> Result<(Arc<ServerConfig>, bool), Refused> {
    let hello = accepted.client_hello();
    let name = hello.server_name();
    let is_challenge = hello.alpn().is_some_and(|mut protocols| protocols.any(|name| name == ACME_ALPN));
    if is_challenge {
        let config = name.and_then(|name| shared.tls.challenges.alpn(name));
        return config.map(|config| (config, true)).ok_or(Refused::UnknownName);
    }
    if !shared.tls.store.answers(name) {
        return Err(Refused::UnknownName);
    }
    Ok((shared.tls.server_config(hello.cipher_suites()), false))
}

/// Tells an alert. A socket that was just opened takes a few bytes; if not, the client sees the end all the same.
fn tell(socket: &TcpStream, alert: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) {
    let mut bytes = Vec::new();
    let _ = alert(&mut bytes).and_then(|()| socket.try_write(&bytes));
}

fn facts_of(shared: &Shared, session: &ServerConnection) -> TlsFacts {
    let version = session.protocol_version().unwrap_or(rustls::ProtocolVersion::TLSv1_3);
    let suite = session.negotiated_cipher_suite().map(|suite| suite.suite());
    let name = session.server_name();
    TlsFacts::new(version, suite, name, shared.tls.store.shown(name), session.peer_certificates())
}
