//! Who the client is, as a proxy in front says in the first bytes of a connection: the PROXY protocol, versions 1 and 2.
//!
//! Owns the bytes of the header. Leaves to the caller from whom one is taken (trusted peers alone), the time it may take, and what
//! to do where it is missing (checklist part 2 row 65). Extensions of version 2 (TLVs) are skipped; its checksum too, as
//! TCP has one. Invariant: at most `LONGEST` bytes are ever waited for, and the answer for bytes that are no header comes with
//! the first wrong one, not with a timeout.
//! Source: haproxy's doc/proxy-protocol.txt, sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes a header may have. The addresses take 52 at most; the rest is for extensions such as a TLS client's certificate name.
pub const LONGEST: usize = 4096;

/// What the bytes so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The beginning of a header; ask again with more. Never for `LONGEST` bytes or more.
    Partial,
    /// A whole header.
    Header(Header),
    /// No header, or one that must not be believed: the connection is closed.
    Malformed(Fault),
}

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The two ends of the client's connection to the proxy; `None` when the proxy speaks for itself (a health check), or does
    /// not know: the connection's own addresses count then.
    pub addresses: Option<Addresses>,
    /// Bytes it takes, 15 ≤ `length` ≤ `LONGEST`; the client's own begin there.
    pub length: usize,
}

/// The two ends of a TCP connection. IPv4 mapped into IPv6 is given as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection begins with something else.
    NotThere,
    /// A line of version 1 longer than 107 bytes, or a header of version 2 longer than `LONGEST`.
    TooLong,
    /// A line of version 1 that breaks its grammar.
    BadLine,
    /// A version that is not 2, or a command that is neither LOCAL nor PROXY.
    BadVersion,
    /// A family or transport that a TCP connection cannot have.
    BadFamily,
    /// Fewer bytes than the addresses of the family need.
    TooShort,
}

/// Looks at the beginning of a connection.
#[must_use]
pub fn read(bytes: &[u8]) -> Found {
    let common = |start: &[u8]| bytes.iter().zip(start).all(|(byte, wanted)| byte == wanted);
    let outcome = if common(SIGNATURE) {
        version_2(bytes)
    } else if common(START) {
        version_1(bytes)
    } else {
        Err(Fault::NotThere)
    };
    match outcome {
        Ok(Some(header)) => Found::Header(header),
        Ok(None) => Found::Partial,
        Err(fault) => Found::Malformed(fault),
    }
}

const START: &[u8] = b"PROXY ";

/// "a 108-byte buffer is always enough to store all the line and a trailing zero".
const LONGEST_LINE: usize = 107;

fn version_1(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let window = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)) else {
        return if bytes.len() < LONGEST_LINE { Ok(None) } else { Err(Fault::TooLong) };
    };
    match (window[end], bytes.get(end + 1)) {
        (b'\r', Some(b'\n')) if end + 2 <= LONGEST_LINE => {}
        (b'\r', None) if end + 2 <= LONGEST_LINE => return Ok(None),
        (b'\r', Some(b'\n') | None) => return Err(Fault::TooLong),
        _ => return Err(Fault::BadLine),
    }
    let line = window.get(START.len()..end).ok_or(Fault::BadLine)?;
    let line = std::str::from_utf8(line).map_err(|_| Fault::BadLine)?;
    Ok(Some(Header { addresses: line_addresses(line)?, length: end + 2 }))
}

/// `TCP4 192.0.2.1 192.0.2.2 56324 443`; what follows `UNKNOWN` is to be ignored.
fn line_addresses(line: &str) -> Result<Option<Addresses>, Fault> {
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(None);
    }
    let parts: Vec<&str> = line.splitn(6, ' ').collect();
    let &[family, source, destination, source_port, destination_port] = &parts[..] else {
        return Err(Fault::BadLine);
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::from).map_err(|_| Fault::BadLine),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::from).map_err(|_| Fault::BadLine),
        _ => Err(Fault::BadLine),
    };
    let source = socket(address(source)?, port(source_port)?);
    let destination = socket(address(destination)?, port(destination_port)?);
    Ok(Some(Addresses { source, destination }))
}

/// Decimal, without a sign or a leading zero.
fn port(text: &str) -> Result<u16, Fault> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical).ok_or(Fault::BadLine)
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;

fn version_2(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let command = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(_) => return Err(Fault::BadVersion),
    };
    let Some(&family) = bytes.get(13) else { return Ok(None) };
    // UNSPEC, and Unix sockets, whose paths say nothing here; datagrams cannot have come this way.
    let needed = match (&command, family) {
        (Command::Local, _) | (_, 0x00) => 0,
        (_, 0x11) => 12,
        (_, 0x21) => 36,
        (_, 0x31) => 216,
        _ => return Err(Fault::BadFamily),
    };
    let &[_, _, .., high, low] = bytes.get(..FIXED).unwrap_or_default() else { return Ok(None) };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + rest > LONGEST {
        return Err(Fault::TooLong);
    }
    if rest < needed {
        return Err(Fault::TooShort);
    }
    let Some(payload) = bytes.get(FIXED..FIXED + rest) else { return Ok(None) };
    let addresses = match command {
        Command::Local => None,
        Command::Proxy => binary_addresses(family, payload),
    };
    Ok(Some(Header { addresses, length: FIXED + rest }))
}

enum Command {
    Local,
    Proxy,
}

/// Both addresses, then both ports, in network order.
fn binary_addresses(family: u8, payload: &[u8]) -> Option<Addresses> {
    let ip = |start: usize, bytes: usize| -> Option<IpAddr> {
        let slice = payload.get(start..start + bytes)?;
        match bytes {
            4 => <[u8; 4]>::try_from(slice).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(slice).ok().map(IpAddr::from),
        }
    };
    let port = |start: usize| Some(u16::from_be_bytes([*payload.get(start)?, *payload.get(start + 1)?]));
    let size = match family {
        0x11 => 4,
        0x21 => 16,
        _ => return None,
    };
    Some(Addresses {
        source: socket(ip(0, size)?, port(2 * size)?),
        destination: socket(ip(size, size)?, port(2 * size + 2)?),
    })
}

fn socket(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: usize, ends: Option<(&str, &str)>) -> Found {
        let end = |text: &str| text.parse().unwrap();
        let addresses = ends.map(|(from, to)| Addresses { source: end(from), destination: end(to) });
        Found::Header(Header { addresses, length })
    }

    /// Version 2: command, family, payload.
    fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, payload].concat()
    }

    const FOUR: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];

    #[test]
    fn row_65_lines_of_version_1() {
        let longest = "PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"
            .replace("ffff:f...f:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        let full = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        for (line, wanted) in [
            (
                "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
                header(45, Some(("192.0.2.1:56324", "198.51.100.7:443"))),
            ),
            ("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", header(36, Some(("[2001:db8::1]:1", "[::1]:65535")))),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 0 80\r\n", header(38, Some(("192.0.2.1:0", "[::1]:80")))),
            (&longest, header(104, Some((full, full)))),
            ("PROXY UNKNOWN\r\n", header(15, None)),
            ("PROXY UNKNOWN ffff::1 what ever\r\nGET", header(33, None)),
            ("PROXY unknown\r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY UNKNOWNS\r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n", Found::Malformed(Fault::BadLine)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\rX", Found::Malformed(Fault::BadLine)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY TCP4 ::1 198.51.100.7 56324 443\r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY TCP6 192.0.2.1 ::1 56324 443\r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY TCP4 192.0.2.01 198.51.100.7 56324 443\r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 056324 443\r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 +1 443\r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY UDP4 192.0.2.1 198.51.100.7 1 443\r\n", Found::Malformed(Fault::BadLine)),
            ("PROXY \r\n", Found::Malformed(Fault::BadLine)),
            ("GET / HTTP/1.1\r\n", Found::Malformed(Fault::NotThere)),
            ("PUT / HTTP/1.1\r\n", Found::Malformed(Fault::NotThere)),
            ("proxy TCP4", Found::Malformed(Fault::NotThere)),
            ("PROXY", Found::Partial),
            ("", Found::Partial),
        ] {
            assert_eq!(read(line.as_bytes()), wanted, "{line:?}");
        }
        let unknown = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
        assert_eq!(read(unknown(107).as_bytes()), header(107, None));
        assert_eq!(read(unknown(108).as_bytes()), Found::Malformed(Fault::TooLong));
        assert_eq!(read(&unknown(108).as_bytes()[..107]), Found::Malformed(Fault::TooLong));
    }

    #[test]
    fn row_65_headers_of_version_2() {
        let six: Vec<u8> =
            [&[0x20, 1, 13, 0xb8][..], &[0; 11], &[1], &[0; 15], &[2], &[0, 80, 1, 187]].concat();
        let extended = [FOUR, &[0x04, 0, 3, 1, 2, 3]].concat();
        let ends = Some(("192.0.2.1:56324", "198.51.100.7:443"));
        for (bytes, wanted) in [
            (binary(0x21, 0x11, FOUR), header(28, ends)),
            (binary(0x21, 0x11, &extended), header(34, ends)),
            (binary(0x21, 0x21, &six), header(52, Some(("[2001:db8::1]:80", "[::2]:443")))),
            (binary(0x21, 0x31, &[b'/'; 216]), header(232, None)),
            (binary(0x21, 0x00, &[]), header(16, None)),
            (binary(0x21, 0x00, &[1; 20]), header(36, None)),
            (binary(0x20, 0x00, &[]), header(16, None)),
            // The sender of a LOCAL connection may put anything there.
            (binary(0x20, 0x11, FOUR), header(28, None)),
            (binary(0x20, 0xff, &[]), header(16, None)),
            (binary(0x21, 0x11, &FOUR[..11]), Found::Malformed(Fault::TooShort)),
            (binary(0x21, 0x21, &[0; 35]), Found::Malformed(Fault::TooShort)),
            (binary(0x21, 0x12, FOUR), Found::Malformed(Fault::BadFamily)),
            (binary(0x21, 0x41, FOUR), Found::Malformed(Fault::BadFamily)),
            (binary(0x22, 0x11, FOUR), Found::Malformed(Fault::BadVersion)),
            (binary(0x11, 0x11, FOUR), Found::Malformed(Fault::BadVersion)),
            (binary(0x21, 0x11, &[0; LONGEST - 16]), header(LONGEST, Some(("0.0.0.0:0", "0.0.0.0:0")))),
            (binary(0x21, 0x11, &[0; LONGEST - 15]), Found::Malformed(Fault::TooLong)),
            (b"\r\n\r\n\0\r\nQUIX\n".to_vec(), Found::Malformed(Fault::NotThere)),
        ] {
            assert_eq!(read(&bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn a_header_cut_anywhere_is_partial() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n".to_vec();
        for whole in [line, binary(0x21, 0x11, FOUR), binary(0x20, 0, b"abc")] {
            for cut in 0..whole.len() {
                assert_eq!(read(&whole[..cut]), Found::Partial, "{cut} of {whole:?}");
            }
            let followed = [&whole[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(read(&followed), read(&whole));
        }
    }
}
