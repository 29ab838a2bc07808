//! Durations, sizes and rates as people write them, and back.
//!
//! Owns the units: `ms s m h d` for time; `B`, decimal `KB MB GB TB`, binary `KiB MiB GiB TiB` for sizes, and the bare
//! letters `K M G T`, binary as in nginx, systemd and Docker. A plain number is seconds or bytes. Ranges are the caller's.
//! Invariant: what `show_*` prints, `read_*` reads back to the same value (durations in whole milliseconds).

use std::time::Duration;

use crate::access::Rate;

/// `"30s"`, `"1.5m"`, `"500ms"`, `"30"` → duration, kept in whole milliseconds.
pub(crate) fn read_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    scale(number, milliseconds).map(Duration::from_millis)
}

/// `"20MB"`, `"64KiB"`, `"1G"`, `"1024"` → bytes.
pub(crate) fn read_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let same = |name: &str| name.eq_ignore_ascii_case(unit);
    let bytes = match unit {
        "" | "B" | "b" => 1,
        _ => SIZES.iter().find(|(name, other, _)| same(name) || same(other))?.2,
    };
    scale(number, bytes)
}

/// `"500B/s"`, `"64KiB/s"`, `"500"` → bytes a second.
pub(crate) fn read_rate(text: &str) -> Option<u64> {
    let text = text.trim();
    read_size(text.strip_suffix("/s").unwrap_or(text))
}

/// `"10/s"`, `"100/m burst 20"` → requests, time, burst: each number from 1 to 1,000,000, the burst as many as the requests unless said.
pub(crate) fn read_request_rate(text: &str) -> Option<(u32, Duration, u32)> {
    let (rate, burst) = match text.split_once("burst") {
        Some((rate, burst)) if rate.ends_with(char::is_whitespace) => (rate, Some(burst)),
        Some(_) => return None,
        None => (text, None),
    };
    let number = |text: &str| {
        let digits = text.trim();
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|number| plain && (1..=1_000_000).contains(number))
    };
    let (requests, unit) = rate.split_once('/')?;
    let per = PERIODS.iter().find(|(names, _)| names.contains(&unit.trim()))?.1;
    let requests = number(requests)?;
    let burst = burst.map_or(Some(requests), number)?;
    Some((requests, Duration::from_secs(per), burst))
}

/// `10/s`, `10/s burst 20`.
pub(crate) fn show_request_rate(rate: Rate) -> String {
    let seconds = rate.per.as_secs();
    let unit = PERIODS.iter().find(|(_, per)| *per == seconds).map_or("s", |(names, _)| names[0]);
    match rate.burst == rate.requests {
        true => format!("{}/{unit}", rate.requests),
        false => format!("{}/{unit} burst {}", rate.requests, rate.burst),
    }
}

/// Names, the shortest first, and seconds.
const PERIODS: &[(&[&str], u64)] = &[
    (&["s", "sec", "second"], 1),
    (&["m", "min", "minute"], 60),
    (&["h", "hour"], 3_600),
    (&["d", "day"], 86_400),
];

/// `30s`, `500ms`, `24h`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        0 => "0s".to_owned(),
        _ if milliseconds.is_multiple_of(3_600_000) => format!("{}h", milliseconds / 3_600_000),
        _ if milliseconds.is_multiple_of(1_000) => format!("{}s", milliseconds / 1_000),
        _ => format!("{milliseconds}ms"),
    }
}

/// `20MB`, `64KiB`, `1234B`: the largest unit that divides the size.
pub(crate) fn show_size(bytes: u64) -> String {
    let fits = |(_, _, unit): &&(&str, &str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    match SIZES.iter().filter(fits).max_by_key(|(_, _, unit)| *unit) {
        Some((name, _, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// `500B/s`.
pub(crate) fn show_rate(bytes: u64) -> String {
    format!("{}/s", show_size(bytes))
}

/// Name to print, other name, bytes. Names are read in any case.
const SIZES: &[(&str, &str, u64)] = &[
    ("KB", "", 1_000),
    ("KiB", "K", 1 << 10),
    ("MB", "", 1_000_000),
    ("MiB", "M", 1 << 20),
    ("GB", "", 1_000_000_000),
    ("GiB", "G", 1 << 30),
    ("TB", "", 1_000_000_000_000),
    ("TiB", "T", 1 << 40),
];

/// Number and unit, without the blanks around them. A sign, an exponent or an empty number is no number.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    number.starts_with(|c: char| c.is_ascii_digit()).then_some((number, unit.trim_start()))
}

/// `number` (digits, `_` between them, at most one point) times `unit`, exact for whole numbers, cut for fractions.
fn scale(number: &str, unit: u64) -> Option<u64> {
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let whole: u64 = whole.parse().ok()?;
    // Nine digits are finer than any unit here, and keep the product below within 128 bits.
    if fraction.len() > 9 || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let part = match fraction {
        "" => 0,
        digits => digits.parse::<u64>().ok()? as u128 * unit as u128 / 10u128.pow(digits.len() as u32),
    };
    whole.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("30s", Some(30_000)),
            ("30", Some(30_000)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("1.5m", Some(90_000)),
            ("0.25", Some(250)),
            ("1h", Some(3_600_000)),
            ("2 d", Some(172_800_000)),
            ("0", Some(0)),
            ("1_000ms", Some(1_000)),
            (" 3s ", Some(3_000)),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.s", None),
            ("1.2.3s", None),
            ("1e3", None),
            ("3S", None),
            ("5 parsecs", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("１s", None),
        ] {
            assert_eq!(read_duration(text), milliseconds.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("20MB", Some(20_000_000)),
            ("20mb", Some(20_000_000)),
            ("64KiB", Some(65_536)),
            ("64k", Some(65_536)),
            ("1G", Some(1 << 30)),
            ("1.5GiB", Some(3 << 29)),
            ("2TB", Some(2_000_000_000_000)),
            ("1048576", Some(1_048_576)),
            ("10B", Some(10)),
            ("10 MB", Some(10_000_000)),
            ("0", Some(0)),
            ("20 apples", None),
            ("MB", None),
            ("-5MB", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(read_size(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn rates() {
        for (text, rate) in [
            ("500B/s", Some(500)),
            ("500", Some(500)),
            ("64KiB/s", Some(65_536)),
            ("500B/m", None),
            ("/s", None),
        ] {
            assert_eq!(read_rate(text), rate, "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for (bytes, shown) in [
            (0, "0B"),
            (1, "1B"),
            (1000, "1KB"),
            (1024, "1KiB"),
            (20_000_000, "20MB"),
            (262_144, "256KiB"),
            (1 << 30, "1GiB"),
            (1_234_567, "1234567B"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(show_size(bytes), shown);
            assert_eq!(read_size(shown), Some(bytes));
        }
        for milliseconds in [0, 1, 500, 1_000, 75_000, 90_000, 3_600_000, 3_600_001, 86_400_000] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(read_duration(&show_duration(duration)), Some(duration));
        }
    }
}
