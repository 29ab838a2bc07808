//! What a handshake has found out, for requests of the connection.
//!
//! Owns the names by which versions and ciphers are told to applications (OpenSSL's, as nginx and Apache give them) and what
//! a client's certificate says. Made once a connection; nothing of it can be claimed by a field of a request.

use std::sync::Arc;

use bandstand_certificates::pem::Facts;
use base64::Engine as _;
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ProtocolVersion};

/// What is known of one TLS connection.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub(crate) version: &'static str,
    /// As OpenSSL calls it: `TLS_AES_128_GCM_SHA256`, `ECDHE-RSA-AES128-GCM-SHA256`; empty when not known.
    pub(crate) cipher: &'static str,
    /// The version on the wire: 0x0304, 0x0303.
    pub(crate) version_number: u16,
    /// The cipher suite on the wire; 0 when not known.
    pub(crate) cipher_number: u16,
    /// The name the client asked for (SNI), in lower case.
    pub(crate) name: Option<String>,
    /// What was shown to the client.
    shown: Option<Arc<Facts>>,
    /// What the client has shown, checked against `client_ca`.
    pub(crate) client: Option<ClientCertificate>,
}

/// A client's own certificate.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    /// As RFC 4514 writes names.
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// Upper-case hexadecimal digits.
    pub(crate) serial: String,
    /// All of it as text (RFC 7468).
    pub(crate) pem: String,
}

impl TlsFacts {
    /// `shown` is what the store has for `name`; `peer` the client's chain, which the handshake has checked.
    pub(crate) fn new(
        version: ProtocolVersion,
        suite: Option<CipherSuite>,
        name: Option<&str>,
        shown: Option<Arc<Facts>>,
        peer: Option<&[CertificateDer<'_>]>,
    ) -> Self {
        Self {
            version: if version == ProtocolVersion::TLSv1_2 { "TLSv1.2" } else { "TLSv1.3" },
            cipher: suite.map_or("", cipher_name),
            version_number: version.into(),
            cipher_number: suite.map_or(0, u16::from),
            name: name.map(str::to_ascii_lowercase),
            shown,
            client: peer.and_then(<[_]>::first).and_then(ClientCertificate::read),
        }
    }

    /// Whether the certificate that was shown is for `host`, in lower case without port. A request for another host over this
    /// connection was meant for another server (RFC 9110 §7.4, `CHECKLIST.md` part 2 row 16).
    pub(crate) fn covers(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // Who named nothing in the handshake can have meant any of ours.
        self.name.as_deref().is_none_or(|name| name == bare)
            || self.shown.as_ref().is_none_or(|shown| shown.covers(bare))
    }
}

impl TlsFacts {
    /// The same for the application.
    pub(crate) fn told(&self) -> bandstand_wire::Tls<'_> {
        bandstand_wire::Tls {
            version: self.version_number,
            cipher: self.cipher_number,
            version_name: self.version.as_bytes(),
            cipher_name: self.cipher.as_bytes(),
            client: self.client.as_ref().map(|client| bandstand_wire::ClientCertificate {
                subject: client.subject.as_bytes(),
                issuer: client.issuer.as_bytes(),
                serial: client.serial.as_bytes(),
                pem: client.pem.as_bytes(),
            }),
        }
    }
}

impl ClientCertificate {
    /// `None` for what the verifier takes and we cannot read; there is no such certificate that we know of.
    fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let Facts { subject, issuer, serial, .. } = Facts::of(certificate).ok()?;
        Some(Self { subject, issuer, serial, pem: pem(certificate) })
    }
}

/// RFC 7468: lines of 64 characters.
fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 56);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The suites that rustls speaks with aws-lc.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_that_is_spoken_has_a_name() {
        for suite in rustls::crypto::aws_lc_rs::default_provider().cipher_suites {
            assert_ne!(cipher_name(suite.suite()), "", "{suite:?}");
        }
    }

    #[test]
    fn text_of_a_certificate_is_read_back() {
        use rustls::pki_types::pem::PemObject;
        for length in [0, 1, 47, 48, 49, 1000] {
            let der: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let text = pem(&der);
            assert!(text.lines().all(|line| line.len() <= 64));
            assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).unwrap().as_ref(), der);
        }
    }
}
