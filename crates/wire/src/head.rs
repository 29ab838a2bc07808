//! Request and response heads, and the hello: values ↔ payload bytes.
//!
//! Owns the order and the widths of what a head holds; the meaning of a field (hop-by-hop, forwarded, …) is the
//! edge's, its form in Python the worker's. Decoding checks every length before anything is handed out, so what comes
//! back can be read without further checks; nothing is copied.

use crate::limits::FIELDS_MAX;
use crate::tls::{self, Tls};
use crate::{PROTOCOL, WireError};

/// Field of a worker's answer that says: the app failed, answer for it. Never leaves the edge.
pub const FAILURE_FIELD: &[u8] = b"x-bandstand-failure";

/// Stands for "length not known" in a head.
const UNKNOWN: u64 = u64::MAX;

/// HTTP version of the client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Version {
    /// HTTP/1.0
    Http10 = 10,
    /// HTTP/1.1
    Http11 = 11,
    /// HTTP/2
    Http2 = 20,
    /// HTTP/3
    Http3 = 30,
}

impl Version {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Http10, Self::Http11, Self::Http2, Self::Http3].into_iter().find(|v| *v as u8 == byte)
    }
}

/// A request as the edge understood it; the fields follow it in the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The client's version.
    pub version: Version,
    /// Scheme as the client used it: `https` or `http`.
    pub https: bool,
    /// Method, a token.
    pub method: &'a [u8],
    /// Path as it was sent, without the query; ends in `?` where an empty query was sent.
    pub raw_path: &'a [u8],
    /// Query without `?`, may be empty.
    pub query: &'a [u8],
    /// Path, percent-decoded once, including `root_path`.
    pub path: &'a [u8],
    /// Where the app is mounted, without a slash at the end; empty at the root. `SCRIPT_NAME`.
    pub root_path: &'a [u8],
    /// Address of the true client as text; empty over a Unix socket.
    pub client_address: &'a [u8],
    /// Port of the client; 0 when not known.
    pub client_port: u16,
    /// Name or address that the client asked for or connected to.
    pub server_name: &'a [u8],
    /// Port of it.
    pub server_port: u16,
    /// Bytes of the body. `None`: with `STREAM` not known yet, else there is no body at all.
    pub body_length: Option<u64>,
    /// What the client's handshake with this server found out; `None` also where a proxy in front speaks TLS.
    pub tls: Option<Tls<'a>>,
}

impl<'a> RequestHead<'a> {
    /// Appends head and fields to a payload. Strings over 64 KiB are a mistake of the caller (limits come before).
    pub fn encode<'f>(&self, fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.version as u8, u8::from(self.https)]);
        out.extend_from_slice(&self.client_port.to_le_bytes());
        out.extend_from_slice(&self.server_port.to_le_bytes());
        out.extend_from_slice(&self.body_length.unwrap_or(UNKNOWN).to_le_bytes());
        for text in [
            self.method,
            self.raw_path,
            self.query,
            self.path,
            self.root_path,
            self.client_address,
            self.server_name,
        ] {
            put_short(text, out);
        }
        tls::encode(self.tls.as_ref(), out);
        put_fields(fields, out);
    }

    /// Reads a payload: the head, its fields, and what follows them (the inline body).
    ///
    /// # Errors
    /// `Malformed` when a length points past the payload.
    pub fn decode(payload: &'a [u8]) -> Result<(Self, FieldsView<'a>, &'a [u8]), WireError> {
        let mut cursor = Cursor(payload);
        let version = Version::from_byte(cursor.u8()?).ok_or(WireError::Malformed("unknown HTTP version"))?;
        let https = cursor.u8()? != 0;
        let client_port = cursor.u16()?;
        let server_port = cursor.u16()?;
        let body_length = known(cursor.u64()?);
        let head = Self {
            version,
            https,
            method: cursor.short()?,
            raw_path: cursor.short()?,
            query: cursor.short()?,
            path: cursor.short()?,
            root_path: cursor.short()?,
            client_address: cursor.short()?,
            client_port,
            server_name: cursor.short()?,
            server_port,
            body_length,
            tls: tls::decode(&mut cursor)?,
        };
        let fields = cursor.fields()?;
        Ok((head, fields, cursor.0))
    }
}

/// An answer's head as the app gave it; the fields follow it in the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// 100 ≤ status ≤ 999.
    pub status: u16,
    /// Reason phrase as the app gave it, latin-1; may be empty.
    pub reason: &'a [u8],
    /// Microseconds the app worked on it; final only with `WHOLE`.
    pub service_us: u32,
    /// Bytes of the body where the worker knows them before the end (one piece, or a file).
    pub body_length: Option<u64>,
    /// With a descriptor: where in the file the body begins.
    pub file_offset: u64,
}

impl<'a> ResponseHead<'a> {
    /// Appends head and fields to a payload.
    pub fn encode<'f>(&self, fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&self.service_us.to_le_bytes());
        out.extend_from_slice(&self.body_length.unwrap_or(UNKNOWN).to_le_bytes());
        out.extend_from_slice(&self.file_offset.to_le_bytes());
        put_short(self.reason, out);
        put_fields(fields, out);
    }

    /// Reads a payload: the head, its fields, and what follows them (the first bytes of the body).
    ///
    /// # Errors
    /// `Malformed` when a length points past the payload or the status is not of three digits.
    pub fn decode(payload: &'a [u8]) -> Result<(Self, FieldsView<'a>, &'a [u8]), WireError> {
        let mut cursor = Cursor(payload);
        let status = cursor.u16()?;
        if !(100..=999).contains(&status) {
            return Err(WireError::Malformed("status is not of three digits"));
        }
        let service_us = cursor.u32()?;
        let body_length = known(cursor.u64()?);
        let file_offset = cursor.u64()?;
        let head = Self { status, reason: cursor.short()?, service_us, body_length, file_offset };
        let fields = cursor.fields()?;
        Ok((head, fields, cursor.0))
    }
}

/// First frame of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Requests that its threads work on at the same time, over the channel: `0 ≤ threads ≤ PLACES`.
    pub threads: u16,
    /// Requests that its event loop works on at the same time, over the lane: `0 ≤ tasks ≤ PLACES`; 0 where there is
    /// no loop, then there are no WebSockets either. `threads` and `tasks` are not both 0.
    pub tasks: u16,
    /// What it found out about the project: JSON, UTF-8.
    pub project: &'a [u8],
}

impl<'a> Hello<'a> {
    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&PROTOCOL.to_le_bytes());
        out.extend_from_slice(&self.threads.to_le_bytes());
        out.extend_from_slice(&self.tasks.to_le_bytes());
        out.extend_from_slice(self.project);
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// `Protocol` when the worker is of another version, `Malformed` when it is too short or can work on nothing.
    pub fn decode(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor(payload);
        let theirs = cursor.u16()?;
        if theirs != PROTOCOL {
            return Err(WireError::Protocol { theirs });
        }
        let (threads, tasks) = (cursor.u16()?, cursor.u16()?);
        if threads == 0 && tasks == 0 {
            return Err(WireError::Malformed("neither threads nor tasks"));
        }
        if usize::from(threads.max(tasks)) > crate::limits::PLACES {
            return Err(WireError::Malformed("threads or tasks out of range"));
        }
        Ok(Self { threads, tasks, project: cursor.0 })
    }
}

/// Appends the payload of `Trailers`.
pub fn encode_trailers<'f>(fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>, out: &mut Vec<u8>) {
    put_fields(fields, out);
}

/// Reads the payload of `Trailers`.
///
/// # Errors
/// `Malformed` when a length points past the payload, or bytes follow the last field.
pub fn decode_trailers(payload: &[u8]) -> Result<FieldsView<'_>, WireError> {
    let mut cursor = Cursor(payload);
    let fields = cursor.fields()?;
    if cursor.0.is_empty() { Ok(fields) } else { Err(WireError::Malformed("bytes after the last trailer")) }
}

/// Fields of a decoded head, in order; every length has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldsView<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> FieldsView<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// `(name, value)` in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut cursor = Cursor(self.bytes);
        (0..self.count).map(move |_| cursor.field().unwrap_or((b"", b"")))
    }
}

fn known(length: u64) -> Option<u64> {
    (length != UNKNOWN).then_some(length)
}

pub(crate) fn put_short(text: &[u8], out: &mut Vec<u8>) {
    debug_assert!(text.len() <= usize::from(u16::MAX));
    let text = &text[..text.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text);
}

fn put_fields<'f>(fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>, out: &mut Vec<u8>) {
    debug_assert!(fields.len() <= FIELDS_MAX);
    out.extend_from_slice(&(fields.len() as u16).to_le_bytes());
    for (name, value) in fields {
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(name);
        out.extend_from_slice(value);
    }
}

/// What is left of a payload.
pub(crate) struct Cursor<'a>(&'a [u8]);

const SHORT: WireError = WireError::Malformed("a length points past the payload");

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn short(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn field(&mut self) -> Result<(&'a [u8], &'a [u8]), WireError> {
        let name = self.u16()?;
        let value = self.u32()?;
        Ok((self.take(usize::from(name))?, self.take(value as usize)?))
    }

    fn fields(&mut self) -> Result<FieldsView<'a>, WireError> {
        let count = usize::from(self.u16()?);
        if count > FIELDS_MAX {
            return Err(WireError::Malformed("too many fields"));
        }
        let before = self.0;
        for _ in 0..count {
            self.field()?;
        }
        Ok(FieldsView { count, bytes: &before[..before.len() - self.0.len()] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientCertificate;

    type Field<'a> = (&'a [u8], &'a [u8]);
    const FIELDS: [Field<'static>; 3] =
        [(b"Host", b"shop.example"), (b"X-Empty", b""), (b"cookie", b"\xe9=1; b=2")];

    fn request() -> RequestHead<'static> {
        RequestHead {
            version: Version::Http11,
            https: true,
            method: b"POST",
            raw_path: b"/caf%C3%A9",
            query: b"a=1",
            path: "/café".as_bytes(),
            root_path: b"",
            client_address: b"2001:db8::1",
            client_port: 50000,
            server_name: b"shop.example",
            server_port: 443,
            body_length: Some(5),
            tls: Some(Tls {
                version: 0x0304,
                cipher: 0x1301,
                version_name: b"TLSv1.3",
                cipher_name: b"TLS_AES_128_GCM_SHA256",
                client: Some(ClientCertificate {
                    subject: "CN=Zoë".as_bytes(),
                    issuer: b"CN=Shop",
                    serial: b"0A",
                    pem: b"-----BEGIN CERTIFICATE-----\n",
                }),
            }),
        }
    }

    fn response() -> ResponseHead<'static> {
        ResponseHead { status: 299, reason: b"My Reason", service_us: 77, body_length: None, file_offset: 3 }
    }

    #[test]
    fn heads_come_back_as_they_went() {
        let mut payload = Vec::new();
        request().encode(FIELDS.into_iter(), &mut payload);
        payload.extend_from_slice(b"hello");
        let (head, fields, body) = RequestHead::decode(&payload).unwrap();
        assert_eq!(
            (head, fields.iter().collect::<Vec<_>>(), body),
            (request(), FIELDS.to_vec(), &b"hello"[..])
        );

        let mut payload = Vec::new();
        response().encode(FIELDS.into_iter(), &mut payload);
        payload.extend_from_slice(b"world");
        let (head, fields, body) = ResponseHead::decode(&payload).unwrap();
        assert_eq!(
            (head, fields.iter().collect::<Vec<_>>(), body),
            (response(), FIELDS.to_vec(), &b"world"[..])
        );

        let mut payload = Vec::new();
        Hello { threads: 4, tasks: 9, project: b"{}" }.encode(&mut payload);
        assert_eq!(Hello::decode(&payload), Ok(Hello { threads: 4, tasks: 9, project: b"{}" }));
    }

    #[test]
    fn what_is_said_of_tls_comes_back() {
        let with = request().tls;
        let without = with.map(|tls| Tls { client: None, ..tls });
        for tls in [with, without, None] {
            let mut payload = Vec::new();
            let head = RequestHead { tls, ..request() };
            head.encode(FIELDS.into_iter(), &mut payload);
            assert_eq!(RequestHead::decode(&payload).unwrap().0, head);
        }
    }

    #[test]
    fn trailers_come_back_as_they_went_and_nothing_follows_them() {
        let mut payload = Vec::new();
        encode_trailers(FIELDS.into_iter(), &mut payload);
        assert_eq!(decode_trailers(&payload).unwrap().iter().collect::<Vec<_>>(), FIELDS.to_vec());
        for cut in 0..payload.len() {
            assert!(decode_trailers(&payload[..cut]).is_err(), "cut at {cut}");
        }
        payload.push(0);
        assert!(decode_trailers(&payload).is_err());
    }

    #[test]
    fn a_head_cut_at_any_byte_is_malformed() {
        let mut payload = Vec::new();
        request().encode(FIELDS.into_iter(), &mut payload);
        for cut in 0..payload.len() {
            assert!(RequestHead::decode(&payload[..cut]).is_err(), "request cut at {cut}");
        }
        let mut payload = Vec::new();
        response().encode(FIELDS.into_iter(), &mut payload);
        for cut in 0..payload.len() {
            assert!(ResponseHead::decode(&payload[..cut]).is_err(), "response cut at {cut}");
        }
    }

    #[test]
    fn every_byte_flipped_never_panics() {
        let mut payload = Vec::new();
        request().encode(FIELDS.into_iter(), &mut payload);
        for at in 0..payload.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = payload.clone();
                bad[at] = value;
                if let Ok((_, fields, _)) = RequestHead::decode(&bad) {
                    assert_eq!(fields.iter().count(), fields.len());
                }
                let _ = ResponseHead::decode(&bad);
                let _ = Hello::decode(&bad);
            }
        }
    }

    #[test]
    fn hellos_that_are_refused() {
        for (payload, error) in [
            (&[][..], SHORT),
            (&[9, 0, 1, 0][..], WireError::Protocol { theirs: 9 }),
            (&[4, 0, 1, 0][..], SHORT),
            (&[4, 0, 0, 0, 0, 0][..], WireError::Malformed("neither threads nor tasks")),
            (&[4, 0, 1, 0x40, 0, 0][..], WireError::Malformed("threads or tasks out of range")),
            (&[4, 0, 0, 0, 1, 0x40][..], WireError::Malformed("threads or tasks out of range")),
        ] {
            assert_eq!(Hello::decode(payload), Err(error), "{payload:?}");
        }
    }
}
