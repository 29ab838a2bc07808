//! Method and path of an exchange, for logs and `status`.
//!
//! Owns how they are found when somebody asks, so that no request pays for it: while a request may be given once more
//! its whole payload is there; an open stream or WebSocket keeps `METHOD path` alone in its place. Queries are left out,
//! as in the access log: they hold what nobody wants in a log.

use bandstand_wire::RequestHead;
use bandstand_wire::sequence::Answer;

use super::places::Held;

/// Longest path that an open stream keeps, in bytes.
const KEPT: usize = 1024;

/// What a request asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Title {
    pub(crate) method: String,
    /// The path as it was sent, without the query.
    pub(crate) target: String,
}

impl Title {
    pub(crate) fn of(held: &Held) -> Self {
        let payload = &held.job.payload;
        let (method, target) = match held.answer {
            Answer::Waiting => head_of(payload),
            _ => split(payload),
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { method: text(method), target: text(target) }
    }
}

/// What is kept of a payload that nobody else will be given.
pub(super) fn shorten(payload: &[u8]) -> Vec<u8> {
    let (method, target) = head_of(payload);
    [method, &target[..target.len().min(KEPT)]].join(&b' ')
}

fn head_of(payload: &[u8]) -> (&[u8], &[u8]) {
    match RequestHead::decode(payload) {
        Ok((head, _, _)) => (head.method, head.raw_path.strip_suffix(b"?").unwrap_or(head.raw_path)),
        Err(_) => (b"", b""),
    }
}

fn split(kept: &[u8]) -> (&[u8], &[u8]) {
    let at = kept.iter().position(|&byte| byte == b' ').unwrap_or(kept.len());
    (&kept[..at], kept.get(at + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use bandstand_wire::Version;

    use super::*;

    #[test]
    fn what_is_kept_is_what_was_asked_for() {
        let long = [b'x'; 2 * KEPT];
        for (raw_path, kept) in
            [(&b"/a"[..], &b"/a"[..]), (b"/a?", b"/a"), (b"*", b"*"), (&long, &long[..KEPT])]
        {
            let mut payload = Vec::new();
            let head = RequestHead {
                version: Version::Http11,
                https: false,
                method: b"GET",
                raw_path,
                query: b"token=secret",
                path: raw_path,
                root_path: b"",
                client_address: b"",
                client_port: 0,
                server_name: b"",
                server_port: 0,
                body_length: None,
                tls: None,
            };
            head.encode([].into_iter(), &mut payload);
            assert_eq!(split(&shorten(&payload)), (&b"GET"[..], kept));
        }
        assert_eq!(split(&shorten(b"no head")), (&b""[..], &b""[..]));
    }
}
