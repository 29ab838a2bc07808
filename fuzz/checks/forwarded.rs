//! Who the client is: nobody who is not trusted is believed, and nothing to the left of the first untrusted hop decides anything.
//!
//! The first byte picks the peer (trusted or not) and the field; the rest are lines of `X-Forwarded-For` or `Forwarded`.

use std::net::IpAddr;

use bandstand_semantics::Fields;
use bandstand_semantics::forwarded::{Client, TrustedProxies, resolve};

pub(crate) fn check(data: &[u8]) {
    let Some((&choice, lines)) = data.split_first() else { return };
    let name = if choice & 1 == 0 { "X-Forwarded-For" } else { "Forwarded" };
    let fields: Fields = lines.split(|&byte| byte == b'\n').map(|line| (name, line)).collect();
    let proxies = TrustedProxies::from_networks([(IpAddr::from([10, 0, 0, 0]), 8)], false);
    let proxy = Some(IpAddr::from([10, 0, 0, 1]));
    let stranger = Some(IpAddr::from([192, 0, 2, 1]));

    let unbelieved = resolve(stranger, &fields, &proxies);
    assert_eq!(unbelieved, Client { addr: stranger, ..Client::default() });
    assert_eq!(resolve(proxy, &fields, &TrustedProxies::none()).addr, proxy);

    let client = resolve(proxy, &fields, &proxies);
    assert!(client.addr.is_some_and(|address| address == address.to_canonical()));
    if proxies.trusts(client.addr) {
        return;
    }
    // An untrusted address ends the walk: lines that the client put before it change nothing.
    for forged in ["203.0.113.9", "for=203.0.113.9;proto=https", "10.0.0.9, ::1", "\"", ",,,"] {
        let longer: Fields = [(name, forged.as_bytes())]
            .into_iter()
            .chain(lines.split(|&b| b == b'\n').map(|line| (name, line)))
            .collect();
        assert_eq!(resolve(proxy, &longer, &proxies).addr, client.addr, "{forged:?} decided");
    }
}
