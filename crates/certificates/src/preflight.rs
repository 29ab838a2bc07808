//! What would keep an authority from issuing, seen from here and said in one sentence before it is asked.
//!
//! Owns the questions: is the folder there to stay, does a name lead here, may this authority issue. Invariant: nothing is
//! decided by the answers. A resolver inside may see another address than the world does, and a router may not lead a machine
//! to itself; the authority's own look counts.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use rustix::fs::Access;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::acme::{Choice, Wish};
use crate::caa;
use crate::storage::Storage;

/// For one question.
const PATIENCE: Duration = Duration::from_secs(5);
/// Names that are looked at; with more the sentences would not be read.
const NAMES_MOST: usize = 20;

/// Kinds of file systems that do not outlive a container or a boot (statfs(2)).
const PASSING: [(u64, &str); 3] =
    [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0x794c_7630, "overlayfs, the layer of a container")];

/// About the folder; empty: nothing to say.
pub fn storage(storage: &Storage) -> Vec<String> {
    let root = storage.root();
    let mut findings = Vec::new();
    if let Err(error) = storage.prepare() {
        findings.push(error);
        return findings;
    }
    let probe = root.join(format!("probe.{}", std::process::id()));
    if let Err(error) = fs::write(&probe, b"probe") {
        findings.push(format!("nothing can be written to {}: {error}", root.display()));
    }
    let _ = fs::remove_file(&probe);
    findings.extend(passing(root, root));
    findings
}

/// The same of a folder that need not be there yet; makes none.
pub fn storage_to_be(storage: &Storage) -> Vec<String> {
    let root = storage.root();
    let Some(there) = root.ancestors().find(|folder| folder.is_dir()) else { return Vec::new() };
    let mut findings = Vec::new();
    if let Err(error) = rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK) {
        let error = io::Error::from(error);
        findings.push(format!(
            "certificates cannot be kept in {}: {}: {error}",
            root.display(),
            there.display()
        ));
    }
    findings.extend(passing(there, root));
    findings
}

/// Whether `there`, where `root` is or will be, is gone after a restart.
#[cfg(target_os = "linux")]
fn passing(there: &Path, root: &Path) -> Option<String> {
    let kind = (rustix::fs::statfs(there).ok()?.f_type as u64) & 0xffff_ffff;
    let (_, kind) = PASSING.iter().find(|(number, _)| *number == kind)?;
    Some(format!(
        "{} is on {kind}: after a restart every certificate is ordered anew, and authorities allow that a few times a \
         week only; put state_dir on a volume that stays",
        root.display()
    ))
}

/// Nobody says what kind a file system is.
#[cfg(not(target_os = "linux"))]
fn passing(_: &Path, _: &Path) -> Option<String> {
    None
}

/// About names; empty: nothing to say. Takes a few seconds at most for each. `serves`: the server runs, so that somebody should
/// answer at its addresses.
pub async fn names(names: &[String], wish: &Wish, serves: bool) -> Vec<String> {
    let mut findings = BTreeSet::new();
    for name in names.iter().take(NAMES_MOST) {
        let by_dns = wish.choice == Choice::Dns01 || wish.can.dns || name.starts_with("*.");
        if by_dns && wish.hook.is_none() {
            findings.insert(format!("{name} can only be proved by dns-01, and there is no acme_dns_hook"));
        }
        if !by_dns && name.parse::<IpAddr>().is_err() {
            findings.extend(reaches_us(name, wish, serves).await);
        }
        findings.extend(allowed(name, wish).await);
    }
    findings.into_iter().collect()
}

/// The same without a runtime around; blocks.
///
/// # Errors
/// There can be none: a sentence.
pub fn names_blocking(all: &[String], wish: &Wish, serves: bool) -> Result<Vec<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    Ok(runtime.block_on(names(all, wish, serves)))
}

async fn reaches_us(name: &str, wish: &Wish, serves: bool) -> Option<String> {
    let found = match timeout(PATIENCE, lookup_host((name, 80))).await {
        Ok(Ok(found)) => found.collect::<Vec<SocketAddr>>(),
        Ok(Err(_)) => Vec::new(),
        Err(_) => return Some(format!("DNS does not answer for {name} within {} s", PATIENCE.as_secs())),
    };
    let Some(first) = found.first() else {
        return Some(format!(
            "{name} has no address in DNS: add an A or AAAA record that leads to this machine"
        ));
    };
    let tcp = match wish.choice {
        Choice::TlsAlpn01 => 443,
        Choice::Auto if !wish.can.http => 443,
        _ => 80,
    };
    answers(name, SocketAddr::new(first.ip(), tcp), tcp == 80, serves).await
}

/// Why the authority would not get an answer at `address`; `plain`: over http-01.
async fn answers(name: &str, address: SocketAddr, plain: bool, serves: bool) -> Option<String> {
    let (host, port) = (address.ip(), address.port());
    let why = match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(stream)) if plain && !is_here(host) => return another(name, address, stream).await,
        Ok(Ok(_)) => return None,
        Ok(Err(_)) if !serves && is_here(host) => return None,
        Ok(Err(error)) => format!("cannot be reached from here ({error})"),
        Err(_) => "does not answer from here".to_owned(),
    };
    Some(format!(
        "port {port} of {name} ({host}) {why}: the authority looks there, so let it through the firewall and have it \
         lead to this server"
    ))
}

/// Whether an address is one of this machine's own: only those can be bound.
fn is_here(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// A token that nobody has is a 404 of ours; something else answers there if it is not.
async fn another(name: &str, address: SocketAddr, mut stream: TcpStream) -> Option<String> {
    let request = format!(
        "GET /.well-known/acme-challenge/is-it-bandstand HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    );
    let mut answer = Vec::new();
    let asked = async {
        stream.write_all(request.as_bytes()).await?;
        stream.take(16 * 1024).read_to_end(&mut answer).await
    };
    let _ = timeout(PATIENCE, asked).await;
    let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let is_ours = text.starts_with("http/1.1 404") && text.contains("bandstand");
    (!is_ours).then(|| {
        format!(
            "{name} leads to {}, which is no address of this machine, and something else answers there; if that is no \
             proxy or router in front of this server, change the record in DNS",
            address.ip()
        )
    })
}

async fn allowed(name: &str, wish: &Wish) -> Option<String> {
    if wish.authorities.iter().any(|authority| authority.caa.is_empty()) {
        return None;
    }
    let wildcard = name.starts_with("*.");
    let name = name.strip_prefix("*.").unwrap_or(name).to_owned();
    let asked = tokio::task::spawn_blocking(move || caa::records(&name).map(|found| (name, found)));
    let (at, records) = timeout(PATIENCE, asked).await.ok()?.ok()??;
    let issuers = caa::issuers(&records.1, wildcard)?;
    let forbidden =
        wish.authorities.iter().all(|authority| !authority.caa.iter().any(|own| issuers.contains(own)));
    let first = wish.authorities.first()?;
    forbidden.then(|| {
        format!(
            "CAA records of {} forbid {} to issue for {at} (they allow {}): add `0 issue \"{}\"` there, or take another \
             acme_directory",
            records.0,
            first.name,
            if issuers.is_empty() { "nobody".to_owned() } else { issuers.join(", ") },
            first.caa.first().map_or("", String::as_str),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::{Authority, Ways};
    use crate::storage::tests::Folder;

    fn wish(choice: Choice, can: Ways) -> Wish {
        Wish {
            names: Vec::new(),
            authorities: vec![Authority::of("https://ca.test/dir")],
            ca: None,
            email: None,
            binding: None,
            profile: None,
            choice,
            can,
            hook: None,
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made() {
        let folder = Folder::new();
        fs::write(folder.0.join("file"), b"").unwrap();
        let [finding] = &storage(&Storage::at(&folder.0.join("file")))[..] else { panic!() };
        assert!(
            finding.contains("certificates cannot be kept in") && finding.contains("state_dir"),
            "{finding}"
        );
    }

    #[test]
    fn a_folder_to_be_is_not_made() {
        let folder = Folder::new();
        let storage = Storage::at(&folder.0.join("deep/state"));
        let unsaid = |finding: &String| finding.contains(" is on "); // where the tests run may pass
        assert_eq!(storage_to_be(&storage).iter().filter(|one| !unsaid(one)).count(), 0);
        assert!(!folder.0.join("deep").exists());
        assert!(
            passing(Path::new("/dev/shm"), Path::new("/x"))
                .is_none_or(|said| said.starts_with("/x is on tmpfs"))
        );
    }

    /// Nobody listens before the server does; while it does, somebody should.
    #[tokio::test]
    async fn a_port_that_is_closed_is_a_finding_while_the_server_runs() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for (serves, wanted) in [(false, false), (true, true)] {
            let said = answers("localhost", closed, true, serves).await;
            assert_eq!(
                said.is_some_and(|said| said.contains("cannot be reached from here")),
                wanted,
                "{serves}"
            );
        }
    }

    #[tokio::test]
    async fn names_that_cannot_work() {
        let can = Ways { http: true, alpn: true, dns: false };
        let all = ["*.shop.test".to_owned(), "no-such-name.invalid".to_owned()];
        let findings = names(&all, &wish(Choice::Auto, can), false).await.join("\n");
        assert!(findings.contains("*.shop.test can only be proved by dns-01"), "{findings}");
        assert!(findings.contains("no-such-name.invalid"), "{findings}");
    }

    #[test]
    fn own_addresses() {
        assert!(is_here(IpAddr::from([127, 0, 0, 1])));
        assert!(!is_here(IpAddr::from([192, 0, 2, 1])), "for documents (RFC 5737)");
    }
}
