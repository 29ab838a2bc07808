//! Whole connections: a client of quinn's that writes its frames by hand, and an edge without workers, whose own page
//! (`/-/live`) and refusals are the answers.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, ReadError, ReadToEndError, RecvStream, SendStream};

use super::*;
use crate::connection::h1::tests::shared;
use crate::connection::registry::Door;
use crate::shared::Phase as ServerPhase;
use crate::tls::store::{Source, tests::pair};

const MESSAGE_ERROR: u32 = 0x10e;

/// The longest that a story may take: one that waits for ever is a failure, and no end of all tests.
const STORY: Duration = Duration::from_secs(60);

/// Runs one story to its end.
fn told(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let running = || runtime.block_on(async { tokio::time::timeout(STORY, story).await });
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(running));
    // A thread that listens still is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(ended) => ended.expect("the story ends"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// An edge, and clients of it.
struct Edge {
    shared: Arc<Shared>,
    address: SocketAddr,
    client: quinn::Endpoint,
    config: quinn::ClientConfig,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn edge(change: impl FnOnce(&mut bandstand_config::Settings)) -> Edge {
    let shared = shared(change);
    // What a start does: before it there is no ALPN, and without `h3` there no handshake succeeds.
    let setup = shared.tls.prepare(&shared.state().settings).unwrap();
    shared.tls.apply(setup);
    let pair = pair(&["shop.test"]);
    let certificate = pair.chain[0].clone();
    shared.tls.store.replace(Source::Files, vec![pair]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::beside(&listener).unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(endpoint.open().unwrap().accept(shared.clone(), Arc::new(Door::default())));
    let config = config(certificate);
    let mut client = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    client.set_default_client_config(config.clone());
    Edge { shared, address, client, config, accepting }
}

fn config(certificate: rustls::pki_types::CertificateDer<'static>) -> quinn::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.enable_early_data = true;
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

impl Edge {
    /// A connection with its control stream and SETTINGS.
    async fn connect(&self) -> (quinn::Connection, SendStream) {
        let connection = self.client.connect(self.address, "shop.test").unwrap().await.unwrap();
        let mut control = connection.open_uni().await.unwrap();
        control.write_all(b"\x00\x04\x00").await.unwrap();
        (connection, control)
    }
}

/// A string whose length has a prefix of `bits` behind `first`.
fn text(first: u8, bits: u32, text: &[u8]) -> Vec<u8> {
    let most = (1usize << bits) - 1;
    let mut out = vec![];
    if text.len() < most {
        out.push(first | text.len() as u8);
    } else {
        out.push(first | most as u8);
        let mut rest = text.len() - most;
        while rest >= 128 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text);
    out
}

/// HEADERS with these fields, written out.
fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(1, &section(fields))
}

/// The field section of it.
fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let lines = fields
        .iter()
        .flat_map(|(name, value)| [text(0x20, 3, name.as_bytes()), text(0, 7, value.as_bytes())].concat());
    [0, 0].into_iter().chain(lines).collect()
}

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    frames::put_header(kind, payload.len() as u64, &mut out);
    [&out[..], payload].concat()
}

const LIVE: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "shop.test"), (":path", "/-/live")];

async fn send(connection: &quinn::Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, receive) = connection.open_bi().await.unwrap();
    // Stopped is no error of the test.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    (send, receive)
}

/// What is answered to these bytes: the frames as they came, or the code it was reset with.
async fn answer(connection: &quinn::Connection, bytes: &[u8]) -> Result<Vec<u8>, u32> {
    let (_send, mut receive) = send(connection, bytes).await;
    let read = tokio::time::timeout(Duration::from_secs(10), receive.read_to_end(1 << 20)).await;
    match read.expect("an answer, or the end") {
        Ok(bytes) => Ok(bytes),
        Err(ReadToEndError::Read(ReadError::Reset(code))) => Err(u64::from(code) as u32),
        Err(other) => panic!("{other:?}"),
    }
}

/// `:status` of an answer: the static table's 200, or written behind the name of that table's 24th.
fn status(answer: &[u8]) -> u16 {
    let section = &answer[if answer[1] < 0x40 { 2 } else { 3 }..];
    match section[2] {
        0xd9 => 200,
        0xdb => 404,
        0xff => match section[3] {
            // 400, 403, 421, 425, 500 are 67 and up.
            4 => 400,
            5 => 403,
            6 => 421,
            other => panic!("{other}"),
        },
        // In Huffman's code, as the h3 crate writes it.
        0x5f if section[4..].starts_with(&[0x83, 0x69, 0x90, 0xff]) => 431,
        0x5f => std::str::from_utf8(&section[5..8]).unwrap().parse().unwrap(),
        other => panic!("{other:#x}"),
    }
}

async fn is_alive(connection: &quinn::Connection) {
    assert_eq!(status(&answer(connection, &head(&LIVE)).await.unwrap()), 200);
}

/// The code that the edge closes with.
async fn closed_with(connection: &quinn::Connection) -> u64 {
    let closed = tokio::time::timeout(Duration::from_secs(10), connection.closed()).await;
    match closed.expect("closed") {
        ConnectionError::ApplicationClosed(close) => close.error_code.into(),
        other => panic!("{other:?}"),
    }
}

/// Rows 39 and 40: that stream ends with H3_MESSAGE_ERROR, and the next is answered.
#[test]
fn rows_39_and_40_a_malformed_request_is_that_streams_error() {
    told(async {
        let with = |fields: &[(&'static str, &'static str)]| [&LIVE[..], fields].concat();
        let without =
            |name: &str| LIVE.iter().copied().filter(|(other, _)| *other != name).collect::<Vec<_>>();
        let path = |path: &'static str| [without(":path"), vec![(":path", path)]].concat();
        let edge = edge(|_| {});
        let (connection, _control) = edge.connect().await;
        for (row, fields, body) in [
            (39, with(&[(":method", "GET")]), vec![]),
            (39, with(&[(":path", "/")]), vec![]),
            (39, with(&[("x", "y"), (":authority", "shop.test")]), vec![]),
            (39, [&[("x", "y")], &LIVE[..]].concat(), vec![]),
            (39, with(&[(":status", "200")]), vec![]),
            (39, with(&[(":other", "x")]), vec![]),
            (39, without(":method"), vec![]),
            (39, without(":scheme"), vec![]),
            (39, without(":path"), vec![]),
            (39, path(""), vec![]),
            (39, path("-/live"), vec![]),
            (39, path("*"), vec![]),
            (39, with(&[("X-Upper", "y")]), vec![]),
            (39, with(&[("", "y")]), vec![]),
            (39, with(&[("a b", "y")]), vec![]),
            (39, with(&[("host", "other.test")]), vec![]),
            (40, with(&[("connection", "close")]), vec![]),
            (40, with(&[("keep-alive", "5")]), vec![]),
            (40, with(&[("proxy-connection", "x")]), vec![]),
            (40, with(&[("transfer-encoding", "chunked")]), vec![]),
            (40, with(&[("upgrade", "websocket")]), vec![]),
            (40, with(&[("te", "gzip")]), vec![]),
            (40, with(&[("x", "a\r\nb: c")]), vec![]),
            (40, with(&[("x", "a\0b")]), vec![]),
            (40, with(&[("x", " a")]), vec![]),
            (40, with(&[("content-length", "3")]), vec![]),
        ] {
            let bytes = [head(&fields), body].concat();
            assert_eq!(answer(&connection, &bytes).await, Err(MESSAGE_ERROR), "row {row}: {fields:?}");
        }
        is_alive(&connection).await;
        for fields in [with(&[("te", "trailers")]), with(&[("host", "shop.test")]), without(":authority")] {
            let fields =
                if fields.len() == 3 { [&fields[..], &[("host", "shop.test")]].concat() } else { fields };
            assert_eq!(status(&answer(&connection, &head(&fields)).await.unwrap()), 200, "{fields:?}");
        }
    });
}

/// Row 37: 30,000 bytes that are 30,000 fields once decoded, which the h3 crate by itself does not bear.
#[test]
fn row_37_fields_that_are_too_many() {
    told(async {
        let edge = edge(|_| {});
        let (connection, _control) = edge.connect().await;
        let bomb = frame(1, &[&section(&LIVE)[..], &[0xc0 | 31; 30_004]].concat());
        let announced = b"\x01\xff\xff\xff\xff\xff\xff\xff\xff";
        let long = "x".repeat(40_000);
        let one = head(&[&LIVE[..], &[("x", &long)]].concat());
        let many: Vec<_> = (0..300).map(|_| ("x", "y")).collect();
        let many = head(&[&LIVE[..], &many].concat());
        for (name, bytes) in
            [("bomb", &bomb[..]), ("announced", announced), ("one long", &one), ("many", &many)]
        {
            assert_eq!(answer(&connection, bytes).await.map(|answer| status(&answer)), Ok(431), "{name}");
        }
        is_alive(&connection).await;
    });
}

#[test]
fn what_ends_the_connection_ends_no_other() {
    told(async {
        let edge = edge(|_| {});
        let (other, _control) = edge.connect().await;
        for (name, bytes, code) in [
            ("DATA first", frame(0, b"x"), 0x105),
            ("SETTINGS", frame(4, b""), 0x105),
            ("a cut frame", b"\x01\x10\x00".to_vec(), 0x106),
            ("a field of a table that is empty", frame(1, b"\x00\x00\x80"), 0x200),
            ("a field that is none", frame(1, b"\x00\x00\x27\xff"), 0x200),
            ("fields with an insert count", frame(1, &[&[1], &section(&LIVE)[1..]].concat()), 0x200),
        ] {
            let (connection, _control) = edge.connect().await;
            let _ = send(&connection, &bytes).await;
            assert_eq!(closed_with(&connection).await, code, "{name}");
            is_alive(&other).await;
        }
        for (name, bytes, code) in [
            ("a second control stream", b"\x00\x04\x00".to_vec(), 0x103),
            ("a push", b"\x01\x00".to_vec(), 0x103),
            ("a table of QPACK", b"\x02\x3f\xe1\x1f".to_vec(), 0x201),
            ("an entry that is acknowledged", b"\x03\x01".to_vec(), 0x202),
        ] {
            let (connection, _control) = edge.connect().await;
            let mut stream = connection.open_uni().await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            assert_eq!(closed_with(&connection).await, code, "{name}");
        }
        let connection = edge.client.connect(edge.address, "shop.test").unwrap().await.unwrap();
        let mut control = connection.open_uni().await.unwrap();
        control.write_all(b"\x00\x07\x01\x00").await.unwrap();
        assert_eq!(closed_with(&connection).await, 0x10a, "no SETTINGS");
        for (name, bytes, code) in [
            ("SETTINGS twice", &b"\x04\x00"[..], 0x105),
            ("a push is cancelled", b"\x03\x01\x00", 0x108),
            ("cut", b"\x0d\x02", 0x106),
        ] {
            let (connection, mut control) = edge.connect().await;
            control.write_all(bytes).await.unwrap();
            control.finish().unwrap();
            assert_eq!(closed_with(&connection).await, code, "{name}");
        }
        for settings in [&b"\x00\x04\x04\x06\x01\x06\x01"[..], b"\x00\x04\x02\x02\x01"] {
            let connection = edge.client.connect(edge.address, "shop.test").unwrap().await.unwrap();
            connection.open_uni().await.unwrap().write_all(settings).await.unwrap();
            assert_eq!(closed_with(&connection).await, 0x109, "a setting twice, and one of HTTP/2");
        }
        is_alive(&other).await;
    });
}

/// Control and QPACK's streams are there once, and stay (RFC 9114 §6.2.1, RFC 9204 §4.2).
#[test]
fn streams_that_may_not_end() {
    told(async {
        let edge = edge(|_| {});
        for kind in [2, 3] {
            let (connection, _control) = edge.connect().await;
            let mut first = connection.open_uni().await.unwrap();
            first.write_all(&[kind]).await.unwrap();
            is_alive(&connection).await;
            let mut second = connection.open_uni().await.unwrap();
            second.write_all(&[kind]).await.unwrap();
            assert_eq!(closed_with(&connection).await, 0x103, "{kind} twice");
        }
        for kind in [0, 2, 3] {
            for is_reset in [false, true] {
                let (connection, mut control) = edge.connect().await;
                let mut other = connection.open_uni().await.unwrap();
                // For the control stream's turn a type that nobody knows, which may end or not.
                other.write_all(&[if kind == 0 { 0x21 } else { kind }]).await.unwrap();
                is_alive(&connection).await;
                let stream = if kind == 0 { &mut control } else { &mut other };
                if is_reset {
                    stream.reset(0x10cu32.into()).unwrap();
                } else {
                    stream.finish().unwrap();
                }
                assert_eq!(closed_with(&connection).await, 0x104, "{kind} {is_reset}");
            }
        }
        let (connection, _control) = edge.connect().await;
        connection.open_uni().await.unwrap().finish().unwrap();
        is_alive(&connection).await;
    });
}

/// A client's GOAWAY is about pushes: its requests are answered to the end.
#[test]
fn a_client_that_goes_away_is_answered() {
    told(async {
        let edge = edge(|_| {});
        let (connection, mut control) = edge.connect().await;
        is_alive(&connection).await;
        control.write_all(&goaway(0)).await.unwrap();
        is_alive(&connection).await;
        control.write_all(&goaway(0)).await.unwrap();
        is_alive(&connection).await;
    });
}

/// A client without room for our streams does not hold its place for ever.
#[test]
fn a_client_that_allows_us_no_streams() {
    told(async {
        let edge = edge(|settings| settings.header_timeout = Duration::from_millis(50));
        let mut transport = quinn::TransportConfig::default();
        transport.max_concurrent_uni_streams(0u32.into());
        let mut config = edge.config.clone();
        config.transport_config(Arc::new(transport));
        let connecting = edge.client.connect_with(config, edge.address, "shop.test").unwrap();
        assert_eq!(closed_with(&connecting.await.unwrap()).await, 0x101);
        while edge.shared.connections.len() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

/// What comes after the last GOAWAY is rejected, and the answers before it are not called unserved.
#[test]
fn requests_after_the_end_are_rejected() {
    told(async {
        let edge = edge(|_| {});
        let (connection, _control) = edge.connect().await;
        is_alive(&connection).await;
        let (mut unfinished, mut receive) = connection.open_bi().await.unwrap();
        unfinished.write_all(&head(&LIVE)[..10]).await.unwrap();
        is_alive(&connection).await;
        edge.shared.phase.send_replace(ServerPhase::Draining);
        edge.shared.connections.wake_all();
        let mut ours = connection.accept_uni().await.unwrap();
        let mut control = Vec::new();
        while !control.ends_with(&goaway(12)) {
            control.extend_from_slice(&ours.read_chunk(64, true).await.unwrap().unwrap().bytes);
        }
        for _ in 0..3 {
            assert_eq!(answer(&connection, &head(&LIVE)).await, Err(0x10b));
        }
        unfinished.write_all(&head(&LIVE)[10..]).await.unwrap();
        unfinished.finish().unwrap();
        assert_eq!(status(&receive.read_to_end(4096).await.unwrap()), 200);
        assert_eq!(closed_with(&connection).await, 0x100);
        let rest = ours.read_chunk(64, true).await;
        assert!(!matches!(rest, Ok(Some(_))), "the last word stays: {rest:?}");
    });
}

#[test]
fn bodies_trailers_and_what_nobody_knows() {
    told(async {
        let edge = edge(|_| {});
        let (connection, _control) = edge.connect().await;
        let trailers = head(&[("x", "y")]);
        for (name, rest) in [
            ("trailers", [frame(0, b"abc"), trailers.clone()].concat()),
            ("unknown frames", [frame(0x21, b"xyz"), frame(0, b"abc"), frame(0x40, b"")].concat()),
            ("empty DATA", [frame(0, b""), frame(0, b"abc")].concat()),
        ] {
            let bytes = [head(&LIVE), rest].concat();
            assert_eq!(status(&answer(&connection, &bytes).await.unwrap()), 200, "{name}");
        }
        let mut unknown = connection.open_uni().await.unwrap();
        unknown.write_all(b"\x40\x54anything").await.unwrap();
        assert_eq!(unknown.stopped().await.unwrap(), Some(0x103u32.into()));
        is_alive(&connection).await;
    });
}

/// Row 37: behind a body there is no second status; the stream ends.
#[test]
fn row_37_trailers_that_are_too_many() {
    told(async {
        let edge = edge(|_| {});
        let (connection, _control) = edge.connect().await;
        let post = [&[(":method", "POST")], &LIVE[1..]].concat();
        let announced =
            [&head(&post)[..], &frame(0, b"abc"), b"\x01\xff\xff\xff\xff\xff\xff\xff\xff"].concat();
        match answer(&connection, &announced).await {
            Err(code) => assert_eq!(code, 0x107),
            // It may have been answered before they came; then once.
            Ok(answer) => assert_ne!(status(&answer), 431),
        }
        is_alive(&connection).await;
    });
}

/// An answer before the body's end is whole, and the rest of the body is not wanted: no error.
#[test]
fn an_answer_before_the_body_has_ended() {
    told(async {
        let edge = edge(|_| {});
        let (connection, _control) = edge.connect().await;
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&[head(&LIVE), frame(0, b"abc")].concat()).await.unwrap();
        assert_eq!(status(&receive.read_to_end(4096).await.unwrap()), 200);
        assert_eq!(send.stopped().await.unwrap(), Some(0x100u32.into()));
    });
}

/// Row 34: requests that are cancelled as soon as they are asked.
#[test]
fn row_34_rapid_reset_ends_the_connection() {
    told(async {
        let edge = edge(|_| {});
        let (other, _control) = edge.connect().await;
        let (connection, _control) = edge.connect().await;
        let flood = async {
            while let Ok((mut send, mut receive)) = connection.open_bi().await {
                let _ = send.write_all(&head(&LIVE)[..4]).await;
                let _ = (send.reset(0x10cu32.into()), receive.stop(0x10cu32.into()));
            }
        };
        tokio::time::timeout(Duration::from_secs(10), flood).await.expect("it ends");
        assert_eq!(closed_with(&connection).await, 0x107);
        is_alive(&other).await;
    });
}

/// Row 38: the control stream has a budget, and priorities are within it.
#[test]
fn row_38_a_flood_on_the_control_stream() {
    told(async {
        let edge = edge(|_| {});
        let (connection, mut control) = edge.connect().await;
        control.write_all(&frame(0xf0700, b"\x00u=1").repeat(200)).await.unwrap();
        is_alive(&connection).await;
        let _ = control.write_all(&frame(0xf0700, b"\x00u=1").repeat(2000)).await;
        assert_eq!(closed_with(&connection).await, 0x107);
    });
}

/// Row 42: the client would send early data, and is not offered to.
#[test]
fn row_42_no_early_data_is_taken() {
    told(async {
        let edge = edge(|_| {});
        for _ in 0..2 {
            let (connection, _control) = edge.connect().await;
            is_alive(&connection).await; // the ticket has come
            connection.close(0x100u32.into(), b"");
        }
        let again = edge.client.connect(edge.address, "shop.test").unwrap();
        assert!(again.into_0rtt().is_err());
    });
}

#[test]
fn a_name_that_nobody_has_is_refused() {
    told(async {
        let edge = edge(|_| {});
        let refused = edge.client.connect(edge.address, "other.test").unwrap().await.unwrap_err();
        assert!(matches!(refused, ConnectionError::ConnectionClosed(_)), "{refused:?}");
    });
}

/// Row 43: the first packet of a client whose address is not proven is answered with three times its bytes at most.
#[test]
fn row_43_amplification() {
    told(async {
        let edge = edge(|_| {});
        // A relay that lets the first packets in and nothing back out: the address stays unproven.
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to_edge = UdpSocket::bind("127.0.0.1:0").unwrap();
        to_edge.connect(edge.address).unwrap();
        let knocking = edge.client.connect(relay.local_addr().unwrap(), "shop.test").unwrap();
        let knocking = tokio::spawn(knocking.into_future());
        let (sent, received) = tokio::task::spawn_blocking(move || {
            relay.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            to_edge.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut packet = [0; 2048];
            let (length, _) = relay.recv_from(&mut packet).unwrap();
            to_edge.send(&packet[..length]).unwrap();
            let mut received = 0;
            while let Ok(length) = to_edge.recv(&mut packet) {
                received += length;
            }
            (length, received)
        })
        .await
        .unwrap();
        knocking.abort();
        assert!(received > 0 && received <= 3 * sent, "{received} for {sent}");
    });
}

/// Rows 32 and 43: while many handshakes are under way, an address proves itself first.
#[test]
fn row_43_retry_under_load() {
    told(async {
        let edge = edge(|_| {});
        // As many first packets as it takes; those who sent them say nothing more.
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = relay.local_addr().unwrap();
        let mut knocking = Vec::new();
        for _ in 0..endpoint::RETRY_FROM {
            knocking.push(tokio::spawn(edge.client.connect(address, "shop.test").unwrap().into_future()));
        }
        let to_edge = edge.address;
        let wanted = endpoint::RETRY_FROM;
        let relay = tokio::task::spawn_blocking(move || {
            relay.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut names = std::collections::HashSet::new();
            let mut packet = [0; 2048];
            // A hello is more than one packet: all that come of these clients go on, until each is known.
            while names.len() < wanted {
                let (length, _) = relay.recv_from(&mut packet).unwrap();
                relay.send_to(&packet[..length], to_edge).unwrap();
                names.insert(packet[6..14].to_vec());
            }
            relay
        });
        let _relay = relay.await.unwrap();
        // An answer proves that all before it were seen: packets of one socket come in order.
        let counted = spy(edge.address);
        let (connection, retries) = tokio::join!(
            async { edge.client.connect(counted.0, "shop.test").unwrap().await },
            tokio::task::spawn_blocking(move || counted.1.join().unwrap())
        );
        let connection = connection.unwrap();
        connection.close(0x100u32.into(), b"");
        // A hello of two packets may get two; the client heeds one.
        assert!(retries.unwrap() >= 1, "a Retry");
        knocking.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

/// A relay of one client that counts the Retry packets (RFC 9000 §17.2.5) before the first of 1-RTT.
fn spy(edge: SocketAddr) -> (SocketAddr, std::thread::JoinHandle<usize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let address = socket.local_addr().unwrap();
    let relay = move || {
        let (mut client, mut retries) = (None, 0);
        let mut packet = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let to = if from == edge { client.unwrap() } else { edge };
            if from == edge {
                retries += usize::from(packet[0] & 0xf0 == 0xf0);
            } else {
                client = Some(from);
            }
            socket.send_to(&packet[..length], to).unwrap();
            if from != edge && packet[0] & 0x80 == 0 {
                break;
            }
        }
        retries
    };
    (address, std::thread::spawn(relay))
}

/// Row 43: packets with connection ids that nobody was given are answered by nothing at all, so there is no storm of resets.
#[test]
fn row_43_forged_connection_ids_get_no_stateless_reset() {
    told(async {
        let edge = edge(|_| {});
        let (connection, _control) = edge.connect().await;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(edge.address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut packet = [0x55; 100];
        for number in 0..100 {
            packet[1] = number;
            socket.send(&packet).unwrap();
        }
        // An answer proves that all before it were seen: packets to one socket come in order.
        is_alive(&connection).await;
        let nothing = socket.recv(&mut packet).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    });
}

/// Row 43: a client whose port changes is the same client, and stays who it was.
#[test]
fn row_43_a_client_that_moves_goes_on() {
    told(async {
        let edge = edge(|_| {});
        let (connection, _control) = edge.connect().await;
        is_alive(&connection).await;
        for _ in 0..3 {
            edge.client.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            is_alive(&connection).await;
        }
        assert_eq!(edge.shared.connections.len(), 1);
    });
}

/// A stop: GOAWAY, what runs is finished, H3_NO_ERROR.
#[test]
fn a_stop_finishes_what_runs() {
    told(async {
        let edge = edge(|_| {});
        let (connection, _control) = edge.connect().await;
        is_alive(&connection).await;
        let (mut unfinished, mut receive) = connection.open_bi().await.unwrap();
        unfinished.write_all(&head(&LIVE)[..10]).await.unwrap();
        is_alive(&connection).await;
        edge.shared.phase.send_replace(ServerPhase::Draining);
        edge.shared.connections.wake_all();
        // The control stream is the first that the edge opens: its type, SETTINGS, and then a number of the last request.
        let mut ours = connection.accept_uni().await.unwrap();
        let (mut control, mut is_served) = (Vec::new(), false);
        let first = goaway(8 + 4 * (1 << 16));
        while !control.ends_with(&goaway(12)) {
            let piece = ours.read_chunk(64, true).await.unwrap().expect("a GOAWAY");
            control.extend_from_slice(&piece.bytes);
            if !is_served && control.windows(first.len()).any(|said| said == first) {
                is_served = true;
                // It was on its way before: it is served.
                unfinished.write_all(&head(&LIVE)[10..]).await.unwrap();
                unfinished.finish().unwrap();
                assert_eq!(status(&receive.read_to_end(4096).await.unwrap()), 200);
            }
        }
        assert_eq!(closed_with(&connection).await, 0x100);
        while edge.shared.connections.len() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

fn goaway(stream: u64) -> Vec<u8> {
    let mut number = bytes::BytesMut::new();
    frames::put_header(stream, 0, &mut number); // and a length that is none
    frame(7, &number[..number.len() - 1])
}

#[test]
fn a_connection_at_rest_closes_in_time() {
    told(async {
        let edge = edge(|settings| settings.idle_timeout = Duration::from_millis(50));
        let (connection, _control) = edge.connect().await;
        assert_eq!(closed_with(&connection).await, 0x100);
    });
}

#[test]
fn one_connection_too_many_is_closed() {
    told(async {
        let edge = edge(|settings| settings.max_connections = std::num::NonZeroUsize::MIN);
        let (first, _control) = edge.connect().await;
        let (mut send, _receive) = first.open_bi().await.unwrap();
        send.write_all(&head(&LIVE)[..4]).await.unwrap();
        is_alive(&first).await;
        let second = edge.client.connect(edge.address, "shop.test").unwrap().await.unwrap();
        assert_eq!(closed_with(&second).await, 0x107);
        is_alive(&first).await;
    });
}
