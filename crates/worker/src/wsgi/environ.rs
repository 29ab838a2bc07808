//! A request's head as the environ of PEP 3333.
//!
//! Owns which key has which value. What is the same for all requests is in a prepared dict that is copied; names of
//! header fields become interned strings once. The prepared dict already has every key that each request sets, so the
//! copy does not grow before the fifteenth field or so.
//! Invariant: each request gets a plain dict of its own (PEP 3333, "environ Variables"); all values from the client
//! are latin-1 `str`; no key can be set by a client but `HTTP_*`, `CONTENT_TYPE` and `CONTENT_LENGTH`.

use std::collections::HashMap;

use bandstand_wire::head::FieldsView;
use bandstand_wire::{RequestHead, Tls, Version};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::file::FileWrapper;
use super::input::Input;
use crate::convert::latin1;

/// Names of header fields kept ready. Browsers, proxies and apps use about a hundred; past this bound (someone sends
/// made-up names) a name is translated anew each time.
const NAMES_MAX: usize = 512;
/// Longest name kept.
const NAME_BYTES_MAX: usize = 64;

/// What is prepared for all requests of one thread.
pub(crate) struct Template {
    base: Py<PyDict>,
    names: HashMap<Box<[u8]>, Option<Py<PyString>>>,
    server_name: Memo,
    server_port: Memo,
}

/// What the server itself has to say in each environ.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    /// Several threads may call the app at the same time.
    pub(crate) multithread: bool,
    /// Several processes may.
    pub(crate) multiprocess: bool,
}

impl Template {
    pub(crate) fn new(py: Python<'_>, facts: Facts) -> PyResult<Self> {
        let base = PyDict::new(py);
        base.set_item("wsgi.version", (1, 0))?;
        base.set_item("wsgi.url_scheme", "http")?;
        base.set_item("wsgi.input", Bound::new(py, Input::empty())?)?;
        base.set_item("wsgi.errors", py.import("sys")?.getattr("stderr")?)?;
        base.set_item("wsgi.multithread", facts.multithread)?;
        base.set_item("wsgi.multiprocess", facts.multiprocess)?;
        base.set_item("wsgi.run_once", false)?;
        base.set_item("wsgi.input_terminated", true)?;
        base.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
        base.set_item("SERVER_SOFTWARE", concat!("bandstand/", env!("CARGO_PKG_VERSION")))?;
        base.set_item("SERVER_PROTOCOL", "HTTP/1.1")?;
        for key in ["REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "RAW_URI", "REQUEST_URI"] {
            base.set_item(PyString::intern(py, key), "")?;
        }
        for key in ["REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT", "wsgi.early_hints"] {
            base.set_item(PyString::intern(py, key), "")?;
        }
        // One key more than the table's size allows, for a moment: copies have room for twenty keys before they grow.
        base.set_item("wsgi.", "")?;
        base.del_item("wsgi.")?;
        let memo = || Memo { bytes: Vec::new(), text: PyString::new(py, "").unbind() };
        Ok(Self { base: base.unbind(), names: HashMap::new(), server_name: memo(), server_port: memo() })
    }

    /// The environ of a request, without its input.
    pub(crate) fn environ<'py>(
        &mut self,
        py: Python<'py>,
        head: &RequestHead<'_>,
        fields: FieldsView<'_>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = self.base.bind(py).copy()?;
        self.target(py, &environ, head)?;
        self.connection(py, &environ, head)?;
        self.fields(py, &environ, head, fields)?;
        Ok(environ)
    }

    fn target(&self, py: Python<'_>, environ: &Bound<'_, PyDict>, head: &RequestHead<'_>) -> PyResult<()> {
        environ.set_item(intern!(py, "REQUEST_METHOD"), method(py, head.method)?)?;
        let raw = latin1(py, head.raw_path)?;
        match split_root(head.path, head.root_path) {
            (b"", path) if path == head.raw_path => environ.set_item(intern!(py, "PATH_INFO"), &raw)?,
            (root, path) => {
                environ.set_item(intern!(py, "SCRIPT_NAME"), latin1(py, root)?)?;
                environ.set_item(intern!(py, "PATH_INFO"), latin1(py, path)?)?;
            }
        }
        let uri = if head.query.is_empty() {
            raw
        } else {
            environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, head.query)?)?;
            latin1(py, &[head.raw_path, b"?", head.query].concat())?
        };
        environ.set_item(intern!(py, "RAW_URI"), &uri)?;
        environ.set_item(intern!(py, "REQUEST_URI"), uri)
    }

    fn connection(
        &mut self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        head: &RequestHead<'_>,
    ) -> PyResult<()> {
        if head.https {
            environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?;
            environ.set_item(intern!(py, "HTTPS"), intern!(py, "on"))?;
        }
        if let Some(tls) = &head.tls {
            secured(py, environ, tls)?;
        }
        match head.version {
            Version::Http11 => {}
            Version::Http10 => environ.set_item(intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/1.0"))?,
            Version::Http2 => environ.set_item(intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/2.0"))?,
            Version::Http3 => environ.set_item(intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/3.0"))?,
        }
        environ.set_item(intern!(py, "SERVER_NAME"), self.server_name.text(py, head.server_name)?)?;
        let port = Decimal::new(u64::from(head.server_port));
        environ.set_item(intern!(py, "SERVER_PORT"), self.server_port.text(py, port.digits())?)?;
        environ.set_item(intern!(py, "REMOTE_ADDR"), latin1(py, head.client_address)?)?;
        if head.client_port != 0 {
            let port = Decimal::new(u64::from(head.client_port));
            environ.set_item(intern!(py, "REMOTE_PORT"), latin1(py, port.digits())?)?;
        }
        Ok(())
    }

    fn fields(
        &mut self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        head: &RequestHead<'_>,
        fields: FieldsView<'_>,
    ) -> PyResult<()> {
        // Names that came more than once; their joined value is set when the second is met.
        let mut joined: Vec<&[u8]> = Vec::new();
        let mut length_sent = false;
        let mut keys = environ.len();
        for (name, value) in fields.iter() {
            if name.len() == 14 && name.eq_ignore_ascii_case(b"content-length") {
                length_sent = true;
                continue;
            }
            if joined.iter().any(|seen| seen.eq_ignore_ascii_case(name)) {
                continue;
            }
            let Some(key) = self.key(py, name)? else { continue };
            environ.set_item(&key, latin1(py, value)?)?;
            if environ.len() == keys {
                environ.set_item(&key, latin1(py, &join(name, fields))?)?;
                joined.push(name);
            }
            keys = environ.len();
        }
        if let Some(length) = head.body_length.filter(|&length| length > 0 || length_sent) {
            let length = Decimal::new(length);
            environ.set_item(intern!(py, "CONTENT_LENGTH"), latin1(py, length.digits())?)?;
        }
        Ok(())
    }

    /// The environ key of a field name; `None` for fields that the app must not see.
    fn key<'py>(&mut self, py: Python<'py>, name: &[u8]) -> PyResult<Option<Bound<'py, PyString>>> {
        if let Some(key) = self.names.get(name) {
            return Ok(key.as_ref().map(|key| key.bind(py).clone()));
        }
        let key = environ_key(name).map(|key| PyString::intern(py, &key));
        if self.names.len() < NAMES_MAX && name.len() <= NAME_BYTES_MAX {
            self.names.insert(name.into(), key.clone().map(Bound::unbind));
        }
        Ok(key)
    }
}

/// The names that Apache's mod_ssl made and nginx's users copy. A DN is UTF-8 and goes as all text of an environ does: its bytes as
/// latin-1.
fn secured(py: Python<'_>, environ: &Bound<'_, PyDict>, tls: &Tls<'_>) -> PyResult<()> {
    environ.set_item(intern!(py, "SSL_PROTOCOL"), latin1(py, tls.version_name)?)?;
    if !tls.cipher_name.is_empty() {
        environ.set_item(intern!(py, "SSL_CIPHER"), latin1(py, tls.cipher_name)?)?;
    }
    let Some(client) = &tls.client else {
        return environ.set_item(intern!(py, "SSL_CLIENT_VERIFY"), intern!(py, "NONE"));
    };
    environ.set_item(intern!(py, "SSL_CLIENT_VERIFY"), intern!(py, "SUCCESS"))?;
    environ.set_item(intern!(py, "SSL_CLIENT_S_DN"), latin1(py, client.subject)?)?;
    environ.set_item(intern!(py, "SSL_CLIENT_I_DN"), latin1(py, client.issuer)?)?;
    environ.set_item(intern!(py, "SSL_CLIENT_M_SERIAL"), latin1(py, client.serial)?)?;
    environ.set_item(intern!(py, "SSL_CLIENT_CERT"), latin1(py, client.pem)?)
}

/// The last value seen and its string: server name and port are the same for nearly all requests.
struct Memo {
    bytes: Vec<u8>,
    text: Py<PyString>,
}

impl Memo {
    fn text<'py>(&mut self, py: Python<'py>, bytes: &[u8]) -> PyResult<&Bound<'py, PyString>> {
        if self.bytes != bytes {
            self.text = latin1(py, bytes)?.unbind();
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
        }
        Ok(self.text.bind(py))
    }
}

fn method<'py>(py: Python<'py>, method: &[u8]) -> PyResult<Bound<'py, PyString>> {
    Ok(match method {
        b"GET" => intern!(py, "GET").clone(),
        b"POST" => intern!(py, "POST").clone(),
        b"HEAD" => intern!(py, "HEAD").clone(),
        _ => latin1(py, method)?,
    })
}

/// `HTTP_…` for a field name. `None`: CGI variables and WSGI merge what differs only in `_`, so such names are a way
/// around checks of the edge; `Proxy` would become `HTTP_PROXY` (httpoxy); framing is not the app's.
fn environ_key(name: &[u8]) -> Option<String> {
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte) && byte != b'_') {
        return None;
    }
    let upper: String = name
        .iter()
        .map(|&byte| if byte == b'-' { '_' } else { char::from(byte.to_ascii_uppercase()) })
        .collect();
    match upper.as_str() {
        "PROXY" | "TRANSFER_ENCODING" | "CONTENT_LENGTH" => None,
        "CONTENT_TYPE" => Some(upper),
        _ => Some(format!("HTTP_{upper}")),
    }
}

/// Characters of a token, RFC 9110 §5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// All values of a repeated field: a list (RFC 9110 §5.3), but cookies by their own separator (RFC 6265 §5.4).
fn join(name: &[u8], fields: FieldsView<'_>) -> Vec<u8> {
    let separator: &[u8] = if name.eq_ignore_ascii_case(b"cookie") { b"; " } else { b"," };
    let values: Vec<&[u8]> =
        fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
    values.join(separator)
}

/// `(SCRIPT_NAME, PATH_INFO)`. The mount point is taken off only where a segment ends; a path outside of it stays whole.
fn split_root<'a>(path: &'a [u8], root: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    match path.strip_prefix(root) {
        Some(rest) if !root.is_empty() && (rest.is_empty() || rest[0] == b'/') => (root, rest),
        _ => (b"", path),
    }
}

/// A number in decimal, without an allocation.
pub(crate) struct Decimal {
    text: [u8; 20],
    start: usize,
}

impl Decimal {
    pub(crate) fn new(mut number: u64) -> Self {
        let mut text = [0; 20];
        let mut start = text.len();
        loop {
            start -= 1;
            text[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { text, start };
            }
        }
    }

    pub(crate) fn digits(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields() {
        for (name, key) in [
            ("Accept", Some("HTTP_ACCEPT")),
            ("x-request-ID", Some("HTTP_X_REQUEST_ID")),
            ("Content-Type", Some("CONTENT_TYPE")),
            ("Content-Length", None),
            ("Transfer-Encoding", None),
            ("Proxy", None),
            ("X_Forwarded_For", None),
            ("x y", None),
            ("x\u{e9}", None),
            ("", None),
        ] {
            assert_eq!(environ_key(name.as_bytes()).as_deref(), key, "{name}");
        }
    }

    #[test]
    fn the_mount_point_ends_with_a_segment() {
        for (path, root, split) in [
            ("/shop/cart", "", ("", "/shop/cart")),
            ("/shop/cart", "/shop", ("/shop", "/cart")),
            ("/shop", "/shop", ("/shop", "")),
            ("/shop/", "/shop", ("/shop", "/")),
            ("/shopping", "/shop", ("", "/shopping")),
            ("/other", "/shop", ("", "/other")),
        ] {
            let (script, info) = split_root(path.as_bytes(), root.as_bytes());
            assert_eq!((script, info), (split.0.as_bytes(), split.1.as_bytes()), "{path} at {root}");
        }
    }

    #[test]
    fn decimals() {
        for number in [0, 9, 10, 65535, u64::MAX] {
            assert_eq!(Decimal::new(number).digits(), number.to_string().as_bytes());
        }
    }
}
