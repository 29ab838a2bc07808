//! Walking the comma-separated lists of field values.
//!
//! Owns the splitting (RFC 9110 §5.6.1: `#element`, empty elements ignored) and the weight (`;q=`, §12.4.2). Leaves the
//! meaning of an element to the caller. Quoted strings are not understood here: lists that may hold them
//! (`Forwarded`, entity tags) have their own walk beside their rule.

use crate::text::trim_ows;

/// Elements between commas, trimmed, empty ones left out.
pub(crate) fn elements(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows).filter(|element| !element.is_empty())
}

/// An element with its weight in thousandths (0–1000); `None` when the weight is malformed.
///
/// Parameters other than `q` are passed over: none of those in use changes a choice made here.
pub(crate) fn weighted(element: &[u8]) -> Option<(&[u8], u16)> {
    let mut pieces = element.split(|&byte| byte == b';').map(trim_ows);
    let name = pieces.next()?;
    let mut weight = 1000;
    for piece in pieces {
        if let [b'q' | b'Q', b'=', digits @ ..] = piece {
            weight = parse_weight(digits)?;
        }
    }
    Some((name, weight))
}

/// `qvalue` of RFC 9110 §12.4.2: `0`, `1`, and up to three decimals; 1 may only be followed by zeros.
fn parse_weight(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut weight = u16::from(whole - b'0') * 1000;
    let mut scale = 100;
    for digit in decimals {
        if !digit.is_ascii_digit() {
            return None;
        }
        weight += u16::from(digit - b'0') * scale;
        scale /= 10;
    }
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_elements_do_not_count() {
        let found: Vec<&[u8]> = elements(b", a ,,\tb\t, ,c,").collect();
        assert_eq!(found, [b"a", b"b", b"c"]);
        assert_eq!(elements(b" , ").count(), 0);
    }

    #[test]
    fn weights() {
        for (text, expected) in [
            ("gzip", Some(("gzip", 1000))),
            ("gzip;q=0.5", Some(("gzip", 500))),
            ("gzip ; q=0.005", Some(("gzip", 5))),
            ("gzip;Q=1.000", Some(("gzip", 1000))),
            ("text/html;level=1;q=0.1", Some(("text/html", 100))),
            ("gzip;q=0.", Some(("gzip", 0))),
            ("gzip;q=1.001", None),
            ("gzip;q=0.0001", None),
            ("gzip;q=-1", None),
            ("gzip;q=2", None),
            ("gzip;q=", None),
            ("gzip;q=0,5", None),
        ] {
            let expected = expected.map(|(name, weight): (&str, u16)| (name.as_bytes(), weight));
            assert_eq!(weighted(text.as_bytes()), expected, "{text:?}");
        }
    }
}
