//! Fields that stop at this hop.
//!
//! Owns the list of RFC 9110 §7.6.1 and the reading of `Connection`. Leaves the removal itself to the callers.
//! Invariant: `Connection` can close or keep a connection and take its own companions along; it can never take away a field
//! that the app or a later stage trusts (checklist part 2 row 23: `Connection: X-Forwarded-For`).

use crate::fields::Fields;
use crate::forwarded::is_forwarding_field;
use crate::lists::elements;
use crate::text::valid_field_name;

/// Names a `Connection` field may list, past the well-known options; more are not looked at.
const LISTED_NAMES: usize = 16;

/// Fields that describe this connection only. The last three come from RFC 2616 §13.5.1; `wsgiref` and old proxies
/// still treat them so, and they mean nothing past us.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "trailer",
    "trailers",
    "proxy-authenticate",
    "proxy-authorization",
];

/// Fields that `Connection` may not name: set or relied on by us, or end to end by their own definition.
const PROTECTED: [&str; 18] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "early-data",
    "expect",
    "host",
    "origin",
    "server",
    "set-cookie",
    "traceparent",
    "tracestate",
    "vary",
    "via",
    "x-request-id",
];

/// True for the fields that never go further than this hop, ASCII case ignored.
#[must_use]
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop.as_bytes()))
}

/// What the `Connection` fields of a head say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection<'a> {
    /// `close` is among the options.
    pub close: bool,
    /// `keep-alive` is among the options.
    pub keep_alive: bool,
    /// `upgrade` is among the options.
    pub upgrade: bool,
    /// Other names, protected ones left out, at most 16: fields to remove before forwarding.
    pub listed: Vec<&'a [u8]>,
}

impl Connection<'_> {
    /// True when `Connection` asks for this field to be removed, ASCII case ignored.
    #[must_use]
    pub fn lists(&self, name: &[u8]) -> bool {
        self.listed.iter().any(|listed| listed.eq_ignore_ascii_case(name))
    }
}

/// Reads every `Connection` field of a head; options ignore case, what is no token is passed over.
#[must_use]
pub fn connection_tokens(fields: &Fields) -> Connection<'_> {
    let mut found = Connection::default();
    for option in fields.all("connection").flat_map(elements) {
        if option.eq_ignore_ascii_case(b"close") {
            found.close = true;
        } else if option.eq_ignore_ascii_case(b"keep-alive") {
            found.keep_alive = true;
        } else if option.eq_ignore_ascii_case(b"upgrade") {
            found.upgrade = true;
        } else if found.listed.len() < LISTED_NAMES && valid_field_name(option) && !is_protected(option) {
            found.listed.push(option);
        }
    }
    found
}

fn is_protected(name: &[u8]) -> bool {
    is_forwarding_field(name) || PROTECTED.iter().any(|field| name.eq_ignore_ascii_case(field.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_fields() {
        for (name, expected) in [
            ("Connection", true),
            ("keep-alive", true),
            ("Proxy-Connection", true),
            ("TE", true),
            ("Transfer-Encoding", true),
            ("upgrade", true),
            ("Trailer", true),
            ("Proxy-Authorization", true),
            ("Content-Length", false),
            ("Via", false),
            ("", false),
        ] {
            assert_eq!(is_hop_by_hop(name.as_bytes()), expected, "{name}");
        }
    }

    fn read(values: &[&str]) -> (bool, bool, bool, Vec<String>) {
        let fields: Fields = values.iter().map(|value| ("Connection", *value)).collect();
        let found = connection_tokens(&fields);
        let listed = found.listed.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        (found.close, found.keep_alive, found.upgrade, listed)
    }

    #[test]
    fn connection_options() {
        let none = Vec::<String>::new;
        for (values, expected) in [
            (&[][..], (false, false, false, none())),
            (&["close"], (true, false, false, none())),
            (&["Keep-Alive, Upgrade"], (false, true, true, none())),
            (&["keep-alive", "CLOSE"], (true, true, false, none())),
            (&["X-Hop, ,close"], (true, false, false, vec!["X-Hop".into()])),
            (&["closed"], (false, false, false, vec!["closed".into()])),
            (&["a b, \"x\", caf\u{e9}"], (false, false, false, none())),
        ] {
            assert_eq!(read(values), expected, "{values:?}");
        }
    }

    #[test]
    fn protected_names_are_not_listed() {
        for name in [
            "Content-Length",
            "Host",
            "X-Forwarded-For",
            "X-Forwarded-Anything",
            "Forwarded",
            "X-Request-ID",
            "Via",
            "Cookie",
            "Authorization",
            "X-Real-IP",
        ] {
            assert_eq!(read(&[name]).3, Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn the_list_is_bounded_and_close_is_still_seen() {
        let mut names: Vec<String> = (0..40).map(|number| format!("X-{number}")).collect();
        names.push("close".into());
        let (close, _, _, listed) = read(&[&names.join(",")]);
        assert!(close);
        assert_eq!(listed, names[..LISTED_NAMES]);
        let fields: Fields = [("Connection", "X-1")].into_iter().collect();
        assert!(connection_tokens(&fields).lists(b"x-1"));
        assert!(!connection_tokens(&fields).lists(b"x-2"));
    }
}
