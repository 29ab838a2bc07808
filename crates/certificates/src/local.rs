//! An authority on this machine, for `localhost` and names that nobody else can have: HTTPS before there is a domain.
//!
//! Owns making the authority, keeping it in a folder, and the short-lived certificates that it signs. Whom the machine
//! trusts is `trust`'s. The authority is bound to names (RFC 5280 §4.2.1.10), to servers and to no further authority, so that
//! a stolen key makes nobody believe a site of somebody else. Keys of leaf certificates are never written to a disk.
//! Invariants: the key's file is 0600 in a folder that is 0700; no leaf outlives `LEAF_LIFETIME`; a name that the
//! authority is not bound to is not signed. Sources: RFC 5280, RFC 6761 (`localhost`, `test`).

mod files;
mod names;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) use self::files::forget_former;
pub use self::files::{Kept, kept, trusted};
use self::names::Name;
use crate::pem::{self, Pair};

/// How long a leaf certificate is valid. Short, as nothing ever revokes it; it is renewed in the process.
pub const LEAF_LIFETIME: Duration = Duration::from_hours(7 * 24);
/// How long the authority is: being asked to trust another one is worse than this key growing old.
const LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// With less left, another authority is made.
const LEAST_LEFT: Duration = Duration::from_hours(30 * 24);
/// Clocks of containers and phones differ.
const BACKDATED: Duration = Duration::from_hours(1);

/// Why there is no authority, or no certificate of it. All of it is for the operator.
#[derive(Debug)]
pub enum Error {
    /// A file or folder cannot be read or written.
    File(PathBuf, io::Error),
    /// Others can read the key, so it may be theirs.
    Exposed(PathBuf),
    /// A name that no certificate can have.
    BadName(String),
    /// A name that this authority is not bound to.
    NotPermitted(String),
    /// The cryptographic library refuses.
    Signing(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "the local authority: {}: {error}", path.display()),
            Self::Exposed(path) => write!(
                f,
                "others can read the key of the local authority: delete {}, and run `bandstand trust` again",
                path.display()
            ),
            Self::BadName(name) => write!(f, "{name:?} is no name that a certificate can have"),
            Self::NotPermitted(name) => write!(f, "the local authority is not bound to the name {name:?}"),
            Self::Signing(why) => write!(f, "the local authority cannot sign: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::Signing(error.to_string())
    }
}

/// The authority, ready to sign.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// What it is bound to.
    permitted: Vec<Name>,
    /// One key for all leaf certificates of this process.
    leaf: KeyPair,
    /// The file with its certificate, for those who are to trust it.
    pub file: PathBuf,
}

impl Authority {
    /// The authority that is kept in `folder`, or another one when there is none, when it is about to end, or when it is not
    /// bound to all of `given`: names or addresses beside `localhost`, `*.localhost`, `*.test`, 127.0.0.1 and ::1; `.shop.test` is
    /// the name and all below it. Blocks.
    ///
    /// # Errors
    /// A name is none, a file cannot be read or written, or others can read the key.
    pub fn open(folder: &Path, given: &[String], now: SystemTime) -> Result<Self, Error> {
        let given = names::read(given)?;
        let _one = files::lock(folder)?;
        if let Some(present) = Self::load(folder)?
            && given.iter().all(|name| present.permits(name))
            && present.left(now) >= LEAST_LEFT
        {
            return Ok(present);
        }
        Self::make(folder, given, now)
    }

    /// `None`: there is none, or nothing that could be used as one.
    fn load(folder: &Path) -> Result<Option<Self>, Error> {
        let Some((chain, key)) = files::load(folder)? else { return Ok(None) };
        // Whatever a power cut left behind is replaced like one that was never there.
        let (Ok(certificates), Ok(key)) = (pem::certificates(&chain), KeyPair::from_pem(&key)) else {
            return Ok(None);
        };
        let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        if Pair::new(certificates.clone(), secret).is_err() {
            return Ok(None);
        }
        let certificate = certificates[0].clone();
        let permitted = names::permitted_by(&certificate);
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Some(Self { certificate, issuer, permitted, leaf: key_pair()?, file: files::certificate(folder) }))
    }

    fn make(folder: &Path, given: Vec<Name>, now: SystemTime) -> Result<Self, Error> {
        let mut permitted = names::base();
        let further = given.into_iter().filter(|name| !permitted.iter().any(|base| base.holds(name)));
        let further: Vec<Name> = further.map(Name::with_all_below).collect();
        permitted.extend(further);
        let serial = random_serial()?;
        let key = key_pair()?;
        let mut parameters = CertificateParams::default();
        // Two authorities of one name would confuse whoever builds chains.
        let short: String = serial[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        parameters.distinguished_name = called(&format!("{}{short}", files::TITLE));
        parameters.serial_number = Some(SerialNumber::from_slice(&serial));
        parameters.not_before = (now - BACKDATED).into();
        parameters.not_after = (now + LIFETIME).into();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let permitted_subtrees = permitted.iter().map(subtree).collect();
        parameters.name_constraints =
            Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        let certificate = parameters.self_signed(&key)?;
        files::store(folder, &certificate.pem(), &key.serialize_pem())?;
        let certificate = certificate.der().clone();
        let issuer = Issuer::new(parameters, key);
        Ok(Self { certificate, issuer, permitted, leaf: key_pair()?, file: files::certificate(folder) })
    }

    /// A certificate for `localhost`, the addresses of this machine to itself, and the names given.
    ///
    /// # Errors
    /// A name is none, or not one that the authority is bound to.
    pub fn issue(&self, given: &[String], now: SystemTime) -> Result<Pair, Error> {
        let given = names::read(given)?;
        if let Some(name) = given.iter().find(|name| !self.permits(name)) {
            return Err(Error::NotPermitted(name.to_string()));
        }
        // No `*.localhost`: nobody takes a wildcard for a whole top-level domain, and some refuse the certificate for it.
        let mut alternatives = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        alternatives.extend(given.iter().flat_map(Name::alternatives));
        self.sign(alternatives, now)
    }

    /// A certificate for exactly one host, for which a client has asked: clients take `*.localhost` for no wildcard. `None`: it is no
    /// name that the authority is bound to.
    pub fn issue_for(&self, host: &str, now: SystemTime) -> Option<Pair> {
        let name = Name::parse(host).filter(|name| self.permits(name))?;
        self.sign(vec![name.to_string()], now).ok()
    }

    fn sign(&self, mut alternatives: Vec<String>, now: SystemTime) -> Result<Pair, Error> {
        let mut seen = std::collections::BTreeSet::new();
        alternatives.retain(|name| seen.insert(name.clone()));
        let mut parameters = CertificateParams::new(alternatives)?;
        parameters.distinguished_name = called("bandstand on this machine");
        parameters.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
        parameters.not_before = (now - BACKDATED).into();
        parameters.not_after = (now + LEAF_LIFETIME - BACKDATED).into();
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters.signed_by(&self.leaf, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(self.leaf.serialize_der().into());
        // The root is not sent: who trusts it has it, and who does not would not by this.
        Pair::new(vec![certificate.der().clone()], key).map_err(|error| Error::Signing(error.to_string()))
    }

    fn permits(&self, name: &Name) -> bool {
        self.permitted.iter().any(|permitted| permitted.holds(name))
    }

    fn left(&self, now: SystemTime) -> Duration {
        let ends = pem::Facts::of(&self.certificate).map(|facts| facts.not_after);
        ends.ok().and_then(|ends| ends.duration_since(now).ok()).unwrap_or_default()
    }
}

/// When a certificate is to be replaced: at two thirds of its lifetime.
pub fn renewal_of(pair: &Pair) -> SystemTime {
    let lifetime = pair.facts.not_after.duration_since(pair.facts.not_before).unwrap_or_default();
    pair.facts.not_before + lifetime * 2 / 3
}

fn key_pair() -> Result<KeyPair, Error> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

fn called(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished.push(DnType::OrganizationName, "Bandstand");
    distinguished
}

/// 127 random bits: no two certificates of an authority share a number, which Firefox refuses.
fn random_serial() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Signing(error.to_string()))?;
    bytes[0] = bytes[0] & 0x7f | 0x40; // positive, and always of the same length (RFC 5280 §4.1.2.2)
    Ok(bytes)
}

fn subtree(name: &Name) -> GeneralSubtree {
    match name {
        Name::Address(address) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*address, bits))
        }
        Name::Host(host) | Name::Below(host) => GeneralSubtree::DnsName(host.clone()),
    }
}

#[cfg(test)]
mod tests;
