//! Events and the app's lines: how they look, and where they go.
//!
//! Owns the tracing subscriber. JSON is one object a line with `time`, `level`, `message`, and the event's fields; the
//! pretty form is for people at a terminal. Events go to standard error, access records (`record`) where the settings
//! say. Control characters in either form are escaped: a line of the log is always one line.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use bandstand_config::{Level, LogFormat};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, registry::LookupSpan, reload};

use super::sink::{Sink, Target};

static EVENTS: OnceLock<Sink> = OnceLock::new();
static FILTER: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();
/// Whether lines are JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// Starts the log of events; a second call changes how it looks from now on.
///
/// # Errors
/// Its thread cannot be started.
pub(crate) fn start(level: Level, format: LogFormat) -> std::io::Result<()> {
    let terminal = std::io::stderr().is_terminal();
    JSON.store(is_json(format, terminal), Ordering::Relaxed);
    let level = match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warning => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    };
    if let Some(filter) = FILTER.get() {
        // It is gone only with the program.
        let _ = filter.modify(|filter| *filter = level);
        return Ok(());
    }
    let (sink, _thread) = Sink::open(&Target::Stderr, None)?;
    let (filter, handle) = reload::Layer::new(level);
    let layer = Lines { sink: sink.clone(), terminal };
    if tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().is_ok() {
        let _ = (EVENTS.set(sink), FILTER.set(handle));
    }
    Ok(())
}

/// Waits until every event is written.
pub(crate) fn flush() {
    if let Some(sink) = EVENTS.get() {
        sink.flush();
    }
}

/// Whether `auto` means JSON here.
pub(crate) fn is_json(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    }
}

struct Lines {
    sink: Sink,
    terminal: bool,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut seen = Seen::default();
        event.record(&mut seen);
        let level = *event.metadata().level();
        let mut line = String::with_capacity(160);
        let time = rfc3339(SystemTime::now());
        if JSON.load(Ordering::Relaxed) {
            json_line(&mut line, &time, level, event.metadata().target(), &seen);
        } else {
            pretty_line(&mut line, &time, level, event.metadata().target(), &seen, self.terminal);
        }
        line.push('\n');
        self.sink.line(line.into_bytes());
    }
}

#[derive(Default)]
struct Seen {
    message: String,
    fields: Vec<(&'static str, String, bool)>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.fields.push((field.name(), format!("{value:?}"), false));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.fields.push((field.name(), value.to_owned(), false));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), value.to_string(), true));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), value.to_string(), true));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), value.to_string(), true));
    }
}

fn json_line(line: &mut String, time: &str, level: tracing::Level, target: &str, seen: &Seen) {
    let source = if target == "app" { "app" } else { "bandstand" };
    let level = level.as_str().to_ascii_lowercase();
    let _ = write!(line, "{{\"time\":\"{time}\",\"level\":\"{level}\",\"source\":\"{source}\"");
    for (name, value, bare) in &seen.fields {
        let _ = write!(line, ",\"{name}\":");
        if *bare { line.push_str(value) } else { json_string(line, value) }
    }
    line.push_str(",\"message\":");
    json_string(line, &seen.message);
    line.push('}');
}

fn pretty_line(
    line: &mut String,
    time: &str,
    level: tracing::Level,
    target: &str,
    seen: &Seen,
    colour: bool,
) {
    let clock = time.get(11..19).unwrap_or(time);
    if target == "app" {
        let of = |wanted| {
            seen.fields.iter().find(|(name, ..)| *name == wanted).map_or("?", |(_, v, _)| v.as_str())
        };
        let _ = write!(line, "{clock} worker {} {} | ", of("worker"), of("stream"));
        return plain(line, &seen.message);
    }
    let (on, off) = match level {
        tracing::Level::ERROR if colour => ("\x1b[31m", "\x1b[0m"),
        tracing::Level::WARN if colour => ("\x1b[33m", "\x1b[0m"),
        _ => ("", ""),
    };
    let _ = write!(line, "{clock} {on}{:<5}{off} ", level.as_str().to_ascii_lowercase());
    // Tracebacks keep their lines here; they come from the project itself, not from a client.
    for (at, part) in seen.message.split('\n').enumerate() {
        if at > 0 {
            line.push_str("\n    ");
        }
        plain(line, part);
    }
    for (name, value, _) in &seen.fields {
        let _ = write!(line, " {name}=");
        plain(line, value);
    }
}

fn plain(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            let _ = write!(line, "\\x{:02x}", character as u32);
        } else {
            line.push(character);
        }
    }
}

/// Appends a JSON string (RFC 8259 §7); DEL and C1 controls are escaped as well, they move terminals.
pub(crate) fn json_string(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            control if control.is_control() => {
                let _ = write!(line, "\\u{:04x}", control as u32);
            }
            other => line.push(other),
        }
    }
    line.push('"');
}

/// RFC 3339 in UTC with milliseconds, as `2026-11-21T08:00:00.000Z`.
pub(crate) fn rfc3339(now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days as i64);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// Days since 1970-01-01 to a date of the proleptic Gregorian calendar, by eras of 400 years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_795_219_200, "2026-11-21T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn control_characters_never_make_a_line() {
        let mut line = String::new();
        json_string(&mut line, "a\"b\\c\nd\x1b[31m\u{9b}\x7f\r");
        assert_eq!(line, "\"a\\\"b\\\\c\\nd\\u001b[31m\\u009b\\u007f\\u000d\"");
        assert!(serde_json::from_str::<String>(&line).is_ok());
        let mut line = String::new();
        plain(&mut line, "a\nb\x1b");
        assert_eq!(line, "a\\x0ab\\x1b");
    }
}
