//! From an accepted socket to a connection that speaks some version of HTTP.
//!
//! Owns what comes before the first request: a proxy's word on who the client is (PROXY protocol), then TLS, then which version
//! it is. Leaves accepting to `listener`, and the handshake to `tls::handshake`.
//! Invariants: where `proxy_protocol` is on, nobody but a trusted proxy is heard, and its connection begins with the header
//! (`CHECKLIST.md` part 2 row 65); every connection has its place from the moment it is accepted, and from the moment the true
//! client is known it counts as that client's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bandstand_config::Bind;
use bandstand_semantics::proxy_protocol::{self, Found, Header};
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::{TcpStream, UnixStream};

use crate::connection::registry::{self, Door, Place};
use crate::connection::{Stream, h1, h2};
use crate::exchange::{AddressText, Ends};
use crate::listener;
use crate::shared::{Shared, State};
use crate::tls::handshake::{self, Secured};

/// How long a proxy may take for its header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The address that connections come in by.
pub(crate) struct Entrance {
    /// As it is written in the settings.
    pub(crate) bind: Bind,
    /// Of TCP; 0 for others.
    pub(crate) port: u16,
    pub(crate) door: Arc<Door>,
}

/// What is to be done before requests are read.
#[derive(Debug, Clone, Copy)]
struct Steps {
    header: bool,
    tls: bool,
}

/// A connection over TCP.
pub(crate) fn tcp(shared: &Arc<Shared>, entrance: &Entrance, stream: TcpStream, peer: SocketAddr) {
    let state = shared.current.load();
    let steps = Steps {
        header: state.settings.proxy_protocol,
        tls: listener::speaks_tls(&state.settings, &entrance.bind, entrance.port),
    };
    if steps.header && !state.trusted.trusts(Some(peer.ip())) {
        tracing::debug!(%peer, "a connection was closed: its peer is none of trusted_proxies");
        return;
    }
    let counted = if steps.header { None } else { counted(&state, peer) };
    let Some(place) = enter(shared, entrance, counted) else { return };
    let ends = ends(peer, stream.local_addr().ok());
    let shared = shared.clone();
    if steps.header || steps.tls {
        tokio::spawn(prepare(shared, stream, ends, place, steps));
    } else {
        tokio::spawn(h1::Connection::new(shared, Stream::Tcp(stream), ends, None, place).run());
    }
}

/// A connection over a Unix socket: plain always, and nobody to count.
pub(crate) fn unix(shared: &Arc<Shared>, entrance: &Entrance, stream: UnixStream) {
    let Some(place) = enter(shared, entrance, None) else { return };
    let ends = Ends { peer: None, local: None, peer_text: AddressText::new(None) };
    tokio::spawn(h1::Connection::new(shared.clone(), Stream::Unix(stream), ends, None, place).run());
}

fn enter(shared: &Arc<Shared>, entrance: &Entrance, counted: Option<IpAddr>) -> Option<Place> {
    let entered = registry::enter(shared, counted);
    let entered =
        entered.inspect_err(|full| tracing::debug!(?full, "a connection was closed: too many are open"));
    Some(entered.ok()?.through(entrance.door.clone()))
}

/// Whose share of connections it takes. Proxies stand for many clients, and loopback is ourselves.
fn counted(state: &State, client: SocketAddr) -> Option<IpAddr> {
    let exempt = client.ip().to_canonical().is_loopback() || state.trusted.trusts(Some(client.ip()));
    (!exempt).then(|| registry::counted_address(client.ip()))
}

fn ends(peer: SocketAddr, local: Option<SocketAddr>) -> Ends {
    Ends { peer: Some(peer), local, peer_text: AddressText::new(Some(peer.ip())) }
}

/// One step after the other. Each is boxed, so that nothing of it is left once requests are read.
async fn prepare(shared: Arc<Shared>, mut stream: TcpStream, mut ends: Ends, mut place: Place, steps: Steps) {
    if steps.header {
        match Box::pin(introduce(&shared, &mut stream, ends, &mut place)).await {
            Some(true_ends) => ends = true_ends,
            None => return,
        }
    }
    if !steps.tls {
        return h1::Connection::new(shared, Stream::Tcp(stream), ends, None, place).run().await;
    }
    let Some(secured) = Box::pin(handshake::secure(&shared, stream, &place)).await else { return };
    let Secured { stream, facts, is_h2 } = secured;
    let (stream, facts) = (Stream::Tls(stream), Some(facts));
    if is_h2 {
        Box::pin(h2::Connection::new(shared, stream, ends, facts, place).run()).await;
    } else {
        h1::Connection::new(shared, stream, ends, facts, place).run().await;
    }
}

/// Reads the proxy's header and goes by it; `None`: it says nothing that could be gone by.
async fn introduce(shared: &Shared, stream: &mut TcpStream, ends: Ends, place: &mut Place) -> Option<Ends> {
    let header = match tokio::time::timeout(HEADER_TIMEOUT, read_header(stream)).await {
        Ok(Ok(Some(header))) => header,
        outcome => {
            tracing::debug!(peer = ?ends.peer, ?outcome, "a connection was closed: its PROXY header is missing");
            return None;
        }
    };
    // A proxy that asks for itself.
    let Some(addresses) = header.addresses else { return Some(ends) };
    if let Some(address) = counted(&shared.current.load(), addresses.source)
        && let Err(full) = place.count(address)
    {
        tracing::debug!(?full, "a connection was closed: too many are open");
        return None;
    }
    Some(self::ends(addresses.source, Some(addresses.destination)))
}

/// Takes the header off the stream, and nothing behind it. `Ok(None)`: there is none.
async fn read_header(stream: &mut TcpStream) -> io::Result<Option<Header>> {
    let mut seen = vec![0; proxy_protocol::LONGEST];
    let mut length = 0;
    let header = loop {
        match proxy_protocol::read(&seen[..length]) {
            Found::Partial => {}
            Found::Header(header) => break header,
            Found::Malformed(_) => return Ok(None),
        }
        let ready = stream.ready(Interest::READABLE).await?;
        let before = length;
        // What is looked at stays, so the socket never stops being readable: within `try_io` the same bytes again count as
        // none, and only news wake.
        let look = || {
            let (count, _) = rustix::net::recv(&*stream, &mut seen[..], RecvFlags::PEEK)?;
            if count == before && count > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        };
        match stream.try_io(Interest::READABLE, look) {
            Ok(0) => return Ok(None),
            Ok(count) => length = count,
            // After a FIN it is readable for ever, and what was seen is all there will be.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && ready.is_read_closed() => {
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    };
    stream.read_exact(&mut seen[..header.length]).await?;
    Ok(Some(header))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (theirs, ours) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (theirs.unwrap(), ours.unwrap().0)
    }

    /// Row 65: the header is taken off however it comes in, and nothing of what follows it.
    #[tokio::test]
    async fn row_65_a_header_in_pieces() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 1234 443\r\nGET";
        for cut in 1..line.len() {
            let (mut theirs, mut ours) = pair().await;
            let write = async {
                theirs.write_all(&line[..cut]).await.unwrap();
                tokio::task::yield_now().await;
                theirs.write_all(&line[cut..]).await.unwrap();
            };
            let (header, ()) = tokio::join!(read_header(&mut ours), write);
            let addresses = header.unwrap().unwrap().addresses.unwrap();
            assert_eq!(addresses.source, "192.0.2.1:1234".parse().unwrap());
            assert_eq!(addresses.destination, "198.51.100.1:443".parse().unwrap());
            let mut rest = [0; 3];
            ours.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"GET");
        }
    }

    /// Row 65: absent, and cut short.
    #[tokio::test]
    async fn row_65_no_header() {
        for (bytes, ends) in
            [(&b"GET / HTTP/1.1\r\n\r\n"[..], false), (b"PROXY TCP4 192.0", true), (b"", true)]
        {
            let (mut theirs, mut ours) = pair().await;
            theirs.write_all(bytes).await.unwrap();
            if ends {
                theirs.shutdown().await.unwrap();
            }
            assert_eq!(read_header(&mut ours).await.unwrap(), None);
        }
    }

    /// Row 65: a proxy that stops in the middle is not waited for.
    #[tokio::test(start_paused = true)]
    async fn row_65_a_header_has_its_time() {
        let (mut theirs, mut ours) = pair().await;
        theirs.write_all(b"PROXY TCP4 192.0").await.unwrap();
        let read = tokio::time::timeout(HEADER_TIMEOUT, read_header(&mut ours));
        assert!(read.await.is_err());
    }
}
