//! Values that are lists: in a file `[…]`, in a flag or variable separated by commas.
//!
//! Owns the splitting, and what the items of most lists may be: addresses, networks, origins, media types. Invariant: no item is
//! there twice where twice would mean nothing.

use super::{Complaint, complain, text};
use crate::bind::Bind;
use crate::networks::Networks;
use crate::origin;
use crate::raw::{Raw, What};
use crate::value::Value;

/// A list as it is; a text split at commas.
pub(super) fn items(raw: &Raw) -> Result<Vec<Raw>, Complaint> {
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

pub(super) fn binds(raw: &Raw) -> Result<Value, Complaint> {
    let mut all = Vec::new();
    for item in items(raw)? {
        let hint = "write host:port, :port, https://host:port, unix:/path, fd://N or systemd";
        match Bind::parse(text(&item)?) {
            Ok(bind)
                if all.iter().any(|other: &Bind| other.is_at(&bind))
                    && !matches!(bind, Bind::Tcp { port: 0, .. }) =>
            {
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

pub(super) fn networks(raw: &Raw) -> Result<Value, Complaint> {
    let mut all = Networks::default();
    for item in items(raw)? {
        if let Err(why) = all.add(text(&item)?) {
            let hint =
                "addresses, networks as 10.0.0.0/8, loopback, private, aws-alb, cloudflare, unix, or *";
            return complain(&item, format!("{} {why}", item.quoted()), hint);
        }
    }
    Ok(Value::Networks(all))
}

pub(super) fn origins(raw: &Raw) -> Result<Value, Complaint> {
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

/// `type/subtype` or `type/*` in lower case (RFC 9110 section 8.3.1).
pub(super) fn media_types(raw: &Raw) -> Result<Value, Complaint> {
    let mut all: Vec<String> = Vec::new();
    for item in items(raw)? {
        let written = text(&item)?.to_ascii_lowercase();
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+.!#$&^_".contains(&b))
        };
        let fits =
            written.split_once('/').is_some_and(|(kind, sub)| plain(kind) && (sub == "*" || plain(sub)));
        if !fits {
            let hint = "write type/subtype without parameters, such as text/html, or text/*";
            return complain(&item, format!("{} is no media type", item.quoted()), hint);
        }
        if !all.contains(&written) {
            all.push(written);
        }
    }
    Ok(Value::Texts(all))
}
