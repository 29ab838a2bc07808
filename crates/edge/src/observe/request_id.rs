//! The name of a request, from the client's side to the app's log.
//!
//! Owns its form: 32 hex digits of our own (a random prefix of this process, then a count), or what the client sent in
//! `X-Request-ID` if that is 1 to 128 characters of `A-Z a-z 0-9 - _ . : = + / @`. Unique, not secret.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest id taken from a client.
const LONGEST: usize = 128;

/// A request's name.
#[derive(Debug, Clone)]
pub(crate) enum RequestId {
    /// Made here.
    Own([u8; 32]),
    /// The client's.
    Given(Box<[u8]>),
}

impl RequestId {
    /// A new one.
    pub(crate) fn new() -> Self {
        static PREFIX: OnceLock<u64> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let prefix = *PREFIX.get_or_init(|| {
            let mut seed = [0; 8];
            // Without randomness ids are unique within this process only; nothing depends on more.
            if getrandom::fill(&mut seed).is_err() {
                seed = u64::from(std::process::id()).to_le_bytes();
            }
            u64::from_le_bytes(seed)
        });
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut text = [0; 32];
        hex(prefix, &mut text[..16]);
        // An odd multiplier spreads neighbours apart, so that the first digits tell requests from each other.
        hex(count.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15), &mut text[16..]);
        Self::Own(text)
    }

    /// The client's, if it is well formed.
    pub(crate) fn given(value: &[u8]) -> Option<Self> {
        let fine = (1..=LONGEST).contains(&value.len())
            && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:=+/@".contains(byte));
        fine.then(|| Self::Given(value.into()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Own(text) => text,
            Self::Given(text) => text,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("")
    }
}

fn hex(value: u64, out: &mut [u8]) {
    for (at, digit) in out.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(value >> (60 - 4 * at) & 15) as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_hex() {
        let ids: std::collections::HashSet<String> =
            (0..1000).map(|_| RequestId::new().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }

    #[test]
    fn what_a_client_may_send() {
        for (value, fine) in [
            (&b"abc-123_X.y:z=+/@"[..], true),
            (b"", false),
            (b"a b", false),
            (b"a\"b", false),
            (b"a\x1bb", false),
            (b"caf\xc3\xa9", false),
            (&[b'a'; 128], true),
            (&[b'a'; 129], false),
        ] {
            assert_eq!(RequestId::given(value).is_some(), fine, "{value:?}");
        }
    }
}
