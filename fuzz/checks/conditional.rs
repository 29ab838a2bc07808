//! Preconditions: what the order of RFC 9110 §13.2.2 allows at all, a client that has the very answer, and comparisons that are symmetric.
//!
//! The first line is a method, the second the entity tag of the representation; every other line is a field, whose first byte
//! picks its name. The representation was modified at one fixed time.

use bandstand_semantics::Fields;
use bandstand_semantics::conditional::{
    Decision, Validators, evaluate, parse_date, strong_equal, weak_equal,
};

const NAMES: [&str; 4] = ["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"];

pub(crate) fn check(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let method = lines.next().unwrap_or_default();
    let etag = lines.next().unwrap_or_default();
    let fields: Fields = lines
        .filter_map(|line| line.split_first())
        .map(|(&first, value)| (NAMES[usize::from(first) % 4], value))
        .collect();
    let validators = Validators { etag, modified: Some(784_111_777) };
    let decision = evaluate(method, &fields, validators);
    let is_read = method == b"GET" || method == b"HEAD";
    let has = |name: &str| fields.contains(name);
    match decision {
        Decision::NotModified => {
            assert!(is_read && (has("If-None-Match") || has("If-Modified-Since")));
        }
        Decision::PreconditionFailed => {
            assert!(has("If-Match") || has("If-Unmodified-Since") || (has("If-None-Match") && !is_read));
        }
        Decision::Send => {}
    }
    // A client that was given this tag and asks with nothing else has it.
    if is_tag(etag) {
        let own: Fields = [("If-None-Match", etag)].into_iter().collect();
        assert_eq!(evaluate(b"GET", &own, validators), Decision::NotModified);
        assert!(weak_equal(etag, etag));
    }
    let other = fields.iter().next().map_or(&b""[..], |(_, value)| value);
    assert!(!strong_equal(etag, other) || weak_equal(etag, other), "strong equality implies weak");
    assert_eq!(strong_equal(etag, other), strong_equal(other, etag));
    assert_eq!(
        !etag.is_empty() && !other.is_empty() && weak_equal(etag, other),
        !etag.is_empty() && !other.is_empty() && weak_equal(other, etag)
    );
    // Blanks around a date mean nothing.
    let padded = [b" \t", other, b" "].concat();
    assert_eq!(parse_date(&padded), parse_date(other));
}

/// RFC 9110 §8.8.3, without the bytes that the parser of lists would have to look at twice.
fn is_tag(text: &[u8]) -> bool {
    let opaque = text.strip_prefix(b"W/").unwrap_or(text);
    opaque.len() >= 2
        && opaque.starts_with(b"\"")
        && opaque.ends_with(b"\"")
        && opaque[1..opaque.len() - 1].iter().all(|&byte| byte > 0x20 && byte < 0x7f && byte != b'"')
}
