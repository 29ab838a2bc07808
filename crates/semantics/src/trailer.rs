//! Fields after a body: who wants them, and which may come there.
//!
//! Owns the reading of `TE: trailers` and the list of names that mean nothing, or something dangerous, once a body has been
//! taken in: framing, routing, who asks, what the body is, and what may be kept of it. Writing them is the callers'.
//! Invariant: a name that the front of a message must have is never accepted behind it.
//! Source: RFC 9110 §6.5.1, §6.5.2, §10.1.4.

use crate::fields::Fields;
use crate::hop::is_hop_by_hop;
use crate::lists::elements;

/// Names that no trailer may have, in the groups of RFC 9110 §6.5.1; those of a single hop are in `hop`.
const REFUSED: [&str; 34] = [
    // framing and routing
    "content-length",
    "host",
    "forwarded",
    "max-forwards",
    "via",
    "location",
    // request modifiers
    "expect",
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "pragma",
    // who asks
    "authorization",
    "www-authenticate",
    "authentication-info",
    "proxy-authentication-info",
    "cookie",
    "set-cookie",
    // how the answer is to be taken
    "age",
    "cache-control",
    "date",
    "expires",
    "retry-after",
    "vary",
    "warning",
    "strict-transport-security",
    // what the body is
    "content-encoding",
    "content-type",
    "content-range",
    "content-security-policy",
    "content-disposition",
    "x-content-type-options",
];

/// Beginnings of names that are meant for the server before an app, which looks for them before the body only; they name paths of
/// the machine, and nobody past it may read them.
const REFUSED_STARTS: [&str; 2] = ["x-accel-", "x-sendfile"];

/// Whether a field of this name may come after a body, ASCII case ignored.
#[must_use]
pub fn may_be_trailer(name: &[u8]) -> bool {
    let starts = |start: &&str| {
        name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes()))
    };
    !is_hop_by_hop(name)
        && !REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused.as_bytes()))
        && !REFUSED_STARTS.iter().any(starts)
}

/// Whether the client said that it takes trailers (`TE: trailers`).
#[must_use]
pub fn takes_trailers(fields: &Fields) -> bool {
    fields.all("te").flat_map(elements).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_trailers() {
        for (name, may) in [
            ("Digest", true),
            ("Server-Timing", true),
            ("ETag", true),
            ("grpc-status", true),
            ("X-Checksum", true),
            ("Content-Length", false),
            ("transfer-encoding", false),
            ("Trailer", false),
            ("TE", false),
            ("Connection", false),
            ("host", false),
            ("Authorization", false),
            ("Set-Cookie", false),
            ("Content-Type", false),
            ("CONTENT-ENCODING", false),
            ("Cache-Control", false),
            // Row 48 of part 2 of the checklist.
            ("X-Accel-Redirect", false),
            ("x-accel-", false),
            ("X-SENDFILE", false),
            ("X-Sendfile-Type", false),
            ("X-Accel", true),
            ("X-Send", true),
        ] {
            assert_eq!(may_be_trailer(name.as_bytes()), may, "{name}");
        }
    }

    #[test]
    fn clients_that_take_them() {
        for (values, takes) in [
            (&[][..], false),
            (&["trailers"], true),
            (&["gzip;q=0.5, Trailers"], true),
            (&["deflate", "trailers"], true),
            (&["trailersx"], false),
            (&["gzip"], false),
            (&[""], false),
        ] {
            let mut fields = Fields::new();
            for value in values {
                fields.push(b"TE", value.as_bytes());
            }
            assert_eq!(takes_trailers(&fields), takes, "{values:?}");
        }
    }
}
