//! The folder below `state_dir` that certificates and accounts live in.
//!
//! Owns the layout, the modes, how a file is replaced, and the lock between processes. What is in the files is their writers'.
//! Invariant: a file is the old one or the new one, whole, whenever the machine stops; nobody but its owner can read a key.
//!
//! ```text
//! state_dir/acme/                     0700
//!     lock                            flock(2): whoever orders holds it
//!     accounts/AUTHORITY.json         address of the account and its key
//!     certificates/NAME.pem           key and chain: one file, since two cannot be renamed at once
//!     course.json                     failures, when to try again, when to renew
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FlockOperation;

/// Of folders.
const FOLDER_MODE: u32 = 0o700;
/// Of files.
const FILE_MODE: u32 = 0o600;
/// No file of ours is longer, in bytes.
const FILE_MOST: u64 = 8 << 20;
/// Room for a certificate, and for what is remembered, in bytes.
const ROOM: usize = 128 << 10;
/// Folders below the root of the storage.
const ACCOUNTS: &str = "accounts";
const CERTIFICATES: &str = "certificates";
/// What failed and what is next.
const COURSE: &str = "course.json";

/// A folder of certificates.
#[derive(Debug, Clone)]
pub struct Storage {
    root: PathBuf,
}

/// Held while this process orders; given back when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Storage {
    /// Of `state_dir`, which need not exist: what only reads finds nothing then.
    pub fn at(state_dir: &Path) -> Self {
        Self { root: state_dir.join("acme") }
    }

    /// Makes the folders.
    ///
    /// # Errors
    /// A folder cannot be made or belongs to somebody else: a sentence that names it.
    pub fn prepare(&self) -> Result<(), String> {
        let folders = [self.root.clone(), self.root.join(ACCOUNTS), self.root.join(CERTIFICATES)];
        let made = (|| {
            if let Some(state_dir) = self.root.parent().filter(|folder| !folder.exists()) {
                make_folder(state_dir)?;
            }
            folders.iter().try_for_each(|folder| make_folder(folder))
        })();
        made.map_err(|error| {
            format!(
                "certificates cannot be kept in {}: {error}; make that folder writable for the server's user, \
                 or set state_dir to one that is",
                self.root.display()
            )
        })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The lock, if nobody else has it.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn try_lock(&self) -> io::Result<Option<Lock>> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = file.open(self.root.join("lock"))?;
        belong(&file, &self.root)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// When a certificate was last put here or taken away; `None`: there is no folder.
    pub fn changed(&self) -> Option<SystemTime> {
        fs::metadata(self.root.join(CERTIFICATES)).and_then(|folder| folder.modified()).ok()
    }

    /// Names and contents of all certificates, in the order of their names. What cannot be read is left out and logged.
    pub fn certificates(&self) -> Vec<(String, Vec<u8>)> {
        let Ok(folder) = fs::read_dir(self.root.join(CERTIFICATES)) else { return Vec::new() };
        let paths = folder.filter_map(|entry| Some(entry.ok()?.path()));
        let mut paths: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|end| end == "pem")).collect();
        paths.sort();
        let read = |path: PathBuf| match read_bounded(&path) {
            Ok(bytes) => Some((path.file_stem()?.to_str()?.to_owned(), bytes)),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a certificate cannot be read");
                None
            }
        };
        paths.into_iter().filter_map(read).collect()
    }

    /// Puts a certificate in the place of the one of this name.
    ///
    /// # Errors
    /// The disk is full, or no longer ours; the old one is untouched then.
    pub fn put_certificate(&self, name: &str, pem: &[u8]) -> io::Result<()> {
        self.replace(&self.root.join(CERTIFICATES).join(format!("{name}.pem")), pem)
    }

    /// The account at an authority, as it was stored.
    pub fn account(&self, authority: &str) -> Option<Vec<u8>> {
        read_bounded(&self.account_path(authority)).ok()
    }

    /// Keeps an account; `None` forgets it.
    ///
    /// # Errors
    /// As [`Storage::put_certificate`].
    pub fn put_account(&self, authority: &str, account: Option<&[u8]>) -> io::Result<()> {
        let path = self.account_path(authority);
        match account {
            Some(account) => self.replace(&path, account),
            None => fs::remove_file(path),
        }
    }

    fn account_path(&self, authority: &str) -> PathBuf {
        self.root.join(ACCOUNTS).join(format!("{}.json", file_name(authority)))
    }

    /// Whether there is room for what comes of an order.
    ///
    /// # Errors
    /// The disk is full, read-only or not ours.
    pub fn has_room(&self) -> io::Result<()> {
        let probe = self.root.join(CERTIFICATES).join("room");
        let written = self.replace(&probe, &vec![b' '; ROOM]);
        let _ = fs::remove_file(&probe);
        written
    }

    /// What was kept of failures and renewals.
    pub fn course(&self) -> Option<Vec<u8>> {
        read_bounded(&self.root.join(COURSE)).ok()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// As [`Storage::put_certificate`].
    pub fn put_course(&self, course: &[u8]) -> io::Result<()> {
        self.replace(&self.root.join(COURSE), course)
    }

    /// Written beside, made durable, renamed, and the rename made durable.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        // Whoever writes holds the lock or is the only one to write this name: a name by process is enough.
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = (|| {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(FILE_MODE).open(&beside)?;
            file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
            belong(&file, folder)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, path)?;
            File::open(folder)?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }
}

/// What may stand in a file's name: letters, digits, dots; the rest becomes `-`, a star `_`.
pub(crate) fn file_name(text: &str) -> String {
    let text = text.strip_prefix("https://").unwrap_or(text);
    let kept = text.chars().map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' => c.to_ascii_lowercase(),
        '*' => '_',
        _ => '-',
    });
    kept.take(200).collect()
}

/// What root writes for a server of another user (`sudo bandstand cert renew`) is that user's.
fn belong(file: &File, folder: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(folder)?;
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
    let found = fs::metadata(path)?;
    let us = rustix::process::geteuid();
    if found.uid() != us.as_raw() && !us.is_root() {
        return Err(io::Error::other(format!("{} belongs to another user", path.display())));
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(FOLDER_MODE))?;
    }
    Ok(())
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A folder of its own, gone with the value.
    pub(crate) struct Folder(pub(crate) PathBuf);

    impl Folder {
        pub(crate) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path =
                std::env::temp_dir().join(format!("bandstand-storage-{}-{number}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn only_the_owner_reads() {
        let folder = Folder::new();
        let state_dir = folder.0.join("deep/state");
        let storage = Storage::at(&state_dir);
        storage.prepare().unwrap();
        storage.put_certificate("shop.test", b"key").unwrap();
        storage.put_account("https://ca.test:14000/dir", Some(b"{}")).unwrap();
        storage.put_course(b"{}").unwrap();
        drop(storage.try_lock().unwrap().unwrap());
        let root = state_dir.join("acme");
        for (path, wanted) in [
            ("", FOLDER_MODE),
            ("accounts", FOLDER_MODE),
            ("certificates", FOLDER_MODE),
            ("certificates/shop.test.pem", FILE_MODE),
            ("accounts/ca.test-14000-dir.json", FILE_MODE),
            ("course.json", FILE_MODE),
            ("lock", FILE_MODE),
        ] {
            assert_eq!(mode(&root.join(path)), wanted, "{path}");
        }
        assert_eq!(mode(&state_dir), FOLDER_MODE);
    }

    #[test]
    fn a_folder_that_others_could_read_is_closed() {
        let folder = Folder::new();
        let root = folder.0.join("acme");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        Storage::at(&folder.0).prepare().unwrap();
        assert_eq!(mode(&root), FOLDER_MODE);
        assert_ne!(mode(&folder.0), 0, "a state_dir that was there keeps its mode");
    }

    /// Whoever has the old file open reads the old one to its end, and nothing is left beside.
    #[test]
    fn a_file_is_the_old_one_or_the_new_one() {
        let folder = Folder::new();
        let storage = Storage::at(&folder.0);
        storage.prepare().unwrap();
        storage.put_certificate("a", b"old").unwrap();
        let path = folder.0.join("acme/certificates/a.pem");
        let mut open = File::open(&path).unwrap();
        storage.put_certificate("a", b"newer").unwrap();
        let mut seen = String::new();
        open.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "old");
        assert_eq!(storage.certificates(), [("a".to_owned(), b"newer".to_vec())]);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside");
    }

    /// A server that has become another user reads what root has renewed for it.
    #[test]
    fn what_root_writes_belongs_to_whose_folder_it_is() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = Folder::new();
        let storage = Storage::at(&folder.0);
        storage.prepare().unwrap();
        for path in ["acme", "acme/certificates", "acme/accounts"] {
            std::os::unix::fs::chown(folder.0.join(path), Some(4242), Some(4243)).unwrap();
        }
        drop(storage.try_lock().unwrap());
        storage.put_certificate("a", b"key").unwrap();
        storage.put_course(b"{}").unwrap();
        for path in ["acme/lock", "acme/certificates/a.pem", "acme/course.json"] {
            let found = fs::metadata(folder.0.join(path)).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (4242, 4243, FILE_MODE), "{path}");
        }
    }

    #[test]
    fn room_is_looked_for_and_given_back() {
        let folder = Folder::new();
        let storage = Storage::at(&folder.0);
        assert!(storage.has_room().is_err(), "no folder");
        storage.prepare().unwrap();
        storage.has_room().unwrap();
        assert_eq!(fs::read_dir(folder.0.join("acme/certificates")).unwrap().count(), 0);
    }

    /// Row 67: a write that fails leaves the old file, and nothing else.
    #[test]
    fn row_67_a_write_that_fails_changes_nothing() {
        let folder = Folder::new();
        let storage = Storage::at(&folder.0);
        storage.prepare().unwrap();
        // A folder in the place of the file: everything up to the rename succeeds.
        let path = folder.0.join("acme/certificates/a.pem");
        fs::create_dir(&path).unwrap();
        assert!(storage.put_certificate("a", b"new").is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside");
    }

    #[test]
    fn one_lock_at_a_time() {
        let folder = Folder::new();
        let storage = Storage::at(&folder.0);
        storage.prepare().unwrap();
        let held = storage.try_lock().unwrap();
        assert!(held.is_some());
        // flock(2) is by open file: another descriptor of this process stands for another process.
        assert!(storage.try_lock().unwrap().is_none());
        drop(held);
        assert!(storage.try_lock().unwrap().is_some());
    }

    #[test]
    fn names_of_files() {
        for (text, wanted) in [
            ("shop.test", "shop.test"),
            ("*.shop.test", "_.shop.test"),
            ("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org-directory"),
            ("https://127.0.0.1:14000/dir", "127.0.0.1-14000-dir"),
            ("../../etc/passwd", "..-..-etc-passwd"),
        ] {
            assert_eq!(file_name(text), wanted);
        }
    }
}
