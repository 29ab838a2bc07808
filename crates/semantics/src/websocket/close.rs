//! Close codes: which exist, which may be sent, and what a close frame holds.
//!
//! Owns the table of RFC 6455 §7.4 with the codes that IANA has added since (1012–1014). Leaves to the caller when to
//! close, and what to tell the app.

/// Largest reason, in bytes of UTF-8: a control frame has 125, two are the code (RFC 6455 §5.5).
pub const REASON_MAX: usize = 123;

/// The purpose is fulfilled.
pub const NORMAL: u16 = 1000;
/// The peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// Never sent: the close frame had no code.
pub const NO_STATUS: u16 = 1005;
/// Never sent: the connection was lost without a close frame.
pub const ABNORMAL: u16 = 1006;
/// Bytes that are not what their message says they are: not UTF-8, not deflate.
pub const INVALID_DATA: u16 = 1007;
/// A message that is larger than is taken.
pub const TOO_BIG: u16 = 1009;
/// The server met something that it cannot go on with.
pub const INTERNAL_ERROR: u16 = 1011;
/// The server restarts; come again.
pub const SERVICE_RESTART: u16 = 1012;

/// Whether a code may stand in a close frame: registered ones, and those for libraries (3xxx) and apps (4xxx).
#[must_use]
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Why the payload of a close frame is refused. Both are the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseError {
    /// One byte, or a code that must not be sent.
    Code,
    /// The reason is not UTF-8.
    Reason,
}

/// Reads the payload of a close frame: the code, `None` where there is none, and the reason.
///
/// # Errors
/// See [`CloseError`].
pub fn read_close(payload: &[u8]) -> Result<(Option<u16>, &str), CloseError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(CloseError::Code) };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(CloseError::Code);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| CloseError::Reason)?;
    Ok((Some(code), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for (code, allowed) in [
            (0, false),
            (999, false),
            (1000, true),
            (1003, true),
            (1004, false),
            (1005, false),
            (1006, false),
            (1007, true),
            (1011, true),
            (1012, true),
            (1014, true),
            (1015, false),
            (1016, false),
            (1100, false),
            (2000, false),
            (2999, false),
            (3000, true),
            (3999, true),
            (4000, true),
            (4999, true),
            (5000, false),
            (65535, false),
        ] {
            assert_eq!(may_be_sent(code), allowed, "{code}");
            let payload = code.to_be_bytes();
            assert_eq!(
                read_close(&payload),
                if allowed { Ok((Some(code), "")) } else { Err(CloseError::Code) }
            );
        }
    }

    #[test]
    fn payloads() {
        for (payload, read) in [
            (&b""[..], Ok((None, ""))),
            (b"\x03", Err(CloseError::Code)),
            (b"\x03\xe8bye", Ok((Some(1000), "bye"))),
            (b"\x03\xe8\xc3\xa9", Ok((Some(1000), "é"))),
            (b"\x03\xe8\xc3", Err(CloseError::Reason)),
        ] {
            assert_eq!(read_close(payload), read, "{payload:?}");
        }
    }
}
