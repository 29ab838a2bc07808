//! Bodies of answers on their way out, over a real socket: what is announced is what is sent, or the connection is cut.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bandstand_config::{Destination, LogFormat};
use bandstand_semantics::Version;
use bandstand_wire::Flags;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::super::head::{HeadLimits, Parsed, parse};
use super::super::registry;
use super::super::write::Asked;
use super::{Broken, Connection, Kept, Stream};
use crate::dev::Dev;
use crate::dispatch::{Event, Lane, Request, Ticket};
use crate::exchange::{AddressText, Answer, AnswerBody, Ends};
use crate::observe::record::{AccessLog, Record};
use crate::observe::request_id::RequestId;
use crate::shared::Shared;

/// Settings of which one or the other may be changed; no server behind them.
pub(crate) fn shared(change: impl FnOnce(&mut bandstand_config::Settings)) -> Arc<Shared> {
    let loaded = bandstand_config::load(bandstand_config::Sources {
        flags: Vec::new(),
        app_env: Vec::new(),
        env: Vec::new(),
        cwd: std::env::temp_dir(),
        cpus: NonZeroUsize::MIN,
        pid: 1,
        root: false,
    });
    let mut settings = loaded.unwrap().settings;
    change(&mut settings);
    Arc::new(crate::server::share(&settings, None))
}

/// `METHOD target` for this host from 192.0.2.1, on a plain port of ours; no stage has seen it.
pub(crate) fn request(line: &str, host: &str, port: u16) -> crate::exchange::Exchange {
    let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 4711));
    let local = std::net::SocketAddr::from(([192, 0, 2, 9], port));
    let ends = Ends { peer: Some(peer), local: Some(local), peer_text: AddressText::new(Some(peer.ip())) };
    let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    match parse(head.as_bytes(), ends, HeadLimits { bytes: 4096, fields: 10 }, Instant::now()) {
        Ok(Parsed::Request(exchange, _)) => *exchange,
        other => panic!("{line}: {:?}", other.err()),
    }
}

/// An exchange whose events the test pushes itself.
fn ticket(shared: &Shared, events: impl IntoIterator<Item = Event>) -> Ticket {
    let request = Request {
        payload: Vec::new(),
        flags: Flags::WHOLE,
        descriptor: None,
        repeatable: false,
        name: RequestId::new(),
        lane: Lane::Threads,
    };
    let ticket = shared.pool.submit(request);
    for event in events {
        assert!(ticket.reply().push(event).is_none());
    }
    ticket
}

/// Sends one answer to a client that reads all of it; what became of it, and what the client got after the head.
async fn sent(
    shared: &Arc<Shared>,
    length: Option<u64>,
    body: AnswerBody,
) -> (Result<Kept, Broken>, Vec<u8>) {
    sent_with_trailers(shared, length, body, false).await
}

/// The same to a client that takes trailers, or does not.
async fn sent_with_trailers(
    shared: &Arc<Shared>,
    length: Option<u64>,
    body: AnswerBody,
    trailers: bool,
) -> (Result<Kept, Broken>, Vec<u8>) {
    let (ours, mut client) = UnixStream::pair().unwrap();
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        got
    });
    let result = send(shared, ours, length, body, trailers).await;
    let got = reading.await.unwrap();
    let at = got.windows(4).position(|four| four == b"\r\n\r\n").map_or(got.len(), |at| at + 4);
    (result, got[at..].to_vec())
}

async fn send(
    shared: &Arc<Shared>,
    ours: UnixStream,
    length: Option<u64>,
    body: AnswerBody,
    trailers: bool,
) -> Result<Kept, Broken> {
    let ends = Ends { peer: None, local: None, peer_text: AddressText::new(None) };
    let place = registry::enter(shared, None).unwrap();
    let mut connection = Connection::new(shared.clone(), Stream::Unix(ours), ends, None, place);
    let mut answer = Answer::new(200);
    answer.length = length;
    answer.body = body;
    let asked = Asked { version: Version::Http11, head: false, keep: true, request_id: b"", trailers };
    let mut record = Record::of_refused(None, None, Instant::now());
    connection.send_answer(answer, asked, &mut record).await
}

/// Waits of pages come again and again and are no news; pages of an app below the same path are.
#[tokio::test]
async fn only_what_dev_itself_answers_is_left_out_of_the_access_log() {
    const PATHS: &[&str] = &["/-/dev/reload.js", "/-/dev/wait", "/-/dev/", "/-/dev/other", "/"];
    let folder = std::env::temp_dir().join(format!("dev-log-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let settings = shared(|_| {}).state().settings.clone();
    for (is_dev, logged) in [(true, &PATHS[2..]), (false, PATHS)] {
        let file = folder.join(format!("{is_dev}.log"));
        let log = AccessLog::open(&Destination::File(file.clone()), LogFormat::Json, None).unwrap().unwrap();
        let mut shared = crate::server::share(&settings, None);
        shared.dev = is_dev.then(Dev::for_tests);
        for path in PATHS {
            let ends = Ends { peer: None, local: None, peer_text: AddressText::new(None) };
            let limits = HeadLimits { bytes: 1024, fields: 10 };
            let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            let Ok(Parsed::Request(mut exchange, _)) = parse(head.as_bytes(), ends, limits, Instant::now())
            else {
                panic!("{path}")
            };
            crate::dev::pages::own(&shared, &mut exchange).await;
            Record::of(&exchange, Some(&log)).status = 200;
        }
        log.flush();
        let lines = std::fs::read_to_string(&file).unwrap();
        let records = lines.lines().map(|line| serde_json::from_str(line).unwrap());
        let seen: Vec<_> =
            records.map(|record: serde_json::Value| record["path"].as_str().unwrap().to_owned()).collect();
        assert_eq!(seen, logged, "dev: {is_dev}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn chunk(bytes: &[u8]) -> Event {
    Event::Chunk(bytes.to_vec())
}

const END: Event = Event::End { broken: false, service_us: 1 };

/// A client that keeps the connection would read the next answer as the rest of this one.
#[tokio::test]
async fn a_body_that_is_not_as_long_as_announced_cuts_the_connection() {
    let shared = shared(|_| {});
    let frame = |body: &[u8]| AnswerBody::Frame(body.to_vec(), 0);
    for (length, body, kept) in [
        (3, &b"abc"[..], Ok(Kept::Open)),
        (0, b"", Ok(Kept::Open)),
        (10, b"", Err(Broken::Answer)),
        (10, b"abc", Err(Broken::Answer)),
    ] {
        let (result, got) = sent(&shared, Some(length), frame(body)).await;
        assert_eq!((result, &got[..]), (kept, body), "{length}");
    }
    let (result, _) = sent(&shared, Some(1), AnswerBody::Empty).await;
    assert_eq!(result, Err(Broken::Answer));
}

#[tokio::test]
async fn a_stream_that_is_not_as_long_as_announced_cuts_the_connection() {
    let shared = shared(|_| {});
    let stream = |events: Vec<Event>| AnswerBody::Stream {
        ticket: ticket(&shared, events),
        first: b"_abc".to_vec(),
        offset: 1,
        encoder: None,
    };
    for (length, events, result, got) in [
        (Some(6), vec![chunk(b"def"), END], Ok(Kept::Open), &b"abcdef"[..]),
        (None, vec![chunk(b"def"), END], Ok(Kept::Open), b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"),
        (None, vec![END], Ok(Kept::Open), b"3\r\nabc\r\n0\r\n\r\n"),
        (None, vec![Event::End { broken: true, service_us: 1 }], Err(Broken::Answer), b"3\r\nabc\r\n"),
    ] {
        assert_eq!(sent(&shared, length, stream(events)).await, (result, got.to_vec()));
    }
    for events in [vec![END], vec![chunk(b"defg"), END]] {
        let (result, got) = sent(&shared, Some(6), stream(events)).await;
        assert_eq!(result, Err(Broken::Answer));
        assert!(b"abc".starts_with(&got[..]), "nothing past what was announced");
    }
}

/// Only to who takes them, only behind chunks, and never a field that the front of an answer must have.
#[tokio::test]
async fn trailers_leave_with_the_last_chunk() {
    let shared = shared(|_| {});
    let fields = |fields: &[(&[u8], &[u8])]| {
        let mut payload = Vec::new();
        bandstand_wire::head::encode_trailers(fields.iter().copied(), &mut payload);
        payload
    };
    let good = fields(&[(b"Digest", b"x"), (b"Content-Length", b"9"), (b"set-cookie", b"a=b"), (b"E", b"")]);
    let bad = fields(&[(b"Digest", b"x\r\nSet-Cookie: a=b")]);
    for (length, takes, payload, result, got) in [
        (None, true, &good, Ok(Kept::Open), &b"3\r\nabc\r\n0\r\nDigest: x\r\nE: \r\n\r\n"[..]),
        (None, false, &good, Ok(Kept::Open), b"3\r\nabc\r\n0\r\n\r\n"),
        (Some(3), true, &good, Ok(Kept::Open), b"abc"),
        (None, true, &bad, Err(Broken::Answer), b""),
    ] {
        let events = [chunk(b"abc"), Event::Trailers(payload.clone()), END];
        let ticket = ticket(&shared, events);
        let body = AnswerBody::Stream { ticket, first: Vec::new(), offset: 0, encoder: None };
        let (said, bytes) = sent_with_trailers(&shared, length, body, takes).await;
        assert_eq!(said, result);
        if result.is_ok() {
            assert_eq!(bytes, got);
        } else {
            assert!(!bytes.ends_with(b"0\r\n\r\n"), "never a clean end");
        }
    }
}

/// Memory, then the disk, then the disk's bound: every byte once, and in order.
#[tokio::test]
async fn what_the_client_does_not_take_yet_is_kept_in_order() {
    for (answer_buffer, spool_max) in [(1 << 20, 0), (1, 0), (1, 1), (1, 100_000), (64, 1 << 30)] {
        let shared = shared(|settings| {
            settings.answer_buffer = answer_buffer;
            settings.spool_max = spool_max;
        });
        let pieces: Vec<Vec<u8>> = (0..200u8).map(|n| vec![n; 4000]).collect();
        let events = pieces.iter().map(|piece| chunk(piece)).chain([END]);
        let body = AnswerBody::Stream {
            ticket: ticket(&shared, events),
            first: Vec::new(),
            offset: 0,
            encoder: None,
        };
        let whole = pieces.concat();
        let (result, got) = sent(&shared, Some(whole.len() as u64), body).await;
        assert_eq!(result, Ok(Kept::Open));
        assert!(got == whole, "answer_buffer {answer_buffer}, spool_max {spool_max}");
    }
}

/// However busy the worker is: the client's time is its own.
#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_though_the_worker_goes_on() {
    let shared = shared(|settings| settings.send_timeout = Duration::from_millis(50));
    let (ours, client) = UnixStream::pair().unwrap();
    let ticket = ticket(&shared, [chunk(&vec![0; 1 << 20])]);
    let reply = ticket.share_reply();
    let feeding = tokio::spawn(async move {
        loop {
            if let Some(waker) = reply.push(chunk(b"more")) {
                waker.wake();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let body = AnswerBody::Stream { ticket, first: Vec::new(), offset: 0, encoder: None };
    let result = tokio::time::timeout(Duration::from_secs(10), send(&shared, ours, None, body, false)).await;
    assert_eq!(result, Ok(Err(Broken::Client)));
    feeding.abort();
    drop(client);
}
