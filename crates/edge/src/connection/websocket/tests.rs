//! Stories of three: a client and a scripted worker on real sockets, and the edge between them.
//!
//! Named after the rows of the checklist that they tell. Nothing sleeps to see what happens: a step waits for a frame, with a
//! deadline; time limits of the edge are set so short that the story does not have to wait for them.

use std::os::unix::net::UnixStream as Pair;
use std::sync::Arc;
use std::time::Duration;

use bandstand_config::{Destination, LogFormat, ProjectSettings};
use bandstand_semantics::websocket::deflate::Deflater;
use bandstand_semantics::websocket::frame::apply_mask;
use bandstand_supervisor::Board;
use bandstand_wire::{Decoder, Flags, Frame, Header, Hello, Kind, RequestHead, ResponseHead, board, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::super::h1::Connection;
use super::super::{Stream, registry};
use crate::assets::Manifest;
use crate::dispatch::{Notice, Sockets, Writers, run_channel};
use crate::exchange::{AddressText, Ends};
use crate::observe::record::AccessLog;
use crate::server::state_of;
use crate::shared::{Phase, Project, Shared};

const SHORT: Duration = Duration::from_millis(40);
const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

pub(in super::super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(10), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// The edge, and its one worker.
pub(in super::super) struct Site {
    pub(in super::super) shared: Arc<Shared>,
    pub(in super::super) worker: Worker,
    notices: mpsc::UnboundedReceiver<Notice>,
}

pub(in super::super) async fn site(change: impl FnOnce(&mut bandstand_config::Settings)) -> Site {
    site_of(super::super::h1::tests::shared(change), r#"{"interface":"asgi","websockets":true}"#).await
}

async fn site_of(shared: Arc<Shared>, project: &str) -> Site {
    let said = ProjectSettings::from_json(project.as_bytes()).unwrap();
    let assets = Manifest::new(Vec::new()).unwrap();
    let state = shared.state();
    let project = Some(Project { said, assets, hosts: None });
    shared.current.store(Arc::new(state_of(&state.settings, project, state.access_log.clone(), 1)));
    shared.phase.send_replace(Phase::Open);
    let (channel, their_channel) = Pair::pair().unwrap();
    let (lane, their_lane) = Pair::pair().unwrap();
    let board = Arc::new(Board::create().unwrap().0);
    let writers = Writers::default();
    shared.pool.add(1, 1, board.clone(), writers.clone());
    let (sender, mut notices) = mpsc::unbounded_channel();
    let sockets = Sockets { channel, lane, guard: None, gone: Arc::default() };
    tokio::spawn(run_channel(shared.pool.clone(), 1, sockets, writers, sender));
    let stream = |pair: Pair| {
        pair.set_nonblocking(true).unwrap();
        UnixStream::from_std(pair).unwrap()
    };
    let (channel, lane) = (stream(their_channel), stream(their_lane));
    let mut worker = Worker { board, channel, lane, decoder: Decoder::default() };
    let mut hello = Vec::new();
    Hello { threads: 1, tasks: 100, project: b"{}" }.encode(&mut hello);
    let header = Header { kind: Kind::Hello, flags: Flags::NONE, place: 0, id: 0 };
    worker.write(header, &hello).await;
    assert!(matches!(soon("the hello", notices.recv()).await, Some(Notice::Hello { .. })));
    // `run` does this with the notice.
    Site { shared, worker, notices }
}

impl Site {
    fn connect(&self) -> Client {
        let (ours, stream) = UnixStream::pair().unwrap();
        let ends = Ends { peer: None, local: None, peer_text: AddressText::new(None) };
        let place = registry::enter(&self.shared, None).unwrap();
        tokio::spawn(Connection::new(self.shared.clone(), Stream::Unix(ours), ends, None, place).run());
        Client { stream, buffer: Vec::new() }
    }

    /// A client that has asked for a WebSocket, and its request at the worker.
    async fn ask(&mut self, more: &str) -> (Client, Got) {
        let mut client = self.connect();
        client.ask(more).await;
        let got = self.worker.begin().await;
        (client, got)
    }

    /// A WebSocket that the app has accepted.
    async fn open(&mut self, more: &str) -> (Client, Got) {
        let (mut client, got) = self.ask(more).await;
        self.worker.accept(&got, &[]).await;
        assert_eq!(client.head().await.status, 101);
        (client, got)
    }
}

/// The scripted worker: an event loop.
pub(in super::super) struct Worker {
    pub(in super::super) board: Arc<Board>,
    channel: UnixStream,
    lane: UnixStream,
    decoder: Decoder,
}

/// A frame as the worker got it.
#[derive(Debug)]
pub(in super::super) struct Got {
    pub(in super::super) header: Header,
    payload: Vec<u8>,
}

impl Got {
    /// The value of a field of the request.
    fn field(&self, name: &str) -> Option<String> {
        let (_, fields, _) = RequestHead::decode(&self.payload).unwrap();
        let found = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| String::from_utf8(value.to_vec()).unwrap())
    }

    fn message(&self) -> (bool, bool, &[u8]) {
        assert_eq!(self.header.kind, Kind::Message);
        (self.header.flags.has(Flags::TEXT), self.header.flags.has(Flags::WHOLE), &self.payload)
    }

    fn closed(&self) -> (u16, String) {
        assert_eq!(self.header.kind, Kind::Closed);
        let frame = Frame { header: self.header, payload: &self.payload };
        let (code, reason) = frame.close().unwrap();
        (code, reason.to_owned())
    }

    fn granted(&self) -> usize {
        assert_eq!(self.header.kind, Kind::Grant);
        u32::from_le_bytes(self.payload.as_slice().try_into().unwrap()) as usize
    }
}

impl Worker {
    pub(in super::super) async fn frame(&mut self) -> Got {
        soon("a frame for the worker", async {
            loop {
                if let Some(frame) = self.decoder.next().unwrap() {
                    return Got { header: frame.header, payload: frame.payload.to_vec() };
                }
                let read = self.lane.read(self.decoder.space()).await.unwrap();
                assert!(read > 0, "the lane is open");
                self.decoder.advance(read);
            }
        })
        .await
    }

    /// The next handshake, begun.
    async fn begin(&mut self) -> Got {
        let got = self.frame().await;
        assert_eq!(got.header.kind, Kind::Request);
        assert!(got.header.flags.has(Flags::WEBSOCKET));
        assert!(board::take(self.board.word(got.header.place), got.header.id));
        got
    }

    async fn write(&mut self, header: Header, payload: &[u8]) {
        let mut bytes = Vec::new();
        header.write(payload, &mut bytes);
        self.channel.write_all(&bytes).await.unwrap();
    }

    pub(in super::super) async fn say(&mut self, kind: Kind, flags: Flags, got: &Got, payload: &[u8]) {
        self.write(Header { kind, flags, ..got.header }, payload).await;
    }

    async fn accept(&mut self, got: &Got, fields: &[(&str, &str)]) {
        self.say(Kind::Accept, Flags::NONE, got, &head(101, fields)).await;
    }

    async fn send(&mut self, got: &Got, flags: Flags, message: &[u8]) {
        self.say(Kind::Send, flags, got, message).await;
    }

    async fn close(&mut self, got: &Got, code: u16, reason: &str) {
        let mut bytes = Vec::new();
        Header { kind: Kind::Close, flags: Flags::NONE, ..got.header }.write_close(code, reason, &mut bytes);
        self.channel.write_all(&bytes).await.unwrap();
    }
}

pub(in super::super) fn head(status: u16, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let head = ResponseHead { status, reason: b"", service_us: 1, body_length: None, file_offset: 0 };
    head.encode(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), &mut out);
    out
}

struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

/// The head of an answer as the client got it.
struct Head {
    status: u16,
    text: String,
}

impl Head {
    fn has(&self, line: &str) -> bool {
        self.text.lines().any(|found| found.eq_ignore_ascii_case(line))
    }
}

impl Client {
    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn ask(&mut self, more: &str) {
        let head = format!(
            "GET /chat?room=1 HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{KEY}{more}\r\n"
        );
        self.write(head.as_bytes()).await;
    }

    /// A masked frame.
    async fn send(&mut self, first: u8, payload: &[u8]) {
        self.write(&masked(first, payload)).await;
    }

    /// Reads until the buffer has so many bytes; false at the end of the stream.
    async fn fill(&mut self, length: usize) -> bool {
        soon("bytes for the client", async {
            while self.buffer.len() < length {
                match self.stream.read_buf(&mut self.buffer).await {
                    Ok(1..) => {}
                    _ => return false,
                }
            }
            true
        })
        .await
    }

    async fn head(&mut self) -> Head {
        let at = loop {
            match self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => assert!(self.fill(self.buffer.len() + 1).await, "{:?}", self.buffer),
            }
        };
        let text = String::from_utf8(self.buffer.drain(..at).collect()).unwrap();
        Head { status: text[9..12].parse().unwrap(), text }
    }

    /// The next frame of the server: its first byte and its payload.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        assert!(self.fill(2).await, "a frame");
        assert!(self.buffer[1] < 128, "a server's frame is not masked");
        let (length, at) = match self.buffer[1] {
            126 => {
                assert!(self.fill(4).await);
                (u16::from_be_bytes([self.buffer[2], self.buffer[3]]).into(), 4)
            }
            127 => {
                assert!(self.fill(10).await);
                (u64::from_be_bytes(self.buffer[2..10].try_into().unwrap()) as usize, 10)
            }
            short => (usize::from(short), 2),
        };
        assert!(self.fill(at + length).await);
        let frame: Vec<u8> = self.buffer.drain(..at + length).collect();
        (frame[0], frame[at..].to_vec())
    }

    /// The server's close frame: its code, if it has one.
    async fn closed(&mut self) -> Option<u16> {
        let (first, payload) = self.frame().await;
        assert_eq!(first, CLOSE, "{payload:?}");
        payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code))
    }

    /// Nothing more comes.
    async fn over(&mut self) {
        assert!(!self.fill(self.buffer.len() + 1).await, "the end: {:?}", self.buffer);
        assert!(self.buffer.is_empty(), "{:?}", self.buffer);
    }
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ ..126 => bytes.push(0x80 | short as u8),
        long @ ..0x1_0000 => {
            bytes.push(0xfe);
            bytes.extend_from_slice(&(long as u16).to_be_bytes());
        }
        longer => {
            bytes.push(0xff);
            bytes.extend_from_slice(&(longer as u64).to_be_bytes());
        }
    }
    let mask = [9, 8, 7, 6];
    bytes.extend_from_slice(&mask);
    let at = bytes.len();
    bytes.extend_from_slice(payload);
    apply_mask(&mut bytes[at..], mask);
    bytes
}

// The handshake: rows 39–41 and 61, row 24 of part 2.

/// Through the real parser; a row that is refused never reaches the worker.
#[tokio::test]
async fn row_41_handshakes_that_are_refused() {
    let site = site(|settings| settings.websocket_origins = vec!["https://b.example".into()]).await;
    let get = "GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    for (name, more, status) in [
        ("no version", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 426),
        ("version 8", "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 426),
        ("no key", version, 400),
        ("a bad key", &format!("{version}Sec-WebSocket-Key: short\r\n"), 400),
        ("two keys", &format!("{KEY}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400),
        ("a body", &format!("{KEY}Content-Length: 5\r\n"), 400),
        ("no origin", KEY, 403),
        ("another origin (row 61)", &format!("{KEY}Origin: https://a.example\r\n"), 403),
        ("null", &format!("{KEY}Origin: null\r\n"), 403),
        ("a longer one", &format!("{KEY}Origin: https://b.example.evil\r\n"), 403),
        ("two", &format!("{KEY}Origin: https://b.example\r\nOrigin: https://b.example\r\n"), 403),
    ] {
        let mut client = site.connect();
        // What looks like a request behind it is not read as one.
        client.write(format!("{get}{more}\r\nhelloGET /-/live HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
        let head = client.head().await;
        assert_eq!(head.status, status, "{name}");
        assert!(head.has("Connection: close"), "{name}");
        if status == 426 {
            for line in ["Sec-WebSocket-Version: 13", "Upgrade: websocket", "Connection: Upgrade"] {
                assert!(head.has(line), "{}", head.text);
            }
        }
        soon("the end", client.stream.read_to_end(&mut client.buffer)).await.unwrap();
        assert!(!String::from_utf8_lossy(&client.buffer).contains("HTTP/1.1"), "{name}: one answer");
    }
}

#[tokio::test]
async fn origins_that_are_let_in() {
    let mut site =
        site(|settings| settings.websocket_origins = vec!["same".into(), "https://b.example".into()]).await;
    for (origin, let_in) in [
        ("http://a.example", true),
        ("http://A.example:80", true),
        ("https://b.example", true),
        ("https://a.example", false),
        ("http://a.example:8000", false),
        ("http://a.example.evil", false),
        ("a.example", false),
    ] {
        let mut client = site.connect();
        client.ask(&format!("Origin: {origin}\r\n")).await;
        if let_in {
            let got = site.worker.begin().await;
            site.worker.accept(&got, &[]).await;
        }
        assert_eq!(client.head().await.status, if let_in { 101 } else { 403 }, "{origin}");
        drop(client);
        if let_in {
            assert_eq!(site.worker.frame().await.closed().0, 1006);
        }
    }
}

#[tokio::test]
async fn a_project_without_websockets_gets_a_plain_request() {
    let shared = super::super::h1::tests::shared(|_| {});
    let mut site = site_of(shared, r#"{"interface":"both","websockets":false}"#).await;
    let mut client = site.connect();
    client.ask("").await;
    let mut decoder = Decoder::default();
    let header = soon("a request", async {
        loop {
            if let Some(frame) = decoder.next().unwrap() {
                return frame.header;
            }
            let read = site.worker.channel.read(decoder.space()).await.unwrap();
            decoder.advance(read);
        }
    })
    .await;
    assert!(header.kind == Kind::Request && !header.flags.has(Flags::WEBSOCKET));
    let got = Got { header, payload: Vec::new() };
    site.worker.say(Kind::Response, Flags::WHOLE, &got, &head(200, &[])).await;
    let head = client.head().await;
    assert!(head.status == 200 && !head.has("Connection: close") && !head.text.contains("Upgrade"));
}

#[tokio::test]
async fn row_39_what_an_app_may_say_before_it_accepts() {
    let mut site = site(|_| {}).await;
    for (status, body) in [(403, ""), (500, ""), (401, "log in first")] {
        let (mut client, got) = site.ask("").await;
        let (request, _, _) = RequestHead::decode(&got.payload).unwrap();
        assert_eq!(
            (request.method, request.path, request.query),
            (&b"GET"[..], &b"/chat"[..], &b"room=1"[..])
        );
        let mut payload = head(status, &[("X-Why", "because")]);
        payload.extend_from_slice(body.as_bytes());
        site.worker.say(Kind::Response, Flags::WHOLE, &got, &payload).await;
        let head = client.head().await;
        assert_eq!(head.status, status);
        assert!(head.has("X-Why: because") && !head.has("Connection: close"));
        assert!(body.is_empty() || client.fill(body.len()).await);
        assert_eq!(std::mem::take(&mut client.buffer), body.as_bytes());
        client.write(b"GET /-/live HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        assert_eq!(client.head().await.status, 200, "the connection can be used");
    }
}

#[tokio::test]
async fn row_39_an_app_that_does_not_answer() {
    let mut site = site(|settings| settings.websocket_timeout = SHORT).await;
    let (mut client, _got) = site.ask("").await;
    assert_eq!(client.head().await.status, 504);
    assert_eq!(site.worker.frame().await.closed(), (1006, String::new()));
}

#[tokio::test]
async fn row_39_a_worker_that_dies_before_it_accepts() {
    let mut site = site(|_| {}).await;
    let (mut client, _got) = site.ask("").await;
    drop(site.worker);
    assert_eq!(client.head().await.status, 502);
    assert!(matches!(soon("its end", site.notices.recv()).await, Some(Notice::Lost { .. })));
}

#[tokio::test]
async fn row_40_what_an_app_says_with_its_acceptance() {
    let mut site = site(|_| {}).await;
    let offered = "Sec-WebSocket-Protocol: chat, v1.json\r\nSec-WebSocket-Protocol: v2.json\r\n";
    for (fields, status, has, has_not) in [
        (&[][..], 101, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "sec-websocket-protocol"),
        (&[("sec-websocket-protocol", "v2.json")], 101, "Sec-WebSocket-Protocol: v2.json", "v1"),
        (&[("Sec-WebSocket-Protocol", "chat"), ("X-A", "1")], 101, "X-A: 1", "json"),
        (&[("set-cookie", "a=1"), ("sec-websocket-accept", "evil")], 101, "set-cookie: a=1", "evil"),
        (&[("sec-websocket-extensions", "evil")], 101, "Connection: Upgrade", "evil"),
        (&[("content-length", "5"), ("transfer-encoding", "chunked")], 101, "Upgrade: websocket", "chunked"),
        (&[("connection", "close"), ("upgrade", "evil")], 101, "Upgrade: websocket", "close"),
        (&[("sec-websocket-protocol", "v3.json")], 502, "Cache-Control: no-store", "v3"),
        (&[("sec-websocket-protocol", "Chat")], 502, "Cache-Control: no-store", "Chat"),
        (
            &[("sec-websocket-protocol", "chat"), ("sec-websocket-protocol", "chat")],
            502,
            "Cache-Control: no-store",
            "chat",
        ),
        (&[("sec-websocket-protocol", "chat\r\nX: y")], 502, "Cache-Control: no-store", "chat"),
        (&[("x", "a\nb")], 502, "Cache-Control: no-store", "a\n"),
        (&[("a b", "c")], 502, "Cache-Control: no-store", "a b"),
    ] {
        let (mut client, got) = site.ask(offered).await;
        assert_eq!(got.field("sec-websocket-protocol").as_deref(), Some("chat, v1.json"));
        site.worker.accept(&got, fields).await;
        let head = client.head().await;
        assert_eq!(head.status, status, "{fields:?}");
        assert!(head.has(has) && !head.text.contains(has_not), "{fields:?}: {}", head.text);
        assert!(head.text.contains("Date: ") && head.text.contains("X-Request-ID: "));
        drop(client);
        assert_eq!(site.worker.frame().await.closed().0, 1006);
        site.worker.close(&got, 1006, "").await;
    }
}

/// Part 2, row 24: what follows the head is a frame only once the app has accepted.
#[tokio::test]
async fn row_24_frames_before_the_101() {
    let mut site = site(|_| {}).await;
    let mut client = site.connect();
    let head_and_frame =
        format!("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{KEY}\r\n");
    client.write(&[head_and_frame.as_bytes(), &masked(PING, b"early")].concat()).await;
    let got = site.worker.begin().await;
    site.worker.accept(&got, &[]).await;
    assert_eq!(client.head().await.status, 101, "the head comes first");
    assert_eq!(client.frame().await, (PONG, b"early".to_vec()));
    let mut client = site.connect();
    client.write(&[head_and_frame.as_bytes(), b"GET /-/live HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await;
    let got = site.worker.begin().await;
    site.worker.say(Kind::Response, Flags::WHOLE, &got, &head(403, &[])).await;
    assert_eq!(client.head().await.status, 403);
    client.over().await;
}

// Messages: rows 41, 43 and 61.

#[tokio::test]
async fn row_41_messages_go_both_ways_whole() {
    let mut site = site(|_| {}).await;
    let (mut client, got) = site.open("").await;
    client.send(0x01, b"Hel").await;
    client.send(PING, b"there?").await;
    assert_eq!(client.frame().await, (PONG, b"there?".to_vec()), "answered within a message");
    client.send(0x80, b"lo").await;
    client.send(BINARY, &[0xff; 300]).await;
    client.send(TEXT, b"").await;
    for (text, bytes) in [(true, &b"Hello"[..]), (false, &[0xff; 300]), (true, b"")] {
        assert_eq!(site.worker.frame().await.message(), (text, true, bytes));
    }
    for (flags, first, message) in [
        (Flags::TEXT.with(Flags::WHOLE), TEXT, &b"hi"[..]),
        (Flags::WHOLE, BINARY, &[0xfe; 200]),
        (Flags::TEXT, 0x01, b"in "),
        (Flags::TEXT, 0x00, b"three "),
        (Flags::TEXT.with(Flags::WHOLE), 0x80, b"pieces"),
        (Flags::WHOLE, BINARY, &[7; 70_000]),
    ] {
        site.worker.send(&got, flags, message).await;
        assert_eq!(client.frame().await, (first, message.to_vec()));
        let cost = limits::message_cost(message.len());
        assert_eq!(site.worker.frame().await.granted(), cost, "credit comes back");
    }
}

#[tokio::test]
async fn row_41_a_large_message_comes_in_pieces() {
    let mut site = site(|_| {}).await;
    let (mut client, _got) = site.open("").await;
    let message: Vec<u8> = (0..limits::PIECE_MAX + 1000).map(|n| n as u8).collect();
    client.send(BINARY, &message).await;
    let (first, last) = (site.worker.frame().await, site.worker.frame().await);
    assert_eq!(first.message(), (false, false, &message[..limits::PIECE_MAX]));
    assert_eq!(last.message(), (false, true, &message[limits::PIECE_MAX..]));
}

#[tokio::test]
async fn rows_41_and_61_what_ends_a_websocket() {
    let mut site = site(|settings| settings.websocket_max_size = 10_000).await;
    let bomb = {
        let mut out = Vec::new();
        Deflater::borrow(15).deflate(&vec![0; 1 << 20], true, &mut out);
        out
    };
    let flood = masked(0x00, &[1; 100]).repeat(101);
    for (name, bytes, code) in [
        ("an unmasked frame", b"\x81\x05Hello".to_vec(), 1002),
        ("a reserved bit", masked(0xa1, b""), 1002),
        ("an unknown opcode", masked(0x83, b""), 1002),
        ("a continuation of nothing", masked(0x80, b""), 1002),
        ("a ping in fragments", masked(0x09, b""), 1002),
        ("a close that may not be sent", masked(CLOSE, b"\x03\xed"), 1002),
        ("not UTF-8", masked(TEXT, b"a\xff"), 1007),
        ("not UTF-8 so far", masked(0x01, b"a\xff"), 1007),
        ("1 GiB", b"\x82\xff\x00\x00\x00\x00\x40\x00\x00\x00mask".to_vec(), 1009),
        ("a flood of fragments", [masked(0x02, b""), flood].concat(), 1009),
        ("a flood of empty fragments", [masked(0x02, b""), masked(0x00, b"").repeat(2000)].concat(), 1009),
        ("a bomb", masked(0xc2, &bomb), 1009),
        ("not deflate", masked(0xc2, b"\xff\xff\xff"), 1007),
    ] {
        let (mut client, got) = site.open("Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
        client.write(&bytes).await;
        assert_eq!(client.closed().await, Some(code), "{name}");
        client.over().await;
        let (told, reason) = site.worker.frame().await.closed();
        assert!(told == code && !reason.is_empty(), "{name}: {told} {reason}");
        site.worker.close(&got, 1006, "").await;
    }
}

#[tokio::test]
async fn row_43_compression() {
    let mut site = site(|_| {}).await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n";
    let (mut client, got) = site.ask(offer).await;
    site.worker.accept(&got, &[]).await;
    let answer = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                  client_no_context_takeover; server_max_window_bits=10";
    assert!(client.head().await.has(answer));
    let message = "the same again and again, ".repeat(100);
    let mut squeezed = Vec::new();
    Deflater::borrow(15).deflate(message.as_bytes(), true, &mut squeezed);
    for _ in 0..2 {
        client.send(0xc1, &squeezed).await;
        assert_eq!(site.worker.frame().await.message(), (true, true, message.as_bytes()));
    }
    let whole = Flags::TEXT.with(Flags::WHOLE);
    for (message, most) in
        [(message.as_bytes(), message.len() / 4), (b"short", 7), (message.as_bytes(), message.len() / 4)]
    {
        site.worker.send(&got, whole, message).await;
        let (found, payload) = client.frame().await;
        assert_eq!(found, 0xc1);
        assert!(payload.len() <= most);
        let cost = limits::message_cost(message.len());
        assert_eq!(site.worker.frame().await.granted(), cost, "what the app said is what counts");
    }
    let mut plain = site_of(
        super::super::h1::tests::shared(|settings| settings.websocket_compress = false),
        r#"{"interface":"asgi"}"#,
    )
    .await;
    let (mut client, got) = plain.ask(offer).await;
    plain.worker.accept(&got, &[]).await;
    assert!(!client.head().await.text.contains("Extensions"));
}

#[tokio::test]
async fn row_43_an_app_that_takes_nothing_stops_its_client() {
    let silence = Duration::from_millis(150);
    let mut site = site(|settings| settings.websocket_ping = Some(silence)).await;
    let (client, got) = site.open("").await;
    // A quarter of the window each, with what a message costs beside its bytes.
    let quarter = limits::WINDOW / 4;
    let bytes = quarter - limits::message_cost(0);
    let piece = vec![1; bytes];
    let (mut reading, mut writing) = client.stream.into_split();
    let sending = tokio::spawn(async move {
        for _ in 0..40 {
            writing.write_all(&masked(BINARY, &piece)).await.unwrap();
        }
    });
    for _ in 0..4 {
        assert_eq!(site.worker.frame().await.message().2.len(), bytes);
    }
    let asked = tokio::time::timeout(2 * silence, reading.read(&mut [0])).await;
    assert!(asked.is_err(), "who cannot be heard is not asked");
    for left in (0..36).rev() {
        // What the sockets hold is less than twenty of them.
        assert!(left < 20 || !sending.is_finished());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(site.worker.lane.try_read(&mut [0]).is_err(), "nothing past the credit");
        site.worker.say(Kind::Want, Flags::NONE, &got, &(quarter as u32).to_le_bytes()).await;
        assert_eq!(site.worker.frame().await.message().2.len(), bytes);
    }
    soon("all is taken", sending).await.unwrap();
}

#[tokio::test]
async fn row_43_a_client_that_takes_nothing_stops_its_app() {
    let mut site = site(|settings| settings.send_timeout = Duration::from_millis(300)).await;
    let (client, got) = site.open("").await;
    let piece = vec![1; 64 * 1024];
    let mut granted = 0;
    let mut sent = 0;
    // A window, and what comes back for what the socket took.
    for _ in 0..limits::WINDOW / piece.len() {
        site.worker.send(&got, Flags::WHOLE, &piece).await;
        sent += piece.len();
    }
    let told = loop {
        let frame = site.worker.frame().await;
        if frame.header.kind != Kind::Grant {
            break frame.closed();
        }
        granted += frame.granted();
        site.worker.send(&got, Flags::WHOLE, &piece).await;
        sent += piece.len();
        assert!(sent < 8 * limits::WINDOW, "it is stopped");
    };
    assert!(granted < sent && told.0 == 1006, "{told:?}");
    drop(client);
}

#[tokio::test]
async fn row_43_silence_is_asked_about() {
    let mut site = site(|settings| {
        settings.websocket_ping = Some(SHORT);
        settings.websocket_timeout = SHORT;
    })
    .await;
    let (mut client, _got) = site.open("").await;
    let (first, one) = client.frame().await;
    assert_eq!(first, PING);
    client.send(PONG, &one).await;
    let (first, two) = client.frame().await;
    assert!(first == PING && one != two, "asked again, in other words");
    assert_eq!(client.closed().await, Some(1011));
    assert_eq!(site.worker.frame().await.closed().0, 1006);
}

/// Whoever asks without end and takes no answers is not read any more.
#[tokio::test]
async fn a_flood_of_pings_costs_no_memory() {
    let mut site = site(|_| {}).await;
    let (client, _got) = site.open("").await;
    let (mut reading, mut writing) = client.stream.into_split();
    let flood = masked(PING, &[5; 125]).repeat(100);
    let sending = tokio::spawn(async move {
        for _ in 0..500 {
            writing.write_all(&flood).await.unwrap();
        }
        writing
    });
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!sending.is_finished(), "it is stopped");
    let mut taken = 0;
    let mut bytes = vec![0; 64 * 1024];
    while taken < 500 * 100 * 127 {
        let read = soon("pongs", reading.read(&mut bytes)).await.unwrap();
        assert!(read > 0);
        taken += read;
    }
    soon("all is sent", sending).await.unwrap();
}

// Ends: rows 42 and 44.

#[tokio::test]
async fn row_42_a_client_that_closes() {
    let mut site = site(|_| {}).await;
    for (payload, echoed, told) in [
        (&b""[..], None, (1005, "")),
        (b"\x03\xe8", Some(1000), (1000, "")),
        (b"\x0f\xa0so long", Some(4000), (4000, "so long")),
    ] {
        let (mut client, got) = site.open("").await;
        client.send(TEXT, b"last words").await;
        client.send(CLOSE, payload).await;
        client.send(TEXT, b"too late").await;
        assert_eq!(client.closed().await, echoed);
        assert_eq!(site.worker.frame().await.message().2, b"last words");
        assert_eq!(site.worker.frame().await.closed(), (told.0, told.1.to_owned()), "and nothing behind it");
        client.over().await;
        site.worker.close(&got, 1000, "").await;
    }
}

#[tokio::test]
async fn row_42_a_client_that_is_gone() {
    let mut site = site(|_| {}).await;
    let (client, got) = site.open("").await;
    drop(client);
    assert_eq!(site.worker.frame().await.closed(), (1006, String::new()));
    site.worker.close(&got, 1006, "").await;
    let (mut client, _got) = site.open("").await;
    client.send(0x01, b"half a mess").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(site.worker.frame().await.closed(), (1006, String::new()));
    client.over().await;
}

#[tokio::test]
async fn row_42_an_app_that_closes() {
    let mut site = site(|_| {}).await;
    for (code, sent) in
        [(1000, Some(1000)), (4321, Some(4321)), (1005, None), (1006, Some(1011)), (0, Some(1011))]
    {
        let (mut client, got) = site.open("").await;
        site.worker.send(&got, Flags::WHOLE, b"last words").await;
        site.worker.close(&got, code, "bye").await;
        assert_eq!(client.frame().await, (BINARY, b"last words".to_vec()));
        assert_eq!(client.closed().await, sent);
        // The client may still talk before it closes; nobody listens.
        client.send(TEXT, b"wait").await;
        client.send(CLOSE, b"\x03\xe8").await;
        client.over().await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_close_is_left() {
    let mut site = site(|settings| settings.websocket_timeout = SHORT).await;
    let (mut client, got) = site.open("").await;
    site.worker.close(&got, 1000, "").await;
    assert_eq!(client.closed().await, Some(1000));
    client.over().await;
}

#[tokio::test]
async fn row_42_a_worker_that_dies_or_leaves() {
    let mut site = site(|_| {}).await;
    let (mut client, got) = site.open("").await;
    site.shared.pool.retire(1, None);
    assert_eq!(client.closed().await, Some(1012));
    client.send(CLOSE, b"\x03\xf4").await;
    client.over().await;
    assert_eq!(site.worker.frame().await.closed().0, 1012);
    site.worker.close(&got, 1012, "").await;

    let mut site = self::site(|_| {}).await;
    let (mut client, _got) = site.open("").await;
    drop(site.worker);
    assert_eq!(client.closed().await, Some(1012));
    client.send(CLOSE, b"\x03\xf4").await;
    client.over().await;
}

#[tokio::test]
async fn row_44_a_server_that_stops() {
    let mut site = site(|_| {}).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(site.open("").await.0);
    }
    site.shared.phase.send_replace(Phase::Draining);
    site.shared.connections.wake_all();
    for client in &mut open {
        assert_eq!(client.closed().await, Some(1012));
        assert_eq!(site.worker.frame().await.closed().0, 1012);
        client.send(CLOSE, b"\x03\xf4").await;
        client.over().await;
    }
    soon("all are gone", async {
        while site.shared.connections.len() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

// What it costs, and what is written down.

/// Five thousand of them are open at once: what one holds is counted here.
#[tokio::test]
async fn a_websocket_at_rest_is_small() {
    let site = site(|_| {}).await;
    let (ours, _client) = UnixStream::pair().unwrap();
    let ends = Ends { peer: None, local: None, peer_text: AddressText::new(None) };
    let place = registry::enter(&site.shared, None).unwrap();
    let mut connection = Connection::new(site.shared.clone(), Stream::Unix(ours), ends, None, place);
    let request = crate::dispatch::Request {
        payload: Vec::new(),
        flags: Flags::WEBSOCKET,
        descriptor: None,
        repeatable: false,
        name: crate::observe::request_id::RequestId::new(),
        lane: crate::dispatch::Lane::Loop,
    };
    let ticket = site.shared.pool.submit(request);
    let record = crate::observe::record::Record::of_refused(None, None, std::time::Instant::now());
    let inner =
        size_of_val(&super::run(&mut connection, super::Upgraded { ticket, deflate: Some(15), record }));
    let outer = size_of_val(&connection.run());
    assert!(inner <= 1536 && outer <= 1024, "{inner} bytes, in a connection of {outer}");
}

#[tokio::test]
async fn one_line_in_the_access_log_when_it_ends() {
    let folder = std::env::temp_dir().join(format!("websocket-log-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("access.log");
    let log = AccessLog::open(&Destination::File(file.clone()), LogFormat::Json, None).unwrap();
    let settings = super::super::h1::tests::shared(|_| {}).state().settings.clone();
    let shared = Arc::new(crate::server::share(&settings, log.map(Arc::new)));
    let mut site = site_of(shared, r#"{"interface":"asgi"}"#).await;
    let (mut client, got) = site.open("").await;
    client.send(TEXT, b"four").await;
    site.worker.frame().await;
    site.worker.send(&got, Flags::WHOLE, b"sixsix").await;
    client.frame().await;
    client.send(CLOSE, b"").await;
    client.closed().await;
    client.over().await;
    site.shared.state().access_log.as_ref().unwrap().flush();
    let line = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let record: serde_json::Value = serde_json::from_str(line.trim_end()).unwrap();
    assert_eq!(record["status"], 101);
    assert_eq!(
        (record["bytes_in"].as_u64(), record["bytes_out"].as_u64()),
        (Some(6 + 4 + 6), Some(2 + 6 + 2))
    );
    assert_eq!((record["path"].as_str(), record["worker"].as_u64()), (Some("/chat"), Some(1)));
}
