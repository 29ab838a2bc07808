//! From a head that the h2 or h3 crate has decoded to an `Exchange`, or to the reason why it is refused.
//!
//! Owns what RFC 9113 §8 and RFC 9114 §4 ask of a request past what those crates check (`CHECKLIST.md` part 2 rows 39, 40):
//! a request that breaks the rules of a message is `Malformed`, and its stream is reset; one that is well formed but not
//! served is `Refused`, so that a browser gets a page. Bounds and the rules for targets, hosts and lengths are those of
//! HTTP/1 (`connection::head`). Pure: value in, value or reason out.

use std::time::Instant;

use bandstand_semantics::framing::{Framing, request_framing};
use bandstand_semantics::{Fields, hop};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TE};
use http::request::Parts;
use http::{HeaderMap, Method, Uri};

use super::{Origin, Protocol};
use crate::connection::head::{
    HeadLimits, LINE_MOST, METHOD_MOST, expectation, framing_error, single, take_target,
};
use crate::exchange::{Authority, Exchange};
use crate::refusal::Refusal;

/// What a field costs beside its name and value, as both RFCs count (RFC 9113 §10.5.1); HTTP/1 has four bytes there.
const FIELD_EXTRA: usize = 4;

/// Why a head does not become an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is no request: the stream is reset.
    Malformed,
    /// It is answered.
    Refused(Refusal),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Takes a head in. `is_over`: the stream ended with it.
///
/// # Errors
/// See `Fault`.
pub(super) fn take(
    parts: &Parts,
    origin: &Origin,
    limits: HeadLimits,
    is_over: bool,
    started: Instant,
) -> Result<Exchange, Fault> {
    let method = parts.method.as_str().as_bytes();
    check_target(&parts.method, &parts.uri)?;
    let protocol = parts.extensions.get::<Protocol>();
    let is_connect = protocol == Some(&Protocol::WebSocket);
    let fields = take_fields(&parts.headers, limits)?;
    let host = take_host(&parts.uri, &fields)?;
    if method.len() > METHOD_MOST || (parts.method == Method::CONNECT && !is_connect) {
        return Err(Refusal::UnsupportedMethod.into());
    }
    // It has no body but what is said on the WebSocket, and whoever has nothing to say opens none.
    if is_connect && (is_over || fields.contains(CONTENT_LENGTH.as_str())) {
        return Err(Refusal::BadHandshake.into());
    }
    let method = if is_connect { b"GET" } else { method };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes();
    if target.len() > LINE_MOST {
        return Err(Refusal::TargetTooLong.into());
    }
    let (_, target_parts) = take_target(method, target)?;
    let framing = request_framing(origin.version, &fields).map_err(framing_error)?;
    if is_over && matches!(framing, Framing::Length(1..)) {
        return Err(Fault::Malformed);
    }
    if single(&fields, CONTENT_TYPE.as_str()).is_err() {
        return Err(Refusal::MalformedRequest.into());
    }
    // A body of unknown length may still come in frames: only the end of the stream says that there is none.
    let is_chunked = framing == Framing::None && !is_over && !is_connect;
    let body = if is_chunked { Framing::Chunked } else { framing };
    let expects_continue = expectation(origin.version, &fields, body)?;
    let mut exchange = Exchange::new(
        origin.ends,
        origin.version,
        method,
        target,
        target_parts,
        host,
        fields,
        framing,
        started,
    );
    exchange.expects_continue = expects_continue;
    exchange.keep_alive = true;
    exchange.is_connect = is_connect;
    exchange.tls.clone_from(&origin.tls);
    Ok(exchange)
}

/// `:path` begins with a slash, or is the asterisk of OPTIONS (RFC 9113 §8.3.1). No other scheme than ours is served.
fn check_target(method: &Method, uri: &Uri) -> Result<(), Fault> {
    if let Some(scheme) = uri.scheme_str()
        && !matches!(scheme, "http" | "https")
    {
        return Err(Refusal::BadTarget.into());
    }
    match uri.path_and_query().map(|target| target.as_str().as_bytes()) {
        Some([b'/', ..]) => Ok(()),
        Some(b"*") if method == Method::OPTIONS => Ok(()),
        None if method == Method::CONNECT => Ok(()),
        _ => Err(Fault::Malformed),
    }
}

fn take_fields(headers: &HeaderMap, limits: HeadLimits) -> Result<Fields, Fault> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > limits.fields || bytes + headers.len() * FIELD_EXTRA > limits.bytes {
        return Err(Refusal::HeadTooLarge.into());
    }
    let mut fields = Fields::with_capacity(headers.len() + 2, bytes + headers.len());
    let mut cookies = 0;
    for (name, value) in headers {
        let value = value.as_bytes();
        check_field(name.as_str(), value)?;
        if name == COOKIE {
            cookies += 1;
        } else {
            fields.push(name.as_str().as_bytes(), value);
        }
    }
    match cookies {
        0 => {}
        1 => headers.get(COOKIE).into_iter().for_each(|cookie| fields.push(b"cookie", cookie.as_bytes())),
        // Crumbs of one field (RFC 9113 §8.2.3): an app must never see them apart.
        _ => {
            let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(|crumb| crumb.as_bytes()).collect();
            fields.push(b"cookie", &crumbs.join(&b"; "[..]));
        }
    }
    Ok(fields)
}

/// Fields of one connection have no place in a stream (RFC 9113 §8.2.2), and no value begins or ends with white space
/// (§8.2.1). Other bytes that may not stand in a value the crates do not let through; they are looked for again, since
/// everything behind relies on it.
fn check_field(name: &str, value: &[u8]) -> Result<(), Fault> {
    let is_te = name == TE.as_str();
    if (is_te && !value.eq_ignore_ascii_case(b"trailers")) || (!is_te && is_connection_bound(name)) {
        return Err(Fault::Malformed);
    }
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_space(value.first())
        || is_space(value.last())
        || value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
    {
        return Err(Fault::Malformed);
    }
    Ok(())
}

/// Those that RFC 9113 §8.2.2 names. `Trailer` and the fields of proxies are dropped later, as in HTTP/1.
fn is_connection_bound(name: &str) -> bool {
    debug_assert!(hop::is_hop_by_hop(b"connection"));
    matches!(name, "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade")
}

/// `:authority`, or `Host` where a gateway from HTTP/1 has written no other (RFC 9113 §8.3.1). Where both are there they
/// are equal, or two readers of this request would disagree on what it asks for.
fn take_host(uri: &Uri, fields: &Fields) -> Result<Authority, Fault> {
    let field = single(fields, HOST.as_str()).map_err(|()| Fault::Malformed)?;
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, field) {
        (Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => Err(Fault::Malformed),
        (Some(text), _) | (None, Some(text)) => Authority::parse(text).map_err(|_| Refusal::BadHost.into()),
        (None, None) => Err(Refusal::BadHost.into()),
    }
}

/// Bytes of fields that the crates should let through, so that we can say what is wrong: what they refuse by themselves
/// gets an answer without a page. Both count 32 bytes more a field (RFC 9113 §10.5.1), and the target among them.
pub(crate) fn decoded_most(limits: HeadLimits) -> u32 {
    let most = limits.bytes + limits.fields * 32 + LINE_MOST + 1024;
    u32::try_from(most).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{AddressText, Ends};
    use bandstand_semantics::Version;
    use http::Request;

    const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 100 };

    fn origin() -> Origin {
        let ends = Ends { peer: None, local: None, peer_text: AddressText::new(None) };
        Origin::new(ends, Version::Http2, None)
    }

    fn outcome(method: &str, uri: &str, fields: &[(&str, &str)], is_over: bool) -> Result<Exchange, Fault> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        take(&parts, &origin(), LIMITS, is_over, Instant::now())
    }

    #[test]
    fn what_is_no_request() {
        for (row, method, uri, fields, is_over) in [
            (39, "GET", "http://a/", &[("host", "b")][..], true),
            (39, "GET", "http://a:80/", &[("host", "a:81")], true),
            (39, "GET", "/", &[("host", "a"), ("host", "a")], true),
            (39, "GET", "*", &[("host", "a")], true),
            (40, "GET", "http://a/", &[("connection", "close")], true),
            (40, "GET", "http://a/", &[("keep-alive", "5")], true),
            (40, "GET", "http://a/", &[("proxy-connection", "x")], true),
            (40, "POST", "http://a/", &[("transfer-encoding", "chunked")], false),
            (40, "GET", "http://a/", &[("te", "gzip")], true),
            (40, "GET", "http://a/", &[("te", "trailers, gzip")], true),
            (40, "GET", "http://a/", &[("te", "trailers"), ("te", "gzip")], true),
            (41, "GET", "http://a/", &[("upgrade", "h2c")], true),
            (40, "GET", "http://a/", &[("x", " a")], true),
            (40, "GET", "http://a/", &[("x", "a\t")], true),
            (40, "POST", "http://a/", &[("content-length", "1")], true),
        ] {
            let outcome = outcome(method, uri, fields, is_over).err();
            assert_eq!(outcome, Some(Fault::Malformed), "row {row}: {method} {uri} {fields:?}");
        }
    }

    #[test]
    fn what_is_refused_with_a_page() {
        use Refusal::*;
        let long = format!("http://a/{}", "a".repeat(LINE_MOST));
        let many: Vec<(String, &str)> = (0..101).map(|n| (format!("x-{n}"), "")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let large = "a".repeat(LIMITS.bytes);
        for (row, method, uri, fields, refusal) in [
            (13, "GETGETGETGETGETGETGETGETGETGETGET", "http://a/", &[][..], UnsupportedMethod),
            (13, "CONNECT", "a:443", &[], UnsupportedMethod),
            (14, "GET", &long, &[], TargetTooLong),
            (14, "GET", "http://a/", &many, HeadTooLarge),
            (14, "GET", "http://a/", &[("x", &large)], HeadTooLarge),
            (15, "GET", "/", &[], BadHost),
            (15, "GET", "http://u@a/", &[], BadHost),
            (15, "GET", "/", &[("host", "a/b")], BadHost),
            (15, "GET", "/", &[("host", "a:99999")], BadHost),
            (15, "GET", "ftp://a/", &[], BadTarget),
            (2, "POST", "http://a/", &[("content-length", "1"), ("content-length", "1")], BadFraming),
            (3, "POST", "http://a/", &[("content-length", "+1")], BadFraming),
            (47, "POST", "http://a/", &[("content-type", "a"), ("content-type", "b")], MalformedRequest),
            (49, "POST", "http://a/", &[("expect", "tea")], ExpectationFailed),
        ] {
            let outcome = outcome(method, uri, fields, false).err();
            assert_eq!(outcome, Some(Fault::Refused(refusal)), "row {row}: {method} {uri}");
        }
    }

    #[test]
    fn what_is_taken() {
        for (method, uri, fields, host, path, query) in [
            ("GET", "http://a/", &[][..], "a", "/", ""),
            ("GET", "https://a/x?y=1", &[("host", "A")], "a", "/x", "y=1"),
            ("GET", "/x", &[("host", "b:8000")], "b:8000", "/x", ""),
            ("OPTIONS", "*", &[("host", "a")], "a", "*", ""),
            ("GET", "http://a/", &[("te", "Trailers")], "a", "/", ""),
            ("GET", "http://[::1]:8000/a//b", &[], "[::1]:8000", "/a//b", ""),
        ] {
            let exchange =
                outcome(method, uri, fields, true).unwrap_or_else(|fault| panic!("{uri}: {fault:?}"));
            assert_eq!(
                (exchange.host.as_bytes(), exchange.raw_path(), exchange.query()),
                (host.as_bytes(), path.as_bytes(), query.as_bytes()),
                "{uri}"
            );
        }
    }

    /// RFC 8441: it passes for the GET of HTTP/1.1, so that every rule for WebSockets is asked.
    #[test]
    fn an_extended_connect_is_a_websocket_or_refused() {
        use Refusal::*;
        for (protocol, uri, fields, is_over, outcome) in [
            (Some(Protocol::WebSocket), "http://a/x?y=1", &[][..], false, Ok(())),
            (Some(Protocol::WebSocket), "http://a/", &[], true, Err(Fault::Refused(BadHandshake))),
            (
                Some(Protocol::WebSocket),
                "http://a/",
                &[("content-length", "0")],
                false,
                Err(Fault::Refused(BadHandshake)),
            ),
            (
                Some(Protocol::WebSocket),
                "http://a/",
                &[("upgrade", "websocket")],
                false,
                Err(Fault::Malformed),
            ),
            (Some(Protocol::WebSocket), "*", &[("host", "a")], false, Err(Fault::Malformed)),
            (Some(Protocol::Other), "http://a/x", &[], false, Err(Fault::Refused(UnsupportedMethod))),
            (None, "a:443", &[], false, Err(Fault::Refused(UnsupportedMethod))),
        ] {
            let mut request = Request::builder().method("CONNECT").uri(uri);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            if let Some(protocol) = protocol {
                parts.extensions.insert(protocol);
            }
            let taken = take(&parts, &origin(), LIMITS, is_over, Instant::now());
            let facts =
                taken.as_ref().map(|exchange| (exchange.is_connect, exchange.method(), exchange.framing));
            assert_eq!(
                facts.is_ok_and(|facts| facts == (true, b"GET", Framing::None)),
                outcome.is_ok(),
                "{uri}"
            );
            assert_eq!(taken.map(|_| ()), outcome, "{protocol:?} {uri} {fields:?} {is_over}");
        }
    }

    #[test]
    fn crumbs_of_a_cookie_are_one_field() {
        let fields = [("cookie", "a=b"), ("x", "y"), ("cookie", "c=d"), ("cookie", "e=f")];
        let exchange = outcome("GET", "http://a/", &fields, true).unwrap_or_else(|fault| panic!("{fault:?}"));
        assert_eq!(exchange.fields.all("cookie").collect::<Vec<_>>(), [b"a=b; c=d; e=f"]);
    }

    #[test]
    fn only_a_request_with_a_body_waits_for_our_word() {
        for (fields, is_over, waits) in [
            (&[("expect", "100-continue")][..], false, true),
            (&[("expect", "100-continue"), ("content-length", "5")], false, true),
            (&[("expect", "100-continue"), ("content-length", "0")], false, false),
            (&[("expect", "100-continue")], true, false),
        ] {
            let exchange =
                outcome("POST", "http://a/", fields, is_over).unwrap_or_else(|fault| panic!("{fault:?}"));
            assert_eq!(exchange.expects_continue, waits, "{fields:?} {is_over}");
        }
    }
}
