//! The board of this worker, mapped: one shared word for each place.
//!
//! Owns the mapping; what a word means is `bandstand_wire::board`. The memory stays mapped for the life of the process.
//! Invariant: the edge may change a word at any time, so words are only ever touched as atomics.

use std::ptr;
use std::sync::atomic::AtomicU64;

use bandstand_wire::board::{BOARD_BYTES, STRIDE_WORDS};
use bandstand_wire::limits::PLACES;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// The words of all places.
#[derive(Clone, Copy)]
pub(crate) struct Board(&'static [AtomicU64]);

impl Board {
    /// Maps the memory that the edge handed down.
    ///
    /// # Errors
    /// `INVAL` when it is smaller than a board; what `mmap` says otherwise.
    pub(crate) fn map(memory: &OwnedFd) -> Result<Self, Errno> {
        if rustix::fs::fstat(memory)?.st_size < BOARD_BYTES as i64 {
            return Err(Errno::INVAL);
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping of a fresh address range; it overlaps nothing.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), BOARD_BYTES, access, MapFlags::SHARED, memory, 0)? };
        // SAFETY: the mapping is page-aligned, BOARD_BYTES long, never unmapped, and any bytes are a valid u64; both
        // sides use atomics only. The edge keeps the file at its size (it made it, and it is sealed or unlinked).
        Ok(Self(unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), PLACES * STRIDE_WORDS) }))
    }

    /// The word of a place; `place < PLACES` is checked by the frame decoder, more wraps around.
    pub(crate) fn word(&self, place: u16) -> &'static AtomicU64 {
        &self.0[usize::from(place) % PLACES * STRIDE_WORDS]
    }
}
