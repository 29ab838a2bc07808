//! A request's head as a scope (ASGI 3, HTTP and WebSocket connection scopes 2.5).
//!
//! Owns which key has which value. What is the same for all is in prepared dicts that are copied; names of header fields
//! become lower-case byte strings once, and the addresses of one client are made once for its requests in a row.
//! Bytes of the path that are no UTF-8 stay percent-encoded in `path`, as Django has them under WSGI; `raw_path` has
//! every byte. Cookies that came in several fields are joined with `; `, which older Djangos need (asgiref#420).
//! Invariant: a scope and its headers, state and extensions are its own; no two requests share what an app may change.

use std::collections::HashMap;

use bandstand_wire::head::FieldsView;
use bandstand_wire::{RequestHead, Version};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::convert::latin1;
use crate::wsgi::environ::{Decimal, is_token};

/// Names of header fields kept ready; more are translated anew each time (see `wsgi::environ`).
const NAMES_MAX: usize = 512;
/// Longest name kept.
const NAME_BYTES_MAX: usize = 64;

/// What is prepared for all requests of a loop.
pub(crate) struct Template {
    http: Py<PyDict>,
    websocket: Py<PyDict>,
    asgi: Py<PyDict>,
    /// For HTTP: with neither early hints nor trailers, with the first, the second, both.
    extensions: [Py<PyDict>; 4],
    websocket_extensions: Py<PyDict>,
    names: HashMap<Box<[u8]>, Option<Py<PyBytes>>>,
    client: Address,
    server: Address,
}

/// A scope, and what else its cycle has to know.
pub(crate) struct Scope<'py> {
    pub(crate) dict: Bound<'py, PyDict>,
    /// The client sent `TE: trailers`.
    pub(crate) takes_trailers: bool,
}

impl Template {
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        let asgi = PyDict::new(py);
        asgi.set_item("version", "3.0")?;
        asgi.set_item("spec_version", "2.5")?;
        let http = PyDict::new(py);
        for key in ["type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string"] {
            http.set_item(PyString::intern(py, key), "")?;
        }
        for key in ["root_path", "headers", "client", "server", "extensions"] {
            http.set_item(PyString::intern(py, key), py.None())?;
        }
        http.set_item("type", "http")?;
        http.set_item("http_version", "1.1")?;
        http.set_item("scheme", "http")?;
        http.set_item("query_string", PyBytes::new(py, b""))?;
        http.set_item("root_path", "")?;
        let websocket = http.copy()?;
        websocket.del_item("method")?;
        websocket.set_item("type", "websocket")?;
        websocket.set_item("scheme", "ws")?;
        let extensions = |early_hint: bool, trailers: bool| -> PyResult<Py<PyDict>> {
            let all = PyDict::new(py);
            all.set_item("http.response.pathsend", PyDict::new(py))?;
            all.set_item("http.response.zerocopysend", PyDict::new(py))?;
            if early_hint {
                all.set_item("http.response.early_hint", PyDict::new(py))?;
            }
            if trailers {
                all.set_item("http.response.trailers", PyDict::new(py))?;
            }
            Ok(all.unbind())
        };
        let denial = PyDict::new(py);
        denial.set_item("websocket.http.response", PyDict::new(py))?;
        Ok(Self {
            http: http.unbind(),
            websocket: websocket.unbind(),
            asgi: asgi.unbind(),
            extensions: [
                extensions(false, false)?,
                extensions(true, false)?,
                extensions(false, true)?,
                extensions(true, true)?,
            ],
            websocket_extensions: denial.unbind(),
            names: HashMap::new(),
            client: Address::default(),
            server: Address::default(),
        })
    }

    pub(crate) fn http<'py>(
        &mut self,
        py: Python<'py>,
        head: &RequestHead<'_>,
        fields: FieldsView<'_>,
        state: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Scope<'py>> {
        let dict = self.http.bind(py).copy()?;
        dict.set_item(intern!(py, "method"), method(py, head.method)?)?;
        if head.https {
            dict.set_item(intern!(py, "scheme"), intern!(py, "https"))?;
        }
        let takes_trailers = self.rest(py, &dict, head, fields, state)?;
        let takes_interim = head.version != Version::Http10;
        let extensions = &self.extensions[usize::from(takes_interim) + 2 * usize::from(takes_trailers)];
        let extensions = extensions.bind(py).copy()?;
        secured(py, &extensions, head)?;
        dict.set_item(intern!(py, "extensions"), extensions)?;
        Ok(Scope { dict, takes_trailers })
    }

    pub(crate) fn websocket<'py>(
        &mut self,
        py: Python<'py>,
        head: &RequestHead<'_>,
        fields: FieldsView<'_>,
        state: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Scope<'py>> {
        let dict = self.websocket.bind(py).copy()?;
        if head.https {
            dict.set_item(intern!(py, "scheme"), intern!(py, "wss"))?;
        }
        let takes_trailers = self.rest(py, &dict, head, fields, state)?;
        dict.set_item(intern!(py, "subprotocols"), subprotocols(py, fields)?)?;
        let extensions = self.websocket_extensions.bind(py).copy()?;
        secured(py, &extensions, head)?;
        dict.set_item(intern!(py, "extensions"), extensions)?;
        Ok(Scope { dict, takes_trailers })
    }

    /// What both kinds of scope have. Whether the client takes trailers.
    fn rest<'py>(
        &mut self,
        py: Python<'py>,
        dict: &Bound<'py, PyDict>,
        head: &RequestHead<'_>,
        fields: FieldsView<'_>,
        state: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<bool> {
        dict.set_item(intern!(py, "asgi"), self.asgi.bind(py).copy()?)?;
        match head.version {
            Version::Http11 => {}
            Version::Http10 => dict.set_item(intern!(py, "http_version"), intern!(py, "1.0"))?,
            Version::Http2 => dict.set_item(intern!(py, "http_version"), intern!(py, "2"))?,
            Version::Http3 => dict.set_item(intern!(py, "http_version"), intern!(py, "3"))?,
        }
        dict.set_item(intern!(py, "path"), path(py, head.path))?;
        // An empty query leaves its question mark in the raw path; here it belongs to neither.
        let raw_path = head.raw_path.strip_suffix(b"?").unwrap_or(head.raw_path);
        dict.set_item(intern!(py, "raw_path"), PyBytes::new(py, raw_path))?;
        if !head.query.is_empty() {
            dict.set_item(intern!(py, "query_string"), PyBytes::new(py, head.query))?;
        }
        if !head.root_path.is_empty() {
            dict.set_item(intern!(py, "root_path"), path(py, head.root_path))?;
        }
        if !head.client_address.is_empty() {
            let client = self.client.tuple(py, head.client_address, head.client_port)?;
            dict.set_item(intern!(py, "client"), client)?;
        }
        let server = self.server.tuple(py, head.server_name, head.server_port)?;
        dict.set_item(intern!(py, "server"), server)?;
        if let Some(state) = state {
            dict.set_item(intern!(py, "state"), state.copy()?)?;
        }
        let (headers, takes_trailers) = self.headers(py, head, fields)?;
        dict.set_item(intern!(py, "headers"), headers)?;
        Ok(takes_trailers)
    }

    fn headers<'py>(
        &mut self,
        py: Python<'py>,
        head: &RequestHead<'_>,
        fields: FieldsView<'_>,
    ) -> PyResult<(Bound<'py, PyList>, bool)> {
        let list = PyList::empty(py);
        let (mut takes_trailers, mut has_length, mut cookie) = (false, false, None);
        for (name, value) in fields.iter() {
            let Some(key) = self.name(py, name) else { continue };
            match name.len() {
                2 if name.eq_ignore_ascii_case(b"te") => takes_trailers |= has_trailers(value),
                14 if name.eq_ignore_ascii_case(b"content-length") => has_length = true,
                6 if name.eq_ignore_ascii_case(b"cookie") => match cookie {
                    None => cookie = Some(list.len()),
                    Some(at) => {
                        list.set_item(at, (key, PyBytes::new(py, &cookies(fields))))?;
                        continue;
                    }
                },
                _ => {}
            }
            list.append((key, PyBytes::new(py, value)))?;
        }
        // A body that came in chunks is here as a whole; apps that want its length first find it.
        if let Some(length) = head.body_length.filter(|&length| length > 0 && !has_length) {
            let length = PyBytes::new(py, Decimal::new(length).digits());
            list.append((PyBytes::new(py, b"content-length"), length))?;
        }
        Ok((list, takes_trailers))
    }

    /// A field's name in lower case; `None` for fields that the app must not see (see `wsgi::environ`).
    fn name<'py>(&mut self, py: Python<'py>, name: &[u8]) -> Option<Bound<'py, PyBytes>> {
        if let Some(known) = self.names.get(name) {
            return known.as_ref().map(|known| known.bind(py).clone());
        }
        let lower = name.to_ascii_lowercase();
        let is_dropped = name.is_empty()
            || !name.iter().all(|&byte| is_token(byte) && byte != b'_')
            || matches!(&*lower, b"proxy" | b"transfer-encoding");
        let kept = (!is_dropped).then(|| PyBytes::new(py, &lower));
        if self.names.len() < NAMES_MAX && name.len() <= NAME_BYTES_MAX {
            self.names.insert(name.into(), kept.clone().map(Bound::unbind));
        }
        kept
    }
}

/// ASGI's TLS extension 0.2. The server's own certificate is left out, as the extension allows: each request would carry it.
fn secured(py: Python<'_>, extensions: &Bound<'_, PyDict>, head: &RequestHead<'_>) -> PyResult<()> {
    let Some(tls) = &head.tls else { return Ok(()) };
    let said = PyDict::new(py);
    said.set_item(intern!(py, "server_cert"), py.None())?;
    let (chain, name) = match &tls.client {
        None => (PyList::empty(py), None),
        Some(client) => {
            (PyList::new(py, [latin1(py, client.pem)?])?, Some(String::from_utf8_lossy(client.subject)))
        }
    };
    said.set_item(intern!(py, "client_cert_chain"), chain)?;
    said.set_item(intern!(py, "client_cert_name"), name)?;
    said.set_item(intern!(py, "client_cert_error"), py.None())?;
    said.set_item(intern!(py, "tls_version"), tls.version)?;
    said.set_item(intern!(py, "cipher_suite"), (tls.cipher != 0).then_some(tls.cipher))?;
    extensions.set_item(intern!(py, "tls"), said)
}

/// The last address seen and its pair: the server's is the same for nearly all, the client's for requests in a row.
#[derive(Default)]
struct Address {
    host: Vec<u8>,
    port: u16,
    pair: Option<Py<PyTuple>>,
}

impl Address {
    fn tuple<'py>(&mut self, py: Python<'py>, host: &[u8], port: u16) -> PyResult<Bound<'py, PyTuple>> {
        if let Some(pair) = &self.pair
            && self.port == port
            && self.host == host
        {
            return Ok(pair.bind(py).clone());
        }
        let pair = (latin1(py, host)?, port).into_pyobject(py)?;
        self.host = host.to_vec();
        self.port = port;
        self.pair = Some(pair.clone().unbind());
        Ok(pair)
    }
}

fn method<'py>(py: Python<'py>, method: &[u8]) -> PyResult<Bound<'py, PyString>> {
    Ok(match method {
        b"GET" => intern!(py, "GET").clone(),
        b"POST" => intern!(py, "POST").clone(),
        b"HEAD" => intern!(py, "HEAD").clone(),
        _ => latin1(py, &method.to_ascii_uppercase())?,
    })
}

fn path<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match str::from_utf8(bytes) {
        Ok(text) => PyString::new(py, text),
        Err(_) => PyString::new(py, &repercent(bytes)),
    }
}

/// UTF-8 with `%XX` for what is none.
fn repercent(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn cookies(fields: FieldsView<'_>) -> Vec<u8> {
    let crumbs: Vec<&[u8]> = fields
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie"))
        .map(|(_, value)| value)
        .collect();
    crumbs.join(&b"; "[..])
}

/// Whether a TE field names trailers (RFC 9110 §10.1.4).
fn has_trailers(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// What the client offers, in order: lists and repeated fields (RFC 6455 §11.3.4).
fn subprotocols<'py>(py: Python<'py>, fields: FieldsView<'_>) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (_, value) in fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"sec-websocket-protocol")) {
        for offered in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if !offered.is_empty() {
                list.append(latin1(py, offered)?)?;
            }
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_utf8_stays_percent_encoded() {
        for (bytes, text) in [
            (&b"/caf\xc3\xa9"[..], "/café"),
            (b"/a\xff/b", "/a%FF/b"),
            (b"/\xc3", "/%C3"),
            (b"\xed\xa0\x80", "%ED%A0%80"),
        ] {
            assert_eq!(repercent(bytes), text);
        }
    }

    #[test]
    fn trailers_in_te() {
        for (value, takes) in [
            (&b"trailers"[..], true),
            (b"gzip;q=0.5, Trailers", true),
            (b"", false),
            (b"trailersx", false),
            (b"gzip", false),
        ] {
            assert_eq!(has_trailers(value), takes, "{value:?}");
        }
    }
}
