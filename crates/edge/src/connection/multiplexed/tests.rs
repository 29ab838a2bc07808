//! Bodies in and out over a carrier that the test scripts: what is announced is what is sent, or the stream is reset.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bandstand_semantics::framing::Framing;
use bandstand_semantics::{Fields, Version};
use bandstand_wire::Flags;
use bytes::Bytes;
use http::{HeaderMap, Response};

use super::carrier::{Carrier, Code, Gone};
use super::send::{Asked, Broken, Sender};
use super::{Incoming, Timer};
use crate::body::backlog::Together;
use crate::connection::h1::tests::shared;
use crate::connection::incoming::BodyError;
use crate::dispatch::{Event, Lane, Request, Ticket};
use crate::exchange::{AddressText, Answer, AnswerBody, Authority, Ends, Exchange, TargetParts};
use crate::observe::record::Record;
use crate::observe::request_id::RequestId;
use crate::shared::Shared;

/// A client that takes `step` bytes at a time, `window` at most.
#[derive(Default)]
struct Script {
    step: usize,
    window: usize,
    body: VecDeque<Bytes>,
    is_gone: bool,
    released: usize,
    interims: Vec<u16>,
    head: Option<Response<()>>,
    got: Vec<u8>,
    trailers: Option<HeaderMap>,
    ended: bool,
    reset: Option<Code>,
}

impl Carrier for Script {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        if self.is_gone {
            return Poll::Ready(Some(Err(Gone)));
        }
        Poll::Ready(self.body.pop_front().map(Ok))
    }

    fn release(&mut self, bytes: usize) {
        self.released += bytes;
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.is_gone { Poll::Ready(()) } else { Poll::Pending }
    }

    fn send_interim(&mut self, head: Response<()>) -> Result<(), Gone> {
        self.interims.push(head.status().as_u16());
        Ok(())
    }

    fn send_head(&mut self, head: Response<()>, end: bool) -> Result<(), Gone> {
        assert!(self.head.replace(head).is_none() && !self.ended);
        self.ended = end;
        Ok(())
    }

    fn poll_room(&mut self, wanted: usize, _: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        match wanted.min(self.step).min(self.window) {
            0 if wanted > 0 => Poll::Pending,
            room => Poll::Ready(Ok(room)),
        }
    }

    fn send_data(&mut self, bytes: Bytes, end: bool) -> Result<(), Gone> {
        assert!(!self.ended, "nothing follows the end");
        assert!(bytes.len() <= self.window);
        self.window -= bytes.len();
        self.got.extend_from_slice(&bytes);
        self.ended = end;
        Ok(())
    }

    fn send_trailers(&mut self, fields: HeaderMap) -> Result<(), Gone> {
        assert!(!self.ended, "nothing follows the end");
        self.trailers = Some(fields);
        self.ended = true;
        Ok(())
    }

    fn poll_sent(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        assert!(self.ended);
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, code: Code) {
        assert!(!self.ended, "an end cannot be taken back");
        self.reset = Some(code);
    }
}

fn client() -> Script {
    Script { step: 1000, window: usize::MAX, ..Script::default() }
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

fn chunk(bytes: &[u8]) -> Event {
    Event::Chunk(bytes.to_vec())
}

const END: Event = Event::End { broken: false, service_us: 1 };

fn answer(length: Option<u64>, body: AnswerBody) -> Answer {
    let mut answer = Answer::new(200);
    answer.length = length;
    answer.body = body;
    answer
}

fn stream(shared: &Shared, events: impl IntoIterator<Item = Event>) -> AnswerBody {
    AnswerBody::Stream { ticket: ticket(shared, events), first: b"_abc".to_vec(), offset: 1, encoder: None }
}

static TOGETHER: LazyLock<Together> = LazyLock::new(Together::default);

fn asked() -> Asked<'static> {
    Asked { version: Version::Http2, head: false, request_id: b"", trailers: true, together: &TOGETHER }
}

async fn send(
    shared: &Arc<Shared>,
    client: &mut Script,
    answer: Answer,
    asked: Asked<'_>,
) -> Result<(), Broken> {
    let state = shared.state();
    let mut timer = Timer::default();
    let mut record = Record::of_refused(None, None, Instant::now());
    Sender::new(shared, &state, client, &mut timer).send(answer, asked, &mut record).await
}

/// Row 58: nobody may take a piece for the whole.
#[tokio::test]
async fn a_body_that_is_not_as_long_as_announced_resets_the_stream() {
    let shared = shared(|_| {});
    let frame = |body: &[u8]| AnswerBody::Frame(body.to_vec(), 0);
    let broken = Event::End { broken: true, service_us: 1 };
    for (length, body, whole) in [
        (Some(3), frame(b"abc"), true),
        (Some(0), frame(b""), true),
        (Some(0), AnswerBody::Empty, true),
        (None, AnswerBody::Empty, true),
        (Some(10), frame(b""), false),
        (Some(10), frame(b"abc"), false),
        (Some(2), frame(b"abc"), false),
        (Some(1), AnswerBody::Empty, false),
        (Some(6), stream(&shared, [chunk(b"def"), END]), true),
        (None, stream(&shared, [chunk(b"def"), END]), true),
        (None, stream(&shared, [END]), true),
        (Some(3), stream(&shared, [END]), true),
        (Some(6), stream(&shared, [END]), false),
        (Some(6), stream(&shared, [chunk(b"defg"), END]), false),
        (Some(6), stream(&shared, [chunk(b"def"), broken]), false),
    ] {
        let mut client = client();
        let result = send(&shared, &mut client, answer(length, body), asked()).await;
        let got = String::from_utf8_lossy(&client.got).into_owned();
        let expected =
            if whole { (Ok(()), None, true) } else { (Err(Broken::Answer), Some(Code::Internal), false) };
        assert_eq!((result, client.reset, client.ended), expected, "{length:?} {got:?}");
        assert!("abcdef".starts_with(&got), "nothing past what was announced");
    }
}

#[tokio::test]
async fn what_has_no_body_ends_with_its_head() {
    let shared = shared(|_| {});
    for (status, head, length, told) in [
        (200, true, Some(5), Some("5")),
        (204, false, None, None),
        (304, false, Some(5), None),
        (200, true, None, None),
    ] {
        let mut answer = answer(length, stream(&shared, [END]));
        answer.status = status;
        let mut client = client();
        send(&shared, &mut client, answer, Asked { head, ..asked() }).await.unwrap();
        let sent = client.head.unwrap();
        let told_length = sent.headers().get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!((told_length, client.ended, client.got.len()), (told, true, 0), "{status}");
    }
}

/// Row 59: nothing of HTTP/1 in a stream, and names in lower case.
#[tokio::test]
async fn fields_are_those_of_a_stream() {
    let shared = shared(|_| {});
    let mut answer = answer(Some(0), AnswerBody::Empty);
    answer.fields = Fields::new();
    for (name, value) in [("Connection", "close"), ("Upgrade", "x"), ("Keep-Alive", "5"), ("X-Own", "a")] {
        answer.fields.push(name.as_bytes(), value.as_bytes());
    }
    answer.fields.push(b"Set-Cookie", b"a=1");
    answer.fields.push(b"Set-Cookie", b"b=2");
    let mut client = client();
    send(&shared, &mut client, answer, Asked { request_id: b"id", ..asked() }).await.unwrap();
    let sent = client.head.unwrap();
    let names: Vec<_> = sent.headers().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["x-own", "set-cookie", "set-cookie", "date", "server", "x-request-id", "content-length"]
    );
    assert_eq!(sent.headers()["x-request-id"], "id");
}

#[tokio::test]
async fn trailers_end_the_answer_of_who_takes_them() {
    let shared = shared(|_| {});
    let mut payload = Vec::new();
    let fields: [(&[u8], &[u8]); 3] = [(b"Digest", b"x"), (b"Content-Length", b"9"), (b"set-cookie", b"a=b")];
    bandstand_wire::head::encode_trailers(fields.into_iter(), &mut payload);
    for (trailers, got) in [(true, Some(1)), (false, None)] {
        let body = stream(&shared, [chunk(b"def"), Event::Trailers(payload.clone()), END]);
        let mut client = client();
        send(&shared, &mut client, answer(None, body), Asked { trailers, ..asked() }).await.unwrap();
        assert_eq!(client.trailers.map(|fields| fields.len()), got);
        assert_eq!((client.got, client.ended), (b"abcdef".to_vec(), true));
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
        let pieces: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; 1500]).collect();
        let events = pieces.iter().map(|piece| chunk(piece)).chain([END]);
        let body = AnswerBody::Stream {
            ticket: ticket(&shared, events),
            first: Vec::new(),
            offset: 0,
            encoder: None,
        };
        let whole = pieces.concat();
        let mut client = client();
        send(&shared, &mut client, answer(Some(whole.len() as u64), body), asked()).await.unwrap();
        assert!(client.got == whole, "answer_buffer {answer_buffer}, spool_max {spool_max}");
    }
}

/// Row 30: the client's time is its own, however busy the worker is.
#[tokio::test]
async fn a_client_that_takes_nothing_is_reset() {
    let shared = shared(|settings| settings.send_timeout = Duration::from_millis(50));
    for body in [stream(&shared, [chunk(&[0; 5000])]), AnswerBody::Memory(Bytes::from(vec![0; 9000]))] {
        let length = if matches!(body, AnswerBody::Memory(_)) { Some(9000) } else { None };
        let mut client = Script { window: 1000, ..client() };
        let result = send(&shared, &mut client, answer(length, body), asked()).await;
        assert_eq!((result, client.reset), (Err(Broken::Client), Some(Code::Cancelled)));
        assert_eq!(client.got.len(), 1000);
    }
}

#[tokio::test]
async fn a_file_is_sent_in_pieces_and_a_shorter_one_resets() {
    let shared = shared(|_| {});
    let path = std::env::temp_dir().join(format!("stream-file-{}", std::process::id()));
    let whole: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    std::fs::write(&path, &whole).unwrap();
    let file = Arc::new(std::fs::File::open(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    for (offset, length, result) in
        [(0, 200_000, Ok(())), (7, 100, Ok(())), (100_000, 200_000, Err(Broken::Answer))]
    {
        let body = AnswerBody::File { file: file.clone(), offset, length };
        let mut client = Script { step: 70_000, ..client() };
        assert_eq!(send(&shared, &mut client, answer(Some(length), body), asked()).await, result);
        let got = &whole[offset as usize..][..client.got.len()];
        assert!(client.got == got && (result.is_err() || client.got.len() as u64 == length));
    }
}

fn exchange(framing: Framing) -> Exchange {
    let ends = Ends { peer: None, local: None, peer_text: AddressText::new(None) };
    let parts = TargetParts { raw_path: (0, 1), ..TargetParts::default() };
    let host = Authority::default();
    let fields = Fields::new();
    Exchange::new(ends, Version::Http2, b"POST", b"/", parts, host, fields, framing, Instant::now())
}

/// Rows 27, 40: a form that is shorter or longer than announced never reaches the app.
#[tokio::test]
async fn a_body_of_another_length_than_announced_is_malformed() {
    let shared = shared(|_| {});
    let state = shared.state();
    for (announced, pieces, whole) in [
        (Some(6), &[&b"abc"[..], b"def"][..], true),
        (None, &[b"abc", b"def"], true),
        (None, &[], true),
        (Some(0), &[], true),
        (Some(7), &[b"abc", b"def"], false),
        (Some(5), &[b"abc", b"def"], false),
        (Some(0), &[b"abc"], false),
    ] {
        let mut client = client();
        client.body = pieces.iter().map(|piece| Bytes::from_static(piece)).collect();
        let mut timer = Timer::default();
        let exchange = exchange(announced.map_or(Framing::None, Framing::Length));
        let mut incoming = Incoming::new(&mut client, &mut timer, &state, &exchange, false);
        let mut got = Vec::new();
        let result = loop {
            match incoming.read(&mut got).await {
                Ok(true) => {}
                other => break other,
            }
        };
        assert_eq!(result, if whole { Ok(false) } else { Err(BodyError::Malformed) }, "{announced:?}");
        assert_eq!(incoming.is_malformed, !whole);
        assert_eq!(client.released, got.len(), "the window opens as bytes are taken");
    }
}

/// Row 26: the word that lets the client send is said when somebody wants the body.
#[tokio::test]
async fn the_client_is_told_to_go_on_when_its_body_is_wanted() {
    let shared = shared(|_| {});
    let state = shared.state();
    let mut client = client();
    client.body.push_back(Bytes::from_static(b"abc"));
    let mut timer = Timer::default();
    let mut exchange = exchange(Framing::Length(3));
    exchange.expects_continue = true;
    let incoming = Incoming::new(&mut client, &mut timer, &state, &exchange, false);
    drop(incoming);
    assert!(client.interims.is_empty());
    let mut incoming = Incoming::new(&mut client, &mut timer, &state, &exchange, false);
    let mut got = Vec::new();
    while incoming.read(&mut got).await.unwrap() {}
    let hints: [(&[u8], &[u8]); 2] = [(b"link", b"</a.css>"), (b"connection", b"x")];
    incoming.send_hints(hints.into_iter()).await;
    assert_eq!((client.interims, got), (vec![100, 103], b"abc".to_vec()));
}

/// Row 34: what a worker still does for a client that has left can be counted until it ends.
#[tokio::test]
async fn work_for_a_client_that_has_left_leaves_a_trail() {
    let shared = shared(|_| {});
    let state = shared.state();
    let mut client = Script { is_gone: true, ..client() };
    let mut timer = Timer::default();
    let exchange = exchange(Framing::None);
    let mut incoming = Incoming::new(&mut client, &mut timer, &state, &exchange, true);
    let ticket = ticket(&shared, []);
    let held = ticket.share_reply();
    assert!(incoming.unless_broken(&ticket).await.is_err());
    let trail = incoming.trail.take().unwrap();
    drop(ticket);
    assert_eq!(trail.strong_count(), 1, "somebody works on it");
    drop(held);
    assert_eq!(trail.strong_count(), 0);
}
