//! Messages of an app, read and checked before anything is locked or sent.
//!
//! Owns types, defaults and ranges of each key (ASGI HTTP 2.5, extensions); whether a message may come now is decided in
//! `answer` and `websocket`. Invariant: a message that is refused has changed nothing.

use bandstand_wire::limits::CLOSE_REASON_MAX;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyString};

use crate::convert::quoted;
use crate::wsgi::head::Head;

/// What an app sends in an HTTP cycle.
pub(super) enum HttpMessage<'py> {
    Start { head: Head, trailers: bool },
    Body { bytes: Bound<'py, PyBytes>, more: bool },
    Trailers { head: Head, more: bool },
    EarlyHint { head: Head },
    Path(std::path::PathBuf),
    File { file: Bound<'py, PyAny>, offset: Option<u64>, count: Option<u64>, more: bool },
}

/// What an app sends in a WebSocket cycle.
pub(super) enum WebSocketMessage<'py> {
    Accept(Head),
    Send {
        bytes: Bound<'py, PyBytes>,
        text: bool,
    },
    Close {
        code: u16,
        reason: String,
    },
    /// The answer that denies the handshake.
    Denial(HttpMessage<'py>),
}

/// The message as a dict, and its type.
///
/// # Errors
/// `TypeError` when it is none, or has none.
pub(super) fn read<'a, 'py>(
    message: &'a Bound<'py, PyAny>,
) -> PyResult<(&'a Bound<'py, PyDict>, Bound<'py, PyString>)> {
    let dict = message
        .cast::<PyDict>()
        .map_err(|_| PyTypeError::new_err(format!("a message must be a dict, not {}", quoted(message))))?;
    let kind = dict
        .get_item(intern!(dict.py(), "type"))?
        .and_then(|kind| kind.cast_into::<PyString>().ok())
        .ok_or_else(|| PyTypeError::new_err(format!("a message must have a type: {}", quoted(message))))?;
    Ok((dict, kind))
}

impl<'py> HttpMessage<'py> {
    /// # Errors
    /// `ValueError` or `TypeError`, with what is wrong, for the app.
    pub(super) fn parse(kind: &str, message: &Bound<'py, PyDict>) -> PyResult<Self> {
        Ok(match kind {
            "http.response.body" => Self::body(message)?,
            "http.response.start" => {
                Self::Start { head: start(message)?, trailers: flag(message, "trailers")? }
            }
            "http.response.trailers" => {
                Self::Trailers { head: fields(message, 200)?, more: flag(message, "more_trailers")? }
            }
            "http.response.early_hint" => Self::EarlyHint { head: early_hint(message)? },
            "http.response.pathsend" => Self::Path(required(message, "path")?.extract()?),
            "http.response.zerocopysend" => Self::File {
                file: required(message, "file")?,
                offset: number(message, "offset")?,
                count: number(message, "count")?,
                more: flag(message, "more_body")?,
            },
            _ => return Err(unknown(kind)),
        })
    }

    fn body(message: &Bound<'py, PyDict>) -> PyResult<Self> {
        let py = message.py();
        let bytes = match message.get_item(intern!(py, "body"))? {
            Some(body) => contents(body)?,
            None => PyBytes::new(py, b""),
        };
        Ok(Self::Body { bytes, more: flag(message, "more_body")? })
    }
}

impl<'py> WebSocketMessage<'py> {
    /// # Errors
    /// As `HttpMessage::parse`.
    pub(super) fn parse(kind: &str, message: &Bound<'py, PyDict>) -> PyResult<Self> {
        Ok(match kind {
            "websocket.send" => Self::send(message)?,
            "websocket.accept" => Self::Accept(accept(message)?),
            "websocket.close" => Self::close(message)?,
            "websocket.http.response.start" => {
                Self::Denial(HttpMessage::Start { head: start(message)?, trailers: false })
            }
            "websocket.http.response.body" => Self::Denial(HttpMessage::body(message)?),
            _ => return Err(unknown(kind)),
        })
    }

    fn send(message: &Bound<'py, PyDict>) -> PyResult<Self> {
        let py = message.py();
        let some =
            |key| Ok::<_, PyErr>(message.get_item(key)?.filter(|value: &Bound<'_, PyAny>| !value.is_none()));
        match (some(intern!(py, "text"))?, some(intern!(py, "bytes"))?) {
            (Some(text), None) => {
                let text = text.cast_into::<PyString>().map_err(|error| {
                    PyTypeError::new_err(format!("text must be a str, not {}", quoted(&error.into_inner())))
                })?;
                // Lone surrogates have no form in UTF-8: an exception says so.
                Ok(Self::Send { bytes: text.encode_utf8()?, text: true })
            }
            (None, Some(bytes)) => Ok(Self::Send { bytes: contents(bytes)?, text: false }),
            _ => Err(PyValueError::new_err("websocket.send must have either text or bytes")),
        }
    }

    fn close(message: &Bound<'py, PyDict>) -> PyResult<Self> {
        let code = match message.get_item("code")?.filter(|code| !code.is_none()) {
            None => 1000,
            Some(code) => match code.extract::<u16>() {
                // An app that passes on what it was told; 1005 says that there was no code, 1006 that there was no close.
                Ok(1005 | 1006) => 1000,
                Ok(code @ (1000..=1003 | 1007..=1014 | 3000..=4999)) => code,
                _ => {
                    return Err(PyValueError::new_err(format!("{} is no code to close with", quoted(&code))));
                }
            },
        };
        let reason = match message.get_item("reason")?.filter(|reason| !reason.is_none()) {
            None => String::new(),
            Some(reason) => reason.extract::<String>()?,
        };
        Ok(Self::Close { code, reason: reason[..reason.floor_char_boundary(CLOSE_REASON_MAX)].to_owned() })
    }
}

fn start(message: &Bound<'_, PyDict>) -> PyResult<Head> {
    let status = required(message, "status")?;
    // An int, or what counts as one (`http.HTTPStatus`).
    let status =
        status.extract::<u16>().ok().filter(|status| (200..=999).contains(status)).ok_or_else(|| {
            PyValueError::new_err(format!("status must be a number from 200 to 999, not {}", quoted(&status)))
        })?;
    fields(message, status)
}

fn accept(message: &Bound<'_, PyDict>) -> PyResult<Head> {
    let mut head = fields(message, 101)?;
    let is = |name: &[u8], other: &[u8]| name.eq_ignore_ascii_case(other);
    if head.fields().any(|(name, _)| is(name, b"sec-websocket-protocol")) {
        return Err(PyValueError::new_err(
            "websocket.accept names the subprotocol in subprotocol, not in a sec-websocket-protocol header",
        ));
    }
    if head
        .fields()
        .any(|(name, _)| is(name, b"sec-websocket-accept") || is(name, b"sec-websocket-extensions"))
    {
        return Err(PyValueError::new_err(
            "the server negotiates sec-websocket-accept and -extensions itself",
        ));
    }
    if let Some(subprotocol) = message.get_item("subprotocol")?.filter(|value| !value.is_none()) {
        let subprotocol: String = subprotocol.extract()?;
        head.add_pair(b"sec-websocket-protocol", subprotocol.as_bytes())?;
    }
    Ok(head)
}

fn early_hint(message: &Bound<'_, PyDict>) -> PyResult<Head> {
    let mut head = Head::asgi(103, None)?;
    for link in required(message, "links")?.try_iter()? {
        head.add_pair(b"link", contents(link?)?.as_bytes())?;
    }
    Ok(head)
}

fn fields(message: &Bound<'_, PyDict>, status: u16) -> PyResult<Head> {
    Head::asgi(
        status,
        message.get_item(intern!(message.py(), "headers"))?.filter(|it| !it.is_none()).as_ref(),
    )
}

fn flag(message: &Bound<'_, PyDict>, key: &str) -> PyResult<bool> {
    let key = match key {
        "more_body" => intern!(message.py(), "more_body"),
        "trailers" => intern!(message.py(), "trailers"),
        _ => &PyString::new(message.py(), key),
    };
    message.get_item(key)?.map_or(Ok(false), |value| value.is_truthy())
}

fn number(message: &Bound<'_, PyDict>, key: &str) -> PyResult<Option<u64>> {
    message.get_item(key)?.filter(|value| !value.is_none()).map(|value| value.extract()).transpose()
}

fn required<'py>(message: &Bound<'py, PyDict>, key: &str) -> PyResult<Bound<'py, PyAny>> {
    message.get_item(key)?.ok_or_else(|| PyValueError::new_err(format!("{} has no {key}", quoted(message))))
}

/// Bytes as they are; what may change later (bytearray, memoryview) is copied.
fn contents(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyBytes>> {
    let value = match value.cast_into::<PyBytes>() {
        Ok(bytes) => return Ok(bytes),
        Err(error) => error.into_inner(),
    };
    if let Ok(array) = value.cast::<PyByteArray>() {
        return Ok(PyBytes::new(value.py(), &array.to_vec()));
    }
    if value.is_instance_of::<PyMemoryView>() {
        let bytes = value.call_method0(intern!(value.py(), "tobytes"))?;
        return Ok(bytes.cast_into::<PyBytes>()?);
    }
    Err(PyTypeError::new_err(format!("expected bytes, not {}", quoted(&value))))
}

fn unknown(kind: &str) -> PyErr {
    PyValueError::new_err(format!("{kind:?} is not a message that this scope knows"))
}
