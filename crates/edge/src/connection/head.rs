//! From the bytes of an HTTP/1 head to an `Exchange`, or to the reason why it is refused.
//!
//! Owns the strictness of the front door (RFC 9112 §2–§6, `CHECKLIST.md` part 2 rows 1–17): httparse finds the pieces, and
//! everything it lets pass for old servers' sake is refused here. Pure: bytes in, value or refusal out.

use bandstand_semantics::framing::{Framing, FramingError, request_framing};
use bandstand_semantics::path::{Target, TargetError, parse_target};
use bandstand_semantics::text::{trim_ows, valid_field_name};
use bandstand_semantics::{Fields, Version, hop};
use std::mem::MaybeUninit;
use std::time::Instant;

use crate::exchange::{Authority, Ends, Exchange, TargetParts};
use crate::refusal::Refusal;

/// Longest method, in bytes.
pub(super) const METHOD_MOST: usize = 32;
/// Longest request line, in bytes (row 14).
pub(crate) const LINE_MOST: usize = 8 * 1024;
/// Empty lines taken before a request line.
const EMPTY_LINES_MOST: usize = 4;
/// Fields that httparse has room for; the setting may ask for fewer.
const FIELDS_ROOM: usize = 256;

/// Bounds of a head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// All fields together, in bytes.
    pub(crate) bytes: usize,
    /// Number of fields.
    pub(crate) fields: usize,
}

/// What the bytes so far are.
pub(crate) enum Parsed {
    /// The head has not ended yet.
    Partial,
    /// A request; its head took this many bytes. Boxed: it lives in a task that mostly waits.
    Request(Box<Exchange>, usize),
}

/// Reads a head from the start of `bytes`.
///
/// # Errors
/// Why these bytes can never become a request that is answered as one.
pub(crate) fn parse(
    bytes: &[u8],
    ends: Ends,
    limits: HeadLimits,
    started: Instant,
) -> Result<Parsed, Refusal> {
    let skipped = leading_empty_lines(bytes)?;
    let bytes = &bytes[skipped..];
    check_line_ends(bytes)?;
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_ROOM];
    let mut request = httparse::Request::new(&mut []);
    let status =
        httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, &mut room);
    let length = match status {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return partial(bytes, limits),
        Err(error) => return Err(parse_error(bytes, error)),
    };
    let line_end = memchr::memchr(b'\n', bytes).unwrap_or(length);
    if line_end > LINE_MOST {
        return Err(Refusal::TargetTooLong);
    }
    if length - line_end > limits.bytes || request.headers.len() > limits.fields {
        return Err(Refusal::HeadTooLarge);
    }
    let exchange = build(&request, ends, started)?;
    Ok(Parsed::Request(Box::new(exchange), skipped + length))
}

/// Empty lines before the request line may be left over from a client's last body (RFC 9112 §2.2); a few are skipped.
fn leading_empty_lines(bytes: &[u8]) -> Result<usize, Refusal> {
    let mut skipped = 0;
    while let [b'\r', b'\n', ..] = bytes[skipped..] {
        skipped += 2;
        if skipped > EMPTY_LINES_MOST * 2 {
            return Err(Refusal::MalformedRequest);
        }
    }
    match bytes[skipped..] {
        [b'\n', ..] => Err(Refusal::MalformedRequest),
        [b'\r', other, ..] if other != b'\n' => Err(Refusal::MalformedRequest),
        _ => Ok(skipped),
    }
}

/// Every LF of the head follows a CR. httparse takes a bare one, and so do other servers but not all of them: two
/// readings of one head are how requests are smuggled.
fn check_line_ends(bytes: &[u8]) -> Result<(), Refusal> {
    let mut from = 0;
    for at in memchr::memchr_iter(b'\n', bytes) {
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(Refusal::MalformedRequest);
        }
        if at == from + 1 && from > 0 {
            return Ok(()); // the empty line: what follows is no head
        }
        from = at + 1;
    }
    Ok(())
}

fn partial(bytes: &[u8], limits: HeadLimits) -> Result<Parsed, Refusal> {
    match memchr::memchr(b'\n', bytes) {
        None if bytes.len() > LINE_MOST => Err(Refusal::TargetTooLong),
        Some(line_end) if line_end > LINE_MOST => Err(Refusal::TargetTooLong),
        Some(line_end) if bytes.len() - line_end > limits.bytes + 4 => Err(Refusal::HeadTooLarge),
        _ => Ok(Parsed::Partial),
    }
}

fn parse_error(bytes: &[u8], error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::Version => version_error(bytes),
        _ => Refusal::MalformedRequest,
    }
}

/// `HTTP/2.0` and the like are versions that we do not speak here; anything else is no version.
fn version_error(bytes: &[u8]) -> Refusal {
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or(bytes);
    if line.iter().filter(|&&byte| byte == b' ').count() != 2 {
        return Refusal::MalformedRequest;
    }
    let word = line.rsplit(|&byte| byte == b' ').next().unwrap_or(line);
    match word {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Refusal::VersionNotSupported
        }
        _ => Refusal::MalformedRequest,
    }
}

fn build(request: &httparse::Request<'_, '_>, ends: Ends, started: Instant) -> Result<Exchange, Refusal> {
    let method = request.method.ok_or(Refusal::MalformedRequest)?.as_bytes();
    let target = request.path.ok_or(Refusal::MalformedRequest)?.as_bytes();
    let version = match request.version {
        Some(1) => Version::Http11,
        Some(0) => Version::Http10,
        _ => return Err(Refusal::VersionNotSupported),
    };
    if method.len() > METHOD_MOST || method == b"CONNECT" {
        return Err(Refusal::UnsupportedMethod);
    }
    let fields = take_fields(request.headers)?;
    let (authority, parts) = take_target(method, target)?;
    let host = take_host(version, authority, &fields)?;
    let framing = request_framing(version, &fields).map_err(framing_error)?;
    if single(&fields, "content-type").is_err() {
        return Err(Refusal::MalformedRequest);
    }
    let expects_continue = expectation(version, &fields, framing)?;
    let connection = hop::connection_tokens(&fields);
    let keep_alive = match version {
        Version::Http10 => connection.keep_alive && !connection.close,
        _ => !connection.close,
    };
    let mut exchange = Exchange::new(ends, version, method, target, parts, host, fields, framing, started);
    exchange.expects_continue = expects_continue;
    exchange.keep_alive = keep_alive;
    Ok(exchange)
}

fn take_fields(headers: &[httparse::Header<'_>]) -> Result<Fields, Refusal> {
    let bytes = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    let mut fields = Fields::with_capacity(headers.len() + 2, bytes);
    for header in headers {
        // httparse has checked names and values; an empty name it lets pass in some settings is cheap to rule out.
        if !valid_field_name(header.name.as_bytes()) {
            return Err(Refusal::MalformedRequest);
        }
        fields.push(header.name.as_bytes(), trim_ows(header.value));
    }
    Ok(fields)
}

pub(super) fn take_target<'a>(
    method: &[u8],
    target: &'a [u8],
) -> Result<(Option<&'a [u8]>, TargetParts), Refusal> {
    let within = |part: &[u8]| {
        let from = part.as_ptr() as usize - target.as_ptr() as usize;
        (from, from + part.len())
    };
    match parse_target(method, target) {
        Ok(Target::Resource(resource)) => {
            // The path of `http://host` is "/", which stands nowhere in the target.
            let inside = |part: &[u8]| {
                let (start, end) = (target.as_ptr() as usize, target.as_ptr() as usize + target.len());
                let at = part.as_ptr() as usize;
                at >= start && at + part.len() <= end
            };
            let raw_path =
                if inside(resource.raw_path) { within(resource.raw_path) } else { slash_of(target) };
            let query = if resource.query.is_empty() { (0, 0) } else { within(resource.query) };
            let empty_query = resource.query.is_empty() && target.get(raw_path.1) == Some(&b'?');
            Ok((resource.authority, TargetParts { raw_path, query, empty_query }))
        }
        Ok(Target::Asterisk) => {
            Ok((None, TargetParts { raw_path: (0, 1), query: (0, 0), empty_query: false }))
        }
        Ok(Target::Authority(_)) => Err(Refusal::UnsupportedMethod),
        Err(TargetError::Empty | TargetError::ForbiddenByte) => Err(Refusal::MalformedRequest),
        Err(_) => Err(Refusal::BadTarget),
    }
}

/// A slash in an absolute target without a path: the first of its `//`.
fn slash_of(target: &[u8]) -> (usize, usize) {
    let at = memchr::memchr(b'/', target).unwrap_or(0);
    (at, at + 1)
}

/// The authority of the target wins over the field (RFC 9112 §3.2.2), which must be there once in HTTP/1.1 (§3.2).
fn take_host(version: Version, authority: Option<&[u8]>, fields: &Fields) -> Result<Authority, Refusal> {
    let field = single(fields, "host").map_err(|()| Refusal::BadHost)?;
    if field.is_none() && version != Version::Http10 {
        return Err(Refusal::BadHost);
    }
    let field = field.map(Authority::parse).transpose().map_err(|_| Refusal::BadHost)?;
    let authority = authority.map(Authority::parse).transpose().map_err(|_| Refusal::BadHost)?;
    Ok(authority.or(field).unwrap_or_default())
}

pub(super) fn framing_error(error: FramingError) -> Refusal {
    match error {
        FramingError::UnsupportedCoding => Refusal::UnsupportedCoding,
        _ => Refusal::BadFraming,
    }
}

/// RFC 9110 §10.1.1: only `100-continue`, and it means nothing in HTTP/1.0 or without a body.
pub(super) fn expectation(version: Version, fields: &Fields, framing: Framing) -> Result<bool, Refusal> {
    match fields.first("expect") {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => {
            Ok(version != Version::Http10 && !matches!(framing, Framing::None | Framing::Length(0)))
        }
        Some(_) => Err(Refusal::ExpectationFailed),
    }
}

/// The only value of a field; an error when there are two.
pub(super) fn single<'a>(fields: &'a Fields, name: &'a str) -> Result<Option<&'a [u8]>, ()> {
    let mut values = fields.all(name);
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::AddressText;

    fn ends() -> Ends {
        Ends { peer: None, local: None, peer_text: AddressText::new(None) }
    }

    const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 100 };

    fn outcome(head: &[u8]) -> Result<Option<usize>, Refusal> {
        parse(head, ends(), LIMITS, Instant::now()).map(|parsed| match parsed {
            Parsed::Partial => None,
            Parsed::Request(_, length) => Some(length),
        })
    }

    #[test]
    fn what_is_refused() {
        use Refusal::*;
        for (row, head, refusal) in [
            (
                1,
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                BadFraming,
            ),
            (2, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", BadFraming),
            (3, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", BadFraming),
            (4, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n", BadFraming),
            (5, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", BadFraming),
            (10, "GET / HTTP/1.1\nHost: a\r\n\r\n", MalformedRequest),
            (10, "GET / HTTP/1.1\r\nHost: a\n\r\n", MalformedRequest),
            (10, "GET / HTTP/1.1\r\nHost: a\r\n\n", MalformedRequest),
            (10, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", MalformedRequest),
            (10, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", MalformedRequest),
            (10, "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", MalformedRequest),
            (13, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", MalformedRequest),
            (13, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", MalformedRequest),
            (11, "GET / HTTP/1.1\r\nHost : a\r\n\r\n", MalformedRequest),
            (11, "GET / HTTP/1.1\r\n Host: a\r\n\r\n", MalformedRequest),
            (11, "GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", MalformedRequest),
            (11, "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", MalformedRequest),
            (12, "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", MalformedRequest),
            (12, "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", MalformedRequest),
            (13, "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", MalformedRequest),
            (13, "GETGETGETGETGETGETGETGETGETGETGET / HTTP/1.1\r\nHost: a\r\n\r\n", UnsupportedMethod),
            (13, "GET / HTTP/1.32\r\nHost: a\r\n\r\n", MalformedRequest),
            (13, "GET / HTTP/2.0\r\nHost: a\r\n\r\n", VersionNotSupported),
            (13, "GET / HTTP/0.9\r\nHost: a\r\n\r\n", VersionNotSupported),
            (13, "GET /\r\n\r\n", MalformedRequest),
            (15, "GET / HTTP/1.1\r\n\r\n", BadHost),
            (15, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BadHost),
            (15, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", BadHost),
            (15, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BadHost),
            (15, "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", BadHost),
            (17, "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", BadHost),
            (47, "GET * HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
            (47, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", UnsupportedMethod),
            (47, "GET / HTTP/1.1\r\nHost: a\r\nContent-Type: a\r\nContent-Type: b\r\n\r\n", MalformedRequest),
            (49, "GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", ExpectationFailed),
        ] {
            assert_eq!(outcome(head.as_bytes()), Err(refusal), "row {row}: {head:?}");
        }
    }

    #[test]
    fn what_is_taken() {
        for (head, host, path, query) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "a", "/", ""),
            ("\r\n\r\nGET /x?y=1 HTTP/1.1\r\nhost:  a:80 \r\n\r\n", "a:80", "/x", "y=1"),
            ("GET http://b/p?q HTTP/1.1\r\nHost: a\r\n\r\n", "b", "/p", "q"),
            ("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", "b", "/", ""),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "a", "*", ""),
            ("GET / HTTP/1.0\r\n\r\n", "", "/", ""),
            ("GET /a//b HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", "[::1]:8000", "/a//b", ""),
        ] {
            let Ok(Parsed::Request(exchange, length)) =
                parse(head.as_bytes(), ends(), LIMITS, Instant::now())
            else {
                panic!("{head:?}")
            };
            assert_eq!(length, head.len());
            assert_eq!(
                (exchange.host.as_bytes(), exchange.raw_path(), exchange.query()),
                (host.as_bytes(), path.as_bytes(), query.as_bytes()),
                "{head:?}"
            );
        }
    }

    #[test]
    fn a_head_cut_anywhere_is_partial() {
        let head = b"POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX-Y: z\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(outcome(&head[..cut]), Ok(None), "cut at {cut}");
        }
        assert_eq!(outcome(head), Ok(Some(head.len())));
    }

    #[test]
    fn bounds_hold_before_the_end_has_come() {
        let long = [b"GET /".as_slice(), &vec![b'a'; LINE_MOST]].concat();
        assert_eq!(outcome(&long), Err(Refusal::TargetTooLong));
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        head.extend(std::iter::repeat_n(b'a', LIMITS.bytes + 1));
        assert_eq!(outcome(&head), Err(Refusal::HeadTooLarge));
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        (0..LIMITS.fields).for_each(|n| head.extend_from_slice(format!("X-{n}: 1\r\n").as_bytes()));
        head.extend_from_slice(b"\r\n");
        assert_eq!(outcome(&head), Err(Refusal::HeadTooLarge));
    }
}
