//! What one written value means: `Raw` in, `Value` out, or a complaint with the part to blame and the way out.
//!
//! Owns the syntax and the range check of every `Kind`. It knows no key, no file and no precedence. Invariant: a `Value` it
//! returns is inside the range of its row.

mod ready;
mod urls;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::bind::Bind;
use crate::knobs::{Kind, Word};
use crate::proxies::TrustedProxies;
use crate::raw::{Raw, What};
use crate::value::Value;
use crate::{app, origin, units};

/// What is wrong with a value; `span` is empty unless one part of it is to blame.
#[derive(Debug)]
pub(crate) struct Complaint {
    pub(crate) sentence: String,
    pub(crate) hint: String,
    pub(crate) span: Range<usize>,
}

/// Reads `raw` as `kind`.
pub(crate) fn read(kind: Kind, raw: &Raw) -> Result<Value, Complaint> {
    match kind {
        Kind::Switch => switch(raw),
        Kind::Choice(words) => choice(words, raw),
        Kind::Count { low, high, word } => count(low, high, word, raw),
        Kind::Duration { low, high, word } => duration(low, high, word, raw),
        Kind::Size { low, high, word } => size(low, high, word, raw),
        Kind::Rate { low, high, word } => rate(low, high, word, raw),
        Kind::Octal => octal(raw),
        Kind::Text => text_or_number(raw).map(Value::Text),
        Kind::App => app_spec(raw),
        Kind::Module => module(raw),
        Kind::ReadyCheck => ready::read(raw),
        Kind::Path | Kind::Program => path(raw).map(Value::Path),
        Kind::Paths => items(raw)?.iter().map(path).collect::<Result<_, _>>().map(Value::Paths),
        Kind::Destination => destination(raw),
        Kind::UrlPath => urls::url_path(raw),
        Kind::Binds => binds(raw),
        Kind::Proxies => proxies(raw),
        Kind::Mount => urls::mount(raw),
        Kind::Prefix => urls::root_path(raw),
        Kind::Origins => origins(raw),
        Kind::PathRules => urls::path_rules(raw),
    }
}

fn complain<T>(raw: &Raw, sentence: impl Into<String>, hint: impl Into<String>) -> Result<T, Complaint> {
    Err(Complaint { sentence: sentence.into(), hint: hint.into(), span: raw.span.clone() })
}

fn switch(raw: &Raw) -> Result<Value, Complaint> {
    match &raw.what {
        What::Switch(value) => Ok(Value::Switch(*value)),
        What::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Ok(Value::Switch(true)),
            "off" | "false" | "no" | "0" => Ok(Value::Switch(false)),
            _ => complain(raw, format!("{text:?} is neither on nor off"), "write on or off"),
        },
        _ => complain(raw, format!("{} is neither on nor off", raw.quoted()), "write on or off"),
    }
}

fn choice(words: &'static [&'static str], raw: &Raw) -> Result<Value, Complaint> {
    let text = text(raw)?;
    let hint = format!("one of: {}", words.join(", "));
    match words.iter().find(|word| word.eq_ignore_ascii_case(text.trim())) {
        Some(word) => Ok(Value::Word(word)),
        None => complain(raw, format!("{text:?} is not one of the choices"), hint),
    }
}

/// `auto`, `off` or 0, where the row allows the word.
fn in_place_of_a_number(word: Word, raw: &Raw) -> Option<Value> {
    let (spelling, value) = match word {
        Word::None => return None,
        Word::Auto => ("auto", Value::Auto),
        Word::Off => ("off", Value::Off),
    };
    let named = match &raw.what {
        What::Text(text) => text.trim() == spelling || text.trim() == "0",
        What::Integer { value, .. } => *value == 0,
        What::Switch(on) => word == Word::Off && !on,
        _ => false,
    };
    named.then_some(value)
}

fn count(low: u64, high: u64, word: Word, raw: &Raw) -> Result<Value, Complaint> {
    if let Some(value) = in_place_of_a_number(word, raw) {
        return Ok(value);
    }
    let number = match &raw.what {
        What::Integer { value, .. } => u64::try_from(*value).ok(),
        What::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    let hint = format!("a whole number from {low} to {high}{}", or_word(word));
    within(number, low, high, raw, "a whole number", hint, u64::to_string).map(Value::Count)
}

fn duration(low: Duration, high: Duration, word: Word, raw: &Raw) -> Result<Value, Complaint> {
    if let Some(value) = in_place_of_a_number(word, raw) {
        return Ok(value);
    }
    let show = |d: &Duration| units::show_duration(*d);
    let hint = format!(
        "a duration such as \"30s\", \"500ms\" or \"2m\" (plain numbers are seconds), from {} to {}{}",
        show(&low),
        show(&high),
        or_word(word)
    );
    let read = number_text(raw).and_then(|text| units::read_duration(&text));
    within(read, low, high, raw, "a duration", hint, show).map(Value::Duration)
}

fn size(low: u64, high: u64, word: Word, raw: &Raw) -> Result<Value, Complaint> {
    if let Some(value) = in_place_of_a_number(word, raw) {
        return Ok(value);
    }
    let show = |bytes: &u64| units::show_size(*bytes);
    let hint = format!(
        "a size such as \"20MB\" or \"64KiB\" (plain numbers are bytes), from {} to {}{}",
        show(&low),
        show(&high),
        or_word(word)
    );
    let read = number_text(raw).and_then(|text| units::read_size(&text));
    within(read, low, high, raw, "a size", hint, show).map(Value::Size)
}

fn rate(low: u64, high: u64, word: Word, raw: &Raw) -> Result<Value, Complaint> {
    if let Some(value) = in_place_of_a_number(word, raw) {
        return Ok(value);
    }
    let show = |bytes: &u64| units::show_rate(*bytes);
    let hint = format!("a rate such as \"500B/s\", from {} to {}{}", show(&low), show(&high), or_word(word));
    let read = number_text(raw).and_then(|text| units::read_rate(&text));
    within(read, low, high, raw, "a rate", hint, show).map(Value::Rate)
}

fn within<T: PartialOrd>(
    read: Option<T>,
    low: T,
    high: T,
    raw: &Raw,
    noun: &str,
    hint: String,
    show: impl Fn(&T) -> String,
) -> Result<T, Complaint> {
    match read {
        Some(value) if value < low => {
            complain(raw, format!("{} is below the least, {}", raw.quoted(), show(&low)), hint)
        }
        Some(value) if value > high => {
            complain(raw, format!("{} is above the most, {}", raw.quoted(), show(&high)), hint)
        }
        Some(value) => Ok(value),
        None => complain(raw, format!("{} is not {noun}", raw.quoted()), hint),
    }
}

fn or_word(word: Word) -> &'static str {
    match word {
        Word::None => "",
        Word::Auto => ", or auto",
        Word::Off => ", or off",
    }
}

/// A number as text, so that `30`, `1.5` and `"30s"` take one road.
fn number_text(raw: &Raw) -> Option<String> {
    match &raw.what {
        What::Text(text) => Some(text.clone()),
        What::Integer { value, .. } => Some(value.to_string()),
        What::Float(value) => Some(value.to_string()),
        _ => None,
    }
}

fn octal(raw: &Raw) -> Result<Value, Complaint> {
    let hint = "octal digits as text, such as \"022\"";
    let bits = match &raw.what {
        What::Integer { value, octal: true } => u32::try_from(*value).ok(),
        // 18 and 22 are both somebody's 0o22: a decimal number is not guessed at.
        What::Text(text) => u32::from_str_radix(text.trim().trim_start_matches("0o"), 8).ok(),
        _ => None,
    };
    match bits {
        Some(bits) if bits <= 0o777 => Ok(Value::Octal(bits)),
        _ => complain(raw, format!("{} is no file mode", raw.quoted()), hint),
    }
}

fn text(raw: &Raw) -> Result<&str, Complaint> {
    match &raw.what {
        What::Text(text) if text.trim().is_empty() => {
            complain(raw, "is empty", "leave the key out, or give it a value")
        }
        What::Text(text) if text.chars().any(char::is_control) => {
            complain(raw, "has control characters in it", "")
        }
        What::Text(text) => Ok(text),
        _ => complain(raw, format!("{} is not text", raw.quoted()), "write it in quotes"),
    }
}

/// Users and groups may be numbers.
fn text_or_number(raw: &Raw) -> Result<String, Complaint> {
    match &raw.what {
        What::Integer { value, .. } if *value >= 0 => Ok(value.to_string()),
        _ => text(raw).map(|text| text.trim().to_owned()),
    }
}

fn app_spec(raw: &Raw) -> Result<Value, Complaint> {
    let text = text(raw)?.trim();
    match app::check(text) {
        Ok(()) => Ok(Value::Text(text.to_owned())),
        Err((sentence, hint)) => complain(raw, sentence, hint),
    }
}

/// A file is named by its ending, everything else is a module.
fn module(raw: &Raw) -> Result<Value, Complaint> {
    let text = text(raw)?.trim();
    if text.ends_with(".py") {
        return Ok(Value::Path(PathBuf::from(text)));
    }
    match app::is_dotted(text) {
        true => Ok(Value::Text(text.to_owned())),
        false => complain(
            raw,
            format!("{text:?} is neither a module nor a Python file"),
            "write package.module, or a path that ends in .py",
        ),
    }
}

fn path(raw: &Raw) -> Result<PathBuf, Complaint> {
    text(raw).map(PathBuf::from)
}

fn destination(raw: &Raw) -> Result<Value, Complaint> {
    match &raw.what {
        What::Switch(false) => Ok(Value::Off),
        _ => match text(raw)? {
            "off" => Ok(Value::Off),
            path => Ok(Value::Path(PathBuf::from(path))),
        },
    }
}

/// A list as it is; a text split at commas.
fn items(raw: &Raw) -> Result<Vec<Raw>, Complaint> {
    match &raw.what {
        What::List(list) => {
            let mut all = Vec::new();
            for item in list {
                all.extend(items(item)?);
            }
            Ok(all)
        }
        What::Text(text) => Ok(text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| Raw { what: What::Text(part.to_owned()), span: raw.span.clone() })
            .collect()),
        What::Integer { value, .. } => {
            Ok(vec![Raw { what: What::Text(value.to_string()), span: raw.span.clone() }])
        }
        _ => complain(raw, format!("{} is neither text nor a list of texts", raw.quoted()), ""),
    }
}

fn binds(raw: &Raw) -> Result<Value, Complaint> {
    let mut all = Vec::new();
    for item in items(raw)? {
        let hint = "write host:port, :port, [::1]:8000, unix:/path, fd://N or systemd";
        match Bind::parse(text(&item)?) {
            Ok(bind) if all.contains(&bind) && !matches!(bind, Bind::Tcp { port: 0, .. }) => {
                return complain(&item, format!("{} is named twice", item.quoted()), "");
            }
            Ok(bind) => all.push(bind),
            Err(why) => return complain(&item, format!("{} {why}", item.quoted()), hint),
        }
    }
    match all.is_empty() {
        true => complain(raw, "names no address", "name one, such as 127.0.0.1:8000"),
        false => Ok(Value::Binds(all)),
    }
}

fn proxies(raw: &Raw) -> Result<Value, Complaint> {
    let mut all = TrustedProxies::default();
    for item in items(raw)? {
        if let Err(why) = all.add(text(&item)?) {
            let hint = "addresses, networks as 10.0.0.0/8, loopback, private, cloudflare, unix, or *";
            return complain(&item, format!("{} {why}", item.quoted()), hint);
        }
    }
    Ok(Value::Proxies(all))
}

fn origins(raw: &Raw) -> Result<Value, Complaint> {
    let mut all = Vec::new();
    for item in items(raw)? {
        match origin::read(text(&item)?) {
            Ok(origin) if all.contains(&origin) => {}
            Ok(origin) => all.push(origin),
            Err((why, hint)) => return complain(&item, format!("{} {why}", item.quoted()), hint),
        }
    }
    Ok(Value::Texts(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knobs;

    fn read_key(key: &str, what: What) -> Result<Value, Complaint> {
        read(knobs::find(key).unwrap().kind, &Raw { what, span: 0..0 })
    }

    fn text(key: &str, text: &str) -> Option<Value> {
        read_key(key, What::Text(text.to_owned())).ok()
    }

    fn mounted(url: Option<&str>, root: &str) -> Option<Value> {
        Some(Value::Mount { url: url.map(str::to_owned), root: root.into() })
    }

    #[test]
    fn texts() {
        for (key, written, wanted) in [
            ("server_header", "off", Some(Value::Switch(false))),
            ("server_header", "TRUE", Some(Value::Switch(true))),
            ("server_header", "maybe", None),
            ("log", "WARNING", Some(Value::Word("warning"))),
            ("log", "loud", None),
            ("interface", "ASGI", Some(Value::Word("asgi"))),
            ("interface", "uwsgi", None),
            ("tasks", "16384", Some(Value::Count(16_384))),
            ("tasks", "16385", None),
            ("loop", "uvloop", Some(Value::Word("uvloop"))),
            ("websocket_ping", "0", Some(Value::Off)),
            ("websocket_timeout", "0", None),
            ("root_path", "", Some(Value::Unset)),
            ("root_path", "/", Some(Value::Unset)),
            ("root_path", "/shop/", Some(Value::Text("/shop".into()))),
            ("root_path", "shop", None),
            ("root_path", "/a//b", None),
            (
                "websocket_origins",
                "same, https://Example.com:443,https://example.com",
                Some(Value::Texts(vec!["same".into(), "https://example.com".into()])),
            ),
            ("websocket_origins", "example.com", None),
            ("workers", "3", Some(Value::Count(3))),
            ("workers", "auto", Some(Value::Auto)),
            ("workers", "0", Some(Value::Auto)),
            ("workers", "-1", None),
            ("workers", "513", None),
            ("workers", "2.5", None),
            ("threads", "0", None),
            ("timeout", "off", Some(Value::Off)),
            ("timeout", "0", Some(Value::Off)),
            ("timeout", "500ms", None),
            ("idle_timeout", "off", None),
            ("max_body", "0", Some(Value::Size(0))),
            ("max_header_bytes", "1023", None),
            ("body_min_rate", "1KB/s", Some(Value::Rate(1000))),
            ("body_min_rate", "off", Some(Value::Off)),
            ("umask", "022", Some(Value::Octal(0o22))),
            ("umask", "0o27", Some(Value::Octal(0o27))),
            ("umask", "1777", None),
            ("umask", "9", None),
            ("user", " www-data ", Some(Value::Text("www-data".into()))),
            ("user", "", None),
            ("user", "a\nb", None),
            ("access_log", "-", Some(Value::Path("-".into()))),
            ("access_log", "off", Some(Value::Off)),
            ("pythonpath", "a, b", Some(Value::Paths(vec!["a".into(), "b".into()]))),
            ("health_path", "/live", Some(Value::Text("/live".into()))),
            ("health_path", "live", None),
            ("health_path", "/", None),
            ("health_path", "/a/../b", None),
            ("health_path", "/a?b", None),
            ("static", "off", Some(Value::Off)),
            ("static", "staticfiles", mounted(None, "staticfiles")),
            ("static", "/srv/static", mounted(None, "/srv/static")),
            ("static", "/static/=out", mounted(Some("/static/"), "out")),
            ("static", "/assets=/srv/a", mounted(Some("/assets/"), "/srv/a")),
            ("static", "/=out", None),
            ("static", "//cdn/=out", None),
            ("bind", ":80,:80", None),
            ("bind", "a:0, a:0", Some(Value::Binds(vec![Bind::parse("a:0").unwrap(); 2]))),
            ("bind", ",", None),
        ] {
            assert_eq!(text(key, written), wanted, "{key} = {written:?}");
        }
    }

    #[test]
    fn numbers_switches_and_dates() {
        let integer = |value| What::Integer { value, octal: false };
        for (key, what, wanted) in [
            ("timeout", integer(30), Some(Value::Duration(Duration::from_secs(30)))),
            ("timeout", What::Float(1.5), Some(Value::Duration(Duration::from_millis(1500)))),
            ("timeout", What::Float(f64::NAN), None),
            ("timeout", What::Float(-1.0), None),
            ("timeout", What::Switch(false), Some(Value::Off)),
            ("timeout", What::Switch(true), None),
            ("timeout", What::Date, None),
            ("max_body", integer(-1), None),
            ("max_body", integer(i64::MAX), None),
            ("umask", integer(22), None),
            ("umask", What::Integer { value: 0o22, octal: true }, Some(Value::Octal(0o22))),
            ("user", integer(1000), Some(Value::Text("1000".into()))),
            ("pid", integer(1), None),
            ("static", What::Switch(false), Some(Value::Off)),
            ("static", What::List(vec![]), None),
            ("static", What::Table(vec![]), None),
            ("bind", integer(8080), Some(Value::Binds(vec![Bind::parse("8080").unwrap()]))),
            ("bind", What::List(vec![]), None),
            ("trusted_proxies", What::List(vec![]), Some(Value::Proxies(TrustedProxies::default()))),
        ] {
            let shown = format!("{key} = {what:?}");
            assert_eq!(read_key(key, what).ok(), wanted, "{shown}");
        }
    }
}
