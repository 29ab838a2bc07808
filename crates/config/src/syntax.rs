//! What one written value means: `Raw` in, `Value` out, or a complaint with the part to blame and the way out.
//!
//! Owns the syntax and the range check of every `Kind`; the larger ones have a file of their own. It knows no file and no precedence. Invariant: a `Value` it
//! returns is inside the range of its row.

mod access;
mod fields;
mod https;
mod lists;
mod numbers;
mod ready;
mod rules;
mod urls;

use std::ops::Range;
use std::path::PathBuf;

use crate::app;
use crate::knobs::Kind;
use crate::raw::{Raw, What};
use crate::value::Value;

pub(crate) use access::htpasswd;

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
        Kind::Count { low, high, word } => numbers::count(low, high, word, raw),
        Kind::Duration { low, high, word } => numbers::duration(low, high, word, raw),
        Kind::Size { low, high, word } => numbers::size(low, high, word, raw),
        Kind::Rate { low, high, word } => numbers::rate(low, high, word, raw),
        Kind::Octal => numbers::octal(raw),
        Kind::Text => text_or_number(raw).map(Value::Text),
        Kind::App => app_spec(raw),
        Kind::Module => module(raw),
        Kind::ReadyCheck => ready::read(raw),
        Kind::Path | Kind::Program => path(raw).map(Value::Path),
        Kind::Paths => lists::items(raw)?.iter().map(path).collect::<Result<_, _>>().map(Value::Paths),
        Kind::Destination => destination(raw),
        Kind::UrlPath => urls::url_path(raw),
        Kind::Binds => lists::binds(raw),
        Kind::Networks => lists::networks(raw),
        Kind::Mount => urls::mount(raw),
        Kind::Prefix => urls::root_path(raw),
        Kind::Origins => lists::origins(raw),
        Kind::MediaTypes => lists::media_types(raw),
        Kind::PathRules => rules::read(raw),
        Kind::Protected => urls::protected(raw),
        Kind::Domains => https::domains(raw),
        Kind::Directories => https::directories(raw),
        Kind::Email => https::email(raw),
        Kind::Eab => https::external_account(raw),
        Kind::RequestRate => access::rate(raw),
        Kind::Passwords => access::passwords(raw),
        Kind::Headers => fields::read(raw),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bind::Bind;
    use crate::knobs;
    use crate::networks::Networks;

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
            ("trusted_proxies", What::List(vec![]), Some(Value::Networks(Networks::default()))),
        ] {
            let shown = format!("{key} = {what:?}");
            assert_eq!(read_key(key, what).ok(), wanted, "{shown}");
        }
    }
}
