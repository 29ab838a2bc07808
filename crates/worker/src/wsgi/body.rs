//! What the app returned, read and sent.
//!
//! Owns how far an iterable may be read before something is sent: a list is there already; an app that says it does
//! not stream (Django's `streaming = False`) may be read to its end; from any other each item leaves before the next is
//! asked for (PEP 3333, "Buffering and Streaming"), because the app may wait for something in between.

use bandstand_wire::limits::CHUNK_MAX;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyList, PyTuple};

use super::file::{self, FileWrapper};
use super::response::{Flow, StartResponse};
use crate::convert::quoted;

/// Sends the body that the app returned.
///
/// # Errors
/// What the iterable raised, or what was wrong with it; how the answer then ends is the caller's.
pub(super) fn send(start: &Bound<'_, StartResponse>, iterable: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(list) = iterable.cast_exact::<PyList>() {
        return match list.len() {
            1 => send_one(start, &list.get_item(0)?),
            _ => send_all(start, list.iter().map(Ok).collect::<PyResult<_>>()?),
        };
    }
    if let Ok(tuple) = iterable.cast_exact::<PyTuple>() {
        return send_all(start, tuple.iter().collect());
    }
    if let Ok(wrapper) = iterable.cast_exact::<FileWrapper>()
        && start.try_borrow()?.answer.is_unsent()
        && let Some(slice) = file::slice(wrapper)
        && start.try_borrow_mut()?.answer.file(slice)
    {
        return Ok(());
    }
    let mut items = iterable
        .try_iter()
        .map_err(|_| PyTypeError::new_err(format!("the app returned no iterable: {}", quoted(iterable))))?;
    if is_not_streaming(iterable) {
        let mut held = Vec::new();
        let mut total = 0;
        for item in items.by_ref() {
            let item = item?;
            total += bytes(&item)?.len();
            held.push(item);
            if total > CHUNK_MAX {
                break;
            }
        }
        if total <= CHUNK_MAX {
            return send_all(start, held);
        }
        let py = start.py();
        for item in held {
            start.try_borrow_mut()?.answer.chunk(py, bytes(&item)?)?;
        }
    }
    stream(start, items)
}

fn send_one(start: &Bound<'_, StartResponse>, item: &Bound<'_, PyAny>) -> PyResult<()> {
    let body = bytes(item)?;
    let answer = &mut start.try_borrow_mut()?.answer;
    if body.len() <= CHUNK_MAX {
        return answer.whole(start.py(), &[body]);
    }
    answer.chunk_of(start.py(), body, Some(body.len() as u64))?;
    answer.end(start.py())
}

/// All items are at hand.
fn send_all(start: &Bound<'_, StartResponse>, items: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
    let pieces: Vec<&[u8]> = items.iter().map(bytes).collect::<PyResult<_>>()?;
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    let answer = &mut start.try_borrow_mut()?.answer;
    if total <= CHUNK_MAX {
        return answer.whole(start.py(), &pieces);
    }
    for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
        if answer.chunk_of(start.py(), piece, Some(total as u64))? == Flow::Stop {
            break;
        }
    }
    answer.end(start.py())
}

/// Each item leaves before the next is asked for. The answer is not borrowed meanwhile: the app may call it.
fn stream<'py>(
    start: &Bound<'py, StartResponse>,
    items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
) -> PyResult<()> {
    for item in items {
        let item = item?;
        let body = bytes(&item)?;
        if !body.is_empty() && answer(start)?.answer.chunk(start.py(), body)? == Flow::Stop {
            break;
        }
    }
    answer(start)?.answer.end(start.py())
}

fn answer<'py>(start: &Bound<'py, StartResponse>) -> PyResult<PyRefMut<'py, StartResponse>> {
    Ok(start.try_borrow_mut()?)
}

fn bytes<'a>(item: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    match item.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes()),
        Err(_) => Err(PyTypeError::new_err(format!("the app's iterable gave {}, not bytes", quoted(item)))),
    }
}

/// Django's responses say whether their parts are made while they are sent.
fn is_not_streaming(iterable: &Bound<'_, PyAny>) -> bool {
    let Ok(Some(streaming)) = iterable.getattr_opt(intern!(iterable.py(), "streaming")) else { return false };
    streaming.cast_exact::<PyBool>().is_ok_and(|streaming| !streaming.is_true())
}
