//! A certificate and its key: read, checked against each other, and what is written in the certificate.
//!
//! Owns the meaning of PEM files (RFC 7468) as everybody writes them: a chain with the server's own certificate first, and a
//! key in PKCS#8, PKCS#1 or SEC1. Leaves to others where the bytes come from and which pair answers for which name.
//! Invariant: the key of a `Pair` belongs to the first certificate of its chain. Sources: RFC 5280, RFC 4514 (names as text).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::distinguished;

/// Largest file that is taken for a chain or a key: a long chain has 20 KiB.
const MOST_BYTES: u64 = 1024 * 1024;

/// A certificate with its chain and key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The server's own certificate, then those that lead to a root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first.
    pub key: Arc<PrivateKeyDer<'static>>,
    /// What the first says.
    pub facts: Facts,
}

/// What is written in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Names it is for: of DNS in lower case, `*.` in front of a wildcard; addresses as text.
    pub names: Vec<String>,
    /// Whose it is, as RFC 4514 writes it: `CN=shop.example,O=Shop`.
    pub subject: String,
    /// Who made it, written the same way.
    pub issuer: String,
    /// Serial number in upper-case hexadecimal digits.
    pub serial: String,
    /// It is valid from then on …
    pub not_before: SystemTime,
    /// … and until then.
    pub not_after: SystemTime,
}

/// Why there is no pair. All of it is for the operator.
#[derive(Debug)]
pub enum Error {
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// There is no certificate in it.
    NoCertificate,
    /// There is no key in it.
    NoKey,
    /// The key can only be read with a password.
    EncryptedKey,
    /// Bytes that are no certificate.
    BadCertificate,
    /// Bytes that are no key, or one of a kind that TLS does not use.
    BadKey,
    /// The key belongs to another certificate.
    Mismatch,
    /// What is wrong with the pair in these two files.
    In(PathBuf, PathBuf, Box<Error>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::NoCertificate => f.write_str("there is no certificate (PEM, `BEGIN CERTIFICATE`)"),
            Self::NoKey => f.write_str("there is no private key (PEM, `BEGIN PRIVATE KEY`)"),
            Self::EncryptedKey => f.write_str(
                "the key is encrypted, and nobody is there to type its password; \
                 `openssl pkey -in key.pem -out plain.pem` makes one without",
            ),
            Self::BadCertificate => f.write_str("the certificate is damaged"),
            Self::BadKey => f.write_str("the key is damaged, or of a kind that TLS does not use"),
            Self::Mismatch => f.write_str("the key belongs to another certificate"),
            Self::In(cert, key, error) => match **error {
                Self::NoCertificate | Self::BadCertificate => write!(f, "{}: {error}", cert.display()),
                Self::NoKey | Self::BadKey | Self::EncryptedKey => write!(f, "{}: {error}", key.display()),
                _ => write!(f, "{} and {}: {error}", cert.display(), key.display()),
            },
        }
    }
}

impl std::error::Error for Error {}

impl Pair {
    /// Reads both files, which may be the same one.
    ///
    /// # Errors
    /// A file cannot be read, or see `from_pem`; the sentence names the file.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, Error> {
        let (chain, secret) = (read(cert)?, read(key)?);
        Self::from_pem(&chain, &secret)
            .map_err(|error| Error::In(cert.to_owned(), key.to_owned(), Box::new(error)))
    }

    /// Makes a pair of a chain and a key, each in PEM.
    ///
    /// # Errors
    /// Something is missing or damaged, or the two do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            let encrypted = contains(key, b"ENCRYPTED");
            if encrypted { Error::EncryptedKey } else { Error::NoKey }
        })?;
        Self::new(chain, key)
    }

    /// Makes a pair of a chain, the server's own certificate first, and a key.
    ///
    /// # Errors
    /// Something is damaged, or the two do not belong together.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, Error> {
        let facts = Facts::of(chain.first().ok_or(Error::NoCertificate)?)?;
        let pair = Self { chain, key: Arc::new(key), facts };
        pair.certified()?;
        Ok(pair)
    }

    /// The same as handshakes want it.
    ///
    /// # Errors
    /// As `new`; a pair that was made there has none.
    pub fn certified(&self) -> Result<CertifiedKey, Error> {
        let (chain, key) = (self.chain.clone(), self.key.clone_key());
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Error::Mismatch,
            rustls::Error::InvalidCertificate(_) => Error::BadCertificate,
            _ => Error::BadKey,
        })
    }
}

/// All certificates in a text of PEM, in their order; at least one.
///
/// # Errors
/// There is none, or one is damaged.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| Error::BadCertificate)?;
    if all.is_empty() { Err(Error::NoCertificate) } else { Ok(all) }
}

/// The whole of a file that ought to be small.
///
/// # Errors
/// It cannot be read, or is too large to be meant.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::Unreadable(path.to_owned(), error);
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MOST_BYTES {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB")));
    }
    std::fs::read(path).map_err(failed)
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

impl Facts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is damaged.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| Error::BadCertificate)?;
        let digits: String = certificate.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect();
        let significant = digits.trim_start_matches("00");
        Ok(Self {
            names: names_of(&certificate),
            subject: distinguished::text(certificate.subject()),
            issuer: distinguished::text(certificate.issuer()),
            serial: if significant.is_empty() { "00".to_owned() } else { significant.to_owned() },
            not_before: time_of(certificate.validity().not_before),
            not_after: time_of(certificate.validity().not_after),
        })
    }

    /// Whether it is for this host, in lower case: by name, by a wildcard for its first label (RFC 6125 §6.4.3), or by
    /// address.
    pub fn covers(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(domain) => parent == Some(domain),
            None => name == host,
        })
    }
}

/// Without alternative names, which no browser accepts, the common name still tells which host was meant.
fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let general = alternative.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let names: Vec<String> = general.iter().filter_map(name_of).collect();
    if !names.is_empty() {
        return names;
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.map(str::to_ascii_lowercase).collect()
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Before 1970 is 1970: nobody asks how long ago a certificate began.
fn time_of(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0, 0xab, 1]));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Shop, Ltd");
        params.distinguished_name.push(rcgen::DnType::CommonName, "Shop.example");
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn what_a_certificate_says() {
        let (chain, key) = made(&["Shop.Example", "*.shop.example", "127.0.0.1", "::1"]);
        let facts = Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap().facts;
        assert_eq!(facts.names, ["shop.example", "*.shop.example", "127.0.0.1", "::1"]);
        assert_eq!(facts.subject, r"CN=Shop.example,O=Shop\, Ltd");
        assert_eq!((facts.issuer, facts.serial), (facts.subject, "AB01".to_owned()));
        assert!(facts.not_before < facts.not_after);
        let (chain, key) = made(&[]);
        let facts = Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap().facts;
        assert_eq!(facts.names, ["shop.example"], "the common name, where there is no other");
    }

    #[test]
    fn what_a_certificate_covers() {
        let (chain, key) = made(&["shop.example", "*.shop.example", "127.0.0.1"]);
        let facts = Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap().facts;
        for host in ["shop.example", "www.shop.example", "127.0.0.1"] {
            assert!(facts.covers(host), "{host}");
        }
        for host in ["example", "a.b.shop.example", "xshop.example", "127.0.0.2", ""] {
            assert!(!facts.covers(host), "{host}");
        }
    }

    #[test]
    fn what_is_no_pair() {
        let ((chain, key), (_, other)) = (made(&["a"]), made(&["b"]));
        let damaged = chain.replace("MII", "AAA");
        let (no_key, pkcs8) = (rcgen::KeyPair::generate().unwrap().public_key_pem(), "PRIVATE KEY");
        let encrypted = key.replace(pkcs8, "ENCRYPTED PRIVATE KEY");
        let bad_key = format!("-----BEGIN {pkcs8}-----\nAAAA\n-----END {pkcs8}-----\n");
        let rows: [(&str, &str, &str); 8] = [
            ("", &key, "there is no certificate"),
            (&key, &key, "there is no certificate"),
            (&damaged, &key, "the certificate is damaged"),
            (&chain, "", "there is no private key"),
            (&chain, &no_key, "there is no private key"),
            (&chain, &encrypted, "the key is encrypted"),
            (&chain, &bad_key, "the key is damaged"),
            (&chain, &other, "the key belongs to another certificate"),
        ];
        for (chain, key, wanted) in rows {
            let error = Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error} / {wanted}");
        }
        let missing = Pair::read(Path::new("/no/such.pem"), Path::new("/no/such.key")).unwrap_err();
        assert!(missing.to_string().starts_with("/no/such.pem cannot be read"), "{missing}");
    }
}
