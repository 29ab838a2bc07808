//! `Range` into slices: 206, 416, or 200 as if nothing had been asked.
//!
//! Owns the reading of `bytes` ranges (RFC 9110 §14.1.2), the bound on how many, and `If-Range` (§13.1.5). Leaves
//! `Content-Range`, multipart bodies and the file to the caller.
//! Invariant: every slice lies within `0..size`, is not empty, and no two overlap, so that an answer is never larger than
//! the file: a thousand times `0-` is one slice (checklist part 2 row 49).

use crate::conditional::{Validators, parse_date, strong_equal};
use crate::text::trim_ows;
use std::ops::Range;

/// Ranges a request may ask for; with more the whole is sent. Nobody's viewer or download manager needs eight.
const MOST_RANGES: usize = 8;

/// What a `Range` field asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// No range we understand, or too many: send the whole, 200.
    Ignore,
    /// Understood, and nothing of it exists: 416 with `Content-Range: bytes */size`.
    Unsatisfiable,
    /// 206 with these half-open slices, at least one, in the order asked; merged and sorted if any overlapped.
    Slices(Vec<Range<u64>>),
}

/// Reads a `Range` field for a representation of `size` bytes.
#[must_use]
pub fn ranges(value: &[u8], size: u64) -> Ranges {
    let Some(specs) = byte_specs(value) else { return Ranges::Ignore };
    let mut slices: Vec<Range<u64>> = Vec::new();
    let mut seen = 0;
    for spec in specs.split(|&byte| byte == b',').map(trim_ows).filter(|spec| !spec.is_empty()) {
        seen += 1;
        let Some(spec) = Spec::parse(spec) else { return Ranges::Ignore };
        if seen > MOST_RANGES {
            return Ranges::Ignore;
        }
        match spec.within(size) {
            Placed::Slice(slice) => slices.push(slice),
            Placed::Outside => {}
            Placed::EmptyWhole => return Ranges::Ignore,
        }
    }
    match (seen, slices.is_empty()) {
        (0, _) => Ranges::Ignore,
        (_, true) => Ranges::Unsatisfiable,
        (_, false) => Ranges::Slices(merge_if_overlapping(slices)),
    }
}

/// True when `Range` may be honoured: the client's part belongs to what we would send now. Strong tags and exact dates only;
/// what cannot be read means the client gets the whole.
#[must_use]
pub fn if_range(value: &[u8], validators: Validators<'_>) -> bool {
    let value = trim_ows(value);
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        return strong_equal(value, validators.etag);
    }
    validators.modified.is_some() && parse_date(value) == validators.modified
}

fn byte_specs(value: &[u8]) -> Option<&[u8]> {
    let value = trim_ows(value);
    let (unit, specs) = value.split_at_checked(6)?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(specs)
}

enum Spec {
    From { first: u64, last: u64 },
    Suffix(u64),
}

enum Placed {
    Slice(Range<u64>),
    Outside,
    /// A suffix of nothing is satisfiable by the letter, and `Content-Range` cannot express it: send the empty whole.
    EmptyWhole,
}

impl Spec {
    fn parse(text: &[u8]) -> Option<Spec> {
        let dash = text.iter().position(|&byte| byte == b'-')?;
        let (first, last) = (&text[..dash], &text[dash + 1..]);
        if first.is_empty() {
            return position(last).map(Spec::Suffix);
        }
        let first = position(first)?;
        let last = if last.is_empty() { u64::MAX } else { position(last)? };
        (first <= last).then_some(Spec::From { first, last })
    }

    fn within(self, size: u64) -> Placed {
        match self {
            Spec::From { first, last } if first < size => {
                Placed::Slice(first..last.saturating_add(1).min(size))
            }
            Spec::Suffix(length) if length > 0 && size > 0 => {
                Placed::Slice(size.saturating_sub(length)..size)
            }
            Spec::Suffix(length) if length > 0 => Placed::EmptyWhole,
            _ => Placed::Outside,
        }
    }
}

/// Digits of any length: a number past `u64` lies past every file, so it may stop at the largest.
fn position(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        text.iter()
            .fold(0u64, |number, &digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
    )
}

/// RFC 9110 §14.2 lets a server merge; ranges that do not overlap keep the client's order and stay apart.
fn merge_if_overlapping(slices: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted = slices.clone();
    sorted.sort_unstable_by_key(|slice| slice.start);
    if sorted.windows(2).all(|pair| pair[0].end <= pair[1].start) {
        return slices;
    }
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for slice in sorted {
        match merged.last_mut() {
            Some(last) if slice.start <= last.end => last.end = last.end.max(slice.end),
            _ => merged.push(slice),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some(slices: &[(u64, u64)]) -> Ranges {
        Ranges::Slices(slices.iter().map(|&(start, end)| start..end).collect())
    }

    #[test]
    fn of_a_thousand_bytes() {
        let thousand_zeros = format!("bytes={}", vec!["0-"; 1000].join(","));
        let eight = "bytes=0-0,10-10,20-20,30-30,40-40,50-50,60-60,70-70";
        let nine = format!("{eight},80-80");
        for (value, expected) in [
            ("bytes=0-0", some(&[(0, 1)])),
            ("bytes=0-499", some(&[(0, 500)])),
            ("Bytes=500-", some(&[(500, 1000)])),
            ("bytes=-300", some(&[(700, 1000)])),
            ("bytes=-5000", some(&[(0, 1000)])),
            ("bytes=999-", some(&[(999, 1000)])),
            ("bytes=0-99999", some(&[(0, 1000)])),
            ("bytes=0-99999999999999999999999999", some(&[(0, 1000)])),
            ("bytes=0-18446744073709551615", some(&[(0, 1000)])),
            ("bytes= 0-0 , 5-6\t", some(&[(0, 1), (5, 7)])),
            ("bytes=0-0,,-1", some(&[(0, 1), (999, 1000)])),
            ("bytes=500-599,0-99", some(&[(500, 600), (0, 100)])),
            ("bytes=0-99,100-199", some(&[(0, 100), (100, 200)])),
            ("bytes=0-99,50-149", some(&[(0, 150)])),
            ("bytes=500-,0-0,900-", some(&[(0, 1), (500, 1000)])),
            ("bytes=0-,0-", some(&[(0, 1000)])),
            ("bytes=0-0,5000-", some(&[(0, 1)])),
            ("bytes=1000-", Ranges::Unsatisfiable),
            ("bytes=1000-1001,5000-", Ranges::Unsatisfiable),
            ("bytes=99999999999999999999999999-", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
            ("bytes=", Ranges::Ignore),
            ("bytes=,", Ranges::Ignore),
            ("bytes=-", Ranges::Ignore),
            ("bytes=5-4", Ranges::Ignore),
            ("bytes=0-0,5-4", Ranges::Ignore),
            ("bytes=a-b", Ranges::Ignore),
            ("bytes=+0-1", Ranges::Ignore),
            ("bytes=0x0-1", Ranges::Ignore),
            ("bytes=0-1-2", Ranges::Ignore),
            ("bytes=0 -1", Ranges::Ignore),
            ("bytes 0-1", Ranges::Ignore),
            ("items=0-1", Ranges::Ignore),
            ("0-1", Ranges::Ignore),
            ("", Ranges::Ignore),
            (eight, some(&[(0, 1), (10, 11), (20, 21), (30, 31), (40, 41), (50, 51), (60, 61), (70, 71)])),
            (&nine, Ranges::Ignore),
            (&thousand_zeros, Ranges::Ignore),
        ] {
            assert_eq!(ranges(value.as_bytes(), 1000), expected, "{value}");
        }
    }

    #[test]
    fn of_nothing() {
        for (value, expected) in [
            ("bytes=0-", Ranges::Unsatisfiable),
            ("bytes=-1", Ranges::Ignore),
            ("bytes=-0", Ranges::Unsatisfiable),
        ] {
            assert_eq!(ranges(value.as_bytes(), 0), expected, "{value}");
        }
    }

    #[test]
    fn if_range_compares_strongly() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let strong = Validators { etag: b"\"a\"", modified: Some(784_111_777) };
        let weak = Validators { etag: b"W/\"a\"", modified: None };
        for (value, validators, expected) in [
            ("\"a\"", strong, true),
            (" \"a\" ", strong, true),
            ("\"b\"", strong, false),
            ("W/\"a\"", strong, false),
            ("W/\"a\"", weak, false),
            (date, strong, true),
            (date, weak, false),
            ("Sun, 06 Nov 1994 08:49:38 GMT", strong, false),
            ("yesterday", strong, false),
            ("yesterday", weak, false),
            ("", weak, false),
        ] {
            assert_eq!(if_range(value.as_bytes(), validators), expected, "{value} {validators:?}");
        }
    }

    proptest! {
        #[test]
        fn slices_never_leave_the_file_nor_overlap(value in "bytes=([0-9]{0,3}-[0-9]{0,3},?){0,9}", size in 0u64..1200) {
            if let Ranges::Slices(slices) = ranges(value.as_bytes(), size) {
                prop_assert!(!slices.is_empty() && slices.len() <= MOST_RANGES);
                prop_assert!(slices.iter().all(|slice| slice.start < slice.end && slice.end <= size));
                prop_assert!(slices.iter().map(|slice| slice.end - slice.start).sum::<u64>() <= size);
            }
        }
    }
}
