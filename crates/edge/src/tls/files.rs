//! The user's own certificates.
//!
//! Owns the reading of `tls_cert` and `tls_key`, of a certbot tree in place (`live/NAME/fullchain.pem` and `privkey.pem`, links
//! that change their target at each renewal), and the look at them every few seconds: time of change, size and inode tell
//! a new file, whether it was written over, renamed into place or linked to. Invariant: a pair that does not fit is
//! logged once and the one before it stays; only a start and a reload fail.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bandstand_certificates::pem::Pair;
use bandstand_config::CertificateFiles;

use crate::shared::Shared;

/// How often files are looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// Most folders of a certbot tree that are read.
const TREE_MOST: usize = 10_000;

/// What was read, in the order of the settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    /// What the settings said.
    written: Vec<CertificateFiles>,
    known: Vec<Known>,
}

#[derive(Debug, Clone)]
struct Known {
    cert: PathBuf,
    key: PathBuf,
    stamp: [Option<Stamp>; 2],
    /// `None`: it was never good.
    pair: Option<Pair>,
}

/// What of a file changes when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// Of what a link leads to; `None` while there is nothing.
    fn of(path: &Path) -> Option<Self> {
        let of = |found: Metadata| Self {
            inode: (found.dev(), found.ino()),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        };
        path.metadata().ok().map(of)
    }
}

impl Known {
    /// Whether it was read with rights that this process has given away.
    fn is_out_of_reach(&self) -> bool {
        let is_forbidden =
            |path: &Path| File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        self.pair.is_some() && (is_forbidden(&self.cert) || is_forbidden(&self.key))
    }
}

impl Files {
    /// Reads all of them. Blocks.
    ///
    /// # Errors
    /// A sentence: one cannot be read, a key does not fit, or a folder holds no certificate.
    pub(crate) fn read(written: &[CertificateFiles]) -> Result<Self, String> {
        let mut known = Vec::new();
        for (cert, key) in paths(written)? {
            // Before the files: what changes in between is seen at the next look.
            let stamp = [Stamp::of(&cert), Stamp::of(&key)];
            let pair = Pair::read(&cert, &key).map_err(|error| format!("tls_cert: {error}"))?;
            warn_of_time(&cert, &pair);
            known.push(Known { cert, key, stamp, pair: Some(pair) });
        }
        Ok(Self { written: written.to_vec(), known })
    }

    /// The same at a reload. What was root's to read at the start, and is nobody's now, stays as it was.
    ///
    /// # Errors
    /// As `read`.
    pub(super) fn read_again(&self, written: &[CertificateFiles]) -> Result<Self, String> {
        match Self::read(written) {
            Err(_) if self.written == written && self.known.iter().any(Known::is_out_of_reach) => {
                Ok(self.clone())
            }
            outcome => outcome,
        }
    }

    /// The same files as they are now; `None`: nothing has changed. Blocks.
    pub(super) fn look_again(&self, written: &[CertificateFiles]) -> Option<Self> {
        let paths = match paths(written) {
            Ok(paths) => paths,
            Err(error) => {
                tracing::debug!(error, "own certificates stay as they are");
                return None;
            }
        };
        let mut changed = paths.len() != self.known.len();
        let known = paths.into_iter().map(|(cert, key)| {
            let before = self.known.iter().find(|known| known.cert == cert && known.key == key);
            let stamp = [Stamp::of(&cert), Stamp::of(&key)];
            // A folder that only root may enter tells nothing; that was said at the start.
            let hidden = stamp.contains(&None);
            if let Some(before) =
                before.filter(|before| before.stamp == stamp || (hidden && before.is_out_of_reach()))
            {
                return before.clone();
            }
            changed = true;
            let pair = match Pair::read(&cert, &key) {
                Ok(pair) => {
                    tracing::info!(names = ?pair.facts.names, file = %cert.display(), "a new certificate is served");
                    warn_of_time(&cert, &pair);
                    Some(pair)
                }
                Err(error) => {
                    tracing::error!(%error, "a certificate has changed and cannot be used, the one before it stays");
                    before.and_then(|before| before.pair.clone())
                }
            };
            Known { cert, key, stamp, pair }
        });
        let known = known.collect();
        changed.then_some(Self { written: written.to_vec(), known })
    }

    /// Whether these were read for the same settings.
    pub(super) fn are_of(&self, other: &Self) -> bool {
        self.written == other.written
    }

    pub(super) fn pairs(&self) -> Vec<Pair> {
        self.known.iter().filter_map(|known| known.pair.clone()).collect()
    }
}

/// Looks at the files for as long as it is polled.
pub(crate) async fn watch(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let state = shared.state();
        if state.settings.tls_cert.is_empty() {
            continue;
        }
        let tls = shared.tls.clone();
        // A panic there is a mistake of ours that costs one look.
        let _ = tokio::task::spawn_blocking(move || {
            tls.look_at_files(&state.settings);
        })
        .await;
    }
}

fn warn_of_time(cert: &Path, pair: &Pair) {
    let (now, file) = (SystemTime::now(), cert.display());
    if pair.facts.not_after < now {
        tracing::warn!(%file, names = ?pair.facts.names, "the certificate has expired: clients will refuse it");
    } else if pair.facts.not_before > now {
        tracing::warn!(%file, names = ?pair.facts.names, "the certificate is not valid yet: is the clock right?");
    }
}

fn paths(written: &[CertificateFiles]) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    let mut paths = Vec::new();
    for files in written {
        match files {
            CertificateFiles::Pair { cert, key } => paths.push((cert.clone(), key.clone())),
            CertificateFiles::Tree(folder) => paths.extend(of_tree(folder)?),
        }
    }
    Ok(paths)
}

/// `folder` is certbot's own, its `live`, or one of the folders in there.
fn of_tree(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    let pair = |folder: &Path| (folder.join("fullchain.pem"), folder.join("privkey.pem"));
    let live = folder.join("live");
    let live = if live.is_dir() { live.as_path() } else { folder };
    if pair(live).0.exists() {
        return Ok(vec![pair(live)]);
    }
    let failed = |error| format!("tls_cert: {} cannot be read: {error}", live.display());
    let entries = std::fs::read_dir(live).map_err(failed)?.take(TREE_MOST);
    let mut names: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    names.retain(|name| pair(name).0.exists());
    names.sort();
    if names.is_empty() {
        return Err(format!(
            "tls_cert: {} holds no certificate; as a folder it is certbot's, with NAME/fullchain.pem and \
             NAME/privkey.pem",
            live.display()
        ));
    }
    Ok(names.iter().map(|name| pair(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("bandstand-tls-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// Writes a certificate for `name` as certbot does: a new file, and a link to it.
        fn issue(&self, folder: &str, name: &str) {
            let key = rcgen::KeyPair::generate().unwrap();
            let made =
                rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
            let folder = self.0.join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            for (file, text) in [("fullchain.pem", made.pem()), ("privkey.pem", key.serialize_pem())] {
                let target = folder.join(format!("{name}-{file}"));
                std::fs::write(&target, text).unwrap();
                let _ = std::fs::remove_file(folder.join(file));
                std::os::unix::fs::symlink(&target, folder.join(file)).unwrap();
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn names(files: &Files) -> Vec<String> {
        files.pairs().into_iter().flat_map(|pair| pair.facts.names).collect()
    }

    #[test]
    fn a_certbot_tree_is_read_in_place_and_followed() {
        let folder = Folder::new("tree");
        folder.issue("live/b", "b.example");
        folder.issue("live/a", "a.example");
        std::fs::write(folder.0.join("live/README"), "").unwrap();
        for tree in [folder.0.clone(), folder.0.join("live")] {
            let files = Files::read(&[CertificateFiles::Tree(tree)]).unwrap();
            assert_eq!(names(&files), ["a.example", "b.example"]);
        }
        let written = [CertificateFiles::Tree(folder.0.clone())];
        let files = Files::read(&written).unwrap();
        assert!(files.look_again(&written).is_none());
        folder.issue("live/a", "new.a.example");
        let files = files.look_again(&written).unwrap();
        assert_eq!(names(&files), ["new.a.example", "b.example"]);
        folder.issue("live/c", "c.example");
        let files = files.look_again(&written).unwrap();
        assert_eq!(names(&files), ["new.a.example", "b.example", "c.example"]);
        assert!(files.look_again(&written).is_none());
    }

    #[test]
    fn a_pair_that_does_not_fit_leaves_the_old_one() {
        let folder = Folder::new("unfit");
        folder.issue("one", "one.example");
        folder.issue("two", "two.example");
        let [cert, key, other] =
            ["one/fullchain.pem", "one/privkey.pem", "two/privkey.pem"].map(|name| folder.0.join(name));
        let written = [CertificateFiles::Pair { cert, key: key.clone() }];
        let files = Files::read(&written).unwrap();
        std::fs::copy(&other, key.canonicalize().unwrap()).unwrap();
        let after = files.look_again(&written).unwrap();
        assert_eq!(names(&after), ["one.example"]);
        assert!(after.look_again(&written).is_none(), "it is told once");
        assert!(Files::read(&written).unwrap_err().contains("belongs to another certificate"));
        std::fs::remove_file(&key).unwrap();
        assert_eq!(names(&after.look_again(&written).unwrap()), ["one.example"]);
    }

    #[test]
    fn a_folder_without_certificates_is_an_error() {
        let folder = Folder::new("none");
        let refused = Files::read(&[CertificateFiles::Tree(folder.0.clone())]).unwrap_err();
        assert!(refused.contains("holds no certificate"), "{refused}");
    }
}
