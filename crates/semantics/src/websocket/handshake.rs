//! The opening handshake: is it a WebSocket, and what is the answer (RFC 6455 §4.2)?
//!
//! Owns the fields `Connection`, `Upgrade` and `Sec-WebSocket-*` of a request. Leaves origins and statuses to the
//! caller, and the choice of a subprotocol to the app. What does not ask for a WebSocket in HTTP/1.1's own words is a
//! plain request: a server may always ignore `Upgrade` (RFC 9110 §7.8), and in HTTP/1.0 must.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest as _, Sha1};

use super::extension::{Deflate, choose_deflate};
use crate::framing::Framing;
use crate::hop;
use crate::lists::elements;
use crate::text::valid_field_name;
use crate::{Fields, Version};

/// Appended to the key before it is hashed (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Subprotocols looked at; a head has room for thousands, no app for more than a few.
const PROTOCOLS_MOST: usize = 64;
/// Base64 as clients write it: padded, and whatever in the bits that the last character has over.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A handshake that can be answered with 101, or with 200 in a stream of HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The value of `Sec-WebSocket-Accept`; a stream of HTTP/2 needs none (RFC 8441 §5).
    pub accept: Option<[u8; 28]>,
    /// Subprotocols that the client offers, in its order.
    pub protocols: Vec<String>,
    /// What is agreed on if compression is wanted.
    pub deflate: Option<Deflate>,
}

/// Why a handshake is refused. All are the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// Not version 13: 426 with `Sec-WebSocket-Version: 13` (§4.4).
    Version,
    /// No key, two, or not 16 bytes in base64: 400.
    Key,
    /// A request with a body: 400. What follows the head must have one meaning.
    Body,
}

/// Whether a request asks for a WebSocket; `None`: it does not, `Upgrade` is to be ignored.
#[must_use]
pub fn read_offer(
    method: &[u8],
    version: Version,
    framing: Framing,
    fields: &Fields,
) -> Option<Result<Offer, HandshakeError>> {
    // Most requests end here.
    if !fields.contains("upgrade") || method != b"GET" || version != Version::Http11 {
        return None;
    }
    let asks = fields.all("upgrade").flat_map(elements).any(|name| name.eq_ignore_ascii_case(b"websocket"));
    if !asks || !hop::connection_tokens(fields).upgrade {
        return None;
    }
    Some(check(framing, fields))
}

fn check(framing: Framing, fields: &Fields) -> Result<Offer, HandshakeError> {
    if only(fields, "sec-websocket-version") != Some(b"13") {
        return Err(HandshakeError::Version);
    }
    let key = only(fields, "sec-websocket-key").ok_or(HandshakeError::Key)?;
    if !is_key(key) {
        return Err(HandshakeError::Key);
    }
    if !matches!(framing, Framing::None | Framing::Length(0)) {
        return Err(HandshakeError::Body);
    }
    Ok(offer(Some(accept(key)), fields))
}

/// What an extended CONNECT for a WebSocket offers (RFC 8441 §5). Its own pseudo field has asked: there is no `Upgrade`, and no
/// key to prove that the request was not made by a form. It has a body always, which is the WebSocket.
///
/// # Errors
/// `HandshakeError::Version`.
pub fn read_connect_offer(fields: &Fields) -> Result<Offer, HandshakeError> {
    if only(fields, "sec-websocket-version") != Some(b"13") {
        return Err(HandshakeError::Version);
    }
    Ok(offer(None, fields))
}

fn offer(accept: Option<[u8; 28]>, fields: &Fields) -> Offer {
    let deflate = choose_deflate(fields.all("sec-websocket-extensions"));
    Offer { accept, protocols: protocols(fields), deflate }
}

fn only<'a>(fields: &'a Fields, name: &'a str) -> Option<&'a [u8]> {
    let mut values = fields.all(name);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

fn is_key(key: &[u8]) -> bool {
    let mut bytes = [0; 18]; // what 24 characters can hold
    key.len() == 24 && matches!(BASE64.decode_slice(key, &mut bytes), Ok(16))
}

fn accept(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut text = [b'='; 28];
    // Twenty bytes are 28 characters, so it always fits.
    let written = BASE64.encode_slice(digest, &mut text);
    debug_assert_eq!(written, Ok(28));
    text
}

/// Several fields are one list (§11.3.4); what is no token is not offered to anybody.
fn protocols(fields: &Fields) -> Vec<String> {
    let offered = fields.all("sec-websocket-protocol").flat_map(elements);
    let tokens =
        offered.filter(|name| valid_field_name(name)).filter_map(|name| std::str::from_utf8(name).ok());
    tokens.take(PROTOCOLS_MOST).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (&str, &str) = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    const VERSION: (&str, &str) = ("Sec-WebSocket-Version", "13");
    const UPGRADE: (&str, &str) = ("Upgrade", "websocket");
    const CONNECTION: (&str, &str) = ("Connection", "Upgrade");

    fn read(fields: &[(&str, &str)]) -> Option<Result<Offer, HandshakeError>> {
        let fields: Fields = fields.iter().copied().collect();
        read_offer(b"GET", Version::Http11, Framing::None, &fields)
    }

    #[test]
    fn handshakes() {
        use HandshakeError::*;
        for (name, fields, outcome) in [
            ("as the RFC shows it", &[UPGRADE, CONNECTION, KEY, VERSION][..], Some(Ok(()))),
            (
                "in any case",
                &[("upgrade", "WebSocket"), ("connection", "UPGRADE"), KEY, VERSION],
                Some(Ok(())),
            ),
            ("Firefox", &[UPGRADE, ("Connection", "keep-alive, Upgrade"), KEY, VERSION], Some(Ok(()))),
            ("one of several", &[("Upgrade", "h2c, websocket"), CONNECTION, KEY, VERSION], Some(Ok(()))),
            ("no Upgrade", &[CONNECTION, KEY, VERSION], None),
            ("no Connection", &[UPGRADE, KEY, VERSION], None),
            ("Connection without the option", &[UPGRADE, ("Connection", "close"), KEY, VERSION], None),
            ("another protocol", &[("Upgrade", "h2c"), CONNECTION, KEY, VERSION], None),
            ("part of a name", &[("Upgrade", "websockets"), CONNECTION, KEY, VERSION], None),
            ("no version", &[UPGRADE, CONNECTION, KEY], Some(Err(Version))),
            ("version 8", &[UPGRADE, CONNECTION, KEY, ("Sec-WebSocket-Version", "8")], Some(Err(Version))),
            ("two versions", &[UPGRADE, CONNECTION, KEY, VERSION, VERSION], Some(Err(Version))),
            ("a list", &[UPGRADE, CONNECTION, KEY, ("Sec-WebSocket-Version", "13, 8")], Some(Err(Version))),
            ("no key", &[UPGRADE, CONNECTION, VERSION], Some(Err(Key))),
            ("two keys", &[UPGRADE, CONNECTION, VERSION, KEY, KEY], Some(Err(Key))),
            ("empty", &[UPGRADE, CONNECTION, VERSION, ("Sec-WebSocket-Key", "")], Some(Err(Key))),
            (
                "not base64",
                &[UPGRADE, CONNECTION, VERSION, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ-==")],
                Some(Err(Key)),
            ),
            (
                "15 bytes",
                &[UPGRADE, CONNECTION, VERSION, ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAA")],
                Some(Err(Key)),
            ),
            (
                "17 bytes",
                &[UPGRADE, CONNECTION, VERSION, ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAA=")],
                Some(Err(Key)),
            ),
            (
                "without padding",
                &[UPGRADE, CONNECTION, VERSION, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ")],
                Some(Err(Key)),
            ),
            (
                "bits left over",
                &[UPGRADE, CONNECTION, VERSION, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZR==")],
                Some(Ok(())),
            ),
        ] {
            assert_eq!(read(fields).map(|offer| offer.map(|_| ())), outcome, "{name}");
        }
    }

    #[test]
    fn requests_that_are_no_handshake_or_a_bad_one() {
        let fields: Fields = [UPGRADE, CONNECTION, KEY, VERSION].into_iter().collect();
        let read = |method: &str, version, framing| {
            read_offer(method.as_bytes(), version, framing, &fields).map(|offer| offer.map(|_| ()))
        };
        assert_eq!(read("GET", Version::Http11, Framing::Length(0)), Some(Ok(())));
        assert_eq!(read("GET", Version::Http11, Framing::Length(5)), Some(Err(HandshakeError::Body)));
        assert_eq!(read("GET", Version::Http11, Framing::Chunked), Some(Err(HandshakeError::Body)));
        assert_eq!(read("POST", Version::Http11, Framing::None), None);
        assert_eq!(read("HEAD", Version::Http11, Framing::None), None);
        assert_eq!(read("get", Version::Http11, Framing::None), None);
        assert_eq!(read("GET", Version::Http10, Framing::None), None);
        assert_eq!(read("GET", Version::Http2, Framing::None), None);
    }

    #[test]
    fn an_extended_connect_needs_the_version_alone() {
        let read = |fields: &[(&str, &str)]| read_connect_offer(&fields.iter().copied().collect());
        let deflate = ("Sec-WebSocket-Extensions", "permessage-deflate");
        let offer = read(&[VERSION, ("Sec-WebSocket-Protocol", "a, b"), deflate]).unwrap();
        assert_eq!((offer.accept, offer.protocols.len(), offer.deflate.is_some()), (None, 2, true));
        for fields in [&[][..], &[("Sec-WebSocket-Version", "8")], &[VERSION, VERSION]] {
            assert_eq!(read(fields).map(|_| ()), Err(HandshakeError::Version), "{fields:?}");
        }
    }

    /// RFC 6455 §1.3.
    #[test]
    fn the_accept_value_of_the_rfc() {
        let offer = read(&[UPGRADE, CONNECTION, KEY, VERSION]).unwrap().unwrap();
        assert_eq!(&offer.accept.unwrap(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!((offer.protocols, offer.deflate), (vec![], None));
    }

    #[test]
    fn subprotocols_and_extensions() {
        let long = "p,".repeat(1000);
        for (values, offered) in [
            (&["chat"][..], &["chat"][..]),
            (&["chat, superchat"], &["chat", "superchat"]),
            (&["chat", " ,v2.json,"], &["chat", "v2.json"]),
            (&["a b, c", "\u{e9}"], &["c"]),
            (&[long.as_str()], &["p"; PROTOCOLS_MOST]),
        ] {
            let mut fields = vec![UPGRADE, CONNECTION, KEY, VERSION];
            fields.extend(values.iter().map(|value| ("Sec-WebSocket-Protocol", *value)));
            fields.push(("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"));
            let offer = read(&fields).unwrap().unwrap();
            assert_eq!(offer.protocols, offered);
            assert!(offer.deflate.is_some());
        }
    }
}
