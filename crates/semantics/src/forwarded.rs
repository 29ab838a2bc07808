//! Who the client really is, behind proxies that we trust.
//!
//! Owns the set of trusted peers, the walk through `X-Forwarded-*` and `Forwarded` (RFC 7239), and the list of fields that
//! only a trusted peer may send. Leaves stripping and setting fields to the stages.
//! Invariant: a byte written by an untrusted sender never decides anything. A list grows at its right end, so the walk
//! goes from right to left and stops at the first address that is not a trusted proxy (checklist part 2 rows 20, 21).

use crate::fields::Fields;
use crate::host::{Host, parse_host};
use crate::lists::elements;
use crate::text::trim_ows;
use crate::version::Scheme;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// List entries looked at, from the right; a longer list is somebody's game.
const LONGEST_WALK: usize = 32;

/// The peers whose forwarding fields are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    nets: Vec<IpNet>,
    unix: bool,
}

impl TrustedProxies {
    /// Nobody is trusted: the safe start.
    #[must_use]
    pub fn none() -> TrustedProxies {
        TrustedProxies::default()
    }

    /// From settings that are already parsed: networks as address and prefix length (a length past the address's bits
    /// means the address alone), and whether peers on a Unix socket count.
    #[must_use]
    pub fn from_networks(networks: impl IntoIterator<Item = (IpAddr, u8)>, unix: bool) -> TrustedProxies {
        let net = |(address, prefix)| IpNet::new(address, prefix).unwrap_or_else(|_| IpNet::from(address));
        TrustedProxies { nets: networks.into_iter().map(net).collect(), unix }
    }

    /// True when this peer's forwarding fields are believed; `None` is a peer on a Unix socket.
    #[must_use]
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            None => self.unix,
            Some(address) => {
                let address = address.to_canonical();
                self.nets.iter().any(|net| net.contains(&address))
            }
        }
    }
}

/// What is known about the client once the proxies are looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Client<'a> {
    /// The address to log, limit and report to the app; IPv4-mapped IPv6 is given as IPv4. `None` behind a Unix socket
    /// whose peer said nothing.
    pub addr: Option<IpAddr>,
    /// The scheme the client used, if a trusted proxy told.
    pub scheme: Option<Scheme>,
    /// The host the client asked for, if a trusted proxy told and it is one.
    pub host: Option<Host<'a>>,
    /// The port the client connected to, if a trusted proxy told.
    pub port: Option<u16>,
}

/// Looks through the trusted proxies. `peer` is the other end of the connection, `None` on a Unix socket.
///
/// `Forwarded` counts only when no `X-Forwarded-For`, `-Proto` or `-Host` is there: most proxies write these and hand a
/// `Forwarded` sent by the client through untouched, so reading both would let the client choose.
#[must_use]
pub fn resolve<'a>(peer: Option<IpAddr>, fields: &'a Fields, trusted: &TrustedProxies) -> Client<'a> {
    let peer = peer.map(|address| address.to_canonical());
    if !trusted.trusts(peer) {
        return Client { addr: peer, ..Client::default() };
    }
    let has_x = fields.contains("x-forwarded-for")
        || fields.contains("x-forwarded-proto")
        || fields.contains("x-forwarded-host");
    if has_x || !fields.contains("forwarded") {
        return from_x_fields(peer, fields, trusted);
    }
    from_forwarded(peer, fields, trusted)
}

fn from_x_fields<'a>(peer: Option<IpAddr>, fields: &'a Fields, trusted: &TrustedProxies) -> Client<'a> {
    // `elements` leaves empty entries out, as RFC 9110 §5.6.1 says; they name nobody.
    let hops = fields.all("x-forwarded-for").rev().flat_map(|line| elements(line).rev());
    Client {
        addr: walk(peer, hops.map(parse_node), trusted),
        scheme: last_element(fields, "x-forwarded-proto").and_then(Scheme::parse),
        host: last_element(fields, "x-forwarded-host").and_then(told_host),
        port: last_element(fields, "x-forwarded-port").and_then(parse_port),
    }
}

fn from_forwarded<'a>(peer: Option<IpAddr>, fields: &'a Fields, trusted: &TrustedProxies) -> Client<'a> {
    let hops = || fields.all("forwarded").rev().flat_map(ForwardedFromRight::new);
    let nearest = hops().next();
    let host = nearest.and_then(|element| parameter(element, b"host")).and_then(told_host);
    Client {
        addr: walk(peer, hops().map(|element| parameter(element, b"for").and_then(parse_node)), trusted),
        scheme: nearest.and_then(|element| parameter(element, b"proto")).and_then(Scheme::parse),
        port: host.and_then(|host| host.port),
        host,
    }
}

/// From the peer towards the client: each trusted address vouches for the entry to its left, garbage vouches for nothing.
fn walk(
    peer: Option<IpAddr>,
    hops: impl Iterator<Item = Option<IpAddr>>,
    trusted: &TrustedProxies,
) -> Option<IpAddr> {
    let mut current = peer;
    for hop in hops.take(LONGEST_WALK) {
        let Some(address) = hop else { break };
        current = Some(address);
        if !trusted.trusts(current) {
            break;
        }
    }
    current
}

/// `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]` or `[::1]:80`; names, `unknown` and `_hidden` are nobody.
fn parse_node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address =
        bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip())).ok()?;
    Some(address.to_canonical())
}

fn last_element<'a>(fields: &'a Fields, name: &'a str) -> Option<&'a [u8]> {
    fields.all(name).next_back().and_then(|line| elements(line).next_back())
}

fn told_host(value: &[u8]) -> Option<Host<'_>> {
    parse_host(value).ok().filter(|host| !host.name.is_empty())
}

fn parse_port(text: &[u8]) -> Option<u16> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse::<u16>().ok().filter(|&port| port > 0)
}

/// Elements of one `Forwarded` value from right to left; a comma in quotes parts nothing. Reading from the right matters:
/// an open quote that the client put at the left must not swallow what the proxy wrote after it.
struct ForwardedFromRight<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> ForwardedFromRight<'a> {
    fn new(line: &'a [u8]) -> ForwardedFromRight<'a> {
        ForwardedFromRight { rest: Some(line) }
    }
}

impl<'a> Iterator for ForwardedFromRight<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.rest?;
        let mut in_quotes = false;
        let comma = line.iter().rposition(|&byte| {
            in_quotes ^= byte == b'"';
            byte == b',' && !in_quotes
        });
        let element = match comma {
            Some(comma) => {
                self.rest = Some(&line[..comma]);
                &line[comma + 1..]
            }
            None => {
                self.rest = None;
                line
            }
        };
        Some(trim_ows(element))
    }
}

/// The value of a parameter, quotes taken off; `None` if absent, written twice, or escaped within (no address needs it).
fn parameter<'a>(element: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    for pair in element.split(|&byte| byte == b';').map(trim_ows) {
        let Some(equals) = pair.iter().position(|&byte| byte == b'=') else { continue };
        if pair[..equals].eq_ignore_ascii_case(name) && found.replace(&pair[equals + 1..]).is_some() {
            return None;
        }
    }
    let value = found?;
    let bare = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
    (!bare.contains(&b'"') && !bare.contains(&b'\\')).then_some(bare)
}

/// Fields other than `X-Forwarded-*` and `X-Accel-*` that only a trusted peer may send.
const FORWARDING: [&str; 21] = [
    "forwarded",
    // What a proxy that ends TLS says of the client's certificate (RFC 9440 §2.3), or of the scheme.
    "client-cert",
    "client-cert-chain",
    "front-end-https",
    "x-url-scheme",
    // Whom a proxy has let in: `RemoteUserMiddleware` of Django can be told to believe these.
    "remote-user",
    "x-remote-user",
    "x-original-forwarded-for",
    "x-envoy-external-address",
    "fastly-client-ip",
    "fly-client-ip",
    "x-real-ip",
    "x-sendfile-type",
    "x-sendfile",
    "x-request-start",
    "x-queue-start",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "x-client-ip",
    "x-cluster-client-ip",
];

/// True for fields that say where a request came from or how files are sent: stripped unless a trusted peer sent them.
#[must_use]
pub fn is_forwarding_field(name: &[u8]) -> bool {
    let starts = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    match name.first() {
        Some(b'x' | b'X' | b'f' | b'F' | b't' | b'T' | b'c' | b'C' | b'r' | b'R') => {}
        _ => return false,
    }
    starts("x-forwarded-")
        || starts("x-accel-")
        || FORWARDING.iter().any(|field| name.eq_ignore_ascii_case(field.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn trusted(entries: &[&str]) -> TrustedProxies {
        let networks = |entry: &str| -> Vec<IpNet> {
            let texts: &[&str] = match entry {
                "unix" => &[],
                "loopback" => &["127.0.0.0/8", "::1/128"],
                "private" => {
                    &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7", "::1/128"]
                }
                other => {
                    return vec![
                        other.parse().or_else(|_| other.parse::<IpAddr>().map(IpNet::from)).unwrap(),
                    ];
                }
            };
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let all = entries.iter().flat_map(|entry| networks(entry)).map(|net| (net.addr(), net.prefix_len()));
        TrustedProxies::from_networks(all, entries.contains(&"unix"))
    }

    #[test]
    fn entries_and_presets() {
        for (entries, peer, expected) in [
            (&[][..], ip("127.0.0.1"), false),
            (&[], None, false),
            (&["unix"], None, true),
            (&["unix"], ip("127.0.0.1"), false),
            (&["loopback"], ip("127.8.8.8"), true),
            (&["loopback"], ip("::1"), true),
            (&["loopback"], ip("10.0.0.1"), false),
            (&["private"], ip("172.31.0.1"), true),
            (&["private"], ip("172.32.0.1"), false),
            (&["private"], ip("fd00::1"), true),
            (&["private"], ip("127.0.0.1"), true),
            (&["192.0.2.7"], ip("192.0.2.7"), true),
            (&["192.0.2.7"], ip("192.0.2.8"), false),
            (&["192.0.2.0/24"], ip("::ffff:192.0.2.9"), true),
            (&["2001:db8::/32"], ip("2001:db8::1"), true),
        ] {
            assert_eq!(trusted(entries).trusts(peer), expected, "{entries:?} {peer:?}");
        }
    }

    #[test]
    fn networks_from_settings() {
        let trusted = TrustedProxies::from_networks(
            [("10.0.0.0".parse().unwrap(), 8), ("::1".parse().unwrap(), 200)],
            true,
        );
        for (peer, expected) in [
            (ip("10.9.9.9"), true),
            (ip("11.0.0.1"), false),
            (ip("::1"), true),
            (ip("::2"), false),
            (None, true),
        ] {
            assert_eq!(trusted.trusts(peer), expected, "{peer:?}");
        }
        assert!(!TrustedProxies::from_networks([], false).trusts(None));
    }

    fn client_of<'a>(peer: Option<IpAddr>, fields: &'a Fields) -> Client<'a> {
        resolve(peer, fields, &trusted(&["10.0.0.0/8", "192.0.2.1", "unix"]))
    }

    #[test]
    fn addresses_from_x_forwarded_for() {
        let long = vec!["10.0.0.9"; 100].join(",");
        let spoofed = format!("6.6.6.6,{long}");
        for (peer, lines, expected) in [
            (ip("8.8.8.8"), &["1.1.1.1"][..], ip("8.8.8.8")),
            (ip("10.0.0.1"), &[], ip("10.0.0.1")),
            (ip("10.0.0.1"), &["1.1.1.1"], ip("1.1.1.1")),
            (ip("::ffff:10.0.0.1"), &["1.1.1.1"], ip("1.1.1.1")),
            (ip("10.0.0.1"), &["6.6.6.6, 1.1.1.1"], ip("1.1.1.1")),
            (ip("10.0.0.1"), &["6.6.6.6, 1.1.1.1, 10.0.0.2"], ip("1.1.1.1")),
            (ip("10.0.0.1"), &["6.6.6.6", "1.1.1.1 ,192.0.2.1"], ip("1.1.1.1")),
            (ip("10.0.0.1"), &["10.0.0.3, 10.0.0.2"], ip("10.0.0.3")),
            (ip("10.0.0.1"), &["1.1.1.1, unknown, 10.0.0.2"], ip("10.0.0.2")),
            (ip("10.0.0.1"), &["1.1.1.1, garbage"], ip("10.0.0.1")),
            (ip("10.0.0.1"), &["1.1.1.1:4711"], ip("1.1.1.1")),
            (ip("10.0.0.1"), &["2001:db8::1"], ip("2001:db8::1")),
            (ip("10.0.0.1"), &["[2001:db8::1]:80"], ip("2001:db8::1")),
            (ip("10.0.0.1"), &["[2001:db8::1]"], ip("2001:db8::1")),
            (ip("10.0.0.1"), &["::ffff:1.1.1.1"], ip("1.1.1.1")),
            (ip("10.0.0.1"), &[", ,"], ip("10.0.0.1")),
            (ip("10.0.0.1"), &["1.1.1.1,"], ip("1.1.1.1")),
            (ip("10.0.0.1"), &[&spoofed], ip("10.0.0.9")),
            (None, &["1.1.1.1"], ip("1.1.1.1")),
            (None, &[], None),
        ] {
            let fields: Fields = lines.iter().map(|line| ("X-Forwarded-For", *line)).collect();
            assert_eq!(client_of(peer, &fields).addr, expected, "{peer:?} {lines:?}");
        }
    }

    #[test]
    fn a_unix_peer_is_not_believed_unless_named() {
        let fields: Fields = [("X-Forwarded-For", "1.1.1.1")].into_iter().collect();
        assert_eq!(resolve(None, &fields, &trusted(&["private"])), Client::default());
    }

    #[test]
    fn scheme_host_and_port_from_x_fields() {
        let found = |fields: &[(&str, &str)]| {
            let fields: Fields = fields.iter().copied().collect();
            let client = client_of(ip("10.0.0.1"), &fields);
            (client.scheme, client.host.map(|host| host.name.to_owned()), client.port)
        };
        for (fields, expected) in [
            (&[("X-Forwarded-Proto", "https")][..], (Some(Scheme::Https), None, None)),
            (&[("X-Forwarded-Proto", "HTTP")], (Some(Scheme::Http), None, None)),
            (&[("X-Forwarded-Proto", "https, http")], (Some(Scheme::Http), None, None)),
            (
                &[("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https")],
                (Some(Scheme::Https), None, None),
            ),
            (&[("X-Forwarded-Proto", "wss")], (None, None, None)),
            (&[("X-Forwarded-Host", "evil, shop.example")], (None, Some("shop.example".into()), None)),
            (&[("X-Forwarded-Host", "a b")], (None, None, None)),
            (&[("X-Forwarded-Host", "")], (None, None, None)),
            (&[("X-Forwarded-Port", "8443")], (None, None, Some(8443))),
            (&[("X-Forwarded-Port", "0")], (None, None, None)),
            (&[("X-Forwarded-Port", "+80")], (None, None, None)),
            (&[("X-Forwarded-Port", "99999")], (None, None, None)),
        ] {
            assert_eq!(found(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn an_untrusted_peer_tells_nothing() {
        let fields: Fields = [
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "evil"),
            ("X-Forwarded-Port", "1"),
            ("Forwarded", "for=1.1.1.1;proto=https;host=evil"),
        ]
        .into_iter()
        .collect();
        assert_eq!(client_of(ip("8.8.8.8"), &fields), Client { addr: ip("8.8.8.8"), ..Client::default() });
    }

    #[test]
    fn forwarded() {
        let found = |lines: &[&str]| {
            let fields: Fields = lines.iter().map(|line| ("Forwarded", *line)).collect();
            let client = client_of(ip("10.0.0.1"), &fields);
            (client.addr, client.scheme, client.host.map(|host| host.name.to_owned()), client.port)
        };
        let peer = ip("10.0.0.1");
        let https = Some(Scheme::Https);
        for (lines, expected) in [
            (&["for=1.1.1.1"][..], (ip("1.1.1.1"), None, None, None)),
            (&["For=\"[2001:db8::1]:4711\""], (ip("2001:db8::1"), None, None, None)),
            (
                &["for=1.1.1.1;proto=https;by=10.0.0.1;host=a:8443"],
                (ip("1.1.1.1"), https, Some("a".into()), Some(8443)),
            ),
            (&["for=6.6.6.6, for=1.1.1.1;proto=https"], (ip("1.1.1.1"), https, None, None)),
            (&["for=6.6.6.6;proto=https, for=1.1.1.1"], (ip("1.1.1.1"), None, None, None)),
            (&["for=1.1.1.1", "for=10.0.0.2"], (ip("1.1.1.1"), None, None, None)),
            (&["for=\"6.6.6.6, for=1.1.1.1"], (ip("1.1.1.1"), None, None, None)),
            (&["for=\"6.6.6.6\", for=\"1.1.1.1\""], (ip("1.1.1.1"), None, None, None)),
            (&["for=\"a,b\", for=10.0.0.2"], (ip("10.0.0.2"), None, None, None)),
            (&["for=unknown"], (peer, None, None, None)),
            (&["for=_hidden, for=10.0.0.2"], (ip("10.0.0.2"), None, None, None)),
            (&["for=1.1.1.1;for=2.2.2.2"], (peer, None, None, None)),
            (&["for=\"1.1.1\\.1\""], (peer, None, None, None)),
            (&["proto=https"], (peer, https, None, None)),
            (&[""], (peer, None, None, None)),
        ] {
            assert_eq!(found(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_not_believed_beside_x_forwarded() {
        let fields: Fields =
            [("X-Forwarded-For", "1.1.1.1"), ("Forwarded", "for=6.6.6.6;proto=https;host=evil")]
                .into_iter()
                .collect();
        let client = client_of(ip("10.0.0.1"), &fields);
        assert_eq!((client.addr, client.scheme, client.host), (ip("1.1.1.1"), None, None));
    }

    #[test]
    fn forwarding_fields() {
        for (name, expected) in [
            ("X-Forwarded-For", true),
            ("x-forwarded-prefix", true),
            ("X-FORWARDED-ANYTHING", true),
            ("Forwarded", true),
            ("X-Real-IP", true),
            ("X-Sendfile-Type", true),
            ("X-Accel-Redirect", true),
            ("x-accel-mapping", true),
            ("X-Request-Start", true),
            ("True-Client-IP", true),
            ("CF-Connecting-IP", true),
            ("X-Client-IP", true),
            ("X-Cluster-Client-IP", true),
            ("Client-Cert", true),
            ("client-cert-chain", true),
            ("Front-End-Https", true),
            ("Remote-User", true),
            ("X-Remote-User", true),
            ("Fly-Client-IP", true),
            ("Client-Certificate", false),
            ("Referer", false),
            ("Range", false),
            ("X-Forwarded", false),
            ("X-Requested-With", false),
            ("X-Request-ID", false),
            ("Cookie", false),
            ("", false),
        ] {
            assert_eq!(is_forwarding_field(name.as_bytes()), expected, "{name}");
        }
    }
}
