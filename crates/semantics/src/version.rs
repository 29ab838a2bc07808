//! The protocol version and the scheme of a request: two small facts that every stage asks for.
//!
//! Owns the enums and their spelling. How they are found on the wire is the connection's business.
//! Source: RFC 9110 §2.5 and §4.2.

/// The HTTP version a request came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0, RFC 1945
    Http10,
    /// HTTP/1.1, RFC 9112
    Http11,
    /// HTTP/2, RFC 9113
    Http2,
    /// HTTP/3, RFC 9114
    Http3,
}

impl Version {
    /// `SERVER_PROTOCOL` as PEP 3333 and CGI spell it.
    #[must_use]
    pub fn as_protocol(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2.0",
            Version::Http3 => "HTTP/3.0",
        }
    }

    /// `http_version` as the ASGI specification spells it.
    #[must_use]
    pub fn as_number(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
            Version::Http3 => "3",
        }
    }
}

/// How the client reached us, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS or QUIC, here or at a trusted proxy.
    Https,
}

impl Scheme {
    /// Lower-case name: `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port meant when none is written.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    /// Reads `http` or `https` in any case; anything else is `None` (RFC 3986 §3.1: schemes ignore case).
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Scheme> {
        if name.eq_ignore_ascii_case(b"http") {
            Some(Scheme::Http)
        } else if name.eq_ignore_ascii_case(b"https") {
            Some(Scheme::Https)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelled_as_the_interfaces_ask() {
        for (version, protocol, number) in [
            (Version::Http10, "HTTP/1.0", "1.0"),
            (Version::Http11, "HTTP/1.1", "1.1"),
            (Version::Http2, "HTTP/2.0", "2"),
            (Version::Http3, "HTTP/3.0", "3"),
        ] {
            assert_eq!(version.as_protocol(), protocol);
            assert_eq!(version.as_number(), number);
        }
    }

    #[test]
    fn schemes_ignore_case_and_nothing_else() {
        for (text, expected) in [
            ("http", Some(Scheme::Http)),
            ("HTTPS", Some(Scheme::Https)),
            ("https ", None),
            ("ws", None),
            ("", None),
        ] {
            assert_eq!(Scheme::parse(text.as_bytes()), expected, "{text:?}");
        }
    }
}
