//! Range: slices inside the representation, none over another, and the bytes a slow reference counts one by one.
//!
//! The first byte is the size, 255 for a very large one; the rest is the field.

use bandstand_semantics::range::{Ranges, ranges};

pub(crate) fn check(data: &[u8]) {
    let Some((&size, value)) = data.split_first() else { return };
    let size = if size == 255 { u64::MAX } else { u64::from(size) };
    let found = ranges(value, size);
    let wanted = slowly(value, size);
    let Ranges::Slices(slices) = &found else {
        assert!(wanted.is_none_or(|wanted| !wanted.contains(&true)), "{found:?}");
        return;
    };
    assert!(!slices.is_empty() && slices.len() <= 8);
    assert!(slices.iter().all(|slice| slice.start < slice.end && slice.end <= size));
    for (index, slice) in slices.iter().enumerate() {
        let apart = |other: &std::ops::Range<u64>| slice.end <= other.start || other.end <= slice.start;
        assert!(slices[index + 1..].iter().all(apart), "{slices:?}");
    }
    if let Some(wanted) = wanted {
        let sent: Vec<bool> =
            (0..wanted.len() as u64).map(|byte| slices.iter().any(|slice| slice.contains(&byte))).collect();
        assert_eq!(sent, wanted);
    }
    let spelled = slices.iter().map(|slice| format!("{}-{}", slice.start, slice.end - 1)).collect::<Vec<_>>();
    assert_eq!(ranges(format!("bytes={}", spelled.join(",")).as_bytes(), size), found, "asked for again");
}

/// Which bytes are asked for, of a small representation and a field without any oddity; `None` where that is not it.
fn slowly(value: &[u8], size: u64) -> Option<Vec<bool>> {
    let specs: Vec<&str> = std::str::from_utf8(value).ok()?.strip_prefix("bytes=")?.split(',').collect();
    if size == 0 || size > 254 || specs.len() > 8 {
        return None;
    }
    let number = |text: &str| {
        let plain = (1..5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| plain)
    };
    let mut wanted = vec![false; usize::try_from(size).ok()?];
    for spec in specs {
        let (first, last) = spec.split_once('-')?;
        let (first, last) = match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last),
            (Some(first), None) if last.is_empty() => (first, size),
            (None, Some(length)) if first.is_empty() && length > 0 => (size.saturating_sub(length), size),
            _ => return None,
        };
        for (byte, wanted) in (0..).zip(&mut wanted) {
            *wanted |= first <= byte && byte <= last;
        }
    }
    Some(wanted)
}
