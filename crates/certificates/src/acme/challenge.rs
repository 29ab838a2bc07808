//! How a name is proved: which way is taken, and what is shown on it.
//!
//! Owns the choice among http-01, tls-alpn-01 and dns-01 and what each shows; showing it is the `Stage`'s (the edge's, or a
//! command's own listener) and the hook's. Invariant: whatever was shown is taken back when the value is dropped.
//! Sources: RFC 8555 §8.3 and §8.4, RFC 8737.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;

use instant_acme::{ChallengeType, KeyAuthorization};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls_pki_types::PrivateKeyDer;

use crate::pem::{Facts, Pair};

/// How names are proved, as it was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// By the hook where there is one; else over what this server listens on, another way after each failure.
    Auto,
    /// A file on port 80.
    Http01,
    /// A certificate on port 443.
    TlsAlpn01,
    /// A record in DNS, by the hook.
    Dns01,
}

/// What this server can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// It listens in plain.
    pub http: bool,
    /// It listens with TLS.
    pub alpn: bool,
    /// There is a hook.
    pub dns: bool,
}

/// Where proofs are shown to the authority.
pub trait Stage: Send + Sync {
    /// Answers `/.well-known/acme-challenge/TOKEN` with `answer`.
    fn put_http(&self, token: &str, answer: &str);
    /// No more.
    fn remove_http(&self, token: &str);
    /// Answers handshakes for `name` with the protocol `acme-tls/1` with this certificate.
    fn put_alpn(&self, name: &str, pair: Pair);
    /// No more.
    fn remove_alpn(&self, name: &str);
    /// Starts a hook. Where somebody reaps children that are nobody's, this says whose it is.
    ///
    /// # Errors
    /// Those of `spawn`.
    fn start(&self, command: &mut Command) -> io::Result<Child> {
        command.spawn()
    }
    /// Waits for what [`Stage::start`] has started; blocks.
    ///
    /// # Errors
    /// Those of wait(2).
    fn wait(&self, mut child: Child) -> io::Result<ExitStatus> {
        child.wait()
    }
}

/// The ways to try for a name, best first; with another one first after each failure.
pub(crate) fn ways(choice: Choice, can: Ways, wildcard: bool, failures: u32) -> Vec<ChallengeType> {
    let by_edge = [(can.http, ChallengeType::Http01), (can.alpn, ChallengeType::TlsAlpn01)];
    let mut by_edge: Vec<_> = by_edge.into_iter().filter(|(can, _)| *can).map(|(_, way)| way).collect();
    match choice {
        _ if wildcard => vec![ChallengeType::Dns01],
        Choice::Http01 => vec![ChallengeType::Http01],
        Choice::TlsAlpn01 => vec![ChallengeType::TlsAlpn01],
        Choice::Dns01 => vec![ChallengeType::Dns01],
        Choice::Auto if can.dns => vec![ChallengeType::Dns01],
        Choice::Auto => {
            if !by_edge.is_empty() {
                let turn = failures as usize % by_edge.len();
                by_edge.rotate_left(turn);
            }
            by_edge
        }
    }
}

/// The word for a way, as it is set.
pub(crate) fn word(way: &ChallengeType) -> &str {
    match way {
        ChallengeType::Http01 => "http-01",
        ChallengeType::TlsAlpn01 => "tls-alpn-01",
        ChallengeType::Dns01 => "dns-01",
        ChallengeType::DeviceAttest01 => "device-attest-01",
        ChallengeType::Unknown(word) => word,
        _ => "another",
    }
}

/// What is shown; dropped, it is taken back.
pub(crate) struct Shown {
    stage: Arc<dyn Stage>,
    what: What,
}

enum What {
    Token(String),
    Certificate(String),
}

impl Shown {
    /// http-01. A token is 22 characters of base64url or more (RFC 8555 §8.3); anything else is not shown.
    pub(crate) fn token(
        stage: &Arc<dyn Stage>,
        token: &str,
        proof: &KeyAuthorization,
    ) -> Result<Self, String> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if token.is_empty() || token.len() > 256 || !token.bytes().all(is_token) {
            return Err("the authority sent a token that is none".to_owned());
        }
        stage.put_http(token, proof.as_str());
        Ok(Self { stage: stage.clone(), what: What::Token(token.to_owned()) })
    }

    /// tls-alpn-01.
    pub(crate) fn certificate(
        stage: &Arc<dyn Stage>,
        name: &str,
        proof: &KeyAuthorization,
    ) -> Result<Self, String> {
        stage.put_alpn(name, alpn_pair(name, proof.digest().as_ref())?);
        Ok(Self { stage: stage.clone(), what: What::Certificate(name.to_owned()) })
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        match &self.what {
            What::Token(token) => self.stage.remove_http(token),
            What::Certificate(name) => self.stage.remove_alpn(name),
        }
    }
}

/// A certificate by nobody, for this name alone, with the proof in it (RFC 8737 §3). `digest` has 32 bytes.
fn alpn_pair(name: &str, digest: &[u8]) -> Result<Pair, String> {
    let wrong = |error: rcgen::Error| format!("no certificate for tls-alpn-01 could be made: {error}");
    if digest.len() != 32 {
        return Err("a proof for tls-alpn-01 has 32 bytes".to_owned());
    }
    let mut parameters = CertificateParams::new([name.to_owned()]).map_err(wrong)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(wrong)?;
    let certificate = parameters.self_signed(&key).map_err(wrong)?.der().clone();
    let facts = Facts::of(&certificate).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    // Not `Pair::new`: it reads the certificate as a client would, and no client takes this critical extension.
    Ok(Pair { chain: vec![certificate], key: Arc::new(key), facts })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Ways = Ways { http: true, alpn: true, dns: false };

    #[test]
    fn which_way() {
        use ChallengeType::{Dns01, Http01, TlsAlpn01};
        let (hook, plain) = (Ways { dns: true, ..ALL }, Ways { alpn: false, ..ALL });
        let none = Ways { http: false, alpn: false, dns: false };
        for (choice, can, wildcard, failures, wanted) in [
            (Choice::Auto, ALL, false, 0, vec![Http01, TlsAlpn01]),
            (Choice::Auto, ALL, false, 1, vec![TlsAlpn01, Http01]),
            (Choice::Auto, ALL, false, 2, vec![Http01, TlsAlpn01]),
            (Choice::Auto, plain, false, 1, vec![Http01]),
            (Choice::Auto, none, false, 3, vec![]),
            (Choice::Auto, hook, false, 0, vec![Dns01]),
            (Choice::Auto, ALL, true, 0, vec![Dns01]),
            (Choice::Http01, hook, false, 5, vec![Http01]),
            (Choice::Http01, hook, true, 5, vec![Dns01]),
            (Choice::TlsAlpn01, plain, false, 0, vec![TlsAlpn01]),
            (Choice::Dns01, ALL, false, 0, vec![Dns01]),
        ] {
            assert_eq!(
                ways(choice, can, wildcard, failures),
                wanted,
                "{choice:?} {can:?} {wildcard} {failures}"
            );
        }
    }

    #[test]
    fn the_certificate_of_a_proof() {
        let pair = alpn_pair("shop.test", &[7; 32]).unwrap();
        assert_eq!(pair.facts.names, ["shop.test"]);
        // 1.3.6.1.5.5.7.1.31, critical, an octet string of 32 bytes (RFC 8737 §3).
        let wanted = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x1f\x01\x01\xff\x04\x22\x04\x20\x07\x07\x07";
        let der = pair.chain[0].as_ref();
        assert!(der.windows(wanted.len()).any(|window| window == wanted));
        assert!(alpn_pair("shop.test", &[7; 31]).is_err());
    }
}
