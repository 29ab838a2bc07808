//! What must be known of a field section before it is decoded: which pseudo fields it has, and where.
//!
//! Owns the rules that the h3 crate cannot check after decoding, where the last of two pseudo fields has won and their place
//! is lost: each once, none empty, all before the other fields, `:method`, `:scheme` and `:path` there (RFC 9114 §4.3,
//! `CHECKLIST` 39). Walks the lines of a section (RFC 9204 §4.5) and decodes none. What is not understood here goes no
//! further: the crate takes a section that wants a dynamic table for one that does not, and would decode what nobody has
//! checked. Bytes in, answer out; no allocation.

/// What a section breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The rules of a message.
    Malformed,
    /// Those of QPACK: it is cut, or wants a table that we have not (RFC 9204 §2.2.3).
    Undecodable,
}

use Fault::{Malformed, Undecodable};

/// One line's name, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Pseudo(u8),
    /// A pseudo field that no request has.
    Wrong,
    Other,
}

const AUTHORITY: u8 = 1;
const PATH: u8 = 2;
const METHOD: u8 = 4;
const SCHEME: u8 = 8;

/// Pseudo fields of requests that are written out: as they are, and in Huffman's code (RFC 7541 Appendix B). `:protocol` is
/// none of them: our SETTINGS do not offer it (RFC 9220 §3).
const WRITTEN: [(u8, &[u8], &[u8]); 4] = [
    (AUTHORITY, b":authority", &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f]),
    (PATH, b":path", &[0xb9, 0x58, 0xd3, 0x3f]),
    (METHOD, b":method", &[0xb9, 0x49, 0x53, 0x39, 0xe4]),
    (SCHEME, b":scheme", &[0xb8, 0x82, 0x4e, 0x5a, 0x4b]),
];

/// Checks the field section that a request begins with.
///
/// # Errors
/// A pseudo field is unknown, empty, late, missing or there twice; or see `Undecodable`.
pub(super) fn check(section: &[u8]) -> Result<(), Fault> {
    let mut lines = Lines::of(section)?;
    let (mut seen, mut is_late, mut malformed) = (0, false, false);
    // To the end, whatever is found: a section that cannot be decoded is the connection's error before it is the stream's.
    while let Some((name, is_empty)) = lines.next()? {
        match name {
            Name::Wrong => malformed = true,
            Name::Other => is_late = true,
            Name::Pseudo(which) => {
                malformed |= is_late || is_empty || seen & which != 0;
                seen |= which;
            }
        }
    }
    // CONNECT has neither scheme nor path (RFC 9114 §4.4); whether it is one is seen when it is decoded.
    let is_whole = seen & METHOD != 0 && (seen & SCHEME != 0) == (seen & PATH != 0);
    if is_whole && !malformed { Ok(()) } else { Err(Malformed) }
}

/// Checks the field section after a request's body: no pseudo field may be there.
///
/// # Errors
/// One is; or see `Undecodable`.
pub(super) fn check_trailers(section: &[u8]) -> Result<(), Fault> {
    let mut lines = Lines::of(section)?;
    let mut malformed = false;
    while let Some((name, _)) = lines.next()? {
        malformed |= name != Name::Other;
    }
    if malformed { Err(Malformed) } else { Ok(()) }
}

struct Lines<'s> {
    rest: &'s [u8],
}

impl<'s> Lines<'s> {
    /// Behind the prefix (RFC 9204 §4.5.1).
    fn of(section: &'s [u8]) -> Result<Self, Fault> {
        let mut lines = Self { rest: section };
        let required = lines.integer(8).ok_or(Undecodable)?;
        lines.integer(7).ok_or(Undecodable)?;
        if required == 0 { Ok(lines) } else { Err(Undecodable) }
    }

    /// The next line's name, and whether its value is empty. `None`: the end.
    fn next(&mut self) -> Result<Option<(Name, bool)>, Fault> {
        match self.rest.first() {
            Some(first) => self.line(*first).map(Some).ok_or(Undecodable),
            None => Ok(None),
        }
    }

    fn line(&mut self, first: u8) -> Option<(Name, bool)> {
        match first {
            // Indexed, of the static table; the dynamic one is empty.
            0b1100_0000.. => Some((named_by(self.integer(6)?), false)),
            0b1000_0000.. => None,
            0b0101_0000..=0b0101_1111 | 0b0111_0000..=0b0111_1111 => {
                let index = self.integer(4)?;
                let value = self.string(7)?.1;
                Some((named_by(index), value.is_empty()))
            }
            0b0100_0000.. => None,
            0b0010_0000.. => {
                let (is_huffman, name) = self.string(3)?;
                let value = self.string(7)?.1;
                Some((written(is_huffman, name), value.is_empty()))
            }
            // Behind the base: dynamic.
            _ => None,
        }
    }

    /// A string whose length has a prefix of `bits`, and the bit before it says how it is coded.
    fn string(&mut self, bits: u32) -> Option<(bool, &'s [u8])> {
        let is_huffman = self.rest.first()? & (1 << bits) != 0;
        let length = usize::try_from(self.integer(bits)?).ok()?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some((is_huffman, text))
    }

    /// An integer with a prefix of `bits` (RFC 7541 §5.1).
    fn integer(&mut self, bits: u32) -> Option<u64> {
        let most = (1u64 << bits) - 1;
        let (first, mut rest) = self.rest.split_first()?;
        let mut value = u64::from(*first) & most;
        if value == most {
            let mut shift = 0;
            loop {
                let (byte, after) = rest.split_first()?;
                rest = after;
                // Past this it is no length and no index that anybody has.
                if shift > 28 {
                    return None;
                }
                value += u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        self.rest = rest;
        Some(value)
    }
}

/// The static table (RFC 9204 Appendix A). An answer's `:status` has no place in a request.
fn named_by(index: u64) -> Name {
    match index {
        0 => Name::Pseudo(AUTHORITY),
        1 => Name::Pseudo(PATH),
        15..=21 => Name::Pseudo(METHOD),
        22 | 23 => Name::Pseudo(SCHEME),
        24..=28 | 63..=71 => Name::Wrong,
        _ => Name::Other,
    }
}

fn written(is_huffman: bool, name: &[u8]) -> Name {
    let known = WRITTEN.iter().find(|(_, plain, coded)| name == if is_huffman { *coded } else { *plain });
    // The colon is seven bits of Huffman's code: 1011100.
    let is_pseudo =
        name.first().is_some_and(|first| if is_huffman { first >> 1 == 0x5c } else { *first == b':' });
    match known {
        Some((which, ..)) => Name::Pseudo(*which),
        None if is_pseudo => Name::Wrong,
        None => Name::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section of lines that are given as they are written in hexadecimal.
    fn section(lines: &[&[u8]]) -> Vec<u8> {
        [&[0, 0][..], &lines.concat()].concat()
    }

    const GET: &[u8] = &[0xc0 | 17];
    const HTTPS: &[u8] = &[0xc0 | 23];
    const ROOT: &[u8] = &[0xc0 | 1];
    const HOST: &[u8] = b"\x50\x01a";
    /// `accept: */*`
    const ACCEPT: &[u8] = &[0xc0 | 29];
    const X: &[u8] = b"\x21x\x011";

    #[test]
    fn row_39_pseudo_fields() {
        let rows: [(&str, &[&[u8]], bool); 23] = [
            ("plain", &[GET, HTTPS, HOST, ROOT], true),
            ("in another order", &[ROOT, HOST, HTTPS, GET, ACCEPT, X], true),
            ("method twice", &[GET, GET, HTTPS, HOST, ROOT], false),
            ("two methods", &[GET, &[0xc0 | 20], HTTPS, HOST, ROOT], false),
            ("path twice", &[GET, HTTPS, HOST, ROOT, b"\x51\x02/b"], false),
            ("authority twice", &[GET, HTTPS, HOST, HOST, ROOT], false),
            ("scheme twice", &[GET, HTTPS, &[0xc0 | 22], HOST, ROOT], false),
            ("late", &[GET, HTTPS, HOST, ACCEPT, ROOT], false),
            ("late, behind a written one", &[GET, HTTPS, HOST, X, ROOT], false),
            ("no path", &[GET, HTTPS, HOST], false),
            ("no scheme", &[GET, HOST, ROOT], false),
            ("no method", &[HTTPS, HOST, ROOT], false),
            ("CONNECT", &[&[0xc0 | 15], HOST], true),
            ("empty path", &[GET, HTTPS, HOST, b"\x51\x00"], false),
            ("empty authority", &[GET, HTTPS, b"\x50\x00", ROOT], false),
            ("status", &[GET, HTTPS, HOST, ROOT, &[0xc0 | 25]], false),
            ("protocol", &[GET, HTTPS, HOST, ROOT, b"\x27\x02:protocol\x09websocket"], false),
            ("unknown", &[GET, HTTPS, HOST, ROOT, b"\x22:x\x011"], false),
            ("path written out", &[GET, HTTPS, HOST, b"\x25:path\x01/"], true),
            ("path written out, twice", &[GET, HTTPS, HOST, b"\x25:path\x01/", ROOT], false),
            ("path in Huffman's code", &[GET, HTTPS, HOST, b"\x2c\xb9\x58\xd3\x3f\x01/"], true),
            ("path in Huffman's code, twice", &[GET, HTTPS, HOST, ROOT, b"\x2c\xb9\x58\xd3\x3f\x01/"], false),
            ("status in Huffman's code", &[GET, HTTPS, HOST, ROOT, b"\x2d\xb8\x84\x8d\x36\xa3\x01/"], false),
        ];
        for (name, lines, is_good) in rows {
            assert_eq!(check(&section(lines)).is_ok(), is_good, "{name}");
        }
    }

    #[test]
    fn trailers_have_no_pseudo_fields() {
        assert_eq!(check_trailers(&section(&[X, ACCEPT])), Ok(()));
        assert_eq!(check_trailers(&section(&[X, ROOT])), Err(Malformed));
        assert_eq!(check_trailers(&section(&[b"\x22:x\x011"])), Err(Malformed));
        assert_eq!(check_trailers(&[0, 0]), Ok(()));
    }

    /// Row 39: what would hide pseudo fields from this check, and not from the decoder behind it.
    #[test]
    fn row_39_what_is_not_understood_goes_no_further() {
        let twice = [GET, GET, HTTPS, HOST, ROOT].concat();
        let behind = |prefix: &[u8]| [prefix, &twice].concat();
        for (name, section) in [
            ("an insert count", behind(&[1, 0])),
            ("a long insert count", behind(&[0xff, 0x80, 0x01, 0])),
            ("an entry of the dynamic table", [&section(&[GET, HTTPS, HOST, ROOT])[..], &[0x80]].concat()),
            ("an entry behind the base", [&section(&[GET, HTTPS, HOST, ROOT])[..], &[0x10]].concat()),
            ("a name behind the base", [&section(&[GET, HTTPS, HOST, ROOT])[..], b"\x00\x01x"].concat()),
            ("a name of the dynamic table", [&section(&[GET, HTTPS, HOST, ROOT])[..], b"\x40\x01x"].concat()),
            ("a length without end", section(&[&[0x27, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]])),
            ("nothing", vec![]),
            ("half a prefix", vec![0]),
        ] {
            assert_eq!(check(&section), Err(Undecodable), "{name}");
            assert_eq!(check_trailers(&section), Err(Undecodable), "{name}");
        }
        let whole = section(&[GET, HTTPS, HOST, ROOT, X]);
        let cuts = (0..whole.len()).filter(|cut| check(&whole[..*cut]) == Ok(())).collect::<Vec<_>>();
        // Only between lines, and with all pseudo fields there, or those of CONNECT.
        assert_eq!(cuts, [2 + GET.len(), whole.len() - X.len()]);
    }

    #[test]
    fn any_bytes_at_all_end() {
        // Numbers of a linear congruence (Knuth): the same at each run.
        let mut state = 1u64;
        for length in (0..4000).map(|n| n % 80) {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                })
                .collect();
            let _ = (check(&bytes), check_trailers(&bytes));
            let _ = check(&[&[0, 0][..], &bytes].concat());
        }
    }
}
