//! Who asks, over which scheme, for which host?
//!
//! Owns the request's identity: path decoded once, client and scheme behind trusted proxies, its id; and the end of every
//! field that a client could use to pass for somebody else (`CHECKLIST.md` part 2 rows 18–20, 22, 23). What asks for a
//! WebSocket is read before the fields that say so are gone; `upgrade` decides on it.

use std::sync::atomic::Ordering;

use bandstand_semantics::path::decode_path;
use bandstand_semantics::trailer::takes_trailers;
use bandstand_semantics::websocket::handshake::read_offer;
use bandstand_semantics::{Scheme, forwarded, hop};

use crate::exchange::{Authority, Exchange};
use crate::observe::request_id::RequestId;
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::{Shared, State};

pub(crate) fn run(shared: &Shared, state: &State, exchange: &mut Exchange) -> Step {
    let Ok(path) = decode_path(exchange.raw_path()) else { return Step::Refuse(Refusal::BadPath) };
    exchange.path = path.into_owned();
    identify_client(state, exchange);
    if let Some(id) = exchange.fields.first("x-request-id").and_then(RequestId::given) {
        exchange.request_id = id;
    }
    let offer = read_offer(exchange.method(), exchange.version, exchange.framing, &exchange.fields);
    exchange.upgrade = offer.map(Box::new);
    exchange.takes_trailers = takes_trailers(&exchange.fields);
    strip(shared, state, exchange);
    Step::Next
}

fn identify_client(state: &State, exchange: &mut Exchange) {
    let peer = exchange.ends.peer;
    let local_port = exchange.ends.local.map_or(0, |local| local.port());
    let client = forwarded::resolve(peer.map(|peer| peer.ip()), &exchange.fields, &state.trusted);
    let scheme = client.scheme.unwrap_or(Scheme::Http);
    let host = client.host.map(|host| match host.port {
        Some(port) => format!("{}:{port}", host.name),
        None => host.name.to_owned(),
    });
    let told_port = client.port;
    exchange.client = client.addr;
    exchange.client_port = match peer {
        Some(peer) if Some(peer.ip().to_canonical()) == client.addr => peer.port(),
        _ => 0,
    };
    exchange.https = scheme == Scheme::Https;
    if let Some(Ok(host)) = host.map(|host| Authority::parse(host.as_bytes())) {
        exchange.host = host;
    }
    exchange.server_port = told_port.or(exchange.host.port).unwrap_or(match exchange.ends.peer {
        // Behind a proxy our own port says nothing about the one that the client used.
        Some(_) if client_is_peer(exchange) => local_port,
        _ => scheme.default_port(),
    });
}

fn client_is_peer(exchange: &Exchange) -> bool {
    exchange.client == exchange.ends.peer.map(|peer| peer.ip().to_canonical())
}

/// Takes out what must not reach the app: connection-bound fields, names that WSGI cannot tell apart, httpoxy, and the
/// words of proxies from those who are none.
fn strip(shared: &Shared, state: &State, exchange: &mut Exchange) {
    let trusted = state.trusted.trusts(exchange.ends.peer.map(|peer| peer.ip()));
    let connection = hop::connection_tokens(&exchange.fields);
    let listed: Vec<Vec<u8>> = connection.listed.iter().map(|name| name.to_vec()).collect();
    let mut dropped = 0;
    exchange.fields.retain(|name, _| {
        if name.contains(&b'_')
            || name.eq_ignore_ascii_case(b"proxy")
            || (!trusted && forwarded::is_forwarding_field(name))
        {
            dropped += 1;
            return false;
        }
        !hop::is_hop_by_hop(name)
            && !name.eq_ignore_ascii_case(b"expect")
            && !name.eq_ignore_ascii_case(b"content-length")
            && !name.eq_ignore_ascii_case(b"x-request-id")
            && !name.eq_ignore_ascii_case(b"host")
            && !listed.iter().any(|listed| listed.eq_ignore_ascii_case(name))
    });
    if dropped > 0 {
        shared.dropped_fields.fetch_add(dropped, Ordering::Relaxed);
    }
}
