//! Values that are paths of URLs: bandstand's own pages, mounted and protected folders, the application's mount point.
//!
//! Owns what counts as a URL path in settings: plain characters, so that a path has one spelling and can be compared as bytes. Which
//! request a prefix covers is `paths.rs`, which file a mount gives is the edge's. Invariant: a path it returns has no empty,
//! `.` or `..` segment.

use std::ops::Range;
use std::path::PathBuf;

use super::{Complaint, complain, path, text};
use crate::raw::{Raw, What};
use crate::settings::Protected;
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

/// One folder, which is that of `/protected/`; `/url/=folder`; several of these; or a table of URL and folder.
pub(super) fn protected(raw: &Raw) -> Result<Value, Complaint> {
    let entries: Vec<(Raw, String, PathBuf)> = match &raw.what {
        What::Switch(false) => return Ok(Value::Off),
        What::Text(text) if text == "off" => return Ok(Value::Off),
        What::Table(entries) => {
            let read = entries.iter().map(|(url, span, root)| {
                let key = Raw { what: What::Text(url.clone()), span: span.clone() };
                Ok((key.clone(), prefix(&key, url)?, path(root)?))
            });
            read.collect::<Result<_, _>>()?
        }
        What::List(items) => items.iter().map(protected_folder).collect::<Result<_, _>>()?,
        _ => vec![protected_folder(raw)?],
    };
    let mut all: Vec<Protected> = Vec::new();
    for (written, url, root) in entries {
        if all.iter().any(|other| other.url == url) {
            return complain(
                &written,
                format!("{url:?} is named twice"),
                "give each folder a URL of its own",
            );
        }
        let at = all.partition_point(|other| other.url.len() >= url.len());
        all.insert(at, Protected { url, root });
    }
    Ok(Value::Protected(all))
}

fn protected_folder(raw: &Raw) -> Result<(Raw, String, PathBuf), Complaint> {
    let written = text(raw)?;
    Ok(match written.split_once('=') {
        Some((url, root)) if url.starts_with('/') && !root.is_empty() => {
            (raw.clone(), prefix(raw, url)?, root.into())
        }
        _ => (raw.clone(), "/protected/".to_owned(), written.into()),
    })
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
pub(super) fn is_url_path(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/@+:".contains(&b);
    text.starts_with('/')
        && text.bytes().all(plain)
        && !text.contains("//")
        && !text.split('/').any(|segment| segment == "." || segment == "..")
}
