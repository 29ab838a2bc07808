//! Whole connections: a client that writes its frames by hand, or one of the h2 crate, and an edge without workers, whose
//! own page (`/-/live`) and refusals are the answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::connection::h1;
use crate::connection::h1::tests::shared;
use crate::connection::registry;
use crate::exchange::AddressText;
use crate::shared::Phase as ServerPhase;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PROTOCOL_ERROR: u32 = 1;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;
/// `:status: 200` as the crate writes it.
const OK: u8 = 0x88;

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// Of `RST_STREAM`.
    fn code(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }

    /// Of `GOAWAY`: the last stream, and why.
    fn goaway(&self) -> (u32, u32) {
        let word = |at: usize| u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap());
        (word(0), word(4))
    }
}

fn ends() -> Ends {
    Ends { peer: None, local: None, peer_text: AddressText::new(None) }
}

/// A connection to an edge with these settings, agreed on as TLS would.
fn connect(shared: &Arc<Shared>) -> UnixStream {
    let (ours, client) = UnixStream::pair().unwrap();
    let place = registry::enter(shared, None).unwrap();
    tokio::spawn(Connection::new(shared.clone(), Stream::Unix(ours), ends(), None, place).run());
    client
}

/// One that has been greeted.
async fn greeted(shared: &Arc<Shared>) -> UnixStream {
    let mut client = connect(shared);
    client.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    client
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Literals without a table and without Huffman codes.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        assert!(text.len() < 127);
        [&[text.len() as u8], text.as_bytes()].concat()
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

fn request(stream: u32, fields: &[(&str, &str)], end: bool) -> Vec<u8> {
    frame(1, 4 | u8::from(end), stream, &block(fields))
}

const LIVE: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/-/live")];

/// Frames until one is wanted; SETTINGS are answered. `None`: the connection has ended first.
async fn find(client: &mut UnixStream, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
    let search = async {
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            client.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            if wanted(&frame) {
                return Some(frame);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), search).await.expect("an answer, or the end")
}

async fn goaway(client: &mut UnixStream) -> Option<(u32, u32)> {
    find(client, |frame| frame.kind == 7).await.map(|frame| frame.goaway())
}

/// Rows 39, 40 and 41: that stream ends with PROTOCOL_ERROR, and the next is answered. What is no field at all the crate takes
/// for a fault of the whole block of fields, and ends the connection: RFC 9113 §5.4.2 leaves that to a server.
#[tokio::test]
async fn a_malformed_request_is_that_streams_error() {
    let with = |fields: &[(&'static str, &'static str)]| [LIVE, fields].concat();
    let without = |name: &str| LIVE.iter().copied().filter(|(other, _)| *other != name).collect::<Vec<_>>();
    let path = |path: &'static str| [without(":path"), vec![(":path", path)]].concat();
    let shared = shared(|_| {});
    for (row, fields, body) in [
        (39, with(&[(":method", "GET")]), None),
        (39, with(&[(":path", "/")]), None),
        (39, with(&[("x", "y"), (":authority", "a")]), None),
        (39, with(&[(":status", "200")]), None),
        (39, with(&[(":other", "x")]), None),
        (39, without(":method"), None),
        (39, without(":scheme"), None),
        (39, path(""), None),
        (39, path("-/live"), None),
        (39, path("http://a/-/live"), None),
        (39, path("*"), None),
        (39, path("/-/live x"), None),
        (39, path("/-/live\u{7f}"), None),
        (39, with(&[(":scheme", "http")]), None),
        (39, with(&[(":authority", "a")]), None),
        (39, with(&[(":protocol", "websocket")]), None),
        (39, with(&[("host", "")]), None),
        (39, [without(":authority"), vec![(":authority", "a@b c")]].concat(), None),
        (39, with(&[("X-Upper", "y")]), None),
        (39, with(&[("host", "b")]), None),
        (39, with(&[("host", "a"), ("host", "a")]), None),
        (40, with(&[("connection", "close")]), None),
        (40, with(&[("keep-alive", "5")]), None),
        (40, with(&[("proxy-connection", "x")]), None),
        (40, with(&[("transfer-encoding", "chunked")]), None),
        (40, with(&[("te", "gzip")]), None),
        (41, with(&[("upgrade", "h2c")]), None),
        (40, with(&[("x", "a\r\nb: c")]), None),
        (40, with(&[("x", "a\nb")]), None),
        (40, with(&[("x", "a\0b")]), None),
        (40, with(&[("x\r", "a")]), None),
        (40, with(&[("x y", "a")]), None),
        (40, with(&[("x", " a")]), None),
        (40, with(&[("content-length", "5")]), None),
        (40, with(&[("content-length", "5"), ("content-length", "6")]), Some("hello")),
        (40, with(&[("content-length", "-5")]), Some("hello")),
    ] {
        let mut client = greeted(&shared).await;
        let mut sent = request(1, &fields, body.is_none());
        sent.extend(body.map(|body: &str| frame(0, 1, 1, body.as_bytes())).unwrap_or_default());
        sent.extend(request(3, LIVE, true));
        client.write_all(&sent).await.unwrap();
        let wanted = |frame: &Frame| matches!((frame.kind, frame.stream), (3 | 1, 1) | (7, 0));
        let seen = find(&mut client, wanted).await.unwrap_or_else(|| panic!("row {row}: {fields:?}"));
        if seen.kind == 7 {
            let is_field =
                fields.iter().all(|(name, value)| is_name(name) && HeaderValue::from_str(value).is_ok());
            assert!(!is_field && seen.goaway().1 != 0, "row {row}: {fields:?}: {seen:?}");
            continue;
        }
        assert_eq!((seen.kind, seen.stream), (3, 1), "row {row}: {fields:?}");
        assert_eq!(seen.code(), PROTOCOL_ERROR, "row {row}: {fields:?}");
        let next = find(&mut client, |frame| frame.kind == 1).await;
        assert_eq!(
            next.map(|frame| (frame.stream, frame.payload[0])),
            Some((3, OK)),
            "row {row}: {fields:?}"
        );
    }
}

/// Rows 39 and 40: fields behind a body are fields, too. (Pseudo fields there the crate drops, and the rest is dropped by us.)
#[tokio::test]
async fn malformed_trailers_are_that_streams_error() {
    let shared = shared(|_| {});
    let upload = [&[(":method", "POST")], &LIVE[1..]].concat();
    for (name, trailers, flags) in
        [("an upper case", block(&[("X", "y")]), 5), ("no end", block(&[("x", "y")]), 4)]
    {
        let mut client = greeted(&shared).await;
        let sent =
            [request(1, &upload, false), frame(0, 0, 1, b"body"), frame(1, flags, 1, &trailers)].concat();
        client.write_all(&sent).await.unwrap();
        let seen = find(&mut client, |frame| matches!((frame.kind, frame.stream), (3, 1) | (7, 0))).await;
        let seen = seen.unwrap_or_else(|| panic!("{name}"));
        let code = if seen.kind == 7 { seen.goaway().1 } else { seen.code() };
        assert_eq!(code, PROTOCOL_ERROR, "{name}: {seen:?}");
    }
}

fn is_name(name: &str) -> bool {
    [":method", ":scheme", ":authority", ":path", ":status"].contains(&name)
        || HeaderName::from_lowercase(name.as_bytes()).is_ok()
}

/// Rows 34, 35, 36 and 38: whoever only costs is told so, and the connection ends.
#[tokio::test]
async fn floods_end_with_enhance_your_calm() {
    let shared = shared(|_| {});
    let reset =
        |stream: u32| [request(stream, LIVE, true), frame(3, 0, stream, &CANCEL.to_be_bytes())].concat();
    let open = request(1, &[&LIVE[..3], &[(":path", "/waits")]].concat(), false);
    let unfinished = frame(1, 0, 1, &block(LIVE));
    // More for the window of a stream than there can be: we reset it (row 35).
    let overflow = |stream: u32| {
        [request(stream, LIVE, false), frame(8, 0, stream, &0x7fff_ffff_u32.to_be_bytes())].concat()
    };
    let with = |stream: u32, fields: &[(&str, &str)], body: &[u8]| {
        [request(stream, &[LIVE, fields].concat(), body.is_empty()), frame(0, 1, stream, body)].concat()
    };
    let short = |stream: u32| with(stream, &[("content-length", "5")], b"four");
    let none = |stream: u32| request(stream, &[LIVE, &[("content-length", "5")]].concat(), true);
    let bound = |stream: u32| request(stream, &[LIVE, &[("te", "gzip")]].concat(), true);
    for (row, first, each) in [
        (34, Vec::new(), Box::new(|n: u32| reset(2 * n + 1)) as Box<dyn Fn(u32) -> Vec<u8>>),
        (35, Vec::new(), Box::new(|n| overflow(2 * n + 1))),
        (35, Vec::new(), Box::new(|n| short(2 * n + 1))),
        (35, Vec::new(), Box::new(|n| none(2 * n + 1))),
        (35, Vec::new(), Box::new(|n| bound(2 * n + 1))),
        (36, unfinished.clone(), Box::new(|_| frame(9, 0, 1, &block(&[("x", "y")])))),
        (36, unfinished, Box::new(|_| frame(9, 0, 1, &[]))),
        (38, Vec::new(), Box::new(|_| frame(6, 0, 0, &[0; 8]))),
        (38, Vec::new(), Box::new(|_| frame(4, 0, 0, &[]))),
        (38, Vec::new(), Box::new(|_| frame(2, 0, 3, &[0, 0, 0, 0, 1]))),
        (38, Vec::new(), Box::new(|_| frame(8, 0, 0, &1_u32.to_be_bytes()))),
        (38, open, Box::new(|_| frame(0, 0, 1, &[]))),
    ] {
        let mut client = greeted(&shared).await;
        client.write_all(&first).await.unwrap();
        let flood: Vec<u8> = (0..3000).flat_map(each).collect();
        // Both ways at once: what we are sent must not hold us up.
        let (mut reading, mut writing) = client.split();
        let mut got = Vec::new();
        // Neither has to come to a good end.
        let both = async { tokio::join!(writing.write_all(&flood), reading.read_to_end(&mut got)) };
        let _ = tokio::time::timeout(Duration::from_secs(10), both).await.expect("an end");
        let code = goaway_in(&got).unwrap_or_else(|| panic!("row {row}: no GOAWAY"));
        assert_eq!(code, ENHANCE_YOUR_CALM, "row {row}");
    }
}

/// Row 35: mistakes by which a client would have the server reset one stream after the other. Whoever makes one here is not let
/// make another: the code is that of RFC 9113 §5.1, §5.3.1, §5.4.1, §6.1 and §6.9.
#[tokio::test]
async fn row_35_mistakes_that_end_the_connection_at_once() {
    const STREAM_CLOSED: u32 = 5;
    const FRAME_SIZE_ERROR: u32 = 6;
    const FLOW_CONTROL_ERROR: u32 = 3;
    let shared = shared(|_| {});
    let upload = [&[(":method", "POST")], &LIVE[1..]].concat();
    let endless = (0..20).flat_map(|_| frame(0, 0, 1, &[0; 16_384])).collect::<Vec<_>>();
    for (name, sent, codes) in [
        (
            "data behind the end",
            [request(1, LIVE, true), frame(0, 1, 1, b"x")].concat(),
            &[PROTOCOL_ERROR, STREAM_CLOSED][..],
        ),
        (
            "fields behind the end",
            [request(1, LIVE, true), request(1, LIVE, true)].concat(),
            &[PROTOCOL_ERROR, STREAM_CLOSED],
        ),
        ("data of no stream", frame(0, 1, 1, b"x"), &[PROTOCOL_ERROR]),
        ("a window of no stream", frame(8, 0, 1, &1_u32.to_be_bytes()), &[PROTOCOL_ERROR]),
        ("a reset of no stream", frame(3, 0, 1, &CANCEL.to_be_bytes()), &[PROTOCOL_ERROR]),
        ("an even stream", request(2, LIVE, true), &[PROTOCOL_ERROR]),
        (
            "an old stream",
            [request(5, LIVE, true), request(3, LIVE, true)].concat(),
            &[PROTOCOL_ERROR, STREAM_CLOSED],
        ),
        ("half of a window update", frame(8, 0, 0, &[0; 3]), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("a window of nothing", frame(8, 0, 0, &[0; 4]), &[PROTOCOL_ERROR]),
        ("too large a window", frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()), &[FLOW_CONTROL_ERROR]),
        ("more than the window", [request(1, &upload, false), endless].concat(), &[FLOW_CONTROL_ERROR]),
        ("half of a ping", frame(6, 0, 0, &[0; 7]), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("settings of a stream", frame(4, 0, 1, &[]), &[PROTOCOL_ERROR]),
        ("a push", frame(5, 4, 1, &[0, 0, 0, 2, 0x82]), &[PROTOCOL_ERROR]),
        ("a frame too large", frame(0, 0, 1, &[0; 16_385]), &[FRAME_SIZE_ERROR]),
        (
            "more padding than there is",
            [request(1, &upload, false), frame(0, 8, 1, &[9, 0])].concat(),
            &[PROTOCOL_ERROR],
        ),
        (
            "an interrupted block",
            [frame(1, 0, 1, &block(LIVE)), frame(6, 0, 0, &[0; 8])].concat(),
            &[PROTOCOL_ERROR],
        ),
        ("no index", frame(1, 5, 1, &[0xff, 0xff, 0x7f]), &[COMPRESSION_ERROR, PROTOCOL_ERROR]),
    ] {
        let mut client = greeted(&shared).await;
        client.write_all(&sent).await.unwrap();
        let (_, code) = goaway(&mut client).await.unwrap_or_else(|| panic!("{name}: no GOAWAY"));
        assert!(codes.contains(&code), "{name}: {code}");
        assert_eq!(find(&mut client, |_| false).await, None, "{name}");
    }
}

/// The code of the GOAWAY among these frames.
fn goaway_in(mut bytes: &[u8]) -> Option<u32> {
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        if bytes[3] == 7 {
            return Some(u32::from_be_bytes(bytes.get(13..17)?.try_into().ok()?));
        }
        bytes = bytes.get(9 + length..)?;
    }
    None
}

/// Row 37: a few bytes that stand for many. The size that counts is that of the fields: past the bound it is that stream's
/// error, far past it the connection's.
#[tokio::test]
async fn a_bomb_of_repeated_fields_does_not_go_off() {
    let shared = shared(|_| {});
    // One large field into the table, then that one again and again: a byte each.
    let value = "v".repeat(100);
    let bomb = |times: usize| {
        let large = [&[0x40, 1, b'x', 100], value.as_bytes()].concat();
        frame(1, 5, 1, &[block(LIVE), large, vec![0x80 | 62; times]].concat())
    };
    let mut client = greeted(&shared).await;
    client.write_all(&[bomb(250), request(3, LIVE, true)].concat()).await.unwrap();
    let answer = find(&mut client, |frame| frame.stream == 1).await.unwrap();
    assert!(answer.kind == 1 && answer.payload[0] != OK, "{answer:?}");
    let next = find(&mut client, |frame| frame.kind == 1 && frame.stream == 3).await.unwrap();
    assert_eq!(next.payload[0], OK);
    let mut client = greeted(&shared).await;
    client.write_all(&bomb(8000)).await.unwrap();
    assert!(goaway(&mut client).await.is_some_and(|(_, code)| code != 0));
}

#[tokio::test]
async fn many_at_once_are_answered_with_the_fields_that_all_answers_have() {
    let shared = shared(|_| {});
    let (mut client, connection) = h2::client::handshake(connect(&shared)).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap() });
    let mut answers = Vec::new();
    for method in ["GET", "HEAD"].into_iter().cycle().take(60) {
        let request = Request::builder().method(method).uri("http://a/-/live").body(()).unwrap();
        client = client.ready().await.unwrap();
        answers.push((method, client.send_request(request, true).unwrap().0));
    }
    for (method, answer) in answers {
        let (head, mut body) = answer.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        assert_eq!(head.headers["content-length"], "14");
        for name in ["date", "server", "x-request-id", "content-type"] {
            assert!(head.headers.contains_key(name), "{name}");
        }
        let mut got = Vec::new();
        while let Some(bytes) = body.data().await {
            let bytes: Bytes = bytes.unwrap();
            body.flow_control().release_capacity(bytes.len()).unwrap();
            got.extend_from_slice(&bytes);
        }
        assert_eq!(got, if method == "GET" { &b"{\"live\":true}\n"[..] } else { b"" });
    }
}

/// One at rest is told before it closes: so that nothing the client sends is lost without a word.
#[tokio::test]
async fn the_client_is_told_before_the_connection_closes() {
    let idle = shared(|settings| settings.idle_timeout = Duration::from_millis(50));
    let mut client = greeted(&idle).await;
    client.write_all(&request(1, LIVE, true)).await.unwrap();
    assert_eq!(goaway(&mut client).await, Some((1, 0)));
    assert_eq!(find(&mut client, |_| false).await, None);

    let wanted = shared(|_| {});
    let mut client = greeted(&wanted).await;
    client.write_all(&request(1, LIVE, true)).await.unwrap();
    find(&mut client, |frame| frame.kind == 0).await.unwrap();
    wanted.connections.close_resting();
    assert_eq!(goaway(&mut client).await, Some((1, 0)));
}

/// RFC 9113 §6.8: streams go on, new ones are taken elsewhere; the client is told twice.
#[tokio::test]
async fn when_the_server_stops_open_streams_go_on() {
    let shared = shared(|_| {});
    let mut client = greeted(&shared).await;
    let body = |path: &'static str| [&[(":method", "POST")], &LIVE[1..3], &[(":path", path)]].concat();
    client.write_all(&request(1, &body("/waits"), false)).await.unwrap();
    client.write_all(&frame(6, 0, 0, &[7; 8])).await.unwrap();
    find(&mut client, |frame| frame.kind == 6).await.unwrap();
    shared.phase.send_replace(ServerPhase::Draining);
    shared.connections.wake_all();
    assert_eq!(goaway(&mut client).await, Some((0x7fff_ffff, 0)), "the last is not known yet");
    let ping = find(&mut client, |frame| frame.kind == 6 && frame.flags == 0).await.unwrap();
    client.write_all(&frame(6, 1, 0, &ping.payload)).await.unwrap();
    assert_eq!(goaway(&mut client).await, Some((1, 0)));
    client.write_all(&frame(3, 0, 1, &CANCEL.to_be_bytes())).await.unwrap();
    assert_eq!(find(&mut client, |_| false).await, None, "the end comes with the last stream");
}

#[tokio::test]
async fn a_client_without_a_preface_is_not_waited_for() {
    let shared = shared(|settings| settings.header_timeout = Duration::from_millis(50));
    let mut client = connect(&shared);
    client.write_all(&PREFACE[..10]).await.unwrap();
    assert_eq!(find(&mut client, |frame| frame.kind != 4).await, None);
}

/// Row 41: prior knowledge only where it is wanted; the upgrade of HTTP/1.1 never.
#[tokio::test]
async fn plain_http2_is_taken_only_where_it_is_wanted() {
    for (h2c, cut) in [(true, 24), (true, 1), (true, 5), (false, 24)] {
        let shared = shared(|settings| settings.h2c = h2c);
        let (ours, mut client) = UnixStream::pair().unwrap();
        let place = registry::enter(&shared, None).unwrap();
        tokio::spawn(h1::Connection::new(shared.clone(), Stream::Unix(ours), ends(), None, place).run());
        let sent = [PREFACE, &frame(4, 0, 0, &[]), &request(1, LIVE, true)].concat();
        for piece in sent.chunks(cut) {
            if client.write_all(piece).await.is_err() {
                break;
            }
        }
        if h2c {
            let answer = find(&mut client, |frame| frame.kind == 1).await.unwrap();
            assert_eq!(answer.payload[0], OK, "in pieces of {cut}");
        } else {
            let mut got = vec![0; 12];
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(got, b"HTTP/1.1 505");
        }
    }
    let shared = shared(|settings| settings.h2c = true);
    let (ours, mut client) = UnixStream::pair().unwrap();
    let place = registry::enter(&shared, None).unwrap();
    tokio::spawn(h1::Connection::new(shared.clone(), Stream::Unix(ours), ends(), None, place).run());
    let upgrade = "GET /-/live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    client.write_all(upgrade.as_bytes()).await.unwrap();
    let mut got = vec![0; 15];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(got, b"HTTP/1.1 200 OK");
}
