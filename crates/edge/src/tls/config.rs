//! What is spoken in a handshake.
//!
//! Owns the `ServerConfig`s: TLS 1.2 and 1.3 with what rustls and aws-lc take for safe (forward secrecy and AEAD only, a
//! post-quantum group first), tickets, ALPN, and who must show a certificate. Of ciphers we choose, AES with short keys first,
//! because all of them are safe and that one is the cheapest; a client that puts ChaCha20 first has no hardware for AES. No early data: a replay of it would reach the
//! application (`CHECKLIST.md` part 2 row 42). Invariant: another policy is another config with other tickets (row 33).

use std::sync::Arc;

use bandstand_certificates::pem::{self, Pair};
use bandstand_config::{ClientCert, Settings};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::store::Store;

/// The protocol of tls-alpn-01 (RFC 8737 §6.2).
pub(super) const ACME_ALPN: &[u8] = b"acme-tls/1";
/// Sessions of TLS 1.2 that are kept for clients without tickets, which are few; each has a few hundred bytes.
const SESSIONS: usize = 4096;
/// A browser opens several connections at once and uses each ticket once (RFC 8446 §C.4).
const TICKETS: usize = 2;

/// What of the settings decides how handshakes go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Policy {
    http2: bool,
    /// Roots of clients' certificates, and whether one must be shown.
    clients: Option<(Vec<CertificateDer<'static>>, bool)>,
}

/// A config for each carrier, of one policy.
pub(super) struct Configs {
    policy: Option<Policy>,
    tcp: Arc<ServerConfig>,
    /// The same, and the same tickets, for clients that put ChaCha20 first.
    tcp_chacha: Arc<ServerConfig>,
    pub(super) quic: Arc<ServerConfig>,
}

impl Policy {
    /// Reads `client_ca`. Blocks.
    ///
    /// # Errors
    /// A sentence: it cannot be read.
    pub(super) fn read(settings: &Settings) -> Result<Self, String> {
        let http2 = settings.http2;
        let Some(path) = &settings.client_ca else { return Ok(Self { http2, clients: None }) };
        let roots = pem::read(path).and_then(|text| pem::certificates(&text));
        let roots = roots.map_err(|error| format!("client_ca, {}: {error}", path.display()))?;
        Ok(Self { http2, clients: Some((roots, settings.client_cert == ClientCert::Required)) })
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        let h2 = self.http2.then(|| b"h2".to_vec());
        h2.into_iter().chain([b"http/1.1".to_vec()]).collect()
    }
}

impl Configs {
    /// # Errors
    /// A sentence: no roots can be made of `client_ca`.
    pub(super) fn new(policy: Policy, store: Arc<Store>) -> Result<Self, String> {
        let both = [&TLS13, &TLS12];
        let tcp = config(&policy, provider(AES_FIRST), store.clone(), &both, policy.alpn())?;
        let mut chacha = config(&policy, provider(CHACHA_FIRST), store.clone(), &both, policy.alpn())?;
        chacha.ticketer = tcp.ticketer.clone();
        chacha.session_storage = tcp.session_storage.clone();
        let quic = config(&policy, provider(AES_FIRST), store, &[&TLS13], vec![b"h3".to_vec()])?;
        let [tcp, tcp_chacha, quic] = [tcp, chacha, quic].map(Arc::new);
        Ok(Self { policy: Some(policy), tcp, tcp_chacha, quic })
    }

    /// Before any settings are known.
    pub(super) fn plain(store: Arc<Store>) -> Self {
        let resolver = || {
            let builder = ServerConfig::builder_with_provider(provider(AES_FIRST));
            let builder = builder.with_protocol_versions(&[&TLS13]);
            // It fails for a provider that has no cipher of TLS 1.3.
            let builder = builder.expect("aws-lc speaks TLS 1.3").with_no_client_auth();
            Arc::new(builder.with_cert_resolver(store.clone()))
        };
        Self { policy: None, tcp: resolver(), tcp_chacha: resolver(), quic: resolver() }
    }

    /// For a client that offers these over TCP.
    pub(super) fn tcp(&self, offered: &[CipherSuite]) -> &Arc<ServerConfig> {
        // What is known to nobody is there to keep servers honest (RFC 8701).
        let first = offered.iter().find_map(|suite| bulk(*suite));
        if first == Some(Bulk::ChaCha20) { &self.tcp_chacha } else { &self.tcp }
    }

    pub(super) fn is_of(&self, policy: &Policy) -> bool {
        self.policy.as_ref() == Some(policy)
    }
}

/// What encrypts, of a cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bulk {
    Aes128,
    Aes256,
    ChaCha20,
}

const AES_FIRST: [Bulk; 3] = [Bulk::Aes128, Bulk::Aes256, Bulk::ChaCha20];
const CHACHA_FIRST: [Bulk; 3] = [Bulk::ChaCha20, Bulk::Aes128, Bulk::Aes256];

/// `None`: none of ours.
fn bulk(suite: CipherSuite) -> Option<Bulk> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Some(Bulk::Aes128),
        CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Some(Bulk::Aes256),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Some(Bulk::ChaCha20),
        _ => None,
    }
}

fn provider(order: [Bulk; 3]) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    let rank = |suite: CipherSuite| order.iter().position(|of| bulk(suite) == Some(*of));
    provider.cipher_suites.sort_by_key(|suite| rank(suite.suite()).unwrap_or(order.len()));
    Arc::new(provider)
}

fn config(
    policy: &Policy,
    provider: Arc<CryptoProvider>,
    store: Arc<Store>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: Vec<Vec<u8>>,
) -> Result<ServerConfig, String> {
    let failed = |error: rustls::Error| format!("TLS cannot be set up: {error}");
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
    let builder = builder.map_err(failed)?;
    let builder = match &policy.clients {
        None => builder.with_no_client_auth(),
        Some((certificates, required)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                roots.add(certificate.clone()).map_err(|error| format!("client_ca: {error}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if *required { verifier } else { verifier.allow_unauthenticated() };
            builder
                .with_client_cert_verifier(verifier.build().map_err(|error| format!("client_ca: {error}"))?)
        }
    };
    let mut config = builder.with_cert_resolver(store);
    config.ignore_client_order = true;
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(failed)?;
    config.send_tls13_tickets = TICKETS;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.max_early_data_size = 0;
    config.alpn_protocols = alpn;
    Ok(config)
}

/// The handshake in which an authority looks at `pair`, and which ends there.
///
/// # Errors
/// A sentence.
pub(super) fn for_challenge(pair: &Pair) -> Result<ServerConfig, String> {
    // Not `Pair::certified`: it reads the certificate as a client would, and no client takes the critical extension that
    // makes the proof (RFC 8737 §3).
    let provider = provider(AES_FIRST);
    let signer = provider.key_provider.load_private_key(pair.key.clone_key());
    let key = CertifiedKey::new(pair.chain.clone(), signer.map_err(|error| error.to_string())?);
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12]);
    let builder = builder.map_err(|error| error.to_string())?.with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![ACME_ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_has_its_place() {
        for (order, first) in [(AES_FIRST, Bulk::Aes128), (CHACHA_FIRST, Bulk::ChaCha20)] {
            let suites = provider(order).cipher_suites.clone();
            assert!(suites.iter().all(|suite| bulk(suite.suite()).is_some()));
            assert_eq!(bulk(suites[0].suite()), Some(first));
            assert_eq!(suites.len(), aws_lc_rs::default_provider().cipher_suites.len());
        }
    }

    #[test]
    fn who_puts_chacha_first_gets_it() {
        let configs = Configs::new(Policy::default(), Arc::default()).unwrap();
        let (grease, aes, chacha) = (
            CipherSuite::Unknown(0x1a1a),
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        );
        let rows: [(&[CipherSuite], bool); 5] = [
            (&[], false),
            (&[grease], false),
            (&[aes, chacha], false),
            (&[chacha, aes], true),
            (&[grease, CipherSuite::TLS_RSA_WITH_AES_128_CBC_SHA, chacha], true),
        ];
        for (offered, wanted) in rows {
            assert_eq!(Arc::ptr_eq(configs.tcp(offered), &configs.tcp_chacha), wanted, "{offered:?}");
        }
        assert!(
            Arc::ptr_eq(&configs.tcp.ticketer, &configs.tcp_chacha.ticketer),
            "one policy, one kind of tickets"
        );
    }
}
