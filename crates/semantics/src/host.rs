//! The host a request names: `Host`, `:authority`, or the authority of an absolute target.
//!
//! Owns its syntax (RFC 3986 §3.2.2, RFC 9112 §3.2). Leaves to the caller how many Host fields there may be, and which
//! hosts are ours. Stricter than RFC 3986 on names: letters, digits, `-`, `.`, `_` and `~` only. The sub-delimiters and
//! escapes it also allows occur in no DNS name, Django refuses them, and a `,` means two merged fields.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name taken, in bytes: the limit of DNS (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 255;

/// A host and its port, as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'a> {
    /// Name or address in the case it was sent; IPv6 in its brackets. Empty only if the whole value was: RFC 9112 §3.2
    /// lets a client send that, and nothing of ours has such a name.
    pub name: &'a str,
    /// 1–65535 when one was written.
    pub port: Option<u16>,
}

impl<'a> Host<'a> {
    /// Same name, ASCII case and one trailing dot ignored.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        let bare = |text: &'a str| text.strip_suffix('.').unwrap_or(text);
        bare(self.name).eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name))
    }

    /// The name in lower case, without a trailing dot.
    #[must_use]
    pub fn lowercase(&self) -> String {
        self.name.strip_suffix('.').unwrap_or(self.name).to_ascii_lowercase()
    }

    /// The address, if the host is an IP literal.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inside) => inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => self.name.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        }
    }
}

/// Why a host is refused. All are the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostError {
    /// A byte that no host name has: space, `/`, `@`, a control, …
    ForbiddenByte,
    /// A port with no host before it.
    Empty,
    /// Longer than 255 bytes, or two dots in a row, or a leading dot.
    Name,
    /// Brackets without an IPv6 address between them.
    Address,
    /// Not a number from 1 to 65535.
    Port,
}

impl fmt::Display for HostError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            HostError::ForbiddenByte => "the host holds a byte no host name has",
            HostError::Empty => "the host is empty before its port",
            HostError::Name => "the host is not a name",
            HostError::Address => "the host has brackets without an IPv6 address",
            HostError::Port => "the host's port is not a number from 1 to 65535",
        })
    }
}

impl std::error::Error for HostError {}

/// Reads `name`, `name:port`, `1.2.3.4:port` or `[v6]:port`. An empty port (`name:`) counts as none, as RFC 3986 §3.2.3 says.
///
/// # Errors
/// See [`HostError`]; each means 400.
pub fn parse_host(value: &[u8]) -> Result<Host<'_>, HostError> {
    let text = std::str::from_utf8(value).map_err(|_| HostError::ForbiddenByte)?;
    let (name, rest) = match text.strip_prefix('[') {
        Some(_) => bracketed(text)?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if name.is_empty() && !rest.is_empty() {
        return Err(HostError::Empty);
    }
    if !name.starts_with('[') {
        check_name(name)?;
    }
    Ok(Host { name, port: parse_port(rest)? })
}

fn bracketed(text: &str) -> Result<(&str, &str), HostError> {
    let end = text.find(']').ok_or(HostError::Address)?;
    if text[1..end].parse::<Ipv6Addr>().is_err() {
        return Err(HostError::Address);
    }
    Ok(text.split_at(end + 1))
}

fn check_name(name: &str) -> Result<(), HostError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if !name.bytes().all(fits) {
        return Err(HostError::ForbiddenByte);
    }
    if name.len() > LONGEST_NAME || name.starts_with('.') || name.contains("..") {
        return Err(HostError::Name);
    }
    Ok(())
}

fn parse_port(rest: &str) -> Result<Option<u16>, HostError> {
    let digits = match rest.strip_prefix(':') {
        None if rest.is_empty() => return Ok(None),
        None => return Err(HostError::ForbiddenByte),
        Some("") => return Ok(None),
        Some(digits) => digits,
    };
    if digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostError::Port);
    }
    match digits.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(HostError::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let long = "a".repeat(256);
        for (value, expected) in [
            ("example.com", Ok(("example.com", None))),
            ("Example.COM:8000", Ok(("Example.COM", Some(8000)))),
            ("example.com.", Ok(("example.com.", None))),
            ("example.com:", Ok(("example.com", None))),
            ("my_app", Ok(("my_app", None))),
            ("127.0.0.1:1", Ok(("127.0.0.1", Some(1)))),
            ("[::1]", Ok(("[::1]", None))),
            ("[::1]:65535", Ok(("[::1]", Some(65535)))),
            ("[::ffff:1.2.3.4]:80", Ok(("[::ffff:1.2.3.4]", Some(80)))),
            ("", Ok(("", None))),
            (":80", Err(HostError::Empty)),
            (":", Err(HostError::Empty)),
            ("a:0", Err(HostError::Port)),
            ("a:65536", Err(HostError::Port)),
            ("a:99999", Err(HostError::Port)),
            ("a:000080", Err(HostError::Port)),
            ("a:abc", Err(HostError::Port)),
            ("a:+80", Err(HostError::Port)),
            ("a:80:80", Err(HostError::Port)),
            ("::1", Err(HostError::Empty)),
            ("user@host", Err(HostError::ForbiddenByte)),
            ("user:pw@host", Err(HostError::Port)),
            ("a b", Err(HostError::ForbiddenByte)),
            (" a", Err(HostError::ForbiddenByte)),
            ("a/b", Err(HostError::ForbiddenByte)),
            ("a?b", Err(HostError::ForbiddenByte)),
            ("a#b", Err(HostError::ForbiddenByte)),
            ("a\\b", Err(HostError::ForbiddenByte)),
            ("a,b", Err(HostError::ForbiddenByte)),
            ("a%41", Err(HostError::ForbiddenByte)),
            ("a\tb", Err(HostError::ForbiddenByte)),
            ("a\0", Err(HostError::ForbiddenByte)),
            ("bücher.de", Err(HostError::ForbiddenByte)),
            ("a..b", Err(HostError::Name)),
            (".a", Err(HostError::Name)),
            (&long, Err(HostError::Name)),
            ("[::1", Err(HostError::Address)),
            ("[]", Err(HostError::Address)),
            ("[1.2.3.4]", Err(HostError::Address)),
            ("[fe80::1%25eth0]", Err(HostError::Address)),
            ("[v1.x]", Err(HostError::Address)),
            ("[::1]x", Err(HostError::ForbiddenByte)),
        ] {
            let found = parse_host(value.as_bytes()).map(|host| (host.name, host.port));
            assert_eq!(found, expected, "{value:?}");
        }
        assert_eq!(parse_host(b"a\xff"), Err(HostError::ForbiddenByte));
    }

    #[test]
    fn comparing_and_addresses() {
        let host = |text: &'static str| parse_host(text.as_bytes()).unwrap();
        assert!(host("Example.com.:80").is("example.COM"));
        assert!(!host("example.com").is("example.org"));
        assert_eq!(host("Example.COM.").lowercase(), "example.com");
        assert_eq!(host("[::1]:80").ip(), Some("::1".parse().unwrap()));
        assert_eq!(host("127.0.0.1").ip(), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(host("example.com").ip(), None);
    }
}
