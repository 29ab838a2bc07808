//! The value that travels through the pipeline: one request, whatever version of HTTP it came over, and its answer.
//!
//! Owns the facts; stages fill and read them, connections make them and write the answer out. Invariant: everything in
//! an `Exchange` has been checked by the front door (`connection`): names and values are valid fields, the framing is one.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use bandstand_semantics::framing::Framing;
use bandstand_semantics::host::{HostError, parse_host};
use bandstand_semantics::websocket::handshake::{HandshakeError, Offer};
use bandstand_semantics::{Fields, Version};
use bytes::Bytes;

use crate::access::rates::Standing;
use crate::assets::Part;
use crate::body::encode::Encoder;
use crate::dev::note::Note;
use crate::dispatch::Ticket;
use crate::dispatch::reply::Trace;
use crate::observe::request_id::RequestId;
use crate::tls::TlsFacts;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The other end; `None` on a Unix socket.
    pub(crate) peer: Option<SocketAddr>,
    /// Our end; `None` on a Unix socket.
    pub(crate) local: Option<SocketAddr>,
    /// The peer's address as the app sees it, made once a connection.
    pub(crate) peer_text: AddressText,
}

/// An IP address as text, without allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressText {
    bytes: [u8; 45],
    length: u8,
}

impl AddressText {
    /// IPv4 that came over an IPv6 socket is written as IPv4; `None` is empty.
    pub(crate) fn new(address: Option<IpAddr>) -> Self {
        let mut text = Self { bytes: [0; 45], length: 0 };
        if let Some(address) = address {
            let mut rest = &mut text.bytes[..];
            // The longest address has 45 characters (RFC 4291 §2.2), so it always fits.
            let fits = write!(rest, "{}", address.to_canonical()).is_ok();
            let left = rest.len();
            text.length = if fits { (45 - left) as u8 } else { 0 };
        }
        text
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What the client asked for: a checked `name[:port]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Authority {
    text: Vec<u8>,
    name_len: usize,
    /// The port that was written.
    pub(crate) port: Option<u16>,
}

impl Authority {
    /// Reads and keeps one.
    ///
    /// # Errors
    /// What is wrong with it, see `semantics::host`.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, HostError> {
        let host = parse_host(text)?;
        Ok(Self { name_len: host.name.len(), port: host.port, text: text.to_vec() })
    }

    /// As it was written.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// Name or address, IPv6 in its brackets; may be empty.
    pub(crate) fn name(&self) -> &str {
        std::str::from_utf8(&self.text[..self.name_len]).unwrap_or("")
    }
}

/// A request on its way.
pub(crate) struct Exchange {
    pub(crate) ends: Ends,
    pub(crate) version: Version,
    /// Method and target as sent, one after the other.
    line: Vec<u8>,
    method_len: usize,
    raw_path: (usize, usize),
    query: (usize, usize),
    empty_query: bool,
    /// Host as the client asked for it: of the target if it names one, else of the field. Valid, may be empty.
    pub(crate) host: Authority,
    pub(crate) fields: Fields,
    pub(crate) framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    /// The client wants the connection kept.
    pub(crate) keep_alive: bool,
    /// The client takes fields after the body; filled by `identify`, before it takes the field out that says so.
    pub(crate) takes_trailers: bool,
    pub(crate) started: Instant,
    pub(crate) request_id: RequestId,
    /// Path, percent-decoded once; filled by `identify`.
    pub(crate) path: Vec<u8>,
    /// Address of the true client; filled by `identify`.
    pub(crate) client: Option<IpAddr>,
    /// Port of the client, when it is our peer.
    pub(crate) client_port: u16,
    pub(crate) https: bool,
    /// What the handshake found out; `None` where this connection speaks no TLS, whatever a proxy in front does.
    pub(crate) tls: Option<Arc<TlsFacts>>,
    /// Whose word `https` is; filled by `identify`.
    pub(crate) scheme_from: SchemeFrom,
    pub(crate) server_port: u16,
    /// How its address stands with the rule for this path; filled by `access`.
    pub(crate) standing: Option<Box<Standing>>,
    /// It is an extended CONNECT for a WebSocket (RFC 8441). It passes as the GET that it is in HTTP/1.1: the same rules hold.
    pub(crate) is_connect: bool,
    /// It asks for a WebSocket, in these words; filled by `identify`, before it takes the fields out.
    pub(crate) upgrade: Option<Box<Result<Offer, HandshakeError>>>,
    /// It is a WebSocket, and may be one; filled by `upgrade`.
    pub(crate) websocket: Option<Box<Offer>>,
    /// Largest body that this path takes, in bytes; filled by `admit`.
    pub(crate) max_body: u64,
    /// Filled by `receive`.
    pub(crate) body: Body,
    /// Bytes of the body that came over the wire so far.
    pub(crate) bytes_in: u64,
    /// When the app was asked; filled by `queue`.
    pub(crate) submitted: Option<Instant>,
    /// Who worked on it, and how long; filled by `dispatch`.
    pub(crate) trace: Trace,
    /// What the worker noted on its answer; in `dev` only.
    pub(crate) note: Option<Box<Note>>,
    /// Nobody wants to read of it in the log: a page of `dev` waits for the next change.
    pub(crate) is_noise: bool,
}

/// Whose word the scheme of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SchemeFrom {
    /// The client is our peer: we have seen it.
    Connection,
    /// A trusted proxy said nothing of it: what the proxy's own connection is.
    SilentProxy,
    /// A trusted proxy told.
    Proxy,
}

/// A request body, received.
#[derive(Debug, Default)]
pub(crate) enum Body {
    /// There is none.
    #[default]
    None,
    /// In memory.
    Memory(Vec<u8>),
    /// In an unlinked file.
    Spooled { file: Arc<File>, length: u64 },
}

/// A target taken apart: ranges of bytes in it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TargetParts {
    pub(crate) raw_path: (usize, usize),
    pub(crate) query: (usize, usize),
    /// A `?` with nothing behind it.
    pub(crate) empty_query: bool,
}

impl Exchange {
    /// A request as the front door understood it. `parts` are ranges of `target`.
    #[allow(
        clippy::too_many_arguments,
        reason = "the facts of a request line and its fields, made in one place"
    )]
    pub(crate) fn new(
        ends: Ends,
        version: Version,
        method: &[u8],
        target: &[u8],
        parts: TargetParts,
        host: Authority,
        fields: Fields,
        framing: Framing,
        started: Instant,
    ) -> Self {
        let mut line = Vec::with_capacity(method.len() + target.len());
        line.extend_from_slice(method);
        line.extend_from_slice(target);
        let shift = |(from, to): (usize, usize)| (from + method.len(), to + method.len());
        Self {
            ends,
            version,
            line,
            method_len: method.len(),
            raw_path: shift(parts.raw_path),
            query: shift(parts.query),
            empty_query: parts.empty_query,
            host,
            fields,
            framing,
            expects_continue: false,
            keep_alive: false,
            takes_trailers: false,
            started,
            request_id: RequestId::new(),
            path: Vec::new(),
            client: None,
            client_port: 0,
            https: false,
            tls: None,
            scheme_from: SchemeFrom::Connection,
            server_port: 0,
            standing: None,
            is_connect: false,
            upgrade: None,
            websocket: None,
            max_body: 0,
            body: Body::None,
            bytes_in: 0,
            submitted: None,
            trace: Trace::default(),
            note: None,
            is_noise: false,
        }
    }

    /// Method, a token of at most 32 bytes.
    pub(crate) fn method(&self) -> &[u8] {
        &self.line[..self.method_len]
    }

    /// Path as sent.
    pub(crate) fn raw_path(&self) -> &[u8] {
        &self.line[self.raw_path.0..self.raw_path.1]
    }

    /// Path as sent, with the `?` of an empty query: what the app is told was asked for.
    pub(crate) fn raw_path_told(&self) -> &[u8] {
        &self.line[self.raw_path.0..self.raw_path.1 + usize::from(self.empty_query)]
    }

    /// Query as sent, without `?`.
    pub(crate) fn query(&self) -> &[u8] {
        &self.line[self.query.0..self.query.1]
    }

    /// HEAD.
    pub(crate) fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }
}

/// An answer on its way out.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Empty: the standard phrase.
    pub(crate) reason: Vec<u8>,
    pub(crate) fields: Fields,
    /// More fields, shared with other answers from the same file; sent before `fields`.
    pub(crate) shared_fields: Option<Arc<Fields>>,
    /// What all answers wear (`filters::security`), when this one had none of it.
    pub(crate) common_fields: Option<Arc<Fields>>,
    pub(crate) body: AnswerBody,
    /// Bytes of the body, if known; also for HEAD, where none are sent.
    pub(crate) length: Option<u64>,
    /// Close the connection after it.
    pub(crate) close: bool,
    /// Name of the refusal, for the record.
    pub(crate) refusal: Option<&'static str>,
    /// Bytes of the body that may leave each second.
    pub(crate) limit_rate: Option<NonZeroU64>,
    /// A streamed body goes to the client as the app makes it, and what the client does not take waits in the app.
    pub(crate) unbuffered: bool,
}

/// What follows an answer's head.
pub(crate) enum AnswerBody {
    /// Nothing.
    Empty,
    /// Shared bytes.
    Memory(Bytes),
    /// A frame's payload from this offset on.
    Frame(Vec<u8>, usize),
    /// A piece of a file.
    File { file: Arc<File>, offset: u64, length: u64 },
    /// Several pieces, one after the other.
    Parts(Vec<Part>),
    /// The worker is still at it: the first bytes, then events. What an encoder is there for leaves through it.
    Stream { ticket: Ticket, first: Vec<u8>, offset: usize, encoder: Option<Box<Encoder>> },
    /// No body: with status 101 the connection becomes a WebSocket, and this is the app's end of it.
    Upgrade(Ticket),
}

impl Answer {
    /// An answer without fields and body.
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            reason: Vec::new(),
            fields: Fields::new(),
            shared_fields: None,
            common_fields: None,
            body: AnswerBody::Empty,
            length: Some(0),
            close: false,
            refusal: None,
            limit_rate: None,
            unbuffered: false,
        }
    }

    /// Every field that is sent, but for those of framing and the connection.
    pub(crate) fn all_fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let shared = self.shared_fields.iter().chain(&self.common_fields);
        shared.flat_map(|fields| fields.iter()).chain(self.fields.iter())
    }

    /// An answer of this status must not have a body, whatever the method (RFC 9110 §6.4.1).
    pub(crate) fn is_bodiless(&self) -> bool {
        matches!(self.status, 100..=199 | 204 | 304)
    }
}
