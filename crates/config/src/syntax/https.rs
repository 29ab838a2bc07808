//! Values that say which names have certificates, and who makes them.
//!
//! Owns the spelling of names and of authorities. Whether a name leads here is found out by the preflight, not by its letters.
//! Invariant: names are in lower case and in ASCII, as they stand in certificates and in SNI.
//! Source: RFC 1123 section 2.1, RFC 5890 section 2.3.1 (names), RFC 8555 section 7.3.4 (external accounts).

use std::net::IpAddr;

use super::lists::items;
use super::{Complaint, complain, text};
use crate::raw::Raw;
use crate::value::Value;

/// Directories that are known by a name; their URLs are the business of who asks them.
const DIRECTORIES: [&str; 5] = ["letsencrypt", "letsencrypt-staging", "zerossl", "google", "buypass"];

/// Names of hosts, `*.` before some, and addresses of this machine for a local authority.
pub(super) fn domains(raw: &Raw) -> Result<Value, Complaint> {
    let mut all: Vec<String> = Vec::new();
    for item in items(raw)? {
        let name = text(&item)?.trim_end_matches('.').to_ascii_lowercase();
        let plain = name.strip_prefix("*.").unwrap_or(&name);
        let hint = match () {
            () if name.parse::<IpAddr>().is_ok() || is_host(plain) => "",
            () if !name.is_ascii() => "write it as it stands in DNS: xn--…",
            () if name.contains([':', '/']) => "write the name alone, without scheme, port or path",
            () => "write names such as example.com or www.example.com",
        };
        if !hint.is_empty() {
            return complain(&item, format!("{} is no name of a host", item.quoted()), hint);
        }
        if !all.contains(&name) {
            all.push(name);
        }
    }
    match all.first() {
        None => Ok(Value::Unset),
        Some(first) if first.starts_with("*.") => complain(
            raw,
            format!("{first:?} cannot be the first name"),
            "begin with the name that others redirect to, such as example.com",
        ),
        Some(_) => Ok(Value::Texts(all)),
    }
}

/// Labels of letters, digits and inner dashes, 63 bytes each, 253 in all; a name whose last label is a number is an address.
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !last_is_number
}

/// Well-known names, or `https://` URLs.
pub(super) fn directories(raw: &Raw) -> Result<Value, Complaint> {
    let mut all: Vec<String> = Vec::new();
    for item in items(raw)? {
        let written = text(&item)?.trim();
        let name = written.to_ascii_lowercase();
        let is_url = |text: &str| {
            let rest = text.strip_prefix("https://").unwrap_or("");
            !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(|b| b.is_ascii_graphic())
        };
        let directory = match () {
            () if DIRECTORIES.contains(&name.as_str()) => name,
            () if is_url(written) => written.to_owned(),
            () => {
                let hint = format!("one of {}, or the https:// URL of a directory", DIRECTORIES.join(", "));
                return complain(&item, format!("{} is no ACME directory", item.quoted()), hint);
            }
        };
        if !all.contains(&directory) {
            all.push(directory);
        }
    }
    match all.is_empty() {
        true => complain(raw, "names no directory", "leave it out for Let's Encrypt"),
        false => Ok(Value::Texts(all)),
    }
}

/// Enough of RFC 5321 to catch what cannot be one; the authority looks closer.
pub(super) fn email(raw: &Raw) -> Result<Value, Complaint> {
    let written = text(raw)?.trim();
    let address = written.strip_prefix("mailto:").unwrap_or(written);
    let fits = address.rsplit_once('@').is_some_and(|(person, host)| {
        !person.is_empty() && is_host(host) && !address.contains([' ', ',', '<', '>', '?'])
    });
    match fits && address.is_ascii() {
        true => Ok(Value::Text(address.to_owned())),
        false => {
            complain(raw, format!("{written:?} is no e-mail address"), "write one, such as admin@example.com")
        }
    }
}

/// `kid:key`. The value is a secret, so no complaint repeats it.
pub(super) fn external_account(raw: &Raw) -> Result<Value, Complaint> {
    let written = text(raw)?.trim();
    let base64url = |key: &str| {
        let key = key.trim_end_matches('=');
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    match written.rsplit_once(':') {
        Some((kid, key)) if !kid.is_empty() && base64url(key) => {
            Ok(Value::Text(format!("{kid}:{}", key.trim_end_matches('='))))
        }
        _ => complain(
            raw,
            "has another form",
            "write kid:key as the authority gave them, the key in base64url",
        ),
    }
}
