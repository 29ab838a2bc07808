//! The UDP socket beside a TCP listener that speaks TLS, and what comes in by it.
//!
//! Owns the bounds of QUIC before a connection is one: addresses are made to prove themselves (Retry) while many handshakes are
//! under way, one too many is refused, time is limited (`CHECKLIST` 32, 43). quinn answers an unproven address with no more
//! than three times what it sent, and checks a new path before it uses it. No early data is taken at all: what reaches an
//! app cannot have been replayed (`CHECKLIST` 42).
//! Invariant: nothing is counted against an address that has not shown that it is its own.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bandstand_semantics::Version;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Connection, REQUESTS};
use crate::connection::multiplexed::Origin;
use crate::connection::registry::{self, Door};
use crate::exchange::{AddressText, Ends};
use crate::shared::{Shared, State};
use crate::tls::TlsFacts;

/// From so many handshakes under way on, addresses prove themselves first: one round trip more for the client.
pub(super) const RETRY_FROM: usize = 32;
/// Streams of a client in one direction: control, two of QPACK, and some that nobody knows.
const ONE_WAY_STREAMS: u32 = 8;
/// What a client may send before anybody has read it: one stream, one connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const WINDOW: u32 = 1024 * 1024;
/// What we send before a client has acknowledged it; it is held in memory.
const SEND_WINDOW: u64 = 2 * 1024 * 1024;
/// What the kernel keeps for us while we are busy; it takes less if `net.core.rmem_max` says so.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// QUIC's own silence limit is only for clients that have vanished: `idle_timeout` closes those that rest.
const SILENCE: Duration = Duration::from_secs(30);
const SILENCE_MOST: Duration = Duration::from_secs(600);

/// A bound socket.
pub(crate) struct Endpoint {
    socket: UdpSocket,
}

impl Endpoint {
    /// Binds the address that a TCP listener has.
    ///
    /// # Errors
    /// Somebody else has it, or it may not be had.
    pub(crate) fn beside(listener: &impl AsFd) -> io::Result<Self> {
        let listener = SockRef::from(listener);
        let address = listener.local_addr()?;
        let Some(ip) = address.as_socket() else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
        let socket = Socket::new(Domain::for_address(ip), Type::DGRAM, Some(Protocol::UDP))?;
        if ip.is_ipv6() {
            socket.set_only_v6(listener.only_v6()?)?;
        }
        // As much as there is.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&address)?;
        Ok(Self { socket: socket.into() })
    }

    /// A socket that somebody else has bound.
    ///
    /// # Errors
    /// It is no UDP socket.
    pub(crate) fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(socket);
        if socket.r#type()? != Type::DGRAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the descriptor is no UDP socket"));
        }
        socket.set_nonblocking(true)?;
        Ok(Self { socket: socket.into() })
    }

    /// Reads it from now on. Nobody is let in before `Open::accept`.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    pub(crate) fn open(self) -> io::Result<Open> {
        let local = self.socket.local_addr()?;
        let again = self.socket.as_fd().try_clone_to_owned().ok();
        let quinn =
            quinn::Endpoint::new(EndpointConfig::default(), None, self.socket, Arc::new(TokioRuntime))?;
        Ok(Open { quinn, local, again })
    }
}

/// A socket that is read, as long as there is this or a connection.
pub(crate) struct Open {
    quinn: quinn::Endpoint,
    local: SocketAddr,
    /// Another descriptor of it. `None`: none was left.
    again: Option<OwnedFd>,
}

impl Open {
    /// The socket, to be handed on.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.again.as_ref().map(AsFd::as_fd)
    }

    /// Accepts for ever, as the future is polled.
    pub(crate) fn accept(
        &self,
        shared: Arc<Shared>,
        door: Arc<Door>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let endpoint = self.quinn.clone();
        let accepting = Accepting { endpoint, shared, door, local: self.local, under_way: Arc::default() };
        let mut current = Current::default();
        async move {
            current.refresh(&accepting);
            while let Some(incoming) = accepting.endpoint.accept().await {
                // It has been long in coming, perhaps; its handshake goes by what is said now.
                current.refresh(&accepting);
                accepting.admit(incoming);
            }
        }
    }

    /// Lets nobody else in, until it accepts again. Connections stay.
    pub(crate) fn refuse(&self) {
        self.quinn.set_server_config(None);
    }

    /// Until no connection is left.
    pub(crate) async fn wait_idle(&self) {
        self.quinn.wait_idle().await;
    }
}

struct Accepting {
    endpoint: quinn::Endpoint,
    shared: Arc<Shared>,
    door: Arc<Door>,
    local: SocketAddr,
    /// Handshakes of this socket.
    under_way: Arc<AtomicUsize>,
}

/// What the configuration was made of.
#[derive(Default)]
struct Current {
    made_of: Option<(Arc<State>, Arc<rustls::ServerConfig>)>,
}

impl Current {
    /// Gives the endpoint what the settings say now.
    fn refresh(&mut self, accepting: &Accepting) {
        let Accepting { endpoint, shared, .. } = accepting;
        let (state, tls) = (shared.state(), shared.tls.quic_config());
        let same = self
            .made_of
            .as_ref()
            .is_some_and(|(old_state, old_tls)| Arc::ptr_eq(old_state, &state) && Arc::ptr_eq(old_tls, &tls));
        if same {
            return;
        }
        match QuicServerConfig::try_from(tls.clone()) {
            Ok(crypto) => endpoint.set_server_config(Some(config(crypto, &state))),
            Err(error) => tracing::error!(%error, "HTTP/3 is not served"),
        }
        self.made_of = Some((state, tls));
    }
}

fn config(crypto: QuicServerConfig, state: &State) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .max_incoming(state.settings.tls_handshakes.get())
        // A hello with a post-quantum key has two packets; early data there is none.
        .incoming_buffer_size(16 * 1024)
        .incoming_buffer_size_total(4 * 1024 * 1024)
        .transport_config(Arc::new(transport(state)));
    config
}

fn transport(state: &State) -> TransportConfig {
    let settings = &state.settings;
    let silence = settings.timeout.unwrap_or(SILENCE_MOST).max(settings.idle_timeout) + SILENCE;
    let silence = silence.min(SILENCE_MOST);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(REQUESTS.into())
        .max_concurrent_uni_streams(ONE_WAY_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(WINDOW.into())
        .send_window(SEND_WINDOW)
        .max_idle_timeout(Some(IdleTimeout::try_from(silence).unwrap_or(VarInt::MAX.into())))
        .keep_alive_interval(None)
        .datagram_receive_buffer_size(None);
    transport
}

impl Accepting {
    /// Somebody knocks.
    fn admit(&self, incoming: quinn::Incoming) {
        if !incoming.remote_address_validated() && self.under_way.load(Ordering::Relaxed) >= RETRY_FROM {
            // It may always be asked who has not proved its address.
            let _ = incoming.retry();
            return;
        }
        let state = self.shared.current.load();
        let Some(slot) = self.shared.tls.slot(state.settings.tls_handshakes.get()) else {
            incoming.refuse();
            return;
        };
        // What is no handshake has been answered.
        let Ok(connecting) = incoming.accept() else { return };
        let (shared, door, local) = (self.shared.clone(), self.door.clone(), self.local);
        let limit = state.settings.tls_handshake_timeout;
        let place = UnderWay::enter(&self.under_way);
        tokio::spawn(async move {
            let connected = tokio::time::timeout(limit, connecting).await;
            drop((slot, place));
            match connected {
                Ok(Ok(quic)) => open(shared, door, local, quic).await,
                Ok(Err(error)) => tracing::debug!(%error, "no QUIC connection"),
                Err(_) => tracing::debug!("a QUIC handshake took too long"),
            }
        });
    }
}

/// One handshake, on this socket.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The handshake has shown that the address is the client's.
async fn open(shared: Arc<Shared>, door: Arc<Door>, local: SocketAddr, quic: quinn::Connection) {
    let peer = quic.remote_address();
    let exempt =
        peer.ip().to_canonical().is_loopback() || shared.current.load().trusted.trusts(Some(peer.ip()));
    let counted = (!exempt).then(|| registry::counted_address(peer.ip()));
    match registry::enter(&shared, counted) {
        Ok(place) => {
            let local = quic.local_ip().map_or(local, |ip| SocketAddr::new(ip, local.port()));
            let ends =
                Ends { peer: Some(peer), local: Some(local), peer_text: AddressText::new(Some(peer.ip())) };
            let facts = Arc::new(facts_of(&shared, &quic));
            let origin = Origin::new(ends, Version::Http3, Some(facts));
            Box::pin(Connection::new(shared, quic, origin, place.through(door)).run()).await;
        }
        Err(full) => {
            tracing::debug!(?full, "a connection was closed: too many are open");
            quic.close(super::number(h3::error::Code::H3_EXCESSIVE_LOAD), b"");
        }
    }
}

/// QUIC is TLS 1.3; quinn does not say which of its suites.
fn facts_of(shared: &Shared, quic: &quinn::Connection) -> TlsFacts {
    let agreed = quic.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let name = agreed.and_then(|agreed| agreed.server_name);
    let chain = quic.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let shown = shared.tls.store.shown(name.as_deref());
    let version = rustls::ProtocolVersion::TLSv1_3;
    TlsFacts::new(version, None, name.as_deref(), shown, chain.as_ref().map(|chain| chain.as_slice()))
}
