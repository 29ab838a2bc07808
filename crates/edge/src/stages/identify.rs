//! Who asks, over which scheme, for which host?
//!
//! Owns the request's identity: path decoded once, client and scheme behind trusted proxies, its id; and the end of every
//! field that a client could use to pass for somebody else (`CHECKLIST.md` part 2 rows 18–20, 22, 23). What asks for a
//! WebSocket is read before the fields that say so are gone; `upgrade` decides on it.
//!
//! What the app is told of it: scheme, host and address are facts of its environ and scope. `X-Forwarded-For`, `-Proto`, `-Host` and
//! `-Port` of a trusted proxy arrive with one value each, the one that was understood, so that an app that reads the first
//! entry of a list reads no client's invention; nobody else's arrive. A Django project that was made for life behind a proxy
//! (`SECURE_PROXY_SSL_HEADER`, `USE_X_FORWARDED_HOST`, `USE_X_FORWARDED_PORT`) gets them always, as that proxy would have
//! written them. The field that `SECURE_PROXY_SSL_HEADER` names is ours alone, whatever its name.

use std::sync::atomic::Ordering;

use bandstand_semantics::path::decode_path;
use bandstand_semantics::trailer::takes_trailers;
use bandstand_semantics::websocket::handshake::{read_connect_offer, read_offer};
use bandstand_semantics::{Scheme, forwarded, hop};

use crate::exchange::{AddressText, Authority, Exchange, SchemeFrom};
use crate::observe::request_id::RequestId;
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::{Shared, State};

pub(crate) fn run(shared: &Shared, state: &State, exchange: &mut Exchange) -> Step {
    // First who asks: whoever is refused for the rest is in the log with the right address, and hears it over the right scheme.
    identify_client(state, exchange);
    if let Some(id) = exchange.fields.first("x-request-id").and_then(RequestId::given) {
        exchange.request_id = id;
    }
    let Ok(path) = decode_path(exchange.raw_path()) else { return Step::Refuse(Refusal::BadPath) };
    exchange.path = path.into_owned();
    let offer = if exchange.is_connect {
        Some(read_connect_offer(&exchange.fields))
    } else {
        read_offer(exchange.method(), exchange.version, exchange.framing, &exchange.fields)
    };
    exchange.upgrade = offer.map(Box::new);
    exchange.takes_trailers = takes_trailers(&exchange.fields);
    strip(shared, state, exchange);
    Step::Next
}

fn identify_client(state: &State, exchange: &mut Exchange) {
    let peer = exchange.ends.peer;
    let local_port = exchange.ends.local.map_or(0, |local| local.port());
    let own = if exchange.tls.is_some() { Scheme::Https } else { Scheme::Http };
    let client = forwarded::resolve(peer.map(|peer| peer.ip()), &exchange.fields, &state.trusted);
    let scheme = client.scheme.unwrap_or(own);
    exchange.scheme_from = match client.scheme {
        Some(_) => SchemeFrom::Proxy,
        None if state.trusted.trusts(peer.map(|peer| peer.ip())) => SchemeFrom::SilentProxy,
        None => SchemeFrom::Connection,
    };
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

/// The fields by which a proxy tells what this stage finds out.
const TOLD: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"];

/// Takes out what must not reach the app: connection-bound fields, names that WSGI cannot tell apart, httpoxy, and the
/// words of proxies from those who are none. What a trusted proxy told is said again as it was understood.
fn strip(shared: &Shared, state: &State, exchange: &mut Exchange) {
    let trusted = state.trusted.trusts(exchange.ends.peer.map(|peer| peer.ip()));
    let connection = hop::connection_tokens(&exchange.fields);
    let listed: Vec<Vec<u8>> = connection.listed.iter().map(|name| name.to_vec()).collect();
    let mut dropped = 0;
    let mut told = [false; 4];
    exchange.fields.retain(|name, _| {
        if name.contains(&b'_')
            || name.eq_ignore_ascii_case(b"proxy")
            || (!trusted && forwarded::is_forwarding_field(name))
        {
            dropped += 1;
            return false;
        }
        // Lists, of which the left end may be a client's.
        if trusted && forwarded::is_forwarding_field(name) {
            if let Some(at) = TOLD.iter().position(|own| name.eq_ignore_ascii_case(own.as_bytes())) {
                told[at] = true;
                return false;
            }
            if name.eq_ignore_ascii_case(b"forwarded") {
                return false;
            }
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
    TOLD.iter().zip(told).filter(|(_, told)| *told).for_each(|(name, _)| tell(exchange, name));
}

/// Says one of `TOLD` as it was understood.
fn tell(exchange: &mut Exchange, name: &str) {
    let address = AddressText::new(exchange.client);
    let mut digits = itoa::Buffer::new();
    let host;
    let value = match name {
        "x-forwarded-for" => address.as_bytes(),
        "x-forwarded-proto" if exchange.https => b"https",
        "x-forwarded-proto" => b"http",
        "x-forwarded-port" => digits.format(exchange.server_port).as_bytes(),
        _ => {
            host = exchange.host.as_bytes().to_vec();
            &host
        }
    };
    if !value.is_empty() {
        exchange.fields.set(name, value);
    }
}

/// The second half, once the project is known: what its settings make it read. A request that waited for the first boot comes
/// here after it.
pub(crate) fn suit(state: &State, exchange: &mut Exchange) {
    let project = state.project.as_ref();
    let Some(django) = project.and_then(|project| project.said.django.as_ref()) else { return };
    if !django.reads_forwarded() {
        return;
    }
    let own = django.https_field();
    if let Some((name, secure)) = &own {
        settle_https(exchange, name, secure);
    }
    let is_own = |name: &str| own.as_ref().is_some_and(|(own, _)| own == name);
    TOLD.iter().filter(|name| !is_own(name)).for_each(|name| tell(exchange, name));
}

/// `SECURE_PROXY_SSL_HEADER`. A trusted proxy that says nothing else of the scheme is believed by it; from there the field says
/// what is true, and over plain HTTP it is not there at all, since Django then takes the scheme of the environ.
fn settle_https(exchange: &mut Exchange, name: &str, secure: &str) {
    // Django looks at the first of several (`HttpRequest.scheme`); a proxy that only adds to a client's is not believed.
    let said = exchange.scheme_from == SchemeFrom::SilentProxy && {
        let mut values = exchange.fields.all(name);
        values.next().is_some_and(|value| value == secure.as_bytes()) && values.next().is_none()
    };
    if said {
        exchange.https = true;
        exchange.scheme_from = SchemeFrom::Proxy;
        if exchange.host.port.is_none() {
            exchange.server_port = Scheme::Https.default_port();
        }
    }
    exchange.fields.remove(name);
    if exchange.https {
        exchange.fields.push(name.as_bytes(), secure.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::{request, shared};
    use crate::server::state_of;
    use crate::shared::Project;
    use bandstand_config::{DjangoSettings, ProjectSettings};

    /// What the app gets of these fields, and whether it is https.
    fn told(
        django: DjangoSettings,
        trusted: bool,
        tls: bool,
        fields: &[(&str, &str)],
    ) -> (Vec<String>, bool) {
        let shared = shared(|_| {});
        let said = ProjectSettings { django: Some(django), ..ProjectSettings::default() };
        let assets = crate::assets::Manifest::new(Vec::new()).unwrap();
        let project = Project { said, assets, hosts: None };
        let mut state = state_of(&shared.state().settings, Some(project), None, 1);
        if trusted {
            state.trusted = forwarded::TrustedProxies::from_networks(
                [(std::net::IpAddr::from([192, 0, 2, 1]), 32)],
                false,
            );
        }
        let mut exchange = request("GET /", "shop.example", 80);
        if tls {
            // As TLS of our own connection would have it.
            exchange.https = true;
        }
        exchange.fields = fields.iter().copied().collect();
        let was = exchange.https;
        assert!(matches!(run(&shared, &state, &mut exchange), Step::Next));
        exchange.https |= was && !trusted;
        suit(&state, &mut exchange);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut lines: Vec<_> =
            exchange.fields.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect();
        lines.sort();
        (lines, exchange.https)
    }

    fn behind(name: &str, secure: &str) -> DjangoSettings {
        let pair = Some((name.to_owned(), secure.to_owned()));
        DjangoSettings { secure_proxy_ssl_header: pair, ..DjangoSettings::default() }
    }

    const FOR: &str = "x-forwarded-for: 192.0.2.1";
    const HOST: &str = "x-forwarded-host: shop.example";

    #[test]
    fn row_20_what_a_stranger_says_is_gone_and_what_a_proxy_says_is_said_once() {
        let forged = [
            ("X-Forwarded-For", "6.6.6.6, 7.7.7.7"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=6.6.6.6"),
            ("X-Forwarded-Host", "evil.example"),
            ("X-Scheme", "https"),
        ];
        let plain = DjangoSettings::default;
        assert_eq!(told(plain(), false, false, &forged), (vec!["X-Scheme: https".into()], false));
        let (lines, https) = told(plain(), true, false, &forged);
        let expected = [
            "X-Scheme: https",
            "x-forwarded-for: 7.7.7.7",
            "x-forwarded-host: evil.example",
            "x-forwarded-proto: https",
        ];
        assert_eq!((lines, https), (expected.map(str::to_owned).to_vec(), true));
    }

    #[test]
    fn old_settings_work_and_cannot_be_used_by_a_stranger() {
        const PROTO: &str = "HTTP_X_FORWARDED_PROTO";
        let port = |number: u16| format!("x-forwarded-port: {number}");
        for (header, secure, trusted, tls, field, named, https, number) in [
            (PROTO, "https", false, false, ("X-Forwarded-Proto", "https"), None, false, 80),
            (
                PROTO,
                "https",
                false,
                true,
                ("X-Forwarded-Proto", "http"),
                Some("x-forwarded-proto: https"),
                true,
                80,
            ),
            (
                PROTO,
                "https",
                true,
                false,
                ("X-Forwarded-Proto", "https"),
                Some("x-forwarded-proto: https"),
                true,
                80,
            ),
            (
                PROTO,
                "https",
                true,
                false,
                ("X-Forwarded-Proto", "http, https"),
                Some("x-forwarded-proto: https"),
                true,
                80,
            ),
            (PROTO, "https", true, false, ("X-Forwarded-Proto", "https, http"), None, false, 80),
            ("HTTP_X_SCHEME", "https", false, false, ("X-Scheme", "https"), None, false, 80),
            (
                "HTTP_X_SCHEME",
                "https",
                true,
                false,
                ("X-Scheme", "https"),
                Some("x-scheme: https"),
                true,
                443,
            ),
            ("HTTP_X_SCHEME", "https", true, false, ("X-Scheme", "http"), None, false, 80),
            ("HTTP_X_SCHEME", "on", false, true, ("X-Other", "1"), Some("x-scheme: on"), true, 80),
        ] {
            let (lines, is_https) = told(behind(header, secure), trusted, tls, &[field]);
            let mut expected = vec![FOR.to_owned(), HOST.to_owned(), port(number)];
            expected.extend(named.map(str::to_owned));
            if header != PROTO {
                expected.push(format!("x-forwarded-proto: {}", if https { "https" } else { "http" }));
            }
            if field.0 == "X-Other" {
                expected.push("X-Other: 1".into());
            }
            expected.sort();
            assert_eq!((lines, is_https), (expected, https), "{header} {secure} {trusted} {tls} {field:?}");
        }
    }
}
