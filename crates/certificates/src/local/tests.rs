//! The authority and its certificates, judged by the verifier that clients in Rust use.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{ServerName, UnixTime};

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bandstand-local-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn given(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Whether who trusts the authority believes that this is `host`.
fn believed(authority: &Authority, pair: &Pair, host: &str, at: SystemTime) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let now = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    verifier.verify_server_cert(&pair.chain[0], &[], &name, &[], now).is_ok()
}

#[test]
fn who_trusts_the_authority_believes_its_certificates() {
    let (folder, now) = (Folder::new("believes"), SystemTime::now());
    let authority = Authority::open(&folder.0, &given(&["shop.test", "192.168.1.5"]), now).unwrap();
    let pair = authority.issue(&given(&["shop.test", "192.168.1.5"]), now).unwrap();
    for (host, wanted) in [
        ("localhost", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("shop.test", true),
        ("192.168.1.5", true),
        ("other.test", false),
        ("example.com", false),
    ] {
        assert_eq!(believed(&authority, &pair, host, now), wanted, "{host}");
    }
    let day = Duration::from_hours(24);
    assert!(pair.facts.not_after.duration_since(pair.facts.not_before).unwrap() <= 7 * day);
    assert!(!believed(&authority, &pair, "localhost", now + 7 * day), "it has ended");
    let renewal = renewal_of(&pair).duration_since(now).unwrap();
    assert!((4 * day..5 * day).contains(&renewal), "{renewal:?}");
}

#[test]
fn a_name_is_signed_when_it_is_asked_for() {
    let (folder, now) = (Folder::new("asked"), SystemTime::now());
    let authority = Authority::open(&folder.0, &[], now).unwrap();
    for host in ["shop.localhost", "a.b.localhost", "any.test"] {
        let pair = authority.issue_for(host, now).unwrap();
        assert_eq!(pair.facts.names, [host]);
        assert!(believed(&authority, &pair, host, now), "{host}");
    }
    for host in ["example.com", "localhost.evil.example", "shop.localhost\0.evil", "", "192.168.1.5"] {
        assert!(authority.issue_for(host, now).is_none(), "{host:?}");
    }
    let one = authority.issue_for("a.test", now).unwrap();
    assert_ne!(one.facts.serial, authority.issue_for("a.test", now).unwrap().facts.serial);
}

/// Whoever has the key cannot pass for somebody else's site.
#[test]
fn a_stolen_authority_is_believed_for_local_names_only() {
    let (folder, now) = (Folder::new("stolen"), SystemTime::now());
    let authority = Authority::open(&folder.0, &[], now).unwrap();
    for host in ["example.com", "localhost.example", "192.168.1.5"] {
        let pair = authority.sign(given(&[host]), now).unwrap();
        assert!(!believed(&authority, &pair, host, now), "{host}");
        assert!(matches!(authority.issue(&given(&[host]), now), Err(Error::NotPermitted(_))), "{host}");
    }
}

#[test]
fn it_is_kept_and_replaced_only_for_a_reason() {
    let (folder, now) = (Folder::new("kept"), SystemTime::now());
    let open = |names: &[&str], now| Authority::open(&folder.0, &given(names), now).unwrap().certificate;
    let first = open(&[], now);
    assert_eq!(open(&[], now), first);
    assert_eq!(open(&["shop.test", ".a.localhost"], now), first, "it is bound to these from the start");
    let second = open(&["shop.internal"], now);
    assert_ne!(second, first);
    assert_eq!(open(&["a.shop.internal"], now), second);
    assert_eq!(open(&[], now + LIFETIME - 2 * LEAST_LEFT), second);
    let third = open(&["shop.internal"], now + LIFETIME - LEAST_LEFT / 2);
    assert_ne!(third, second, "it is about to end");
    let (present, former) = kept(&folder.0);
    assert_eq!(former.len(), 2);
    assert!(former.iter().all(|former| former.label != present.as_ref().unwrap().label));
    std::fs::write(folder.0.join("authority.crt"), "-----BEGIN CERTIFICATE-----\ncut").unwrap();
    assert_ne!(open(&[], now), third, "what cannot be read is replaced");
}

#[test]
fn only_its_user_can_read_the_key() {
    let (folder, now) = (Folder::new("modes"), SystemTime::now());
    Authority::open(&folder.0, &[], now).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let key = folder.0.join("authority.key");
    assert_eq!((mode(&folder.0), mode(&key)), (0o700, 0o600));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Authority::open(&folder.0, &[], now), Err(Error::Exposed(_))));
}

#[test]
fn who_is_trusted_is_remembered_by_its_label() {
    let (folder, now) = (Folder::new("trusted"), SystemTime::now());
    assert!(!trusted::is_present(&folder.0));
    Authority::open(&folder.0, &[], now).unwrap();
    trusted::remember(&folder.0, kept(&folder.0).0.map(|kept| kept.label).as_deref()).unwrap();
    assert!(trusted::is_present(&folder.0));
    Authority::open(&folder.0, &given(&["shop.internal"]), now).unwrap();
    assert!(!trusted::is_present(&folder.0), "another authority, another question");
    trusted::remember(&folder.0, None).unwrap();
    trusted::remember(&folder.0, None).unwrap();
}
