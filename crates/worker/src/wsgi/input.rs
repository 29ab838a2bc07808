//! `wsgi.input`: the request's body as a file to read.
//!
//! Owns where the bytes come from (the request's frame, a file of the edge, frames that follow) and how they are cut.
//! Invariant: a read returns less than it was asked for only at the end of the body; a body that the client broke off
//! raises an `OSError`, never ends as if it were complete (PEP 3333, "Input and Error Streams").

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bandstand_wire::limits::WINDOW;
use bandstand_wire::{Flags, Header, Kind, board};
use pyo3::exceptions::{PyConnectionResetError, PyOSError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use rustix::fd::OwnedFd;

use crate::channel::Channel;
use crate::exchange::Exchange;
use crate::slot::Tail;

/// How much is read ahead from a file for lines and small reads.
const BLOCK_BYTES: usize = 64 * 1024;
/// Reads from a file that take about as long as a switch of threads let other threads run.
const DETACH_BYTES: usize = 16 * 1024;

/// The body of one request.
#[pyclass(module = "bandstand._worker")]
pub(crate) struct Input {
    /// Bytes at hand: `buffer[start..]`.
    buffer: Vec<u8>,
    start: usize,
    rest: Rest,
}

/// What is not in the buffer yet.
enum Rest {
    Nothing,
    File {
        file: OwnedFd,
        at: u64,
        end: u64,
    },
    Stream(Stream),
    /// The client broke off; every further read says so.
    Broken,
}

struct Stream {
    channel: Arc<Channel>,
    word: &'static AtomicU64,
    place: u16,
    id: u64,
}

impl Input {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self { buffer: Vec::new(), start: 0, rest: Rest::Nothing }
    }

    /// The body is `buffer[start..]`.
    pub(crate) fn memory(buffer: Vec<u8>, start: usize) -> Self {
        Self { buffer, start, rest: Rest::Nothing }
    }

    /// The body is the first `length` bytes of a file.
    pub(crate) fn file(file: OwnedFd, length: u64) -> Self {
        Self { buffer: Vec::new(), start: 0, rest: Rest::File { file, at: 0, end: length } }
    }

    /// The body comes in frames when it is asked for.
    pub(crate) fn stream(exchange: &Exchange) -> Self {
        let stream = Stream {
            channel: Arc::clone(exchange.channel()),
            word: exchange.word(),
            place: exchange.place(),
            id: exchange.id(),
        };
        Self { buffer: Vec::new(), start: 0, rest: Rest::Stream(stream) }
    }
}

#[pymethods]
impl Input {
    /// Up to `size` bytes, all that is left without it.
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let wanted = limit(size);
        if self.held().is_empty()
            && let Rest::File { file, at, end } = &mut self.rest
        {
            let length = (*end - *at).min(wanted as u64);
            let bytes =
                PyBytes::new_with(py, usize::try_from(length)?, |into| read_file(py, file, *at, into))?;
            *at += length;
            return Ok(bytes);
        }
        while self.held().len() < wanted && self.fill(py, wanted)? {}
        Ok(self.take(py, wanted))
    }

    /// One line with its end, at most `size` bytes of it.
    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let wanted = limit(size);
        let mut searched = 0;
        loop {
            let held = self.held();
            if let Some(found) = held[searched..].iter().position(|&byte| byte == b'\n') {
                return Ok(self.take(py, wanted.min(searched + found + 1)));
            }
            searched = held.len();
            if searched >= wanted || !self.fill(py, BLOCK_BYTES)? {
                return Ok(self.take(py, wanted));
            }
        }
    }

    /// Lines, until about `hint` bytes have been read.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&mut self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let wanted = hint.filter(|&hint| hint > 0).map_or(usize::MAX, isize::unsigned_abs);
        let lines = PyList::empty(py);
        let mut total = 0;
        while total < wanted {
            let line = self.readline(py, None)?;
            if line.as_bytes().is_empty() {
                break;
            }
            total += line.as_bytes().len();
            lines.append(line)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let line = self.readline(py, None)?;
        if line.as_bytes().is_empty() { Err(PyStopIteration::new_err(())) } else { Ok(line) }
    }
}

impl Input {
    fn held(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn take<'py>(&mut self, py: Python<'py>, wanted: usize) -> Bound<'py, PyBytes> {
        let taken = wanted.min(self.held().len());
        let bytes = PyBytes::new(py, &self.held()[..taken]);
        self.start += taken;
        if self.start == self.buffer.len() {
            self.buffer = Vec::new();
            self.start = 0;
        }
        bytes
    }

    /// Gets more into the buffer. False at the end of the body.
    fn fill(&mut self, py: Python<'_>, wanted: usize) -> PyResult<bool> {
        match &mut self.rest {
            Rest::Nothing => Ok(false),
            Rest::Broken => Err(broken()),
            Rest::File { file, at, end } => {
                let length = (*end - *at).min(wanted.max(BLOCK_BYTES) as u64);
                let before = self.buffer.len();
                self.buffer.drain(..self.start);
                let kept = before - self.start;
                self.start = 0;
                self.buffer.resize(kept + usize::try_from(length)?, 0);
                read_file(py, file, *at, &mut self.buffer[kept..])?;
                *at += length;
                Ok(length > 0)
            }
            Rest::Stream(stream) => {
                let (bytes, tail) = py.detach(|| stream.receive()).ok_or_else(broken)?;
                self.buffer.drain(..self.start);
                self.start = 0;
                self.buffer.extend_from_slice(&bytes);
                match tail {
                    Tail::Open => {}
                    Tail::Ended => self.rest = Rest::Nothing,
                    Tail::Broken => {
                        self.rest = Rest::Broken;
                        return Err(broken());
                    }
                }
                Ok(!bytes.is_empty())
            }
        }
    }
}

impl Stream {
    /// Asks for more and waits until some has come. `None` when the client or the edge is gone.
    fn receive(&self) -> Option<(Vec<u8>, Tail)> {
        let more = self.channel.slot(self.id, |slot| {
            let more = (WINDOW as u64).saturating_sub(slot.outstanding());
            // In steps of half a window: few frames, and the next half travels while this one is being read.
            let more = if more >= WINDOW as u64 / 2 { more as u32 } else { 0 };
            slot.ask(more);
            more
        })?;
        if more > 0 {
            let header = Header { kind: Kind::Want, flags: Flags::NONE, place: self.place, id: self.id };
            self.channel.append(|out| header.write(&more.to_le_bytes(), out));
        }
        let word = self.word;
        self.channel.wait(self.id, || board::is_cancelled(word), crate::slot::Slot::take_body)
    }
}

fn limit(size: Option<isize>) -> usize {
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX)
}

fn read_file(py: Python<'_>, file: &OwnedFd, at: u64, into: &mut [u8]) -> PyResult<()> {
    let read = if into.len() >= DETACH_BYTES {
        py.detach(|| pread_all(file, at, into))
    } else {
        pread_all(file, at, into)
    };
    match read {
        Ok(true) => Ok(()),
        Ok(false) => Err(PyOSError::new_err("the file with the request body is shorter than announced")),
        Err(error) => Err(std::io::Error::from(error).into()),
    }
}

fn pread_all(file: &OwnedFd, mut at: u64, mut into: &mut [u8]) -> Result<bool, rustix::io::Errno> {
    while !into.is_empty() {
        match rustix::io::pread(file, &mut *into, at) {
            Ok(0) => return Ok(false),
            Ok(n) => {
                at += n as u64;
                into = &mut into[n..];
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn broken() -> PyErr {
    PyConnectionResetError::new_err("the client broke off the request body")
}
