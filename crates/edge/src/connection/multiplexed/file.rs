//! Pieces of files in memory.
//!
//! Owns reading without holding up the reactor: what the page cache has is read at once, anything else on the blocking pool.
//! Streams of many share one socket, so that no file can be sent past us as HTTP/1 does it.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};

/// Some of the file from `offset` on, at most `most` bytes; empty where it ends.
///
/// # Errors
/// The disk failed.
pub(super) async fn read(file: &Arc<File>, offset: u64, most: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; most];
    let slices = &mut [IoSliceMut::new(&mut bytes)];
    let read = match rustix::io::preadv2(file, slices, offset, ReadWriteFlags::NOWAIT) {
        Ok(read) => read,
        Err(Errno::AGAIN) => return read_blocking(file.clone(), offset, bytes).await,
        // File systems that cannot tell are read as they are: tmpfs on old kernels, mostly.
        Err(_) => file.read_at(&mut bytes, offset)?,
    };
    bytes.truncate(read);
    Ok(bytes.into())
}

async fn read_blocking(file: Arc<File>, offset: u64, mut bytes: Vec<u8>) -> io::Result<Bytes> {
    let read = move || {
        let read = file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes.into())
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}
