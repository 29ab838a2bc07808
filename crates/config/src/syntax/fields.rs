//! The spelling of `[headers]`: fields that answers gain.
//!
//! Owns which fields may be set there: not those that frame a message or belong to one connection, because a wrong one breaks every
//! answer. Invariant: names are tokens and values have no control characters, so that neither can end a line.
//! Source: RFC 9110 sections 5.1, 5.5 and 7.6.1.

use super::{Complaint, complain};
use crate::raw::{Raw, What};
use crate::value::Value;

/// The edge's own.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// `{ Name = "value" }`.
pub(super) fn read(raw: &Raw) -> Result<Value, Complaint> {
    let What::Table(entries) = &raw.what else {
        return complain(
            raw,
            format!("{} is not a table", raw.quoted()),
            "write [headers], and Name = \"value\" below",
        );
    };
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|(_, span, _)| span.start);
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, span, value) in entries {
        let refuse = |sentence: String, hint: &str| {
            Err(Complaint { sentence, hint: hint.to_owned(), span: span.clone() })
        };
        if !is_token(name) {
            return refuse(
                format!("{name:?} is no field name"),
                "letters, digits and dashes, such as Referrer-Policy",
            );
        }
        if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
            return refuse(
                format!("{name} is not for settings"),
                "the server or the application sets it for each answer",
            );
        }
        if all.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return refuse(format!("{name} is there twice"), "capital letters make no difference");
        }
        let What::Text(text) = &value.what else {
            return complain(
                value,
                format!("{} is not text", value.quoted()),
                "write it in quotes; \"\" for never",
            );
        };
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return complain(value, format!("{name} has control characters in it"), "");
        }
        all.push((name.clone(), text.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(Value::Headers(all))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
