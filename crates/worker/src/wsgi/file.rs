//! `wsgi.file_wrapper`: a file as an answer.
//!
//! Owns the decision whether the edge can read the file itself, from a descriptor, so that the worker is free at once.
//! That is so only for Python's own file objects, or objects whose `read` is plainly that of one (Django's `File`):
//! a `GzipFile` has a descriptor too, but what it reads is not what stands in the file.
//! Source: PEP 3333, "Optional Platform-Specific File Handling".

use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use rustix::fd::OwnedFd;
use rustix::fs::FileType;

use crate::descriptor::duplicate;

/// Iterates a file in blocks; when it is the app's whole answer, the edge may read the file itself.
#[pyclass(module = "bandstand._worker", subclass, dict, weakref)]
pub(crate) struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    #[pyo3(get)]
    blksize: isize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=8192))]
    fn new(filelike: Py<PyAny>, blksize: isize) -> Self {
        Self { filelike, blksize }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (filelike, blksize) = {
            let this = slf.try_borrow()?;
            (this.filelike.clone_ref(py), this.blksize)
        };
        let block = filelike.bind(py).call_method1(intern!(py, "read"), (blksize,))?;
        if block.is_truthy()? { Ok(block) } else { Err(PyStopIteration::new_err(())) }
    }

    /// Closes the file, if it can be closed.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let filelike = slf.try_borrow()?.filelike.clone_ref(py);
        if let Some(close) = filelike.bind(py).getattr_opt(intern!(py, "close"))? {
            close.call0()?;
        }
        Ok(())
    }
}

/// A part of a file, for the edge to send.
pub(crate) struct Slice {
    pub(crate) file: OwnedFd,
    /// Where the file object stands.
    pub(crate) offset: u64,
    /// Bytes from there to the end.
    pub(crate) length: u64,
}

/// The file behind a wrapper, from where it stands to its end. `None` when it has to be read through the object.
pub(crate) fn slice(wrapper: &Bound<'_, FileWrapper>) -> Option<Slice> {
    let py = wrapper.py();
    let filelike = wrapper.try_borrow().ok()?.filelike.clone_ref(py);
    let file = plain_file(filelike.bind(py)).ok()??;
    // The object's position, not the descriptor's: it may have read ahead.
    let offset: u64 = file.call_method0(intern!(py, "tell")).ok()?.extract().ok()?;
    let number: i32 = file.call_method0(intern!(py, "fileno")).ok()?.extract().ok()?;
    let file = duplicate(number).ok()?;
    let status = rustix::fs::fstat(&file).ok()?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return None;
    }
    let length = u64::try_from(status.st_size).ok()?.saturating_sub(offset);
    Some(Slice { file, offset, length })
}

/// The object of the `io` module that does the reading, if nothing stands between it and the app.
fn plain_file<'py>(filelike: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = filelike.py();
    let read = filelike.getattr(intern!(py, "read"))?;
    // `tempfile` wraps each method of its file.
    let read = read.getattr_opt(intern!(py, "__wrapped__"))?.unwrap_or(read);
    let Some(owner) = read.getattr_opt(intern!(py, "__self__"))? else { return Ok(None) };
    let io = py.import(intern!(py, "io"))?;
    for class in ["BufferedReader", "BufferedRandom", "FileIO"] {
        if owner.get_type().is(io.getattr(class)?) {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}
