//! How a value of gunicorn's becomes one of ours.
//!
//! Owns the differences of meaning and range: 0 that says "no limit", umasks as numbers, addresses without a port. What comes out is
//! checked like any written value. Invariant: a value outside our range is brought inside with a sentence where gunicorn accepts it.

use serde_json::Value as Json;

use crate::raw::{Raw, What};

/// The value and a note, `None` when it says nothing, or what is wrong with it.
pub(crate) type Read = Result<Option<(What, Option<String>)>, String>;

/// One way of reading.
pub(crate) type Reading = fn(&Json) -> Read;

fn said(what: What) -> Read {
    Ok(Some((what, None)))
}

fn integer(value: i64) -> What {
    What::Integer { value, octal: false }
}

/// As it is. `None` is gunicorn's way to say nothing.
pub(crate) fn same(value: &Json) -> Read {
    match value {
        Json::Null => Ok(None),
        other => said(what(other)?),
    }
}

/// As it is; an empty text says nothing.
pub(crate) fn text(value: &Json) -> Read {
    match value {
        Json::Null => Ok(None),
        Json::String(text) if text.is_empty() => Ok(None),
        Json::String(text) => said(What::Text(text.clone())),
        Json::Number(number) => said(What::Text(number.to_string())),
        other => Err(format!("{other} is not text")),
    }
}

/// Gunicorn writes no access log unless told, and `None` in a file tells it so.
pub(crate) fn destination(value: &Json) -> Read {
    match value {
        Json::Null => said(What::Text("off".to_owned())),
        other => text(other),
    }
}

/// Gunicorn takes `critical` and, by way of `logging`, `warn`.
pub(crate) fn level(value: &Json) -> Read {
    match value.as_str().map(str::to_ascii_lowercase).as_deref() {
        Some("critical" | "fatal") => said(What::Text("error".to_owned())),
        Some("warn") => said(What::Text("warning".to_owned())),
        _ => text(value),
    }
}

/// A number as `int(text, 0)` of Python reads it.
pub(crate) fn umask(value: &Json) -> Read {
    let bits = match value {
        Json::Null => return Ok(None),
        Json::Number(number) => number.as_i64(),
        Json::String(text) => match text.get(..2) {
            Some("0o" | "0O") => i64::from_str_radix(&text[2..], 8).ok(),
            Some("0x" | "0X") => i64::from_str_radix(&text[2..], 16).ok(),
            _ => text.parse().ok(),
        },
        _ => None,
    };
    let bits = bits.ok_or_else(|| format!("{value} is no file mode"))?;
    said(What::Integer { value: bits, octal: true })
}

/// 0 closes every connection after its answer with gunicorn; the shortest time is the nearest to it.
pub(crate) fn keepalive(value: &Json) -> Read {
    match value.as_i64() {
        Some(0) => {
            Ok(Some((integer(1), Some("0 is read as one second of idle_timeout, the least".to_owned()))))
        }
        _ => same(value),
    }
}

/// Between 8 and 1000 here.
pub(crate) fn field_count(value: &Json) -> Read {
    match value.as_i64() {
        Some(count) if count > 1000 => {
            Ok(Some((integer(1000), Some(format!("{count} is read as max_headers 1000, the most")))))
        }
        Some(count @ 0..8) => {
            Ok(Some((integer(8), Some(format!("{count} is read as max_headers 8, the least")))))
        }
        _ => same(value),
    }
}

/// Gunicorn limits the request line and each field; here there is one limit for the whole head, and it is only ever raised.
pub(crate) fn head_bytes(value: &Json) -> Read {
    const DEFAULT: i64 = 16 << 10;
    const MOST: i64 = 256 << 10;
    match value.as_i64() {
        Some(0) => {
            Ok(Some((integer(MOST), Some("0 is read as max_header_bytes 256KiB, the most".to_owned()))))
        }
        Some(bytes) if bytes > MOST => {
            Ok(Some((integer(MOST), Some(format!("{bytes} is read as max_header_bytes 256KiB, the most")))))
        }
        Some(bytes) if bytes > DEFAULT => said(integer(bytes)),
        Some(0..) => Ok(None),
        _ => Err(format!("{value} is not a number of bytes")),
    }
}

/// Threads and workers of 0 are gunicorn's way to say the least.
pub(crate) fn at_least_one(value: &Json) -> Read {
    match value.as_i64() {
        Some(0) => said(integer(1)),
        _ => same(value),
    }
}

/// Addresses with gunicorn's own defaults: port 8000, and every IPv4 address before a bare `:port`.
pub(crate) fn binds(value: &Json) -> Read {
    let all = texts(value).ok_or_else(|| format!("{value} is neither an address nor a list of them"))?;
    let all: Vec<Raw> =
        all.iter().flat_map(|text| text.split(',')).map(|one| Raw::text(&bind(one.trim()))).collect();
    if all.is_empty() { Ok(None) } else { said(What::List(all)) }
}

fn bind(text: &str) -> String {
    let text = text.strip_prefix("tcp://").unwrap_or(text);
    if let Some(path) = text.strip_prefix("unix:") {
        return format!("unix:{}", path.strip_prefix("//").unwrap_or(path));
    }
    if text.starts_with("fd://") {
        return text.to_owned();
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, "8000"),
    };
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    format!("{host}:{port}")
}

/// Methods of gunicorn's reloader in words of `watch_method`.
pub(crate) fn reload_engine(value: &Json) -> Read {
    match value.as_str() {
        Some("inotify") => said(What::Text("native".to_owned())),
        _ => text(value),
    }
}

/// HTTP/1.1 is always spoken, and HTTP/2 offered unless `http2` says no: only HTTP/3 is a matter of asking.
pub(crate) fn protocols(value: &Json) -> Read {
    let all = texts(value).ok_or_else(|| format!("{value} is no list of protocols"))?;
    let mut all = all.iter().flat_map(|text| text.split(',')).map(str::trim);
    if all.any(|protocol| protocol.eq_ignore_ascii_case("h3")) { said(What::Switch(true)) } else { Ok(None) }
}

/// `ssl.CERT_NONE`, `CERT_OPTIONAL`, `CERT_REQUIRED`.
pub(crate) fn certificate_requirement(value: &Json) -> Read {
    match value.as_i64() {
        Some(0) => Ok(None),
        Some(1) => said(What::Text("optional".to_owned())),
        Some(2) => said(What::Text("required".to_owned())),
        _ if value.is_null() => Ok(None),
        _ => Err(format!("{value} is none of 0, 1 and 2")),
    }
}

/// `off`, or the versions that are taken: both are, here.
pub(crate) fn proxy_protocol(value: &Json) -> Read {
    match value {
        Json::Null => Ok(None),
        Json::Bool(on) => said(What::Switch(*on)),
        Json::String(text) => match text.to_ascii_lowercase().as_str() {
            "" | "off" | "false" | "none" | "0" => Ok(None),
            "v1" | "v2" | "auto" | "true" | "on" | "1" => said(What::Switch(true)),
            _ => Err(format!("{text:?} is none of off, v1, v2 and auto")),
        },
        _ => Err(format!("{value} is none of off, v1, v2 and auto")),
    }
}

/// A text, or a list of texts.
pub(crate) fn texts(value: &Json) -> Option<Vec<String>> {
    match value {
        Json::Null => Some(Vec::new()),
        Json::String(text) => Some(vec![text.clone()]),
        Json::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn what(value: &Json) -> Result<What, String> {
    Ok(match value {
        Json::Bool(on) => What::Switch(*on),
        Json::String(text) => What::Text(text.clone()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => integer(value),
            (None, Some(value)) => What::Float(value),
            (None, None) => return Err(format!("{number} is no number")),
        },
        Json::Array(items) => What::List(
            items
                .iter()
                .map(|item| what(item).map(|what| Raw { what, span: 0..0 }))
                .collect::<Result<_, _>>()?,
        ),
        Json::Null | Json::Object(_) => return Err(format!("{value} has no meaning here")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn readings() {
        let rows: &[(Reading, Json, Option<&str>)] = &[
            (same, json!(null), Some("none")),
            (same, json!(3), Some("3")),
            (same, json!({}), None),
            (text, json!(""), Some("none")),
            (text, json!(true), None),
            (destination, json!(null), Some("\"off\"")),
            (destination, json!("-"), Some("\"-\"")),
            (protocols, json!("h2,h1"), Some("none")),
            (protocols, json!(["h3", "h1"]), Some("true")),
            (protocols, json!(3), None),
            (certificate_requirement, json!(0), Some("none")),
            (certificate_requirement, json!(1), Some("\"optional\"")),
            (certificate_requirement, json!(3), None),
            (proxy_protocol, json!("off"), Some("none")),
            (proxy_protocol, json!("v2"), Some("true")),
            (proxy_protocol, json!("v3"), None),
            (level, json!("CRITICAL"), Some("\"error\"")),
            (level, json!("warn"), Some("\"warning\"")),
            (level, json!("info"), Some("\"info\"")),
            (umask, json!(18), Some("0o22")),
            (umask, json!("0o27"), Some("0o27")),
            (umask, json!("0x1f"), Some("0o37")),
            (umask, json!("18"), Some("0o22")),
            (umask, json!("ü"), None),
            (umask, json!([]), None),
            (keepalive, json!(0), Some("1")),
            (keepalive, json!(5), Some("5")),
            (field_count, json!(5000), Some("1000")),
            (field_count, json!(3), Some("8")),
            (field_count, json!(200), Some("200")),
            (head_bytes, json!(4094), Some("none")),
            (head_bytes, json!(0), Some("262144")),
            (head_bytes, json!(32768), Some("32768")),
            (head_bytes, json!(9999999), Some("262144")),
            (head_bytes, json!(-1), None),
            (at_least_one, json!(0), Some("1")),
            (reload_engine, json!("inotify"), Some("\"native\"")),
        ];
        for (read, value, wanted) in rows {
            let got = read(value)
                .ok()
                .map(|read| read.map_or("none".to_owned(), |(what, _)| Raw { what, span: 0..0 }.quoted()));
            assert_eq!(got.as_deref(), *wanted, "{value}");
        }
    }

    #[test]
    fn addresses() {
        for (written, wanted) in [
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            (":8080", "0.0.0.0:8080"),
            ("0.0.0.0", "0.0.0.0:8000"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]", "[::1]:8000"),
            ("tcp://a:1", "a:1"),
            ("unix:/run/x", "unix:/run/x"),
            ("unix:///run/x", "unix:/run/x"),
            ("unix:x.sock", "unix:x.sock"),
            ("fd://3", "fd://3"),
        ] {
            assert_eq!(bind(written), wanted);
        }
    }
}
