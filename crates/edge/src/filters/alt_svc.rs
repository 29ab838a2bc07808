//! `Alt-Svc`: what came over TLS can be had over HTTP/3 (RFC 7838 §3).
//!
//! Owns the ports that HTTP/3 is spoken on and the word about them. It is said on answers over HTTP/1 and HTTP/2 whose port
//! has a UDP socket beside it; who has it over HTTP/3 already needs no word, and what an app says of its own stays.

use arc_swap::ArcSwap;
use bandstand_semantics::Version;

use crate::exchange::{Answer, Exchange};

const NAME: &[u8] = b"Alt-Svc";
/// How long a client may remember it, in seconds: a day.
const MAX_AGE: u32 = 86_400;

/// Ports with HTTP/3, and what is said about each.
#[derive(Debug, Default)]
pub(crate) struct AltSvc {
    ports: ArcSwap<Vec<(u16, String)>>,
}

impl AltSvc {
    /// These are the ports from now on.
    pub(crate) fn tell(&self, ports: impl Iterator<Item = u16>) {
        let ports = ports.map(|port| (port, format!("h3=\":{port}\"; ma={MAX_AGE}")));
        self.ports.store(std::sync::Arc::new(ports.collect()));
    }

    /// Adds the field where it belongs.
    pub(crate) fn apply(&self, exchange: &Exchange, answer: &mut Answer) {
        if exchange.tls.is_none() || exchange.version == Version::Http3 || answer.status < 200 {
            return;
        }
        let ports = self.ports.load();
        let port = exchange.ends.local.map(|local| local.port());
        let Some((_, value)) = ports.iter().find(|(with, _)| Some(*with) == port) else { return };
        if answer.all_fields().all(|(name, _)| !name.eq_ignore_ascii_case(NAME)) {
            answer.fields.push(NAME, value.as_bytes());
        }
    }
}
