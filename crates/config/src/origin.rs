//! The spelling of a web origin: scheme, host and port, as browsers write it in `Origin`.
//!
//! Owns only the text, so that comparing is comparing bytes: scheme and host in lower case, no default port. Who is let in is
//! the edge's matter. Invariant: what `read` gives is what a browser would send, or `same`.
//! Source: RFC 6454 sections 4 and 6.2; RFC 6455 section 10.2; the URL standard's default ports.

/// The origin that `text` means.
///
/// # Errors
/// What is wrong with it, to follow the text, and the way out.
pub(crate) fn read(text: &str) -> Result<String, (&'static str, &'static str)> {
    const FORM: &str = "write https://example.com, with a port where it is not the scheme's own, or same";
    let text = text.trim();
    if text.eq_ignore_ascii_case("same") {
        return Ok("same".to_owned());
    }
    if text == "*" {
        return Err(("is no origin", "leave websocket_origins out, and any page may open a WebSocket"));
    }
    let Some((scheme, rest)) = text.split_once("://") else { return Err(("has no scheme", FORM)) };
    if !is_scheme(scheme) {
        return Err(("has no scheme", FORM));
    }
    if rest.contains(['/', '?', '#', '@']) {
        return Err((
            "is more than an origin",
            "leave away what follows host and port: no path, no closing /",
        ));
    }
    let scheme = scheme.to_ascii_lowercase();
    let (host, port) = host_and_port(rest).ok_or(("has no proper host and port", FORM))?;
    let own = matches!((scheme.as_str(), port), ("http" | "ws", Some(80)) | ("https" | "wss", Some(443)));
    let host = host.to_ascii_lowercase();
    Ok(match port.filter(|_| !own) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// A name in ASCII (browsers send the punycode of others), an IPv4 address, or an IPv6 address in brackets.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(end);
    let port = match port.strip_prefix(':') {
        // `parse` would take a sign.
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
        None if port.is_empty() => None,
        None => return None,
    };
    let fine = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    fine.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_do() {
        for (text, wanted) in [
            ("https://example.com", Some("https://example.com")),
            (" HTTPS://Example.COM ", Some("https://example.com")),
            ("https://example.com:443", Some("https://example.com")),
            ("http://example.com:80", Some("http://example.com")),
            ("http://example.com:443", Some("http://example.com:443")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("https://xn--bcher-kva.example", Some("https://xn--bcher-kva.example")),
            ("capacitor://localhost", Some("capacitor://localhost")),
            ("Same", Some("same")),
            ("*", None),
            ("", None),
            ("null", None),
            ("example.com", None),
            ("://example.com", None),
            ("1http://example.com", None),
            ("https://", None),
            ("https://:443", None),
            ("https://example.com/", None),
            ("https://me@example.com", None),
            ("https://example.com:", None),
            ("https://example.com:+80", None),
            ("https://example.com:65536", None),
            ("https://[::1", None),
            ("https://[::x]", None),
            ("https://[::1]3000", None),
            ("https://*.example.com", None),
            ("https://bücher.example", None),
            ("https://a b", None),
        ] {
            assert_eq!(read(text).ok().as_deref(), wanted, "{text:?}");
        }
    }
}
