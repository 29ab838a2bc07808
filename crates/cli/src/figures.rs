//! Numbers as people read them: times, sizes, counts, and tables of them.
//!
//! Owns the choice of unit and the width of columns. Pure. A figure has two or three digits that matter: who wants more asks for JSON.

use std::time::Duration;

/// `420 µs`, `1.2 ms`, `12 ms`, `3.2 s`, `75 s`, `12 min`, `3 h 12 min`, `8 d 3 h`.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s < 0.000_999_5 => format!("{:.0} µs", s * 1e6),
        s if s < 0.009_95 => format!("{:.1} ms", s * 1e3),
        s if s < 0.999_5 => format!("{:.0} ms", s * 1e3),
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{} min", s as u64 / 60),
        s if s < 172_800.0 => format!("{} h {} min", s as u64 / 3_600, s as u64 % 3_600 / 60),
        s => format!("{} d {} h", s as u64 / 86_400, s as u64 % 86_400 / 3_600),
    }
}

/// As [`time`], of seconds from JSON; what no time can be is none.
pub(crate) fn seconds(seconds: f64) -> String {
    time(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// `512 B`, `9.5 kB`, `58 MB`, `1.2 GB`; powers of 1000.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    if value < 9.95 && unit != "B" { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// `12,345`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A rate, a second: `0`, `0.4`, `12`, `1,234`.
pub(crate) fn rate(rate: f64) -> String {
    match rate {
        rate if rate <= 0.0 || !rate.is_finite() => "0".to_owned(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate => count(rate.round() as u64),
    }
}

/// `1 worker`, `3 workers`.
pub(crate) fn many(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// What came from a client, for a terminal: nothing that moves the cursor, and not too long.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut shown: String = text.chars().take(most).map(clean).collect();
    if text.chars().nth(most).is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// Columns, two spaces apart; those whose heading begins with `>` are to the right. No line ends in spaces.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let names: Vec<&str> = headings.iter().map(|heading| heading.trim_start_matches('>')).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([names[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).zip(headings).map(|((cell, width), heading)| {
            if heading.starts_with('>') { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut shown = line(&mut names.iter().copied());
    for row in rows {
        shown += &line(&mut row.iter().map(String::as_str));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (us, wanted) in [
            (0, "0 µs"),
            (420, "420 µs"),
            (999, "999 µs"),
            (1_000, "1.0 ms"),
            (9_940, "9.9 ms"),
            (9_960, "10 ms"),
            (999_400, "999 ms"),
            (999_600, "1.0 s"),
            (3_210_000, "3.2 s"),
            (75_000_000, "75 s"),
            (725_000_000, "12 min"),
            (11_520_000_000, "3 h 12 min"),
            (702_000_000_000, "8 d 3 h"),
        ] {
            assert_eq!(time(Duration::from_micros(us)), wanted, "{us} µs");
        }
        assert_eq!(seconds(-1.0), "0 µs");
        assert_eq!(seconds(f64::NAN), "0 µs");
    }

    #[test]
    fn sizes_counts_and_rates() {
        for (size, wanted) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_960, "10 kB"),
            (58_400_000, "58 MB"),
            (1_240_000_000, "1.2 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(bytes(size), wanted);
        }
        for (number, wanted) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), wanted);
        }
        for (number, wanted) in
            [(0.0, "0"), (-3.0, "0"), (0.44, "0.4"), (12.4, "12"), (1234.0, "1,234"), (f64::INFINITY, "0")]
        {
            assert_eq!(rate(number), wanted);
        }
    }

    #[test]
    fn nothing_from_a_client_moves_the_cursor() {
        assert_eq!(plain("/a\u{1b}[2Jb\r\n", 20), "/a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(plain("/long/path", 6), "/long…");
        assert_eq!(plain("/exact", 6), "/exact");
    }

    #[test]
    fn tables() {
        let rows = [
            vec!["1".to_owned(), "ready".to_owned(), String::new()],
            vec!["12".to_owned(), "x".to_owned(), "y".to_owned()],
        ];
        assert_eq!(
            table(&[">worker", "state", "runs"], &rows),
            "worker  state  runs\n     1  ready\n    12  x      y\n"
        );
    }
}
