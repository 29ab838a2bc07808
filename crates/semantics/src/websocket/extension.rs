//! Extensions: is there an offer of permessage-deflate that can be taken, and what is the answer?
//!
//! Owns the syntax of `Sec-WebSocket-Extensions` (RFC 6455 §9.1) and the parameters of RFC 7692 §7.1. Leaves compression
//! to `deflate`. Always answers that neither side keeps its window between messages, which the server may ask for without
//! being offered it (§7.1.1.2): an idle WebSocket then holds no (de)compressor. An offer that is not understood to the
//! last parameter is declined (§7.1), the next one may still be taken.

use super::deflate::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use crate::text::{is_token, trim_ows};

/// Offers looked at; browsers send one, Autobahn's longest list has nine.
const OFFERS_MOST: usize = 16;

/// What was agreed on for permessage-deflate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// Base-2 logarithm of the window that our compressor uses, 9–15.
    pub server_window_bits: u8,
    /// The client asked for a limit, so the answer names it.
    named: bool,
}

impl Deflate {
    /// Appends the value of the answer's `Sec-WebSocket-Extensions`.
    pub fn write_answer(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"permessage-deflate; server_no_context_takeover; client_no_context_takeover");
        if self.named {
            out.extend_from_slice(format!("; server_max_window_bits={}", self.server_window_bits).as_bytes());
        }
    }
}

/// The first offer that can be taken, in the order of the client's preference.
#[must_use]
pub fn choose_deflate<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Deflate> {
    values.flat_map(|value| split(value, b',')).take(OFFERS_MOST).find_map(read_offer)
}

fn read_offer(offer: &[u8]) -> Option<Deflate> {
    let mut parts = split(offer, b';');
    if !parts.next()?.eq_ignore_ascii_case(b"permessage-deflate") {
        return None;
    }
    let mut chosen = Deflate { server_window_bits: WINDOW_BITS_MAX, named: false };
    let mut seen = [false; 4];
    for part in parts {
        let (name, value) = match part.iter().position(|&byte| byte == b'=') {
            Some(at) => (trim_ows(&part[..at]), Some(unquote(trim_ows(&part[at + 1..]))?)),
            None => (part, None),
        };
        let place = match (name, value) {
            (b"server_no_context_takeover", None) => 0,
            (b"client_no_context_takeover", None) => 1,
            (b"server_max_window_bits", Some(value)) => {
                // 8 is declined: no deflate in use can compress with it (zlib makes it 9).
                let bits = window_bits(value).filter(|&bits| bits >= WINDOW_BITS_MIN)?;
                chosen = Deflate { server_window_bits: bits, named: true };
                2
            }
            // What the client says of its own window binds it alone: ours takes any.
            (b"client_max_window_bits", None) => 3,
            (b"client_max_window_bits", Some(value)) => {
                window_bits(value)?;
                3
            }
            _ => return None,
        };
        if std::mem::replace(&mut seen[place], true) {
            return None;
        }
    }
    Some(chosen)
}

/// 8–15 without leading zeros (§7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// A token, or one in quotes; a quoted value must be a token as well (RFC 6455 §9.1), so there is nothing to unescape.
fn unquote(value: &[u8]) -> Option<&[u8]> {
    let value = match value {
        [b'"', inside @ .., b'"'] => inside,
        bare => bare,
    };
    (!value.is_empty() && value.iter().all(|&byte| is_token(byte))).then_some(value)
}

/// Parts between `by`, trimmed; a quoted value that holds `by` is no token, so both halves are declined later.
fn split(value: &[u8], by: u8) -> impl Iterator<Item = &[u8]> {
    value.split(move |&byte| byte == by).map(trim_ows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn offers_and_answers() {
        for (offers, answer) in [
            (&["permessage-deflate"][..], Some("")),
            (&["permessage-deflate; client_max_window_bits"], Some("")), // what browsers send
            (&["Permessage-Deflate"], Some("")),
            (&["permessage-deflate; client_max_window_bits=8"], Some("")),
            (&["permessage-deflate; client_max_window_bits=15"], Some("")),
            (&["permessage-deflate; client_no_context_takeover; server_no_context_takeover"], Some("")),
            (&["permessage-deflate;server_max_window_bits=9"], Some("; server_max_window_bits=9")),
            (&["permessage-deflate; server_max_window_bits=\"10\""], Some("; server_max_window_bits=10")),
            (&["permessage-deflate ; server_max_window_bits = 15"], Some("; server_max_window_bits=15")),
            (&["x-webkit-deflate-frame, permessage-deflate"], Some("")),
            (&["x-webkit-deflate-frame", "permessage-deflate"], Some("")),
            (&["permessage-deflate; server_max_window_bits=8, permessage-deflate"], Some("")),
            (
                &["permessage-deflate; server_max_window_bits=12, permessage-deflate"],
                Some("; server_max_window_bits=12"),
            ),
            (&["permessage-deflate; what=1, permessage-deflate; server_max_window_bits=8"], None),
            (&[], None),
            (&[""], None),
            (&["permessage-deflatex"], None),
            (&["permessage-deflate; server_max_window_bits"], None),
            (&["permessage-deflate; server_max_window_bits="], None),
            (&["permessage-deflate; server_max_window_bits=7"], None),
            (&["permessage-deflate; server_max_window_bits=16"], None),
            (&["permessage-deflate; server_max_window_bits=010"], None),
            (&["permessage-deflate; server_max_window_bits=\"10"], None),
            (&["permessage-deflate; client_max_window_bits=16"], None),
            (&["permessage-deflate; client_max_window_bits=\"1,0\""], None),
            (&["permessage-deflate; server_no_context_takeover=1"], None),
            (&["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
            (&["permessage-deflate; client_max_window_bits; client_max_window_bits=10"], None),
            (&["permessage-deflate;"], None),
        ] {
            let chosen = choose_deflate(offers.iter().map(|offer| offer.as_bytes()));
            let written = chosen.map(|chosen| {
                let mut out = Vec::new();
                chosen.write_answer(&mut out);
                String::from_utf8(out).unwrap()
            });
            assert_eq!(written, answer.map(|more| format!("{ALWAYS}{more}")), "{offers:?}");
        }
    }

    #[test]
    fn a_list_without_end_is_not_walked_to_its_end() {
        let many = "x,".repeat(OFFERS_MOST) + "permessage-deflate";
        assert_eq!(choose_deflate([many.as_bytes()].into_iter()), None);
    }
}
