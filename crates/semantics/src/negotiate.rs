//! Which of the things we have does the client want?
//!
//! Owns the choice of a content coding (RFC 9110 §12.5.3) and of the format of bandstand's own answers (§12.5.1). Leaves
//! `Vary` to the caller, who must send it whenever there was a choice.
//! Invariant: a coding with weight 0, or not named where something was named, is never chosen.

use crate::lists::{elements, weighted};
use crate::text::trim_ows;

/// A content coding we can hold or make. The order is ours for ties: smallest result first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coding {
    /// Brotli, RFC 7932
    Br,
    /// Zstandard, RFC 8878
    Zstd,
    /// gzip, RFC 1952
    Gzip,
    /// As it is.
    Identity,
}

impl Coding {
    /// The name in `Content-Encoding`; identity is never written there.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Coding::Br => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
            Coding::Identity => "identity",
        }
    }

    fn parse(name: &[u8]) -> Option<Coding> {
        const NAMES: [(&str, Coding); 5] = [
            ("gzip", Coding::Gzip),
            ("br", Coding::Br),
            ("zstd", Coding::Zstd),
            ("identity", Coding::Identity),
            ("x-gzip", Coding::Gzip),
        ];
        NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|&(_, coding)| coding)
    }
}

/// The best of `available` for a client that sent these `Accept-Encoding` lines: highest weight, then our order.
///
/// Takes `fields.first("accept-encoding")` as well as `fields.all(…)`. With no line at all the client gets identity: RFC
/// 9110 would allow anything, and such clients are scripts that decode nothing. `None`: nothing available is acceptable;
/// send identity all the same, as every server does (a 415 would help nobody).
#[must_use]
pub fn choose<'a>(accept: impl IntoIterator<Item = &'a [u8]>, available: &[Coding]) -> Option<Coding> {
    best(accept, available, |_, coding| coding as usize)
}

/// As [`choose`], but of those of one weight the first of `available` wins: for what is made while the client waits, the
/// quickest and not the smallest.
#[must_use]
pub fn choose_first<'a>(accept: impl IntoIterator<Item = &'a [u8]>, available: &[Coding]) -> Option<Coding> {
    best(accept, available, |place, _| place)
}

/// The one of highest weight, and of those the one of lowest rank.
fn best<'a>(
    accept: impl IntoIterator<Item = &'a [u8]>,
    available: &[Coding],
    rank: impl Fn(usize, Coding) -> usize,
) -> Option<Coding> {
    let weights = Weights::read(accept);
    let weighed = available.iter().enumerate().map(|(place, &coding)| (weights.of(coding), place, coding));
    let acceptable = weighed.filter(|&(weight, ..)| weight > 0);
    let best = acceptable.min_by_key(|&(weight, place, coding)| (u16::MAX - weight, rank(place, coding)));
    best.map(|(.., coding)| coding)
}

/// Weights as sent, doubled, so that an identity nobody mentioned (1) stands below every weight that was written (2–2000).
#[derive(Default)]
struct Weights {
    named: [Option<u16>; 4],
    others: Option<u16>,
}

impl Weights {
    fn read<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Weights {
        let mut weights = Weights::default();
        for (name, weight) in accept.into_iter().flat_map(elements).filter_map(weighted) {
            if name == b"*" {
                weights.others = Some(weight * 2);
            } else if let Some(coding) = Coding::parse(name) {
                weights.named[coding as usize] = Some(weight * 2);
            }
        }
        weights
    }

    fn of(&self, coding: Coding) -> u16 {
        let unnamed = if coding == Coding::Identity { 1 } else { 0 };
        self.named[coding as usize].or(self.others).unwrap_or(unnamed)
    }
}

/// The form of an answer that bandstand gives by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A page, for browsers.
    Html,
    /// An object, for programs that ask for JSON.
    Json,
    /// A line, for everything else.
    Text,
}

/// What the `Accept` field prefers: a named type wins; `*/*` alone (curl, scripts) gets text.
#[must_use]
pub fn prefer_format(accept: Option<&[u8]>) -> Format {
    let mut best = (0, Format::Text);
    for (name, weight) in accept.into_iter().flat_map(elements).filter_map(weighted) {
        if let Some(format) = format_of(trim_ows(name))
            && weight > best.0
        {
            best = (weight, format);
        }
    }
    best.1
}

fn format_of(media_type: &[u8]) -> Option<Format> {
    let lower = media_type.to_ascii_lowercase();
    match lower.as_slice() {
        b"text/html" | b"application/xhtml+xml" => Some(Format::Html),
        b"application/json" | b"application/*" => Some(Format::Json),
        b"text/plain" => Some(Format::Text),
        other if other.ends_with(b"+json") => Some(Format::Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Coding::*;

    #[test]
    fn codings() {
        let all = &[Gzip, Br, Zstd, Identity][..];
        for (accept, available, expected) in [
            (None, all, Some(Identity)),
            (Some(""), all, Some(Identity)),
            (Some("gzip, deflate, br, zstd"), all, Some(Br)),
            (Some("gzip, deflate, br, zstd"), &[Gzip, Zstd, Identity], Some(Zstd)),
            (Some("gzip"), all, Some(Gzip)),
            (Some("GZip"), all, Some(Gzip)),
            (Some("x-gzip"), all, Some(Gzip)),
            (Some("gzip"), &[Identity], Some(Identity)),
            (Some("gzip;q=1.0, br;q=0.5"), all, Some(Gzip)),
            (Some("br;q=0.001"), all, Some(Br)),
            (Some("gzip;q=0.5, identity"), all, Some(Identity)),
            (Some("gzip;q=0.5, identity;q=0.5"), all, Some(Gzip)),
            (Some("br;q=0, *"), all, Some(Zstd)),
            (Some("*"), all, Some(Br)),
            (Some("gzip;q=0.1, *;q=0.5"), &[Gzip, Identity], Some(Identity)),
            (Some("gzip;q=0"), all, Some(Identity)),
            (Some("*;q=0"), all, None),
            (Some("*;q=0, gzip"), all, Some(Gzip)),
            (Some("*;q=0, identity;q=0.1"), all, Some(Identity)),
            (Some("identity;q=0"), &[Identity], None),
            (Some("identity;q=0"), all, None),
            (Some("identity;q=0, br"), all, Some(Br)),
            (Some("br;q=bad, gzip"), all, Some(Gzip)),
            (Some("deflate"), all, Some(Identity)),
            (Some(";;,;q=1"), all, Some(Identity)),
            (Some("gzip"), &[], None),
        ] {
            assert_eq!(choose(accept.map(str::as_bytes), available), expected, "{accept:?} of {available:?}");
        }
    }

    #[test]
    fn among_equals_the_first_that_is_there() {
        let order = &[Zstd, Gzip, Br, Identity][..];
        for (accept, expected) in [
            (None, Some(Identity)),
            (Some("gzip, deflate, br, zstd"), Some(Zstd)),
            (Some("gzip, deflate, br"), Some(Gzip)),
            (Some("gzip;q=0.9, br"), Some(Br)),
            (Some("br"), Some(Br)),
            (Some("*"), Some(Zstd)),
            (Some("gzip, *;q=0"), Some(Gzip)),
            (Some("identity, gzip;q=0.9"), Some(Identity)),
            (Some("*;q=0"), None),
        ] {
            assert_eq!(choose_first(accept.map(str::as_bytes), order), expected, "{accept:?}");
        }
    }

    #[test]
    fn lines_are_one_list() {
        assert_eq!(choose([&b"gzip"[..], b"br"], &[Gzip, Br]), Some(Br));
    }

    #[test]
    fn formats() {
        for (accept, expected) in [
            (None, Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Format::Html),
            (Some("application/json"), Format::Json),
            (Some("application/problem+json"), Format::Json),
            (Some("application/json, text/plain, */*"), Format::Json),
            (Some("text/html;q=0.5, application/json"), Format::Json),
            (Some("text/plain, text/html"), Format::Text),
            (Some("text/html;q=0"), Format::Text),
            (Some("image/png"), Format::Text),
        ] {
            assert_eq!(prefer_format(accept.map(str::as_bytes)), expected, "{accept:?}");
        }
    }
}
