//! What is spoken in a handshake.
//!
//! Owns the `ServerConfig`s: TLS 1.2 and 1.3 with what rustls and aws-lc take for safe (forward secrecy and AEAD only, a
//! post-quantum group first), tickets, ALPN, and who must show a certificate. No early data: a replay of it would reach the
//! application (`CHECKLIST.md` part 2 row 42). Invariant: another policy is another config with other tickets (row 33).

use std::sync::Arc;

use bandstand_certificates::pem::{self, Pair};
use bandstand_config::{ClientCert, Settings};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

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
    pub(super) tcp: Arc<ServerConfig>,
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
        let tcp = config(&policy, store.clone(), &[&TLS13, &TLS12], policy.alpn())?;
        let quic = config(&policy, store, &[&TLS13], vec![b"h3".to_vec()])?;
        Ok(Self { policy: Some(policy), tcp: Arc::new(tcp), quic: Arc::new(quic) })
    }

    /// Before any settings are known.
    pub(super) fn plain(store: Arc<Store>) -> Self {
        let resolver = || {
            let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
            // It fails for a provider that has no cipher of TLS 1.3.
            let builder = builder.expect("aws-lc speaks TLS 1.3").with_no_client_auth();
            Arc::new(builder.with_cert_resolver(store.clone()))
        };
        Self { policy: None, tcp: resolver(), quic: resolver() }
    }

    pub(super) fn is_of(&self, policy: &Policy) -> bool {
        self.policy.as_ref() == Some(policy)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn config(
    policy: &Policy,
    store: Arc<Store>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: Vec<Vec<u8>>,
) -> Result<ServerConfig, String> {
    let failed = |error: rustls::Error| format!("TLS cannot be set up: {error}");
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let builder = builder.map_err(failed)?;
    let builder = match &policy.clients {
        None => builder.with_no_client_auth(),
        Some((certificates, required)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                roots.add(certificate.clone()).map_err(|error| format!("client_ca: {error}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            let verifier = if *required { verifier } else { verifier.allow_unauthenticated() };
            builder
                .with_client_cert_verifier(verifier.build().map_err(|error| format!("client_ca: {error}"))?)
        }
    };
    let mut config = builder.with_cert_resolver(store);
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
    let signer = provider().key_provider.load_private_key(pair.key.clone_key());
    let key = CertifiedKey::new(pair.chain.clone(), signer.map_err(|error| error.to_string())?);
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13, &TLS12]);
    let builder = builder.map_err(|error| error.to_string())?.with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![ACME_ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}
