//! What a request's head says of TLS.
//!
//! Owns the block of bytes for it: nothing where the client speaks no TLS with this server, else version and cipher, and what the
//! client's certificate says, which the handshake has checked. Who gets which name for it is the worker's.

use crate::WireError;
use crate::head::{Cursor, put_short};

/// The TLS connection that a request came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tls<'a> {
    /// On the wire: 0x0303, 0x0304.
    pub version: u16,
    /// The cipher suite on the wire; 0 when not known.
    pub cipher: u16,
    /// `TLSv1.3`.
    pub version_name: &'a [u8],
    /// As OpenSSL calls it; empty when not known.
    pub cipher_name: &'a [u8],
    /// The client has shown a certificate, and it is good.
    pub client: Option<ClientCertificate<'a>>,
}

/// A client's own certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificate<'a> {
    /// Whose it is (RFC 4514), UTF-8.
    pub subject: &'a [u8],
    /// Who made it (RFC 4514), UTF-8.
    pub issuer: &'a [u8],
    /// Hexadecimal digits.
    pub serial: &'a [u8],
    /// The certificate as text (RFC 7468).
    pub pem: &'a [u8],
}

/// Kinds of block.
const NONE: u8 = 0;
const PLAIN: u8 = 1;
const WITH_CLIENT: u8 = 2;

pub(crate) fn encode(tls: Option<&Tls<'_>>, out: &mut Vec<u8>) {
    let Some(tls) = tls else { return out.push(NONE) };
    out.push(if tls.client.is_some() { WITH_CLIENT } else { PLAIN });
    out.extend_from_slice(&tls.version.to_le_bytes());
    out.extend_from_slice(&tls.cipher.to_le_bytes());
    put_short(tls.version_name, out);
    put_short(tls.cipher_name, out);
    if let Some(ClientCertificate { subject, issuer, serial, pem }) = tls.client {
        [subject, issuer, serial, pem].into_iter().for_each(|text| put_short(text, out));
    }
}

pub(crate) fn decode<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Tls<'a>>, WireError> {
    let kind = cursor.u8()?;
    if kind == NONE {
        return Ok(None);
    }
    if !matches!(kind, PLAIN | WITH_CLIENT) {
        return Err(WireError::Malformed("unknown kind of TLS block"));
    }
    let (version, cipher) = (cursor.u16()?, cursor.u16()?);
    let (version_name, cipher_name) = (cursor.short()?, cursor.short()?);
    let client = if kind == PLAIN {
        None
    } else {
        let (subject, issuer) = (cursor.short()?, cursor.short()?);
        Some(ClientCertificate { subject, issuer, serial: cursor.short()?, pem: cursor.short()? })
    };
    Ok(Some(Tls { version, cipher, version_name, cipher_name, client }))
}
