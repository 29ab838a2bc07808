//! May this be asked here and now?
//!
//! Owns what can be refused before a byte of the body is read: a host that the project does not answer for, a body that is
//! announced as too large. Django's own check of the host stays in place behind this; here it costs no worker.
//! Over TLS the host must be one that the connection was made for (RFC 9110 §7.4): the name of the handshake, or another one
//! of the certificate that was shown, as browsers reuse connections of HTTP/2.

use std::sync::Arc;

use bandstand_semantics::framing::Framing;

use crate::access;
use crate::exchange::{Exchange, SchemeFrom};
use crate::hosts;
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::{Shared, State};

/// The app boots for the first time: a place in the line, and no longer a wait than in any other.
pub(crate) async fn wait(shared: &Shared, state: &State) -> Result<Arc<State>, Refusal> {
    let booted = tokio::time::timeout(state.settings.queue_timeout, shared.booted()).await;
    booted.map_err(|_| Refusal::QueueTimeout)
}

pub(crate) fn run(state: &State, exchange: &mut Exchange) -> Step {
    // The smallest of the rules that may be meant.
    let rules = access::rules(&state.settings, &exchange.path);
    exchange.max_body = rules.map(|rules| rules.max_body).min().unwrap_or(state.settings.max_body);
    if let Framing::Length(length) = exchange.framing
        && length > exchange.max_body
    {
        return Step::Refuse(Refusal::BodyTooLarge);
    }
    if !hosts::is_served(state, exchange.host.name()) {
        return Step::Refuse(Refusal::HostNotServed);
    }
    if exchange.scheme_from == SchemeFrom::Connection && !is_meant(exchange) {
        return Step::Refuse(Refusal::HostNotServed);
    }
    Step::Next
}

/// Whether the host is one that this connection's handshake was for. What a trusted proxy passes on was asked of the proxy.
fn is_meant(exchange: &Exchange) -> bool {
    let Some(tls) = &exchange.tls else { return true };
    let name = exchange.host.name();
    let name = name.strip_suffix('.').unwrap_or(name);
    // Without a name in the handshake anything of ours may be meant: clients leave it out for addresses (RFC 6066 §3).
    let is_same = tls.name.as_ref().is_none_or(|asked| asked.eq_ignore_ascii_case(name));
    is_same || tls.covers(&name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::{request, shared};
    use crate::tls::TlsFacts;
    use rustls::ProtocolVersion;

    #[test]
    fn row_16_the_host_is_one_that_the_handshake_was_for() {
        let shown = crate::tls::store::tests::pair(&["shop.example", "*.eu.shop.example"]).facts;
        let state = shared(|_| {}).state();
        for (asked, host, from, admitted) in [
            (Some("shop.example"), "shop.example", SchemeFrom::Connection, true),
            (Some("shop.example"), "SHOP.example.:8443", SchemeFrom::Connection, true),
            (Some("shop.example"), "de.eu.shop.example", SchemeFrom::Connection, true),
            (Some("shop.example"), "other.example", SchemeFrom::Connection, false),
            (Some("shop.example"), "10.0.0.1", SchemeFrom::Connection, false),
            (Some("shop.example"), "other.example", SchemeFrom::Proxy, true),
            (None, "10.0.0.1", SchemeFrom::Connection, true),
        ] {
            let facts =
                TlsFacts::new(ProtocolVersion::TLSv1_3, None, asked, Some(Arc::new(shown.clone())), None);
            let mut exchange = request("GET /", host, 443);
            exchange.tls = Some(Arc::new(facts));
            exchange.scheme_from = from;
            let step = run(&state, &mut exchange);
            assert_eq!(matches!(step, Step::Next), admitted, "{asked:?} {host}");
        }
        assert!(matches!(run(&state, &mut request("GET /", "any.example", 80)), Step::Next));
    }
}
