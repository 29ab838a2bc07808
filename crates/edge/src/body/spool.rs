//! Memory first, then an unlinked file.
//!
//! Owns a temporary file without a name (`O_TMPFILE`, else created and unlinked at once): nothing is left behind, however
//! the process ends. All disk work is on the blocking pool. A full disk is an error of this one exchange.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use tokio::sync::Semaphore;

/// Bytes read back at once.
pub(crate) const READ_BYTES: u64 = 256 * 1024;

/// Files that are worked on at once, of all clients: a disk is no faster for more, and each thread that has once held a body keeps
/// megabytes of the allocator's.
static DISK: Semaphore = Semaphore::const_new(8);

/// A first-in, first-out file.
#[derive(Debug)]
pub(crate) struct Spool {
    file: Arc<File>,
    written: u64,
    read: u64,
}

impl Spool {
    /// An empty one in `directory`.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub(crate) async fn create(directory: &Path) -> io::Result<Self> {
        let directory: PathBuf = directory.to_owned();
        let file = blocking(move || open_unlinked(&directory)).await?;
        Ok(Self { file: Arc::new(file), written: 0, read: 0 })
    }

    /// Adds at the end. Consumes and returns itself, so that a dropped call cannot leave it half written.
    ///
    /// # Errors
    /// The disk is full or failed.
    pub(crate) async fn append(self, bytes: Vec<u8>) -> io::Result<Self> {
        let Self { file, written, read } = self;
        let length = bytes.len() as u64;
        let target = file.clone();
        blocking(move || target.write_all_at(&bytes, written)).await?;
        Ok(Self { file, written: written + length, read })
    }

    /// Takes from the front; `None` when everything was taken.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.read_some(READ_BYTES).await
    }

    /// The same, at most so many bytes.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn read_some(&mut self, most: u64) -> io::Result<Option<Vec<u8>>> {
        let count = (self.written - self.read).min(most);
        if count == 0 {
            return Ok(None);
        }
        let (file, at) = (self.file.clone(), self.read);
        let bytes = blocking(move || {
            let mut bytes = vec![0; count as usize];
            file.read_exact_at(&mut bytes, at).map(|()| bytes)
        })
        .await?;
        self.read += count;
        Ok(Some(bytes))
    }

    /// Bytes of the file. What was read stays in it: a reader that never catches up must not fill the disk.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.written
    }

    /// The file itself, to be read by somebody else from its start.
    pub(crate) fn into_file(self) -> (Arc<File>, u64) {
        (self.file, self.written)
    }
}

fn open_unlinked(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        // File systems without O_TMPFILE (overlayfs of old kernels, NFS).
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT) => {
            create_and_unlink(directory)
        }
        Err(error) => Err(error.into()),
    }
}

fn create_and_unlink(directory: &Path) -> io::Result<File> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    let path = directory.join(format!("bandstand-{:016x}", u64::from_le_bytes(seed)));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?);
    std::fs::remove_file(&path)?;
    Ok(file)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let _place = DISK.acquire().await.map_err(io::Error::other)?;
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_in_first_out_and_no_name() {
        let directory = std::env::temp_dir().join(format!("bandstand-spool-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut spool = Spool::create(&directory).await.unwrap();
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        spool = spool.append(b"hello ".to_vec()).await.unwrap();
        spool = spool.append(vec![b'x'; READ_BYTES as usize]).await.unwrap();
        let mut read = Vec::new();
        while let Some(bytes) = spool.read().await.unwrap() {
            read.extend(bytes);
        }
        assert_eq!(read.len(), 6 + READ_BYTES as usize);
        assert!(read.starts_with(b"hello xx"));
        assert_eq!(spool.file_bytes(), read.len() as u64);
        let made = create_and_unlink(&directory).unwrap();
        assert_eq!(made.metadata().unwrap().len(), 0);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        std::fs::remove_dir(&directory).unwrap();
        assert!(Spool::create(&directory.join("missing")).await.is_err());
    }
}
