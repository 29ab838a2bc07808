//! Which bytes may stand where in a head.
//!
//! Owns the character classes of RFC 9110 §5.5 and §5.6.2, as one table of 256 flags so that a check is one look-up
//! a byte. Leaves line ends and whitespace around values to the parsers.
//! Invariant: what passes here can be written into a head without changing where a line or a field ends.

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;

/// One row of flags a byte value; built at compile time.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut index = 0usize;
    while index < 256 {
        let byte = index as u8;
        if is_tchar(byte) {
            table[index] |= TOKEN;
        }
        if byte == b'\t' || (byte >= 0x20 && byte != 0x7f) {
            table[index] |= VALUE;
        }
        if byte > 0x20 && byte != 0x7f {
            table[index] |= TARGET;
        }
        index += 1;
    }
    table
}

const fn is_tchar(byte: u8) -> bool {
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

/// `tchar` of RFC 9110 §5.6.2: may stand in a method, a field name, a coding name.
#[inline]
#[must_use]
pub fn is_token(byte: u8) -> bool {
    CLASSES[byte as usize] & TOKEN != 0
}

/// May stand in a field value: visible ASCII, space, tab, and `obs-text` (0x80–0xFF), RFC 9110 §5.5.
#[inline]
#[must_use]
pub fn is_field_value_byte(byte: u8) -> bool {
    CLASSES[byte as usize] & VALUE != 0
}

/// May stand in a request target: anything but controls, space and DEL. Wider than RFC 3986, as nginx is: browsers send
/// raw UTF-8, and `|`, `{`, `"` and the like are met in real query strings.
#[inline]
#[must_use]
pub fn is_target_byte(byte: u8) -> bool {
    CLASSES[byte as usize] & TARGET != 0
}

/// One or more `tchar`.
#[inline]
#[must_use]
pub fn valid_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| is_token(byte))
}

/// No CR, LF, NUL or other control but tab. Whitespace at either end passes: it does no harm, parsers trim it.
#[inline]
#[must_use]
pub fn valid_field_value(value: &[u8]) -> bool {
    value.iter().all(|&byte| is_field_value_byte(byte))
}

/// A reason phrase: the same bytes as a field value, may be empty (RFC 9112 §4).
#[inline]
#[must_use]
pub fn valid_reason(reason: &[u8]) -> bool {
    valid_field_value(reason)
}

/// Without the spaces and tabs at both ends (`OWS`, RFC 9110 §5.6.3). No other byte counts as white: an NBSP stays.
#[inline]
#[must_use]
pub fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Digits only, at least one, at most 19 (so that it always fits in a `u64`): `1*DIGIT` of RFC 9110 §8.6, bounded.
#[must_use]
pub fn parse_digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let mut number = 0u64;
    for &byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(byte - b'0');
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_exactly_the_77_of_the_rfc() {
        let expected: Vec<u8> = (0..=255u8)
            .filter(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
            .collect();
        let found: Vec<u8> = (0..=255u8).filter(|&byte| is_token(byte)).collect();
        assert_eq!(found, expected);
        assert_eq!(found.len(), 77);
    }

    #[test]
    fn names() {
        for (name, ok) in [
            (&b"Accept"[..], true),
            (b"X_Y", true),
            (b"", false),
            (b"a b", false),
            (b"a:", false),
            (b"a\0", false),
            (b"caf\xe9", false),
            (b" a", false),
        ] {
            assert_eq!(valid_field_name(name), ok, "{name:?}");
        }
    }

    #[test]
    fn values_and_reasons() {
        for (value, ok) in [
            (&b""[..], true),
            (b"a b\tc", true),
            (b"caf\xc3\xa9", true),
            (b"\xff", true),
            (b"a\r\nb", false),
            (b"a\rb", false),
            (b"a\nb", false),
            (b"a\0", false),
            (b"\x1b[31m", false),
            (b"\x7f", false),
        ] {
            assert_eq!(valid_field_value(value), ok, "{value:?}");
            assert_eq!(valid_reason(value), ok, "{value:?}");
        }
    }

    #[test]
    fn target_bytes_are_as_tolerant_as_nginx() {
        for byte in *b"/?<>\"{}|\\^`%~" {
            assert!(is_target_byte(byte), "{byte:#x}");
        }
        for byte in [0x80, 0xc3, 0xff] {
            assert!(is_target_byte(byte), "{byte:#x}");
        }
        for byte in [0, b'\t', b'\n', b'\r', 0x1f, b' ', 0x7f] {
            assert!(!is_target_byte(byte), "{byte:#x}");
        }
    }

    #[test]
    fn only_space_and_tab_are_trimmed() {
        assert_eq!(trim_ows(b" \ta b\t "), b"a b");
        assert_eq!(trim_ows(b"\xa0chunked"), b"\xa0chunked");
        assert_eq!(trim_ows(b"  "), b"");
        assert_eq!(trim_ows(b"\x0bchunked"), b"\x0bchunked");
    }

    #[test]
    fn digits() {
        for (text, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("9999999999999999999", Some(9_999_999_999_999_999_999)),
            ("10000000000000000000", None),
            ("", None),
            ("+5", None),
            ("-1", None),
            ("0x5", None),
            ("1_0", None),
            ("5 ", None),
            ("\u{0665}", None),
        ] {
            assert_eq!(parse_digits(text.as_bytes()), expected, "{text:?}");
        }
    }
}
