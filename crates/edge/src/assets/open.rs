//! From a relative path to an open regular file, never outside its root.
//!
//! Owns the root's directory descriptor and the opening beneath it. Leaves the spelling of paths to `semantics::path`,
//! which has already refused `..`; the kernel refuses what that cannot see, symbolic links.
//! Invariant: `open_file` gives a regular file whose every step of resolution stayed beneath the root
//! (`openat2(2)`, RESOLVE_BENEATH), and never blocks on a FIFO. Hard links cannot be told from files; the kernel's
//! `fs.protected_hardlinks` guards against them. An absolute link is refused even if it points back into the root.

use super::every::EverySecond;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Times an interrupted or raced `openat2` is tried again before it counts as missing.
const TRIES: u32 = 8;

/// What identifies one state of one file; any write, replacement or change of rights changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    /// Bytes.
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) modified_s: i64,
    /// Nanoseconds past `modified_s`, 0–999,999,999.
    pub(super) modified_ns: i64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.size(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }

    /// A file name that no other state of any file has.
    pub(super) fn name(&self) -> String {
        let Stamp { device, inode, changed: (changed_s, changed_ns), size, modified_s, modified_ns } = self;
        format!("{device:x}-{inode:x}-{changed_s:x}.{changed_ns:x}-{modified_s:x}.{modified_ns:x}-{size:x}")
    }

    /// When it was last written; `None` before 1970.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        let since =
            Duration::new(u64::try_from(self.modified_s).ok()?, u32::try_from(self.modified_ns).ok()?);
        UNIX_EPOCH.checked_add(since)
    }

    /// Whether nothing has touched the file for so long; no if it is of the future.
    pub(super) fn rests(&self, now: SystemTime, long: Duration) -> bool {
        let (seconds, nanos) = self.changed;
        let changed = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
        let changed =
            changed.and_then(|(seconds, nanos)| UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)));
        changed.and_then(|changed| now.duration_since(changed).ok()).is_some_and(|age| age >= long)
    }

    /// The stamp of an open file as it is now.
    pub(super) fn again(file: &File) -> Option<Stamp> {
        file.metadata().ok().map(|metadata| Stamp::of(&metadata))
    }
}

/// A regular file, open for reading, and its state at that moment.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) stamp: Stamp,
}

/// Why there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    /// Not there, not readable, not regular or not beneath the root: 404, without telling which.
    NotFound,
    /// The machine has no descriptors or memory left, or the disk fails: 503.
    Unavailable,
}

impl From<Errno> for Miss {
    fn from(error: Errno) -> Miss {
        match error {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO => Miss::Unavailable,
            _ => Miss::NotFound,
        }
    }
}

/// A root's directory. It may be missing at first (media before the first upload) and may be exchanged for another one
/// under the same path (deploys that turn a link): both are noticed within a second of the next look.
#[derive(Debug)]
pub(super) struct RootDir {
    path: PathBuf,
    held: Mutex<Option<Arc<Held>>>,
    looks: EverySecond,
    generation: AtomicU64,
}

#[derive(Debug)]
struct Held {
    fd: OwnedFd,
    identity: (u64, u64),
}

impl RootDir {
    /// Opens the directory; one that is not there yet is no error.
    ///
    /// # Errors
    /// It is there and cannot be read, or is no directory.
    pub(super) fn open(path: PathBuf) -> Result<RootDir, Errno> {
        let held = match hold(&path) {
            Ok(held) => Some(Arc::new(held)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        Ok(RootDir {
            path,
            held: Mutex::new(held),
            looks: EverySecond::never(),
            generation: AtomicU64::new(0),
        })
    }

    /// True when there is no directory under the path.
    pub(super) fn is_missing(&self) -> bool {
        self.current().is_none()
    }

    /// Grows by one each time the path came to mean another directory.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Looks, at most once a second, whether the path still means the directory we hold. While it means none, the old one
    /// stays: between two deploys a page should not lose its style.
    pub(super) fn refresh(&self, now_ms: u64) {
        if !self.looks.due(now_ms) {
            return;
        }
        let Ok(metadata) = std::fs::metadata(&self.path) else { return };
        let identity = (metadata.dev(), metadata.ino());
        if self.current().is_some_and(|held| held.identity == identity) {
            return;
        }
        if let Ok(held) = hold(&self.path) {
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(held));
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Opens `relative`, as `semantics::path::static_path` gives it.
    pub(super) fn open_file(&self, relative: &[u8]) -> Result<Opened, Miss> {
        let held = self.current().ok_or(Miss::NotFound)?;
        let file = File::from(open_beneath(held.fd.as_fd(), relative)?);
        let metadata = file.metadata().map_err(|_| Miss::Unavailable)?;
        if !metadata.is_file() {
            return Err(Miss::NotFound);
        }
        Ok(Opened { stamp: Stamp::of(&metadata), file })
    }

    fn current(&self) -> Option<Arc<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn hold(path: &Path) -> Result<Held, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(CWD, path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    #[allow(clippy::unnecessary_cast)] // the width of st_dev differs between systems
    Ok(Held { fd, identity: (stat.st_dev as u64, stat.st_ino as u64) })
}

/// Without NONBLOCK the opening of a FIFO waits for a writer, and with it a thread of the edge.
fn file_flags() -> OFlags {
    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY
}

#[cfg(target_os = "linux")]
fn open_beneath(root: BorrowedFd<'_>, relative: &[u8]) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        result = openat2(root, relative, file_flags(), Mode::empty(), resolve);
        match result {
            // AGAIN: somebody renamed a directory while the kernel walked it.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // NOSYS: before Linux 5.6. PERM: old container filters answer so to calls they do not know.
            Err(Errno::NOSYS | Errno::PERM) => return open_step_by_step(root, relative),
            _ => break,
        }
    }
    result
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(root: BorrowedFd<'_>, relative: &[u8]) -> Result<OwnedFd, Errno> {
    open_step_by_step(root, relative)
}

/// The way without `openat2`: name by name, no link followed anywhere. Stricter: links within the root are refused too.
fn open_step_by_step(root: BorrowedFd<'_>, relative: &[u8]) -> Result<OwnedFd, Errno> {
    let mut names = relative.split(|&byte| byte == b'/').peekable();
    let mut directory: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::NOENT);
        }
        let at = directory.as_ref().map_or(root, AsFd::as_fd);
        if names.peek().is_none() {
            return openat(at, name, file_flags() | OFlags::NOFOLLOW, Mode::empty());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        directory = Some(openat(at, name, flags, Mode::empty())?);
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_directories_and_fifos() {
        let folder = Folder::new();
        folder.write("root/a/file.txt", "inside");
        folder.write("secret.txt", "outside");
        let root = folder.path().join("root");
        symlink("a/file.txt", root.join("beneath")).unwrap();
        symlink("../secret.txt", root.join("climbs")).unwrap();
        symlink(folder.path().join("secret.txt"), root.join("absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        rustix::fs::mknodat(CWD, root.join("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        let dir = RootDir::open(root).unwrap();
        for (name, by_openat2, by_steps) in [
            ("a/file.txt", true, true),
            ("beneath", true, false),
            ("climbs", false, false),
            ("absolute", false, false),
            ("up/secret.txt", false, false),
            ("up/root/a/file.txt", false, false),
            ("loop", false, false),
            ("magic/etc/passwd", false, false),
            ("fifo", false, true),
            ("a", false, true),
            ("a/file.txt/more", false, false),
            ("none", false, false),
            ("../secret.txt", false, false),
            ("a/../a/file.txt", true, false),
        ] {
            assert_eq!(dir.open_file(name.as_bytes()).is_ok(), by_openat2, "{name}");
            // The slow way opens FIFOs and directories as well (without waiting); `open_file` then looks at the kind.
            let held = dir.current().unwrap();
            assert_eq!(open_step_by_step(held.fd.as_fd(), name.as_bytes()).is_ok(), by_steps, "{name}");
        }
    }

    #[test]
    fn errors_become_404_but_for_a_machine_in_need() {
        for (error, expected) in [
            (Errno::NOENT, Miss::NotFound),
            (Errno::ACCESS, Miss::NotFound),
            (Errno::XDEV, Miss::NotFound),
            (Errno::LOOP, Miss::NotFound),
            (Errno::NOTDIR, Miss::NotFound),
            (Errno::NAMETOOLONG, Miss::NotFound),
            (Errno::NXIO, Miss::NotFound),
            (Errno::MFILE, Miss::Unavailable),
            (Errno::NFILE, Miss::Unavailable),
            (Errno::NOMEM, Miss::Unavailable),
            (Errno::IO, Miss::Unavailable),
        ] {
            assert_eq!(Miss::from(error), expected, "{error:?}");
        }
    }

    #[test]
    fn a_root_may_come_later_and_be_exchanged() {
        let folder = Folder::new();
        let path = folder.path().join("current");
        let dir = RootDir::open(path.clone()).unwrap();
        assert!(dir.is_missing());
        assert_eq!(dir.open_file(b"x").unwrap_err(), Miss::NotFound);
        folder.write("one/x", "1");
        folder.write("two/x", "22");
        symlink("one", &path).unwrap();
        dir.refresh(1_000);
        assert_eq!((dir.open_file(b"x").unwrap().stamp.size, dir.generation()), (1, 1));
        std::fs::remove_file(&path).unwrap();
        dir.refresh(2_000);
        assert_eq!((dir.open_file(b"x").unwrap().stamp.size, dir.generation()), (1, 1));
        symlink("two", &path).unwrap();
        dir.refresh(2_500);
        assert_eq!(dir.generation(), 1, "not looked at twice within a second");
        dir.refresh(3_000);
        assert_eq!((dir.open_file(b"x").unwrap().stamp.size, dir.generation()), (2, 2));
    }
}
