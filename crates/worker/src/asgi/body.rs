//! The request's body as `receive` gives it out.
//!
//! Owns where the bytes come from: the request's frame, a file of the edge, or frames that are asked for piece by piece.
//! Invariant: at least one `http.request`, exactly one of them with `more_body` false; a streamed body never holds more
//! than was asked for.

use bandstand_wire::WireError;
use bandstand_wire::frame::Flags;
use bandstand_wire::limits::WINDOW;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::fd::OwnedFd;

use crate::exchange::Exchange;
use crate::slot::{Slot, Tail};

/// Bytes of one message from a file: one read from the page cache, below the size from which allocators ask the system.
const PIECE_BYTES: u64 = 64 * 1024;

/// What has not been given out yet.
pub(crate) enum Body {
    Inline(Py<PyBytes>),
    File {
        file: OwnedFd,
        at: u64,
        end: u64,
    },
    Stream(Slot),
    /// All of it has been given out.
    Given,
    /// The client broke it off.
    Broken,
}

impl Body {
    /// The whole body, may be empty.
    pub(crate) fn inline(bytes: Bound<'_, PyBytes>) -> Self {
        Self::Inline(bytes.unbind())
    }

    /// The first `length` bytes of a file.
    pub(crate) fn file(file: OwnedFd, length: u64) -> Self {
        Self::File { file, at: 0, end: length }
    }

    /// It comes in frames when it is asked for.
    pub(crate) fn stream() -> Self {
        Self::Stream(Slot::default())
    }

    /// The next piece, and whether more follows. `None`: wait for more of a stream, or there is nothing more.
    ///
    /// # Errors
    /// `OSError` when the file cannot be read.
    pub(super) fn next<'py>(
        &mut self,
        py: Python<'py>,
        exchange: &mut Exchange,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, bool)>> {
        let (bytes, more) = match self {
            Self::Given | Self::Broken => return Ok(None),
            Self::Inline(bytes) => (bytes.bind(py).clone(), false),
            Self::File { file, at, end } => {
                let length = (*end - *at).min(PIECE_BYTES);
                let bytes = PyBytes::new_with(py, length as usize, |into| read(file, *at, into))?;
                *at += length;
                (bytes, at < end)
            }
            Self::Stream(slot) => {
                let more = (WINDOW as u64).saturating_sub(slot.outstanding());
                let Some((bytes, tail)) = slot.take_body() else {
                    if slot.outstanding() == 0 {
                        slot.ask(more as u32);
                        exchange.want(more as u32);
                    }
                    return Ok(None);
                };
                if tail == Tail::Broken {
                    *self = Self::Broken;
                    return Ok(None);
                }
                if tail == Tail::Open && more >= WINDOW as u64 / 2 {
                    slot.ask(more as u32);
                    exchange.want(more as u32);
                }
                (PyBytes::new(py, &bytes), tail == Tail::Open)
            }
        };
        if !more {
            *self = Self::Given;
        }
        Ok(Some((bytes, more)))
    }

    /// A piece of a streamed body; dropped when nobody wants it any more.
    ///
    /// # Errors
    /// The edge sent what it may not.
    pub(super) fn receive(&mut self, flags: Flags, piece: &[u8]) -> Result<(), WireError> {
        match self {
            Self::Stream(slot) => slot.receive(flags, piece),
            _ => Ok(()),
        }
    }
}

fn read(file: &OwnedFd, mut at: u64, mut into: &mut [u8]) -> PyResult<()> {
    while !into.is_empty() {
        match rustix::io::pread(file, &mut *into, at) {
            Ok(0) => {
                return Err(PyOSError::new_err("the file with the request body is shorter than announced"));
            }
            Ok(n) => {
                at += n as u64;
                into = &mut into[n..];
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
    Ok(())
}
