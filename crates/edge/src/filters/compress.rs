//! Which answers leave compressed, and with what.
//!
//! Owns the decision (RFC 9110 §8.4, §12.5.3) and what an answer loses and gains by it: `Content-Encoding`, `Vary`, a weak
//! entity tag, no length that is not known, no promise of ranges. Leaves the compressing to `body::encode`. Files are left
//! as they are: those of static roots have compressed siblings, and of the rest a client may want a range.
//! Invariant: nothing is compressed twice, nothing against `no-transform`, and `Vary` names the choice wherever there was one.
//! BREACH: an answer to a cross-site request with cookies is not compressed; `docs/guides/compression.md` has the whole.

use std::num::NonZeroUsize;
use std::sync::LazyLock;
use std::time::Duration;

use bandstand_config::Settings;
use bandstand_semantics::Fields;
use bandstand_semantics::negotiate::{Coding, choose_first};
use bandstand_wire::limits::WINDOW;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::body::encode::{self, Encoder};
use crate::dispatch::{Event, Failure, Ticket};
use crate::exchange::{Answer, AnswerBody, Exchange};
use crate::refusal::Refusal;

/// Ours for ties, quickest first: a page is made once and read once. Brotli is for those who take nothing else.
const ORDER: [Coding; 4] = [Coding::Zstd, Coding::Gzip, Coding::Br, Coding::Identity];

/// From this size on a body is compressed beside the event loop: it would hold up others for a quarter of a millisecond.
const ASIDE_BYTES: usize = 64 * 1024;

/// A body of known length up to this size is waited for and compressed at one go, as long as it comes without a pause. It
/// is what the worker may send before any of it has been taken.
const GATHER_BYTES: u64 = WINDOW as u64;
const GATHER_TIME: Duration = Duration::from_millis(50);

/// As many bodies are compressed beside the loop at once as there are processors.
static ASIDE: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, NonZeroUsize::get)));

/// An answer that comes in several frames although the app had all of it, and that is to be compressed: its body at one go.
/// Comes before the filters: what fails here can still be told.
///
/// # Errors
/// The app broke off; nothing of the answer has left.
pub(crate) async fn gather(
    settings: &Settings,
    exchange: &mut Exchange,
    answer: &mut Answer,
) -> Result<(), Refusal> {
    let is_piecemeal = matches!(answer.body, AnswerBody::Stream { .. })
        && answer.length.is_some_and(|length| length <= GATHER_BYTES)
        && !answer.unbuffered;
    if is_piecemeal && !exchange.is_head() && matches!(plan(settings, exchange, answer), Plan::Code(_)) {
        Box::pin(receive(exchange, answer)).await?;
    }
    Ok(())
}

/// Compresses the answer, if it and its client are of that kind.
pub(crate) async fn apply(settings: &Settings, exchange: &Exchange, answer: &mut Answer) {
    match plan(settings, exchange, answer) {
        Plan::Leave => {}
        Plan::Confirm => weaken_as_asked(exchange, answer),
        Plan::Vary => add_vary(&mut answer.fields),
        Plan::Code(coding) => {
            add_vary(&mut answer.fields);
            // What GET would be told, as far as it is known (RFC 9110 §9.3.2).
            match exchange.is_head() {
                true => dress(answer, coding, None),
                false => Box::pin(compress(answer, coding)).await,
            }
        }
    }
    // An app says `identity` to be left alone; on the wire the word means nothing (RFC 9110 §8.4.1).
    if answer.fields.first("content-encoding").is_some_and(is_identity) {
        answer.fields.remove("content-encoding");
    }
}

/// What is to be done with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// It has no other form.
    Leave,
    /// A 304: it may be about a compressed form.
    Confirm,
    /// It has, and this client gets it as it is.
    Vary,
    Code(Coding),
}

fn plan(settings: &Settings, exchange: &Exchange, answer: &Answer) -> Plan {
    if answer.shared_fields.is_some() || !settings.at(&exchange.path).compress {
        return Plan::Leave;
    }
    if answer.status == 304 {
        return Plan::Confirm;
    }
    let is_small = answer.length.is_some_and(|length| length < settings.compress_min);
    if is_small || !may_compress(answer, exchange.is_head(), &settings.compress_types) {
        return Plan::Leave;
    }
    match choose_first(exchange.fields.all("accept-encoding"), &ORDER) {
        _ if is_cross_site(&exchange.fields) => Plan::Vary,
        // Nothing acceptable: as it is, which every client can read.
        None | Some(Coding::Identity) => Plan::Vary,
        Some(coding) => Plan::Code(coding),
    }
}

/// Fields that hold for these very bytes (RFC 9530 §2, §3; RFC 3230 §4.3.2; RFC 1864): compressed they would be wrong.
const OF_THESE_BYTES: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// Whether this is an answer that has a compressed form.
fn may_compress(answer: &Answer, head: bool, types: &[String]) -> bool {
    let has_body = match &answer.body {
        AnswerBody::Memory(_) | AnswerBody::Frame(..) | AnswerBody::Stream { .. } => true,
        AnswerBody::Empty => head,
        AnswerBody::File { .. } | AnswerBody::Parts(_) | AnswerBody::Upgrade(_) => false,
    };
    let fields = &answer.fields;
    has_body
        && !answer.is_bodiless()
        && answer.status != 206
        && !fields.contains("content-encoding")
        && !fields.contains("content-range")
        && !OF_THESE_BYTES.iter().any(|name| fields.contains(name))
        && fields.first("content-type").is_some_and(|value| is_listed(value, types))
        && !has_directive(fields, b"no-transform")
}

fn is_identity(value: &[u8]) -> bool {
    value.trim_ascii().eq_ignore_ascii_case(Coding::Identity.as_str().as_bytes())
}

/// Whether the types to compress name this one: `text/html`, `text/*` or `*+json`. A stream of events is compressed only
/// where it is named outright: each holds its compressor for hours, for messages of a few bytes.
fn is_listed(content_type: &[u8], types: &[String]) -> bool {
    let bare = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let is_events = bare.eq_ignore_ascii_case(b"text/event-stream");
    types.iter().map(String::as_bytes).any(|row| match row {
        _ if row.eq_ignore_ascii_case(bare) => true,
        _ if is_events => false,
        [b'*', end @ ..] => {
            bare.len() > end.len() && bare[bare.len() - end.len()..].eq_ignore_ascii_case(end)
        }
        [start @ .., b'*'] => bare.get(..start.len()).is_some_and(|bare| bare.eq_ignore_ascii_case(start)),
        _ => false,
    })
}

fn has_directive(fields: &Fields, wanted: &[u8]) -> bool {
    let directives = fields.all("cache-control").flat_map(|line| line.split(|&byte| byte == b','));
    directives.into_iter().any(|directive| directive.trim_ascii().eq_ignore_ascii_case(wanted))
}

/// The road of BREACH: somebody else's page makes a browser ask, with the cookies of whoever sits before it.
fn is_cross_site(asked: &Fields) -> bool {
    asked.contains("cookie")
        && asked.first("sec-fetch-site").is_some_and(|site| site.eq_ignore_ascii_case(b"cross-site"))
}

/// `Vary: Accept-Encoding`, once, beside what the app says.
fn add_vary(fields: &mut Fields) {
    let names = fields.all("vary").flat_map(|line| line.split(|&byte| byte == b','));
    let is_said = names
        .into_iter()
        .map(<[u8]>::trim_ascii)
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"));
    if is_said {
        return;
    }
    match fields.all("vary").collect::<Vec<_>>().join(&b", "[..]) {
        said if said.is_empty() => fields.push(b"Vary", b"Accept-Encoding"),
        said => fields.set("Vary", &[&said, &b", Accept-Encoding"[..]].concat()),
    }
}

async fn compress(answer: &mut Answer, coding: Coding) {
    let bytes = match &mut answer.body {
        AnswerBody::Stream { encoder, .. } => {
            *encoder = Encoder::new(coding).map(Box::new);
            if encoder.is_some() {
                dress(answer, coding, None);
            }
            return;
        }
        AnswerBody::Memory(bytes) => bytes.clone(),
        AnswerBody::Frame(payload, at) => {
            let bytes = Bytes::from(std::mem::take(payload)).slice(*at..);
            answer.body = AnswerBody::Memory(bytes.clone());
            bytes
        }
        _ => return,
    };
    // Fewer bytes than the app announced: the connection is cut for it, and nothing is mended here.
    if answer.length != Some(bytes.len() as u64) {
        return;
    }
    if let Some(made) = encoded(coding, bytes).await {
        dress(answer, coding, Some(made.len() as u64));
        answer.body = AnswerBody::Memory(made.into());
    }
}

async fn encoded(coding: Coding, bytes: Bytes) -> Option<Vec<u8>> {
    if bytes.len() <= ASIDE_BYTES {
        return encode::whole(coding, &bytes);
    }
    let _permit = ASIDE.acquire().await.ok()?;
    tokio::task::spawn_blocking(move || encode::whole(coding, &bytes)).await.ok()?
}

async fn receive(exchange: &mut Exchange, answer: &mut Answer) -> Result<(), Refusal> {
    let Some(length) = answer.length else { return Ok(()) };
    let AnswerBody::Stream { ticket, first, offset, .. } = &mut answer.body else { return Ok(()) };
    let until = tokio::time::sleep(GATHER_TIME);
    let mut until = std::pin::pin!(until);
    while ((first.len() - *offset) as u64) <= length {
        let event = tokio::select! {
            biased;
            event = next(ticket) => event,
            () = &mut until => return Ok(()),
        };
        match event {
            // Not told as consumed: what is not gathered in time is the sender's to tell, all of it.
            Event::Chunk(bytes) => first.extend_from_slice(&bytes),
            // A body whose length was announced has no trailers.
            Event::Trailers(_) => {}
            Event::End { broken: false, .. } => {
                exchange.trace = ticket.reply().trace();
                let whole = Bytes::from(std::mem::take(first)).slice(*offset..);
                answer.body = AnswerBody::Memory(whole);
                return Ok(());
            }
            Event::End { broken: true, .. } => return Err(Refusal::AppFailed),
            Event::Failed(Failure::TimedOut) => return Err(Refusal::AppTimeout),
            Event::Failed(_) => return Err(Refusal::WorkerDied),
            _ => return Err(Refusal::BadAnswer),
        }
    }
    Err(Refusal::BadAnswer) // more than was announced
}

async fn next(ticket: &Ticket) -> Event {
    std::future::poll_fn(|context| ticket.reply().poll_next(context)).await
}

/// The fields of an answer that is compressed; `length` where it is known.
fn dress(answer: &mut Answer, coding: Coding, length: Option<u64>) {
    answer.length = length;
    let fields = &mut answer.fields;
    fields.push(b"Content-Encoding", coding.as_str().as_bytes());
    fields.remove("accept-ranges");
    // The same content in other bytes: the tag of the original still says so, but no more than that (RFC 9110 §8.8.1).
    if let Some(etag) = fields.first("etag")
        && etag.starts_with(b"\"")
    {
        let weak = [b"W/", etag].concat();
        fields.set("ETag", &weak);
    }
}

/// The app confirms its strong tag to a client that has the weak one from us: with the strong one a cache would take none of
/// its stored answers for the one that is meant (RFC 9111 §4.3.4).
fn weaken_as_asked(exchange: &Exchange, answer: &mut Answer) {
    let Some(etag) = answer.fields.first("etag").filter(|etag| etag.starts_with(b"\"")) else { return };
    let weak = [b"W/", etag].concat();
    let mut asked = exchange.fields.all("if-none-match");
    if asked.any(|line| memchr::memmem::find(line, &weak).is_some()) {
        answer.fields.set("ETag", &weak);
        add_vary(&mut answer.fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::encode::tests::decoded;
    use crate::connection::h1::tests::request;

    const PAGE: &str = "<p>the same again and again</p>\n";

    fn settings() -> Settings {
        crate::connection::h1::tests::shared(|_| {}).state().settings.clone()
    }

    fn page(fields: &[(&str, &str)], bytes: usize) -> Answer {
        let mut answer = Answer::new(200);
        answer.fields = fields.iter().copied().collect();
        let body = PAGE.repeat(bytes / PAGE.len() + 1).into_bytes()[..bytes].to_vec();
        answer.length = Some(bytes as u64);
        answer.body = AnswerBody::Frame(body, 0);
        answer
    }

    async fn applied(asked: &str, answer: Answer) -> Answer {
        answered("GET /", asked, answer).await
    }

    async fn answered(line: &str, asked: &str, mut answer: Answer) -> Answer {
        let mut exchange = request(line, "a", 80);
        for (name, value) in asked.lines().filter_map(|line| line.split_once(": ")) {
            exchange.fields.push(name.as_bytes(), value.as_bytes());
        }
        apply(&settings(), &exchange, &mut answer).await;
        answer
    }

    fn body(answer: &Answer) -> Vec<u8> {
        match &answer.body {
            AnswerBody::Memory(bytes) => bytes.to_vec(),
            AnswerBody::Frame(payload, at) => payload[*at..].to_vec(),
            _ => Vec::new(),
        }
    }

    const HTML: (&str, &str) = ("Content-Type", "text/html; charset=utf-8");
    const ALL: &str = "Accept-Encoding: gzip, deflate, br, zstd\r\n";

    #[tokio::test]
    async fn row_76_by_quality_and_back() {
        for (accept, expected) in [
            (ALL, Some(Coding::Zstd)),
            ("Accept-Encoding: gzip, deflate, br\r\n", Some(Coding::Gzip)),
            ("Accept-Encoding: br\r\n", Some(Coding::Br)),
            ("Accept-Encoding: gzip;q=0.5, br;q=0.9\r\n", Some(Coding::Br)),
            ("Accept-Encoding: *\r\n", Some(Coding::Zstd)),
            ("Accept-Encoding: gzip;q=0\r\n", None),
            ("Accept-Encoding: identity;q=0\r\n", None),
            ("", None),
        ] {
            for size in [2_000, 100_000] {
                let answer =
                    applied(accept, page(&[HTML, ("ETag", "\"t\""), ("Accept-Ranges", "bytes")], size)).await;
                let coding = answer.fields.first("content-encoding");
                assert_eq!(coding, expected.map(|coding| coding.as_str().as_bytes()), "{accept}");
                assert_eq!(answer.fields.first("vary"), Some(&b"Accept-Encoding"[..]));
                assert_eq!(answer.length, Some(body(&answer).len() as u64));
                let etag: &[u8] = if expected.is_some() { b"W/\"t\"" } else { b"\"t\"" };
                assert_eq!(answer.fields.first("etag"), Some(etag));
                assert_eq!(answer.fields.contains("accept-ranges"), expected.is_none());
                let plain = decoded(expected.unwrap_or(Coding::Identity), &body(&answer));
                assert_eq!(plain, body(&page(&[], size)), "{accept}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_left_as_it_is() {
        let with = |field: (&'static str, &'static str)| page(&[HTML, field], 5_000);
        let small = page(&[HTML], 1_023);
        let mut partial = page(&[HTML], 5_000);
        partial.status = 206;
        for (what, answer) in [
            ("small", small),
            ("a picture", page(&[("Content-Type", "image/png")], 5_000)),
            ("a font", page(&[("Content-Type", "font/woff2")], 5_000)),
            ("events", page(&[("Content-Type", "text/event-stream")], 5_000)),
            ("no type", page(&[], 5_000)),
            ("coded already", with(("Content-Encoding", "gzip"))),
            ("identity", with(("Content-Encoding", "identity"))),
            ("no-transform", with(("Cache-Control", "private, No-Transform"))),
            ("a digest", with(("Content-Digest", "sha-256=:AA==:"))),
            ("a part", partial),
        ] {
            let before = body(&answer);
            let answer = applied(ALL, answer).await;
            assert_eq!(body(&answer), before, "{what}");
            assert!(!answer.fields.contains("vary"), "{what}");
            let coding = (what == "coded already").then_some(&b"gzip"[..]);
            assert_eq!(answer.fields.first("content-encoding"), coding, "{what}");
        }
    }

    #[tokio::test]
    async fn row_53_cross_site_with_cookies_is_not_compressed() {
        for (fields, compressed) in [
            ("Cookie: a=b\r\nSec-Fetch-Site: cross-site\r\n", false),
            ("Cookie: a=b\r\nSec-Fetch-Site: same-origin\r\n", true),
            ("Cookie: a=b\r\nSec-Fetch-Site: none\r\n", true),
            ("Sec-Fetch-Site: cross-site\r\n", true),
            ("Cookie: a=b\r\n", true),
        ] {
            let answer = applied(&format!("{ALL}{fields}"), page(&[HTML], 5_000)).await;
            assert_eq!(answer.fields.contains("content-encoding"), compressed, "{fields}");
            assert_eq!(answer.fields.first("vary"), Some(&b"Accept-Encoding"[..]), "{fields}");
        }
    }

    #[tokio::test]
    async fn vary_is_said_once() {
        for (said, expected) in [
            (&[][..], "Accept-Encoding"),
            (&[("Vary", "Cookie")], "Cookie, Accept-Encoding"),
            (&[("Vary", "Cookie"), ("vary", "Accept-Language")], "Cookie, Accept-Language, Accept-Encoding"),
            (&[("Vary", "Cookie, accept-encoding")], "Cookie, accept-encoding"),
            (&[("Vary", "*")], "*"),
        ] {
            let fields = [&[HTML], said].concat();
            for accept in ["", ALL] {
                let answer = applied(accept, page(&fields, 5_000)).await;
                let vary: Vec<_> = answer.fields.all("vary").collect();
                assert_eq!(vary, [expected.as_bytes()]);
            }
        }
    }

    #[tokio::test]
    async fn a_304_confirms_the_tag_that_was_sent() {
        for (asked_for, etag, expected) in [
            ("W/\"t\"", "\"t\"", "W/\"t\""),
            ("\"x\", W/\"t\"", "\"t\"", "W/\"t\""),
            ("\"t\"", "\"t\"", "\"t\""),
            ("W/\"t\"", "W/\"t\"", "W/\"t\""),
        ] {
            let mut answer = Answer::new(304);
            answer.fields.push(b"ETag", etag.as_bytes());
            let answer = applied(&format!("{ALL}If-None-Match: {asked_for}\r\n"), answer).await;
            assert_eq!(answer.fields.first("etag"), Some(expected.as_bytes()), "{asked_for}");
        }
    }

    #[tokio::test]
    async fn head_has_the_fields_of_get() {
        let mut answer = page(&[HTML], 0);
        answer.length = Some(5_000);
        let answer = answered("HEAD /", ALL, answer).await;
        assert_eq!(answer.fields.first("content-encoding"), Some(&b"zstd"[..]));
        assert_eq!(answer.length, None);
        let small = answered("HEAD /", ALL, page(&[HTML], 0)).await;
        assert_eq!((small.fields.contains("vary"), small.length), (false, Some(0)));
    }

    #[test]
    fn types() {
        let types = ["text/*", "application/json", "*+xml"].map(str::to_owned);
        for (content_type, expected) in [
            ("text/html", true),
            ("Text/HTML; charset=utf-8", true),
            ("application/json", true),
            ("application/jsonx", false),
            ("image/svg+xml", true),
            ("+xml", false),
            ("text/event-stream", false),
            ("application/pdf", false),
            ("", false),
        ] {
            assert_eq!(is_listed(content_type.as_bytes(), &types), expected, "{content_type}");
        }
        assert!(is_listed(b"text/event-stream; charset=utf-8", &["text/event-stream".to_owned()]));
    }
}
