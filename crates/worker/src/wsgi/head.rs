//! What an app passes to `start_response`, checked.
//!
//! Owns the rules for status line and fields: what is refused with an exception into the app, what is silently dropped.
//! Invariant: nothing that leaves here can end a line or a head early, whatever the app took from its users.
//! Source: PEP 3333 "The start_response() Callable"; RFC 9110 §5.5 (values), §5.6.2 (tokens), §7.6.1 (hop-by-hop).

use bandstand_wire::ResponseHead;
use bandstand_wire::head::FAILURE_FIELD;
use bandstand_wire::limits::{FIELDS_MAX, HEAD_MAX};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::environ::is_token;
use crate::convert::{push_latin1, quoted};

/// Longest reason phrase; the wire form has room for 65,535 bytes, nobody needs more than a line.
const REASON_MAX: usize = 1024;
/// Longest name of a field.
const NAME_MAX: usize = 1024;

/// Fields that are the edge's: they stop at each hop, or are its private signal.
const DROPPED: [&[u8]; 10] = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    FAILURE_FIELD,
];

/// Status and fields of an answer.
#[derive(Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    reason: Vec<u8>,
    bytes: Vec<u8>,
    /// Ends of name and value of each field in `bytes`.
    ends: Vec<(u32, u32)>,
    /// The app's Content-Length.
    pub(crate) declared: Option<u64>,
}

impl Head {
    /// # Errors
    /// `TypeError` or `ValueError`, with what is wrong, for the app.
    pub(crate) fn new(status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut head =
            Self { bytes: Vec::with_capacity(512), ends: Vec::with_capacity(16), ..Self::default() };
        head.set_status(status)?;
        head.set_fields(headers)?;
        Ok(head)
    }

    /// Only fields, for an interim answer.
    pub(crate) fn interim(status: u16, headers: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut head = Self { status, ..Self::default() };
        head.set_fields(headers)?;
        Ok(head)
    }

    /// As ASGI gives them: a number, and pairs of byte strings.
    pub(crate) fn asgi(status: u16, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let mut head =
            Self { status, bytes: Vec::with_capacity(512), ends: Vec::with_capacity(16), ..Self::default() };
        match headers.map(|headers| (headers, headers.cast::<PyList>())) {
            None => {}
            Some((_, Ok(list))) => list.iter().try_for_each(|item| head.add_bytes(&item))?,
            Some((headers, Err(_))) => {
                let items = headers.try_iter().map_err(|_| {
                    PyTypeError::new_err(format!("headers must be a list, not {}", quoted(headers)))
                })?;
                items.into_iter().try_for_each(|item| head.add_bytes(&item?))?;
            }
        }
        Ok(head)
    }

    /// Whether an answer of this status never has a body (RFC 9110 §6.4.1).
    pub(crate) fn is_bodiless(&self) -> bool {
        matches!(self.status, 100..=199 | 204 | 304)
    }

    pub(crate) fn to_wire(&self, body_length: Option<u64>, file_offset: u64) -> ResponseHead<'_> {
        ResponseHead { status: self.status, reason: &self.reason, service_us: 0, body_length, file_offset }
    }

    pub(crate) fn fields(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(name, value)| {
            let field = (&self.bytes[start..name as usize], &self.bytes[name as usize..value as usize]);
            start = value as usize;
            field
        })
    }

    fn set_status(&mut self, status: &Bound<'_, PyAny>) -> PyResult<()> {
        let text = status
            .cast::<PyString>()
            .map_err(|_| PyTypeError::new_err(format!("status must be a str, not {}", quoted(status))))?;
        let mut line = Vec::with_capacity(32);
        push_latin1(text, &mut line)?;
        let refused =
            || PyValueError::new_err(format!("status must be like '200 OK', not {}", quoted(status)));
        let (code, reason) = line.split_first_chunk::<3>().ok_or_else(refused)?;
        if !code.iter().all(u8::is_ascii_digit) || code[0] == b'0' {
            return Err(refused());
        }
        let reason = match reason {
            [] => &[],
            [b' ', reason @ ..] if reason.len() <= REASON_MAX && is_field_value(reason) => reason,
            _ => return Err(refused()),
        };
        self.status = code.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        self.reason = reason.to_vec();
        Ok(())
    }

    fn set_fields(&mut self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(list) = headers.cast::<PyList>() {
            return list.iter().try_for_each(|item| self.add(&item));
        }
        let items = headers
            .try_iter()
            .map_err(|_| PyTypeError::new_err(format!("headers must be a list, not {}", quoted(headers))))?;
        for item in items {
            self.add(&item?)?;
        }
        Ok(())
    }

    fn add(&mut self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let refused =
            || PyTypeError::new_err(format!("a header must be a (str, str) tuple, not {}", quoted(item)));
        let pair = item.cast::<PyTuple>().map_err(|_| refused())?;
        if pair.len() != 2 {
            return Err(refused());
        }
        let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
        let name = name.cast::<PyString>().map_err(|_| refused())?;
        let value = value.cast::<PyString>().map_err(|_| refused())?;
        let start = self.bytes.len();
        push_latin1(&name, &mut self.bytes)?;
        let middle = self.bytes.len();
        push_latin1(&value, &mut self.bytes)?;
        self.close(start, middle)
    }

    fn add_bytes(&mut self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let refused =
            || PyTypeError::new_err(format!("a header must be a pair of bytes, not {}", quoted(item)));
        let (name, value) = if let Ok(pair) = item.cast::<PyTuple>() {
            if pair.len() != 2 {
                return Err(refused());
            }
            (pair.get_item(0)?, pair.get_item(1)?)
        } else {
            let pair: Vec<Bound<'_, PyAny>> =
                item.try_iter().and_then(Iterator::collect).map_err(|_| refused())?;
            let [name, value]: [_; 2] = pair.try_into().map_err(|_| refused())?;
            (name, value)
        };
        let name = name.cast::<PyBytes>().map_err(|_| refused())?;
        let value = value.cast::<PyBytes>().map_err(|_| refused())?;
        self.add_pair(name.as_bytes(), value.as_bytes())
    }

    /// One more field.
    ///
    /// # Errors
    /// As `asgi`.
    pub(crate) fn add_pair(&mut self, name: &[u8], value: &[u8]) -> PyResult<()> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.close(start, middle)
    }

    /// The field from `start` to the end of `bytes` is complete: kept, dropped or refused.
    fn close(&mut self, start: usize, middle: usize) -> PyResult<()> {
        if self.bytes.len() > HEAD_MAX / 2 || self.ends.len() >= FIELDS_MAX {
            return Err(PyValueError::new_err("the response's headers are too large"));
        }
        if self.check(start, middle)? {
            self.ends.push((middle as u32, self.bytes.len() as u32));
        } else {
            self.bytes.truncate(start);
        }
        Ok(())
    }

    /// Checks the field at the end of `bytes`; false if it is to be dropped.
    fn check(&mut self, start: usize, middle: usize) -> PyResult<bool> {
        let name = &self.bytes[start..middle];
        let value = &self.bytes[middle..];
        let shown = || String::from_utf8_lossy(&name[..name.len().min(80)]).into_owned();
        if name.is_empty() || name.len() > NAME_MAX || !name.iter().all(|&byte| is_token(byte)) {
            return Err(PyValueError::new_err(format!("{:?} is not a header's name", shown())));
        }
        if !is_field_value(value) {
            let message =
                format!("the value of header {:?} has a control character (line end, NUL, …)", shown());
            return Err(PyValueError::new_err(message));
        }
        if name.len() == 14 && name.eq_ignore_ascii_case(b"content-length") {
            let length = parse_length(value)
                .filter(|length| self.declared.is_none_or(|declared| declared == *length))
                .ok_or_else(|| PyValueError::new_err("Content-Length must be one decimal number"))?;
            return Ok(self.declared.replace(length).is_none());
        }
        Ok(!DROPPED.iter().any(|dropped| name.eq_ignore_ascii_case(dropped)))
    }
}

/// Characters of a field's value and of a reason phrase, RFC 9110 §5.5: no controls but the tab.
fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|&byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..=0xff))
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (value, length) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("9999999999999999999", Some(9_999_999_999_999_999_999)),
            ("", None),
            ("+5", None),
            ("5 ", None),
            ("0x5", None),
            ("10000000000000000000", None),
        ] {
            assert_eq!(parse_length(value.as_bytes()), length, "{value:?}");
        }
    }

    #[test]
    fn values() {
        for (value, allowed) in [
            (&b"text/html; charset=utf-8"[..], true),
            (b"", true),
            (b"a\tb", true),
            (b"\xe9", true),
            (b"a\r\nb", false),
            (b"a\nb", false),
            (b"a\0", false),
            (b"\x7f", false),
        ] {
            assert_eq!(is_field_value(value), allowed, "{value:?}");
        }
    }
}
