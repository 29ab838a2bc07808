//! Preconditions: send, 304 or 412.
//!
//! Owns the four conditional fields and their order (RFC 9110 §13.1, §13.2.2), and the comparison of entity tags
//! (§8.8.3.2). Leaves `If-Range` to `range.rs` and the making of validators to whoever holds the representation.
//! Invariant: a condition that cannot be read never hides a change: it lets a GET through in full, and it stops a write.

use crate::fields::Fields;
use crate::text::trim_ows;
use std::time::UNIX_EPOCH;

/// What a representation can be compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Validators<'a> {
    /// Entity tag with its quotes and, if weak, its `W/`; empty when there is none.
    pub etag: &'a [u8],
    /// Last-Modified in whole seconds since 1970.
    pub modified: Option<u64>,
}

/// What the preconditions ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Answer as if there were no preconditions.
    Send,
    /// 304, the client has it.
    NotModified,
    /// 412, it is not what the client took it for.
    PreconditionFailed,
}

/// Evaluates the preconditions for a representation that exists, in the order of RFC 9110 §13.2.2.
#[must_use]
pub fn evaluate(method: &[u8], fields: &Fields, validators: Validators<'_>) -> Decision {
    let is_read = matches!(method, b"GET" | b"HEAD");
    if fields.contains("if-match") {
        if !any_match(fields, "if-match", validators.etag, strong_equal) {
            return Decision::PreconditionFailed;
        }
    } else if let (Some(limit), Some(modified)) =
        (sole_date(fields, "if-unmodified-since"), validators.modified)
        && modified > limit
    {
        return Decision::PreconditionFailed;
    }
    if fields.contains("if-none-match") {
        return match any_match(fields, "if-none-match", validators.etag, weak_equal) {
            false => Decision::Send,
            true if is_read => Decision::NotModified,
            true => Decision::PreconditionFailed,
        };
    }
    match (sole_date(fields, "if-modified-since"), validators.modified) {
        (Some(seen), Some(modified)) if is_read && modified <= seen => Decision::NotModified,
        _ => Decision::Send,
    }
}

/// Seconds since 1970 of an HTTP date in any of its three forms (RFC 9110 §5.6.7).
#[must_use]
pub fn parse_date(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(trim_ows(value)).ok()?;
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// Strong comparison: the same, and neither is weak (RFC 9110 §8.8.3.2).
#[must_use]
pub fn strong_equal(left: &[u8], right: &[u8]) -> bool {
    left == right && !left.is_empty() && !left.starts_with(b"W/")
}

/// Weak comparison: the same but for `W/` (RFC 9110 §8.8.3.2).
#[must_use]
pub fn weak_equal(left: &[u8], right: &[u8]) -> bool {
    let opaque = |tag| <[u8]>::strip_prefix(tag, b"W/").unwrap_or(tag);
    !left.is_empty() && opaque(left) == opaque(right)
}

/// A date is no list: two lines of it are as good as none.
fn sole_date(fields: &Fields, name: &str) -> Option<u64> {
    let mut lines = fields.all(name);
    match (lines.next(), lines.next()) {
        (Some(value), None) => parse_date(value),
        _ => None,
    }
}

fn any_match(fields: &Fields, name: &str, etag: &[u8], equal: fn(&[u8], &[u8]) -> bool) -> bool {
    fields.all(name).any(|line| trim_ows(line) == b"*" || Tags(line).any(|tag| equal(tag, etag)))
}

/// The entity tags of one line, quotes and all; ends at the first thing that is none. A comma may stand inside quotes.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut rest = self.0;
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        let start = if rest.starts_with(b"W/") { 2 } else { 0 };
        if rest.get(start) != Some(&b'"') {
            return None;
        }
        let inside = &rest[start + 1..];
        let length = inside.iter().position(|&byte| byte == b'"' || byte <= b' ' || byte == 0x7f)?;
        if inside[length] != b'"' {
            return None;
        }
        let (tag, after) = rest.split_at(start + length + 2);
        if !matches!(after.first(), None | Some(b' ' | b'\t' | b',')) {
            return None;
        }
        self.0 = after;
        Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const EXACT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const MODIFIED: u64 = 784_111_777;

    fn decide(method: &str, fields: &[(&str, &str)]) -> Decision {
        let fields: Fields = fields.iter().copied().collect();
        evaluate(method.as_bytes(), &fields, Validators { etag: b"\"a,b\"", modified: Some(MODIFIED) })
    }

    #[test]
    fn one_field_alone() {
        for (method, name, value, expected) in [
            ("GET", "If-None-Match", "\"a,b\"", NotModified),
            ("HEAD", "If-None-Match", "\"a,b\"", NotModified),
            ("GET", "If-None-Match", "W/\"a,b\"", NotModified),
            ("GET", "If-None-Match", "\"x\", W/\"y\",\"a,b\"", NotModified),
            ("GET", "If-None-Match", "*", NotModified),
            ("GET", "If-None-Match", "\"x\"", Send),
            ("GET", "If-None-Match", "a,b", Send),
            ("GET", "If-None-Match", "\"a,b", Send),
            ("GET", "If-None-Match", "w/\"a,b\"", Send),
            ("GET", "If-None-Match", "\"a,b\"junk", Send),
            ("GET", "If-None-Match", "", Send),
            ("PUT", "If-None-Match", "*", PreconditionFailed),
            ("PUT", "If-None-Match", "\"x\"", Send),
            ("GET", "If-Match", "\"a,b\"", Send),
            ("GET", "If-Match", "\"x\", \"a,b\"", Send),
            ("GET", "If-Match", "*", Send),
            ("GET", "If-Match", "W/\"a,b\"", PreconditionFailed),
            ("GET", "If-Match", "\"x\"", PreconditionFailed),
            ("GET", "If-Match", "junk", PreconditionFailed),
            ("GET", "If-Modified-Since", EXACT, NotModified),
            ("HEAD", "If-Modified-Since", AFTER, NotModified),
            ("GET", "If-Modified-Since", BEFORE, Send),
            ("POST", "If-Modified-Since", AFTER, Send),
            ("GET", "If-Modified-Since", "yesterday", Send),
            ("GET", "If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT", NotModified),
            ("GET", "If-Modified-Since", "Sun Nov  6 08:49:37 1994", NotModified),
            ("GET", "If-Unmodified-Since", EXACT, Send),
            ("GET", "If-Unmodified-Since", AFTER, Send),
            ("GET", "If-Unmodified-Since", BEFORE, PreconditionFailed),
            ("PUT", "If-Unmodified-Since", BEFORE, PreconditionFailed),
            ("GET", "If-Unmodified-Since", "yesterday", Send),
        ] {
            assert_eq!(decide(method, &[(name, value)]), expected, "{method} {name}: {value}");
        }
    }

    #[test]
    fn precedence() {
        for (fields, expected) in [
            // If-None-Match silences If-Modified-Since, both ways.
            (&[("If-None-Match", "\"x\""), ("If-Modified-Since", AFTER)][..], Send),
            (&[("If-None-Match", "\"a,b\""), ("If-Modified-Since", BEFORE)], NotModified),
            // If-Match silences If-Unmodified-Since.
            (&[("If-Match", "\"a,b\""), ("If-Unmodified-Since", BEFORE)], Send),
            // If-Match is asked before If-None-Match, and both count.
            (&[("If-Match", "\"x\""), ("If-None-Match", "\"a,b\"")], PreconditionFailed),
            (&[("If-Match", "\"a,b\""), ("If-None-Match", "\"a,b\"")], NotModified),
            (&[("If-Unmodified-Since", AFTER), ("If-Modified-Since", AFTER)], NotModified),
            // Lists may come in several lines; dates may not.
            (&[("If-None-Match", "\"x\""), ("If-None-Match", "\"a,b\"")], NotModified),
            (&[("If-Modified-Since", AFTER), ("If-Modified-Since", AFTER)], Send),
            (&[], Send),
        ] {
            assert_eq!(decide("GET", fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn without_validators() {
        let none = Validators::default();
        for (name, value, expected) in [
            ("If-None-Match", "\"\"", Send),
            ("If-None-Match", "*", NotModified),
            ("If-Match", "\"x\"", PreconditionFailed),
            ("If-Modified-Since", AFTER, Send),
            ("If-Unmodified-Since", BEFORE, Send),
        ] {
            let fields: Fields = [(name, value)].into_iter().collect();
            assert_eq!(evaluate(b"GET", &fields, none), expected, "{name}: {value}");
        }
    }

    #[test]
    fn dates() {
        for (text, expected) in [
            (EXACT, Some(MODIFIED)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
            ("784111777", None),
            ("", None),
        ] {
            assert_eq!(parse_date(text.as_bytes()), expected, "{text}");
        }
    }
}
