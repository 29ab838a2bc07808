//! Bytes and text between the two languages: latin-1, as PEP 3333 wants it.
//!
//! Owns the two directions of a string; which strings are allowed where is the caller's.
//! Invariant: every byte becomes one character and back, so nothing a client or an app says is lost (PEP 3333,
//! "Unicode Issues").

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Bytes as `str`, each byte one character.
pub(crate) fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    let length = bytes.len().try_into().map_err(|_| PyValueError::new_err("too long for a str"))?;
    // SAFETY: the pointer is valid for `length` bytes, a null `errors` means strict (latin-1 has no errors), and the
    // result is a new `str` or null with an exception set. In the stable ABI since 3.2.
    unsafe {
        let text = pyo3::ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), length, std::ptr::null());
        Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked())
    }
}

/// Appends a `str` as latin-1.
///
/// # Errors
/// `ValueError` when a character is beyond U+00FF; what was appended until then stays in `out`.
pub(crate) fn push_latin1(text: &Bound<'_, PyString>, out: &mut Vec<u8>) -> PyResult<()> {
    let utf8 = text.to_str().map_err(|_| beyond(text))?;
    if utf8.is_ascii() {
        out.extend_from_slice(utf8.as_bytes());
        return Ok(());
    }
    for character in utf8.chars() {
        out.push(u8::try_from(u32::from(character)).map_err(|_| beyond(text))?);
    }
    Ok(())
}

fn beyond(text: &Bound<'_, PyString>) -> PyErr {
    PyValueError::new_err(format!("{} has characters that latin-1 lacks", quoted(text)))
}

/// How a value is shown in a message: `repr`, cut to a readable length.
pub(crate) fn quoted(value: &Bound<'_, PyAny>) -> String {
    let mut shown =
        value.repr().map_or_else(|_| "a value".to_owned(), |text| text.to_string_lossy().into_owned());
    if shown.chars().count() > 80 {
        shown = shown.chars().take(77).chain("...".chars()).collect();
    }
    shown
}
