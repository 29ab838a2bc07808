//! CAA records: who may issue for a name.
//!
//! Owns the question in DNS, its answer and what that says; the resolver is the system's (`/etc/resolv.conf`). Blocks. Only
//! the preflight asks: an authority looks for itself, so whatever is odd here is no answer. Invariant: no answer of any shape
//! panics or loops. Sources: RFC 1035 §4, RFC 8659.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// For one server.
const PATIENCE: Duration = Duration::from_secs(2);
/// Type of the record.
const CAA: u16 = 257;
/// Longest answer over UDP without more ado, and a little more.
const ANSWER_MOST: usize = 4096;

/// A record: its tag in lower case, and its value.
pub(crate) type Record = (String, String);

/// The name that has records, itself or above `name`, and those records; `None`: nobody has, or nobody answers.
pub(crate) fn records(name: &str) -> Option<(String, Vec<Record>)> {
    let server = resolver()?;
    let mut at = name;
    loop {
        let records = ask(server, at).ok()?;
        if !records.is_empty() {
            return Some((at.to_owned(), records));
        }
        at = at.split_once('.')?.1;
    }
}

/// Whom records allow (RFC 8659 §4.2, §4.3); `None`: everybody.
pub(crate) fn issuers(records: &[Record], wildcard: bool) -> Option<Vec<String>> {
    let tagged = |wanted: &str| -> Vec<String> {
        let values = records.iter().filter(|(tag, _)| tag == wanted).map(|(_, value)| value);
        values.map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()).collect()
    };
    let wild = if wildcard { tagged("issuewild") } else { Vec::new() };
    let issuers = if wild.is_empty() { tagged("issue") } else { wild };
    if issuers.is_empty() {
        return None;
    }
    // `issue ";"` allows nobody.
    Some(issuers.into_iter().filter(|issuer| !issuer.is_empty()).collect())
}

fn resolver() -> Option<SocketAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").ok()?;
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let address: IpAddr = lines.map(str::trim).find_map(|address| address.parse().ok())?;
    Some(SocketAddr::new(address, 53))
}

fn ask(server: SocketAddr, name: &str) -> io::Result<Vec<Record>> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    let id = getrandom::u32().unwrap_or_default().to_be_bytes();
    let id = [id[0], id[1]];
    socket.send(&question(id, name).ok_or(io::ErrorKind::InvalidInput)?)?;
    let mut answer = [0; ANSWER_MOST];
    let length = socket.recv(&mut answer)?;
    read(id, &answer[..length]).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// RFC 1035 §4.1; recursion is desired.
fn question(id: [u8; 2], name: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&CAA.to_be_bytes());
    bytes.extend_from_slice(&1_u16.to_be_bytes());
    Some(bytes)
}

/// The CAA records of an answer; `None`: it is none to this question, or cut.
fn read(id: [u8; 2], answer: &[u8]) -> Option<Vec<Record>> {
    let mut rest = Reader(answer);
    let head = rest.take(12)?;
    let number = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    // An answer, whole; that there is no such name (3) is an answer too.
    if head[..2] != id || head[2] & 0x80 == 0 || head[2] & 2 != 0 || !matches!(head[3] & 15, 0 | 3) {
        return None;
    }
    for _ in 0..number(4) {
        rest.skip_name()?;
        rest.take(4)?;
    }
    let mut records = Vec::new();
    for _ in 0..number(6) {
        rest.skip_name()?;
        let fixed = rest.take(10)?;
        let data = rest.take(usize::from(u16::from_be_bytes([fixed[8], fixed[9]])))?;
        if fixed[..2] == CAA.to_be_bytes() {
            records.extend(record(data));
        }
    }
    Some(records)
}

/// RFC 8659 §4.1: flags, length of the tag, tag, value.
fn record(data: &[u8]) -> Option<Record> {
    let mut rest = Reader(data);
    let fixed = rest.take(2)?;
    let tag = rest.take(usize::from(fixed[1]))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((text(tag).to_ascii_lowercase(), text(rest.0)))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Labels up to the empty one, or up to a pointer, which ends a name and is not followed.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            let length = self.take(1)?[0];
            match length {
                0 => return Some(()),
                1..64 => self.take(usize::from(length)).map(|_| ())?,
                192.. => return self.take(1).map(|_| ()),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<u8> {
        let mut answer = question([7, 9], "shop.test").unwrap();
        answer[2] |= 0x80;
        answer[7] = 2; // answers
        for (tag, value) in [("issue", "letsencrypt.org; validationmethods=http-01"), ("iodef", "mailto:a@b")]
        {
            answer.extend([0xc0, 12]);
            answer.extend(CAA.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 60]);
            let data = [&[0, tag.len() as u8][..], tag.as_bytes(), value.as_bytes()].concat();
            answer.extend((data.len() as u16).to_be_bytes());
            answer.extend(data);
        }
        answer
    }

    #[test]
    fn an_answer_and_every_part_of_it() {
        let answer = answer();
        let records = read([7, 9], &answer).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(issuers(&records, false), Some(vec!["letsencrypt.org".to_owned()]));
        assert_eq!(read([7, 8], &answer), None, "of another question");
        for end in 0..answer.len() {
            assert_eq!(read([7, 9], &answer[..end]), None, "cut at {end}");
        }
        for at in 0..answer.len() {
            for byte in [0, 0x3f, 0xc0, 0xff] {
                let mut odd = answer.clone();
                odd[at] = byte;
                let _ = read([7, 9], &odd); // whatever it is, it does not panic
            }
        }
    }

    #[test]
    fn whom_records_allow() {
        let all = |records: &[(&str, &str)], wildcard| {
            let records: Vec<Record> =
                records.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect();
            issuers(&records, wildcard).map(|issuers| issuers.join(","))
        };
        for (records, wildcard, wanted) in [
            (&[][..], false, None),
            (&[("iodef", "mailto:a@b")][..], false, None),
            (&[("issue", "letsencrypt.org")], false, Some("letsencrypt.org")),
            (&[("issue", " PKI.goog ; x=y"), ("issue", "a.b")], false, Some("pki.goog,a.b")),
            (&[("issue", ";")], false, Some("")),
            (&[("issue", "a.b"), ("issuewild", ";")], true, Some("")),
            (&[("issue", "a.b"), ("issuewild", ";")], false, Some("a.b")),
            (&[("issuewild", "a.b")], false, None),
        ] {
            assert_eq!(all(records, wildcard).as_deref(), wanted, "{records:?}");
        }
    }

    #[test]
    fn names_that_cannot_be_asked() {
        for name in ["", "a..b", &"x".repeat(64)] {
            assert_eq!(question([0, 0], name), None, "{name:?}");
        }
    }
}
