//! Values that are paths of URLs: bandstand's own pages, mounted folders, the application's mount point, `[paths]`.
//!
//! Owns what counts as a URL path in settings: plain characters, so that a path has one spelling and can be compared as bytes. Which
//! request a prefix covers is `paths.rs`, which file a mount gives is the edge's. Invariant: a path it returns has no empty,
//! `.` or `..` segment.

use std::ops::Range;

use super::{Complaint, choice, complain, path, text};
use crate::paths::{PathInterface, PathRules};
use crate::problem::nearest;
use crate::raw::{Raw, What};
use crate::value::Value;

pub(super) fn url_path(raw: &Raw) -> Result<Value, Complaint> {
    if matches!(raw.what, What::Switch(false)) {
        return Ok(Value::Off);
    }
    let text = text(raw)?;
    match text {
        "off" => Ok(Value::Off),
        _ if text.len() > 1 && is_url_path(text) => Ok(Value::Text(text.to_owned())),
        _ => complain(raw, format!("{text:?} is no path below /"), "write it as \"/-/live\", or off"),
    }
}

/// Empty or `/` for none; what is kept has no closing `/`.
pub(super) fn root_path(raw: &Raw) -> Result<Value, Complaint> {
    if matches!(&raw.what, What::Text(text) if ["", "/"].contains(&text.trim())) {
        return Ok(Value::Unset);
    }
    let written = text(raw)?;
    let path = written.strip_suffix('/').unwrap_or(written);
    match path.len() > 1 && is_url_path(path) {
        true => Ok(Value::Text(path.to_owned())),
        false => complain(raw, format!("{written:?} is no path below /"), "write it as \"/shop\""),
    }
}

/// `{ "/prefix" = { interface = "asgi" } }`.
pub(super) fn path_rules(raw: &Raw) -> Result<Value, Complaint> {
    let What::Table(entries) = &raw.what else {
        return complain(raw, format!("{} is not a table", raw.quoted()), "write [paths.\"/api\"]");
    };
    let mut rules = PathRules::default();
    for (prefix, span, value) in entries {
        let at = |sentence: String, hint: &str| Complaint { sentence, hint: hint.into(), span: span.clone() };
        let plain = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix != "/" && !(plain.len() > 1 && is_url_path(plain)) {
            let sentence = format!("{prefix:?} is no path prefix");
            return Err(at(sentence, "write it as [paths.\"/api\"]: it begins with /, without escapes"));
        }
        if let Some(interface) = path_rule(value)?
            && !rules.add(plain, interface)
        {
            return Err(at(format!("{prefix:?} is named twice"), "a closing / makes no difference"));
        }
    }
    Ok(Value::PathRules(rules))
}

/// The table of one prefix.
fn path_rule(raw: &Raw) -> Result<Option<PathInterface>, Complaint> {
    const KEYS: [&str; 1] = ["interface"];
    let What::Table(entries) = &raw.what else {
        let hint = "write interface = \"asgi\" below its heading";
        return complain(raw, format!("{} is not a table", raw.quoted()), hint);
    };
    let mut interface = None;
    for (key, span, value) in entries {
        if !KEYS.contains(&key.as_str()) {
            let hint = nearest(key, KEYS).map_or_else(
                || "the only key here is interface".into(),
                |key| format!("did you mean `{key}`?"),
            );
            return Err(Complaint { sentence: format!("unknown key `{key}`"), hint, span: span.clone() });
        }
        interface = match choice(&["wsgi", "asgi"], value)? {
            Value::Word("wsgi") => Some(PathInterface::Wsgi),
            _ => Some(PathInterface::Asgi),
        };
    }
    Ok(interface)
}

/// A folder, `/url/=folder`, a table of both, or `off`.
pub(super) fn mount(raw: &Raw) -> Result<Value, Complaint> {
    match &raw.what {
        What::Switch(false) => Ok(Value::Off),
        What::Table(entries) => mount_table(raw, entries),
        _ => match text(raw)? {
            "off" => Ok(Value::Off),
            text => match text.split_once('=') {
                Some((url, root)) if url.starts_with('/') && !root.is_empty() => {
                    Ok(Value::Mount { url: Some(prefix(raw, url)?), root: root.into() })
                }
                _ => Ok(Value::Mount { url: None, root: text.into() }),
            },
        },
    }
}

fn mount_table(raw: &Raw, entries: &[(String, Range<usize>, Raw)]) -> Result<Value, Complaint> {
    let (mut url, mut root) = (None, None);
    for (key, span, value) in entries {
        match key.as_str() {
            "url" => url = Some(prefix(value, text(value)?)?),
            "root" => root = Some(path(value)?),
            _ => {
                let sentence = format!("`{key}` is not known here");
                return Err(Complaint {
                    sentence,
                    hint: "the keys are url and root".into(),
                    span: span.clone(),
                });
            }
        }
    }
    match root {
        Some(root) => Ok(Value::Mount { url, root }),
        None => complain(raw, "names no folder", "add root = \"folder\""),
    }
}

/// A URL prefix below `/`, given its closing `/`.
fn prefix(raw: &Raw, url: &str) -> Result<String, Complaint> {
    let url = if url.ends_with('/') { url.to_owned() } else { format!("{url}/") };
    match url.len() > 1 && is_url_path(&url) {
        true => Ok(url),
        false => complain(raw, format!("{url:?} is no URL prefix below /"), "write it as \"/static/\""),
    }
}

/// Begins with one `/`; nothing that needs escaping, no empty, `.` or `..` segment.
fn is_url_path(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/@+:".contains(&b);
    text.starts_with('/')
        && text.bytes().all(plain)
        && !text.contains("//")
        && !text.split('/').any(|segment| segment == "." || segment == "..")
}
