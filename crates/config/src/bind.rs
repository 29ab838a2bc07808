//! Addresses to listen on, as written and as shown.
//!
//! Owns the syntax of `bind`; opening sockets is the edge's `listener.rs`. Nothing is resolved here: a host name stays a name.
//! Invariant: `Display` prints what `parse` reads back to the same value.
//! Source: gunicorn's `bind` (a host alone means port 8000), RFC 3986 §3.2.2 for brackets round IPv6, sd_listen_fds(3).

use std::fmt;
use std::path::PathBuf;

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bind {
    /// TCP. An empty host is every address, IPv6 and IPv4.
    Tcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// 0 asks the system for a free one.
        port: u16,
        /// What is spoken there, when it was written; ask `Settings::speaks_tls`.
        scheme: Option<Scheme>,
    },
    /// A Unix socket at this path.
    Unix(PathBuf),
    /// A listening socket inherited as this descriptor, 3 or more.
    Fd(i32),
    /// Every socket that systemd passed (`LISTEN_FDS`).
    Systemd,
}

/// What an address was written to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP, whatever certificates there are.
    Http,
    /// TLS.
    Https,
}

impl Bind {
    /// Reads `host:port`, `:port`, `[::1]:8000`, `host`, `8000`, `http://host:port`, `https://host:port`, `unix:/path`, `fd://3`
    /// or `systemd`.
    ///
    /// # Errors
    /// A sentence that says what is wrong, without the text itself.
    pub fn parse(text: &str) -> Result<Bind, String> {
        let text = text.trim();
        if text == "systemd" {
            return Ok(Bind::Systemd);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if let Some(number) = text.strip_prefix("fd://") {
            return descriptor(number);
        }
        for scheme in [Scheme::Http, Scheme::Https] {
            if let Some(rest) = text.strip_prefix(scheme.prefix()) {
                return with_scheme(scheme, rest.strip_suffix('/').unwrap_or(rest));
            }
        }
        if text.contains("://") {
            return Err("has an unknown scheme; there are http, https, unix and fd".to_owned());
        }
        let (host, port) = tcp(text)?;
        Ok(Bind::Tcp { host, port: port.unwrap_or(DEFAULT_PORT), scheme: None })
    }

    /// Whether both name the same place, in whatever words.
    pub(crate) fn is_at(&self, other: &Bind) -> bool {
        match (self, other) {
            (Bind::Tcp { host, port, .. }, Bind::Tcp { host: other, port: other_port, .. }) => {
                (host, port) == (other, other_port)
            }
            _ => self == other,
        }
    }
}

impl Scheme {
    fn prefix(self) -> &'static str {
        match self {
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        }
    }
}

/// Gunicorn's port when only a host is written.
const DEFAULT_PORT: u16 = 8000;

fn unix(path: &str) -> Result<Bind, String> {
    // sockaddr_un holds 108 bytes with the closing zero (unix(7)).
    match path.len() {
        0 => Err("names no path after unix:".to_owned()),
        1..108 if !path.contains('\0') => Ok(Bind::Unix(PathBuf::from(path))),
        _ => Err("is too long for a Unix socket (107 bytes at most)".to_owned()),
    }
}

fn descriptor(number: &str) -> Result<Bind, String> {
    match number.parse::<i32>() {
        Ok(fd) if fd > 2 => Ok(Bind::Fd(fd)),
        Ok(_) => Err("names standard input, output or error; descriptors begin at 3".to_owned()),
        Err(_) => Err("has no descriptor number after fd://".to_owned()),
    }
}

/// Where a port can be left away it is that of the scheme (RFC 9110 section 4.2).
fn with_scheme(scheme: Scheme, rest: &str) -> Result<Bind, String> {
    if !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("names no host; write {}:{rest} for every address", scheme.prefix()));
    }
    let (host, port) = tcp(rest)?;
    let own = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    Ok(Bind::Tcp { host, port: port.unwrap_or(own), scheme: Some(scheme) })
}

/// Host and port; no port when none is written.
fn tcp(text: &str) -> Result<(String, Option<u16>), String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(("127.0.0.1".to_owned(), Some(port(text)?)));
    }
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or("has no closing ]")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("has no IPv6 address between the brackets".to_owned());
            }
            (host, rest)
        }
        None if text.matches(':').count() > 1 => {
            return Err("looks like IPv6; write it as [address]:port".to_owned());
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(digits) => Some(port(digits)?),
        None if rest.is_empty() => None,
        None => return Err("has something between ] and the port".to_owned()),
    };
    match host {
        "" if text.is_empty() => Err("is empty".to_owned()),
        "*" => Ok((String::new(), port)),
        host if host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b)) => {
            Ok((host.to_owned(), port))
        }
        _ => Err("is no host name or address".to_owned()),
    }
}

fn port(digits: &str) -> Result<u16, String> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain).ok_or_else(|| "has no port between 0 and 65535".to_owned())
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp { host, port, scheme } => {
                let scheme = scheme.map_or("", Scheme::prefix);
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}{open}{host}{close}:{port}")
            }
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
            Bind::Fd(fd) => write!(f, "fd://{fd}"),
            Bind::Systemd => write!(f, "systemd"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Option<Bind> {
        Some(Bind::Tcp { host: host.to_owned(), port, scheme: None })
    }

    fn with_scheme(scheme: Scheme, host: &str, port: u16) -> Option<Bind> {
        Some(Bind::Tcp { host: host.to_owned(), port, scheme: Some(scheme) })
    }

    #[test]
    fn addresses() {
        for (text, wanted) in [
            ("127.0.0.1:8000", tcp("127.0.0.1", 8000)),
            ("example.com:80", tcp("example.com", 80)),
            ("example.com", tcp("example.com", 8000)),
            (":443", tcp("", 443)),
            ("*:443", tcp("", 443)),
            ("0.0.0.0:0", tcp("0.0.0.0", 0)),
            ("8080", tcp("127.0.0.1", 8080)),
            ("[::1]:8000", tcp("::1", 8000)),
            ("[::]", tcp("::", 8000)),
            (" localhost:1 ", tcp("localhost", 1)),
            ("unix:/run/shop.sock", Some(Bind::Unix("/run/shop.sock".into()))),
            ("unix:shop.sock", Some(Bind::Unix("shop.sock".into()))),
            ("fd://3", Some(Bind::Fd(3))),
            ("systemd", Some(Bind::Systemd)),
            ("", None),
            (":", None),
            ("host:", None),
            ("host:65536", None),
            ("host:+80", None),
            ("host:http", None),
            ("99999", None),
            ("::1:8000", None),
            ("[::1", None),
            ("[::1]8000", None),
            ("[localhost]:80", None),
            ("ho st:80", None),
            ("http://localhost:8080", with_scheme(Scheme::Http, "localhost", 8080)),
            ("https://:8443", with_scheme(Scheme::Https, "", 8443)),
            ("https://*/", with_scheme(Scheme::Https, "", 443)),
            ("http://[::1]", with_scheme(Scheme::Http, "::1", 80)),
            ("https://", None),
            ("https://8443", None),
            ("https://a/b", None),
            ("HTTPS://a", None),
            ("tcp://a:80", None),
            ("unix:", None),
            ("fd://", None),
            ("fd://1", None),
            ("fd://-3", None),
        ] {
            assert_eq!(Bind::parse(text).ok(), wanted, "{text:?}");
            if let Some(bind) = wanted {
                assert_eq!(Bind::parse(&bind.to_string()), Ok(bind), "{text:?}");
            }
        }
        assert!(Bind::parse(&format!("unix:/{}", "x".repeat(106))).is_ok());
        assert!(Bind::parse(&format!("unix:/{}", "x".repeat(107))).is_err());
    }
}
