//! The request target, and what its path means.
//!
//! Owns: the four forms of a target (RFC 9112 §3.2), percent-decoding once (RFC 3986 §2.1), and the rule for which paths
//! may name a file. Leaves the host's syntax to `host.rs`, opening files to `edge/assets`.
//! Invariant: a `StaticMatch::File` is a relative path of plain names joined by `/`: it has no way to climb, hide or
//! end early. Nothing is resolved or collapsed here: `//`, `.` and `..` reach Django as they were sent.

use crate::text::is_target_byte;
use crate::version::Scheme;
use std::borrow::Cow;
use std::fmt;

/// What a request line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// origin-form or absolute-form: a resource of some host.
    Resource(Resource<'a>),
    /// `*`, only for OPTIONS: the server as a whole.
    Asterisk,
    /// `host:port`, only for CONNECT; we are no forward proxy, the caller refuses it.
    Authority(&'a [u8]),
}

/// The parts of an origin-form or absolute-form target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource<'a> {
    /// Scheme of an absolute-form target. Says what the client believes, not how it reached us.
    pub scheme: Option<Scheme>,
    /// Authority of an absolute-form target, never empty; it wins over Host (RFC 9112 §3.2.2). Not yet checked: give it to
    /// `host::parse_host`.
    pub authority: Option<&'a [u8]>,
    /// The path as sent, still encoded, without the query; starts with `/`.
    pub raw_path: &'a [u8],
    /// The query as sent, without its `?`; may be empty.
    pub query: &'a [u8],
}

/// Why a target is refused. All are the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetError {
    /// Nothing between method and version.
    Empty,
    /// A control byte, a space or DEL.
    ForbiddenByte,
    /// A `#`: fragments never travel (RFC 9110 §7.1).
    Fragment,
    /// Not a form that this method may use.
    Form,
    /// Absolute-form with a scheme other than http and https, or without a host.
    Authority,
}

impl fmt::Display for TargetError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            TargetError::Empty => "the request target is empty",
            TargetError::ForbiddenByte => "the request target holds a control byte or a space",
            TargetError::Fragment => "the request target holds a fragment (#)",
            TargetError::Form => "the request target has no form this method allows",
            TargetError::Authority => "the absolute request target has no http(s) host",
        })
    }
}

impl std::error::Error for TargetError {}

/// Splits a request target. `method` is needed because `*` belongs to OPTIONS and `host:port` to CONNECT alone.
///
/// # Errors
/// See [`TargetError`]; each means 400.
pub fn parse_target<'a>(method: &[u8], target: &'a [u8]) -> Result<Target<'a>, TargetError> {
    if target.is_empty() {
        return Err(TargetError::Empty);
    }
    if !target.iter().all(|&byte| is_target_byte(byte)) {
        return Err(TargetError::ForbiddenByte);
    }
    if target.contains(&b'#') {
        return Err(TargetError::Fragment);
    }
    if method == b"CONNECT" {
        return authority_form(target);
    }
    match target {
        [b'/', ..] => Ok(resource(None, None, target)),
        b"*" if method == b"OPTIONS" => Ok(Target::Asterisk),
        _ => absolute_form(target),
    }
}

fn authority_form(target: &[u8]) -> Result<Target<'_>, TargetError> {
    if target.contains(&b'/') || target.contains(&b'?') || !target.contains(&b':') {
        return Err(TargetError::Form);
    }
    Ok(Target::Authority(target))
}

fn absolute_form(target: &[u8]) -> Result<Target<'_>, TargetError> {
    let colon = target.iter().position(|&byte| byte == b':').ok_or(TargetError::Form)?;
    let rest = target[colon + 1..].strip_prefix(b"//").ok_or(TargetError::Form)?;
    let scheme = Scheme::parse(&target[..colon]).ok_or(TargetError::Authority)?;
    let end = rest.iter().position(|&byte| byte == b'/' || byte == b'?').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() {
        return Err(TargetError::Authority);
    }
    Ok(resource(Some(scheme), Some(authority), path))
}

fn resource<'a>(scheme: Option<Scheme>, authority: Option<&'a [u8]>, path: &'a [u8]) -> Target<'a> {
    let (raw_path, query): (&[u8], &[u8]) = match path.iter().position(|&byte| byte == b'?') {
        Some(mark) => (&path[..mark], &path[mark + 1..]),
        None => (path, b""),
    };
    let raw_path = if raw_path.is_empty() { b"/" } else { raw_path };
    Target::Resource(Resource { scheme, authority, raw_path, query })
}

/// What becomes of an encoded slash when a path is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodedSlash {
    /// `%2F` stays as it was sent: the app still sees which slashes parted segments.
    Kept,
    /// `%2F` becomes `/`, as CGI and ASGI define a decoded path.
    Decoded,
}

/// Why a path is refused. All are the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// `%` not followed by two hex digits.
    BadEscape,
    /// A NUL, raw or as `%00`, or another control byte, raw.
    ForbiddenByte,
    /// UTF-8 that spells a character with more bytes than it needs: the classic disguise of `/` and `.`.
    Overlong,
}

impl fmt::Display for PathError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            PathError::BadEscape => "the path holds a % that is not followed by two hex digits",
            PathError::ForbiddenByte => "the path holds a NUL or another control byte",
            PathError::Overlong => "the path holds overlong UTF-8",
        })
    }
}

impl std::error::Error for PathError {}

/// Percent-decodes a path once, `%2F` kept; borrows when there is nothing to decode.
///
/// Bytes that are not UTF-8 pass: old Latin-1 links exist, and Django has its own answer to them.
///
/// # Errors
/// See [`PathError`]; each means 400.
pub fn decode_path(raw: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    decode_path_as(raw, EncodedSlash::Kept)
}

/// [`decode_path`] with a choice about `%2F`.
///
/// # Errors
/// See [`PathError`]; each means 400.
pub fn decode_path_as(raw: &[u8], slash: EncodedSlash) -> Result<Cow<'_, [u8]>, PathError> {
    if raw.iter().any(|&byte| byte < 0x20 || byte == 0x7f) {
        return Err(PathError::ForbiddenByte);
    }
    let Some(first) = raw.iter().position(|&byte| byte == b'%') else {
        return if has_overlong(raw) { Err(PathError::Overlong) } else { Ok(Cow::Borrowed(raw)) };
    };
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend_from_slice(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            decoded.push(byte);
            rest = after;
            continue;
        }
        match escape(after)? {
            0 => return Err(PathError::ForbiddenByte),
            b'/' if slash == EncodedSlash::Kept => decoded.extend_from_slice(&rest[..3]),
            plain => decoded.push(plain),
        }
        rest = &after[2..];
    }
    if has_overlong(&decoded) { Err(PathError::Overlong) } else { Ok(Cow::Owned(decoded)) }
}

fn escape(digits: &[u8]) -> Result<u8, PathError> {
    let [high, low, ..] = digits else { return Err(PathError::BadEscape) };
    match (hex(*high), hex(*low)) {
        (Some(high), Some(low)) => Ok(high << 4 | low),
        _ => Err(PathError::BadEscape),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// A lead byte that promises more bytes than the character needs, followed by a continuation byte that proves it. Lone
/// C0 and C1 pass: they are `À` and `Á` in Latin-1, and no decoder makes a slash of them.
fn has_overlong(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| {
        matches!(
            (pair[0], pair[1]),
            (0xc0 | 0xc1, 0x80..=0xbf)
                | (0xe0, 0x80..=0x9f)
                | (0xf0, 0x80..=0x8f)
                | (0xf8, 0x80..=0x87)
                | (0xfc, 0x80..=0x83)
        )
    })
}

/// What a path means to a root of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaticMatch<'a> {
    /// Outside the prefix: somebody else's.
    NoMatch,
    /// Below the prefix, but nothing we would ever serve: 404.
    Refused,
    /// Below the prefix: the decoded path relative to the root, plain names joined by `/`, never empty.
    File(Cow<'a, [u8]>),
}

/// Matches a raw path against a root's prefix, on a segment boundary, decoded once.
///
/// `prefix` starts and ends with `/` (`/static/`). `/static` alone does not match, so that Django may append its slash;
/// `/static/` itself is refused, there are no listings. Segments that are empty, start with `.`, end with `~`, or hold a
/// backslash, a control byte or an encoded slash are refused. `%252e` decodes once, to a file called `%2e`.
#[must_use]
pub fn static_path<'a>(raw_path: &'a [u8], prefix: &str) -> StaticMatch<'a> {
    if raw_path.contains(&b'%') {
        return encoded_static_path(raw_path, prefix.as_bytes());
    }
    match raw_path.strip_prefix(prefix.as_bytes()) {
        None => StaticMatch::NoMatch,
        Some(relative) if relative.split(|&byte| byte == b'/').all(is_plain_name) => {
            StaticMatch::File(Cow::Borrowed(relative))
        }
        Some(_) => StaticMatch::Refused,
    }
}

/// The slow way, segment by segment, so that a `%2F` is never taken for a slash that parts two names.
fn encoded_static_path<'a>(raw_path: &[u8], prefix: &[u8]) -> StaticMatch<'a> {
    let mut segments = raw_path.split(|&byte| byte == b'/');
    let parent = prefix.strip_suffix(b"/").unwrap_or(prefix);
    for expected in parent.split(|&byte| byte == b'/') {
        let decoded = segments.next().map(|segment| decode_path_as(segment, EncodedSlash::Decoded));
        match decoded {
            Some(Ok(name)) if *name == *expected => {}
            _ => return StaticMatch::NoMatch,
        }
    }
    let mut relative = Vec::with_capacity(raw_path.len());
    let mut any = false;
    for segment in segments {
        let Ok(name) = decode_path_as(segment, EncodedSlash::Decoded) else { return StaticMatch::Refused };
        if name.contains(&b'/') || !is_plain_name(&name) {
            return StaticMatch::Refused;
        }
        if any {
            relative.push(b'/');
        }
        relative.extend_from_slice(&name);
        any = true;
    }
    if any { StaticMatch::File(Cow::Owned(relative)) } else { StaticMatch::NoMatch }
}

/// Dotfiles are left out with `.` and `..`: `.git`, `.env` and `.htpasswd` get uploaded more often than asked for.
fn is_plain_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name[0] != b'.'
        && name[name.len() - 1] != b'~'
        && !name.iter().any(|&byte| byte < 0x20 || byte == 0x7f || byte == b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(
        scheme: Option<Scheme>,
        authority: Option<&'a str>,
        path: &'a str,
        query: &'a str,
    ) -> Target<'a> {
        Target::Resource(Resource {
            scheme,
            authority: authority.map(str::as_bytes),
            raw_path: path.as_bytes(),
            query: query.as_bytes(),
        })
    }

    #[test]
    fn targets_of_every_form() {
        let https = Some(Scheme::Https);
        let http = Some(Scheme::Http);
        for (method, target, expected) in [
            ("GET", "/", Ok(found(None, None, "/", ""))),
            ("GET", "/a%2Fb?x=1?2", Ok(found(None, None, "/a%2Fb", "x=1?2"))),
            ("GET", "/a?", Ok(found(None, None, "/a", ""))),
            ("GET", "//evil/x", Ok(found(None, None, "//evil/x", ""))),
            ("GET", "/<>\"{}|\\^`", Ok(found(None, None, "/<>\"{}|\\^`", ""))),
            ("GET", "/é", Ok(found(None, None, "/é", ""))),
            ("GET", "http://h:80/p?q", Ok(found(http, Some("h:80"), "/p", "q"))),
            ("GET", "HTTPS://h", Ok(found(https, Some("h"), "/", ""))),
            ("GET", "http://h?q=/", Ok(found(http, Some("h"), "/", "q=/"))),
            ("OPTIONS", "*", Ok(Target::Asterisk)),
            ("OPTIONS", "/x", Ok(found(None, None, "/x", ""))),
            ("CONNECT", "h:443", Ok(Target::Authority(b"h:443"))),
            ("CONNECT", "/x", Err(TargetError::Form)),
            ("CONNECT", "http://h:1/", Err(TargetError::Form)),
            ("CONNECT", "h", Err(TargetError::Form)),
            ("GET", "*", Err(TargetError::Form)),
            ("GET", "h:443", Err(TargetError::Form)),
            ("GET", "a/b", Err(TargetError::Form)),
            ("GET", "?q", Err(TargetError::Form)),
            ("GET", "ftp://h/", Err(TargetError::Authority)),
            ("GET", "http:///p", Err(TargetError::Authority)),
            ("GET", "http://?q", Err(TargetError::Authority)),
            ("GET", "", Err(TargetError::Empty)),
            ("GET", "/a#b", Err(TargetError::Fragment)),
            ("GET", "/a b", Err(TargetError::ForbiddenByte)),
            ("GET", "/a\tb", Err(TargetError::ForbiddenByte)),
            ("GET", "/a\0", Err(TargetError::ForbiddenByte)),
            ("GET", "/a\u{7f}", Err(TargetError::ForbiddenByte)),
        ] {
            assert_eq!(parse_target(method.as_bytes(), target.as_bytes()), expected, "{method} {target:?}");
        }
    }

    #[test]
    fn paths_are_decoded_once() {
        for (raw, expected) in [
            (&b"/a/b"[..], Ok(&b"/a/b"[..])),
            (b"/caf%C3%A9", Ok(b"/caf\xc3\xa9")),
            (b"/caf%e9", Ok(b"/caf\xe9")),
            (b"/%C0_la_carte", Ok(b"/\xc0_la_carte")),
            (b"/a%20b+c", Ok(b"/a b+c")),
            (b"/a%2Fb%2fc", Ok(b"/a%2Fb%2fc")),
            (b"/%252e", Ok(b"/%2e")),
            (b"/%2e%2e", Ok(b"/..")),
            (b"/%0a", Ok(b"/\n")),
            (b"/%E2%82%AC%F0%9F%98%80", Ok("/€😀".as_bytes())),
            (b"/%00", Err(PathError::ForbiddenByte)),
            (b"/\0", Err(PathError::ForbiddenByte)),
            (b"/\n", Err(PathError::ForbiddenByte)),
            (b"/\x7f", Err(PathError::ForbiddenByte)),
            (b"/%zz", Err(PathError::BadEscape)),
            (b"/%2", Err(PathError::BadEscape)),
            (b"/%", Err(PathError::BadEscape)),
            (b"/%+1", Err(PathError::BadEscape)),
            (b"/%u0041", Err(PathError::BadEscape)),
            (b"/%c0%af", Err(PathError::Overlong)),
            (b"/%c1%9c", Err(PathError::Overlong)),
            (b"/%e0%80%af", Err(PathError::Overlong)),
            (b"/%f0%80%80%af", Err(PathError::Overlong)),
            (b"/%f8%80%80%80%af", Err(PathError::Overlong)),
            (b"/%c0\xaf", Err(PathError::Overlong)),
            (b"/\xc0\xaf", Err(PathError::Overlong)),
        ] {
            assert_eq!(decode_path(raw).as_deref(), expected.as_deref(), "{}", raw.escape_ascii());
        }
        assert_eq!(decode_path_as(b"/a%2fb", EncodedSlash::Decoded).as_deref(), Ok(&b"/a/b"[..]));
    }

    #[test]
    fn a_path_without_escapes_is_borrowed() {
        assert!(matches!(decode_path(b"/plain"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn static_paths() {
        let file = |name: &'static str| StaticMatch::File(Cow::Borrowed(name.as_bytes()));
        let (refused, other) = (StaticMatch::Refused, StaticMatch::NoMatch);
        for (raw, expected) in [
            ("/static/app.css", file("app.css")),
            ("/static/a/b.js", file("a/b.js")),
            ("/%73tatic/app.css", file("app.css")),
            ("/static/caf%C3%A9.png", file("café.png")),
            ("/static/a%20b.png", file("a b.png")),
            ("/static/%252e%252e/x", file("%2e%2e/x")),
            ("/static/a..b", file("a..b")),
            ("/static", other.clone()),
            ("/static../x", other.clone()),
            ("/static%2fapp.css", other.clone()),
            ("/staticx/app.css", other.clone()),
            ("//static/app.css", other.clone()),
            ("/x/../static/app.css", other.clone()),
            ("/%zz/app.css", other.clone()),
            ("/", other.clone()),
            ("/%2e", other.clone()),
            ("/%73tatic", other.clone()),
            ("/static/", refused.clone()),
            ("/%73tatic/", refused.clone()),
            ("/static/../settings.py", refused.clone()),
            ("/static/%2e%2e/settings.py", refused.clone()),
            ("/static/..%2fsettings.py", refused.clone()),
            ("/static/a%2fb", refused.clone()),
            ("/static/..%5csettings.py", refused.clone()),
            ("/static/..\\settings.py", refused.clone()),
            ("/static/./a", refused.clone()),
            ("/static//a", refused.clone()),
            ("/static/a/", refused.clone()),
            ("/static/.env", refused.clone()),
            ("/static/.git/config", refused.clone()),
            ("/static/%2egit/config", refused.clone()),
            ("/static/.well-known/x", refused.clone()),
            ("/static/settings.py~", refused.clone()),
            ("/static/a%00.css", refused.clone()),
            ("/static/a%0a.css", refused.clone()),
            ("/static/a%zz", refused.clone()),
            ("/static/%c0%ae%c0%ae/x", refused.clone()),
        ] {
            assert_eq!(static_path(raw.as_bytes(), "/static/"), expected, "{raw:?}");
        }
    }

    #[test]
    fn a_prefix_may_have_several_segments_or_none() {
        let file = StaticMatch::File(Cow::Borrowed(&b"x"[..]));
        assert_eq!(static_path(b"/a/b/x", "/a/b/"), file);
        assert_eq!(static_path(b"/a/%62/x", "/a/b/"), file);
        assert_eq!(static_path(b"/x", "/"), file);
        assert_eq!(static_path(b"/%78", "/"), file);
    }
}
