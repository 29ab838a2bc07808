//! Sets of peers: whose word about the client is believed, who may ask and who may not.
//!
//! Owns the syntax of `trusted_proxies`, `allow` and `deny`, and their presets; which header fields a proxy may set is
//! `semantics/forwarded.rs`. Invariant: empty means nobody.
//! Source: RFC 4632 §3.1 (CIDR), RFC 1918 §3, RFC 4193 §3, RFC 6598 §7, https://www.cloudflare.com/ips (July 2025).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A set of peers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    /// Peers by address.
    pub networks: Vec<Network>,
    /// Peers on Unix sockets.
    pub unix: bool,
    /// The items as written, for people.
    pub written: Vec<String>,
}

/// An address with a prefix length; the bits past the prefix are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// The first address.
    pub address: IpAddr,
    /// Leading bits that count: 0 to 32, or 0 to 128.
    pub prefix: u8,
}

impl Networks {
    /// Adds one item: a preset, an address or a network.
    ///
    /// # Errors
    /// A sentence, without the item itself.
    pub(crate) fn add(&mut self, item: &str) -> Result<(), String> {
        match PRESETS.iter().find(|(name, _)| *name == item) {
            Some((_, networks)) => {
                for network in *networks {
                    self.networks.push(network.parse().map_err(|_| "is a damaged preset".to_owned())?);
                }
            }
            None if item != "unix" => self.networks.push(item.parse()?),
            None => {}
        }
        self.unix |= item == "unix" || item == "*";
        self.written.push(item.to_owned());
        Ok(())
    }

    /// Whether `peer` is one of them. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(peer))
    }
}

const PRIVATE: &[&str] =
    &["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7"];

/// Names for lists of networks.
const PRESETS: &[(&str, &[&str])] = &[
    ("*", &["0.0.0.0/0", "::/0"]),
    ("loopback", &["127.0.0.0/8", "::1/128"]),
    ("private", PRIVATE),
    // Load balancers of AWS have addresses of the private network they stand in, whichever that is.
    ("aws-alb", PRIVATE),
    (
        "cloudflare",
        &[
            "173.245.48.0/20",
            "103.21.244.0/22",
            "103.22.200.0/22",
            "103.31.4.0/22",
            "141.101.64.0/18",
            "108.162.192.0/18",
            "190.93.240.0/20",
            "188.114.96.0/20",
            "197.234.240.0/22",
            "198.41.128.0/17",
            "162.158.0.0/15",
            "104.16.0.0/13",
            "104.24.0.0/14",
            "172.64.0.0/13",
            "131.0.72.0/22",
            "2400:cb00::/32",
            "2606:4700::/32",
            "2803:f800::/32",
            "2405:b500::/32",
            "2405:8100::/32",
            "2a06:98c0::/29",
            "2c0f:f248::/32",
        ],
    ),
];

impl Network {
    /// Whether `peer` lies in it. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, peer: IpAddr) -> bool {
        IpNet::new(self.address, self.prefix).is_ok_and(|network| network.contains(&peer.to_canonical()))
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => {
                text.parse::<IpNet>().map_err(|_| "is no address, network or preset".to_owned())?.trunc()
            }
        };
        Ok(Network { address: network.addr(), prefix: network.prefix_len() })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_trusted() {
        for (items, peer, trusted) in [
            (&["10.0.0.0/8"] as &[&str], "10.9.8.7", true),
            (&["10.0.0.0/8"], "11.0.0.1", false),
            (&["10.1.2.3/8"], "10.9.8.7", true),
            (&["192.0.2.1"], "192.0.2.1", true),
            (&["192.0.2.1"], "192.0.2.2", false),
            (&["192.0.2.1"], "::ffff:192.0.2.1", true),
            (&["2001:db8::/32"], "2001:db8:1::1", true),
            (&["loopback"], "::1", true),
            (&["private"], "172.31.255.255", true),
            (&["private"], "172.32.0.0", false),
            (&["private"], "8.8.8.8", false),
            (&["aws-alb"], "10.20.0.7", true),
            (&["aws-alb"], "8.8.8.8", false),
            (&["cloudflare"], "104.16.0.1", true),
            (&["*"], "203.0.113.9", true),
            (&["unix"], "127.0.0.1", false),
            (&[], "127.0.0.1", false),
        ] {
            let mut proxies = Networks::default();
            items.iter().for_each(|item| proxies.add(item).unwrap());
            assert_eq!(proxies.contains(peer.parse().unwrap()), trusted, "{items:?} {peer}");
        }
    }

    #[test]
    fn presets_are_networks_and_nonsense_is_not() {
        for (name, _) in PRESETS {
            Networks::default().add(name).unwrap();
        }
        for item in ["", "10.0.0.0/33", "10.0.0", "proxy.example.com", "clodflare"] {
            assert!(Networks::default().add(item).is_err(), "{item:?}");
        }
    }
}
