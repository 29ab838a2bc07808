//! The access line for people: what was asked, how it went, how long it took; in `dev` also who answered, and its SQL.
//!
//! Owns the line's form and colours. Colour never says what words do not. Invariant: one line, whatever a client sent:
//! control characters are escaped.

use std::fmt::Write as _;
use std::time::Duration;

use crate::dev::note::Note;

/// One exchange, for the line.
pub(super) struct Seen<'a> {
    /// `HH:MM:SS`.
    pub(super) clock: &'a str,
    /// Empty: it never became a request.
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    pub(super) worker: Option<u32>,
    pub(super) refusal: Option<&'static str>,
    /// What the worker of `dev` told.
    pub(super) note: Option<&'a Note>,
}

/// From this many statements of one text on, the line says so: most often a list that asks for each of its rows.
const REPEATED: u64 = 10;

const DIM: &str = "\x1b[2m";
const YELLOW: &str = "\x1b[33m";
const OFF: &str = "\x1b[0m";

/// The line, with its end.
pub(super) fn line(seen: &Seen<'_>, colour: bool) -> String {
    let paint = |code: &'static str| if colour { code } else { "" };
    let (dim, off) = (paint(DIM), paint(OFF));
    let mut line = String::with_capacity(200);
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { plain(text) };
    let _ = write!(
        line,
        "{dim}{}{off} {:<4} {} {}{}{off} {} {}",
        seen.clock,
        or_dash(seen.method),
        or_dash(seen.path),
        paint(colour_of(seen.status)),
        seen.status,
        size(seen.bytes),
        time(seen.took.as_secs_f64() * 1e3),
    );
    if let Some(refusal) = seen.refusal {
        let _ = write!(line, " {}({refusal}){off}", paint(YELLOW));
    }
    match seen.note {
        Some(note) => told(&mut line, note, dim, paint(YELLOW), off),
        None => {
            if let Some(worker) = seen.worker {
                let _ = write!(line, " {dim}worker {worker}{off}");
            }
        }
    }
    line.push('\n');
    line
}

fn told(line: &mut String, note: &Note, dim: &str, warn: &str, off: &str) {
    if note.sql > 0 {
        let _ = write!(line, "  {} SQL", note.sql);
        if note.same > REPEATED {
            let _ = write!(line, " {warn}({}× the same){off}", note.same);
        }
        let _ = write!(line, " {}", time(note.sql_ms));
    }
    if let Some(route) = &note.route {
        let _ = write!(line, "  {dim}{}", plain(route));
        if let Some(view) = &note.view {
            let _ = write!(line, " {}", plain(view));
        }
        line.push_str(off);
    }
}

/// By the class of the status.
fn colour_of(status: u16) -> &'static str {
    match status {
        200..=299 => "\x1b[32m",
        300..=399 => "\x1b[36m",
        400..=499 => YELLOW,
        _ => "\x1b[31m",
    }
}

fn size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let bytes_float = bytes as f64;
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes_float / 1e3),
        _ => format!("{:.1} MB", bytes_float / 1e6),
    }
}

fn time(ms: f64) -> String {
    match ms {
        0.0..10.0 => format!("{ms:.1} ms"),
        10.0..10_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1e3),
    }
}

/// What could move a terminal is escaped; letters of any language stay.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => plain.extend(character.escape_default()),
            false => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &'static str, status: u16, note: Option<&'static Note>) -> Seen<'static> {
        Seen {
            clock: "12:34:56",
            method: "GET",
            path,
            status,
            bytes: 12_345,
            took: Duration::from_micros(45_600),
            worker: Some(3),
            refusal: None,
            note,
        }
    }

    static NOTE: std::sync::LazyLock<Note> = std::sync::LazyLock::new(|| Note {
        route: Some("/products/<slug:slug>/".into()),
        view: Some("product".into()),
        sql: 12,
        sql_ms: 3.21,
        same: 11,
    });
    static FEW: std::sync::LazyLock<Note> =
        std::sync::LazyLock::new(|| Note { sql: 3, sql_ms: 15.0, same: 2, ..Note::default() });

    #[test]
    fn lines() {
        for (seen, wanted) in [
            (seen("/", 200, None), "12:34:56 GET  / 200 12.3 kB 46 ms worker 3\n"),
            (
                seen("/products/a/", 200, Some(&NOTE)),
                "12:34:56 GET  /products/a/ 200 12.3 kB 46 ms  12 SQL (11× the same) 3.2 ms  /products/<slug:slug>/ product\n",
            ),
            (seen("/é", 404, Some(&FEW)), "12:34:56 GET  /é 404 12.3 kB 46 ms  3 SQL 15 ms\n"),
            (
                Seen { refusal: Some("bad_path"), worker: None, ..seen("/\x1b[31m\n", 400, None) },
                "12:34:56 GET  /\\u{1b}[31m\\n 400 12.3 kB 46 ms (bad_path)\n",
            ),
            (
                Seen {
                    method: "",
                    bytes: 0,
                    took: Duration::from_secs(12),
                    worker: None,
                    ..seen("", 408, None)
                },
                "12:34:56 -    - 408 0 B 12.0 s\n",
            ),
        ] {
            assert_eq!(line(&seen, false), wanted);
        }
    }

    #[test]
    fn colours_end_where_they_began() {
        for status in [200, 302, 404, 500] {
            let line = line(&seen("/", status, Some(&NOTE)), true);
            assert!(line.contains(&format!("{}{status}{OFF}", colour_of(status))), "{line:?}");
            assert!(line.ends_with(&format!("{OFF}\n")), "{line:?}");
            let codes = line.matches("\x1b[").count();
            assert_eq!(line.matches(OFF).count() * 2, codes, "{line:?}");
        }
    }
}
