//! Names that a local authority may be bound to, and which of them hold which.
//!
//! Owns reading what a person wrote (`shop.test`, `.shop.test` as in `ALLOWED_HOSTS`, `*.shop.test`, an address) and what a
//! certificate says. A subtree of DNS names holds the name and all below it (RFC 5280 §4.2.1.10).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Error;

/// One of them, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Address(IpAddr),
    Host(String),
    /// The host, and every one below it.
    Below(String),
}

/// What every authority is bound to: names that lead nowhere but to this machine, or nowhere at all (RFC 6761).
pub(super) fn base() -> Vec<Name> {
    let mut names = ["localhost", "test"].map(|host| Name::Below(host.to_owned())).to_vec();
    names.extend([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].map(Name::Address));
    names
}

/// Reads what was written.
pub(super) fn read(given: &[String]) -> Result<Vec<Name>, Error> {
    given.iter().map(|text| Name::parse(text).ok_or_else(|| Error::BadName(text.clone()))).collect()
}

/// What a certificate permits; nothing without constraints, so that such an authority is never used.
pub(super) fn permitted_by(certificate: &CertificateDer<'_>) -> Vec<Name> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let constraints = certificate.name_constraints().ok().flatten();
    let subtrees = constraints.and_then(|constraints| constraints.value.permitted_subtrees.as_ref());
    let names = subtrees.into_iter().flatten().filter_map(|subtree| match &subtree.base {
        GeneralName::DNSName(host) => Some(Name::Below(host.to_ascii_lowercase())),
        GeneralName::IPAddress(bytes) => address_of(bytes).map(Name::Address),
        _ => None,
    });
    names.collect()
}

/// Address and mask follow each other; here a mask is all ones.
fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
    if !mask.iter().all(|byte| *byte == 0xff) {
        return None;
    }
    match address.len() {
        4 => <[u8; 4]>::try_from(address).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(address).ok().map(IpAddr::from),
    }
}

impl Name {
    /// `None`: no name that a certificate can have.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&text);
        if let Ok(address) = bare.parse() {
            return Some(Self::Address(address));
        }
        let below = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let host = below.unwrap_or(&text);
        let sound = host.len() <= 253 && host.split('.').all(is_label);
        // Four numbers that are no address, and the like.
        let number =
            host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        match below {
            _ if !sound || number => None,
            Some(host) => Some(Self::Below(host.to_owned())),
            None => Some(Self::Host(host.to_owned())),
        }
    }

    /// Whether everything that `other` is for is permitted by this.
    pub(super) fn holds(&self, other: &Name) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(other)) => one == other,
            (Self::Host(one), Self::Host(other)) => one == other,
            (Self::Below(one), Self::Host(other) | Self::Below(other)) => {
                other.strip_suffix(one.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        }
    }

    /// The subtree of the name: constraints know nothing smaller (RFC 5280 §4.2.1.10).
    pub(super) fn with_all_below(self) -> Self {
        match self {
            Self::Host(host) => Self::Below(host),
            other => other,
        }
    }

    /// As a certificate names it.
    pub(super) fn alternatives(&self) -> Vec<String> {
        match self {
            Self::Address(address) => vec![address.to_string()],
            Self::Host(host) => vec![host.clone()],
            Self::Below(host) => vec![host.clone(), format!("*.{host}")],
        }
    }
}

/// RFC 1123 §2.1, and the underscore that developers like.
fn is_label(label: &str) -> bool {
    let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host(host) => f.write_str(host),
            Self::Below(host) => write!(f, "*.{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_name() {
        let host = |text: &str| Some(Name::Host(text.to_owned()));
        let below = |text: &str| Some(Name::Below(text.to_owned()));
        for (text, wanted) in [
            ("shop.test", host("shop.test")),
            ("Shop.TEST.", host("shop.test")),
            (".shop.test", below("shop.test")),
            ("*.shop.test", below("shop.test")),
            ("my_shop.test", host("my_shop.test")),
            ("192.168.1.5", Some(Name::Address([192, 168, 1, 5].into()))),
            ("[::1]", Some(Name::Address(Ipv6Addr::LOCALHOST.into()))),
            ("::1", Some(Name::Address(Ipv6Addr::LOCALHOST.into()))),
            ("", None),
            ("*", None),
            (".", None),
            ("a..b", None),
            ("-a.test", None),
            ("a/b", None),
            ("sho p.test", None),
            ("*.*.test", None),
            ("1.2.3", None),
            ("300.1.1.1", None),
            ("shop.test:8000", None),
        ] {
            assert_eq!(Name::parse(text), wanted, "{text:?}");
        }
        assert!(Name::parse(&format!("{}.test", "x".repeat(63))).is_some());
        assert!(Name::parse(&format!("{}.test", "x".repeat(64))).is_none());
    }

    #[test]
    fn what_holds_what() {
        for (one, other, wanted) in [
            (".test", "shop.test", true),
            (".test", "a.b.test", true),
            (".test", "test", true),
            (".test", ".shop.test", true),
            (".test", "attest", false),
            (".test", "shop.test.evil.example", false),
            ("shop.test", "shop.test", true),
            ("shop.test", "a.shop.test", false),
            ("shop.test", ".shop.test", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            (".localhost", "127.0.0.1", false),
        ] {
            let read = |text| Name::parse(text).unwrap();
            assert_eq!(read(one).holds(&read(other)), wanted, "{one} {other}");
        }
    }
}
