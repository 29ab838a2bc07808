//! The spelling of `[paths]`: prefixes, and what each may say.
//!
//! Owns which keys a prefix knows; all but `interface` are read as the row of the same name. Which request a prefix covers is
//! `paths.rs`, what it inherits `access.rs`. Invariant: every prefix is a URL path without escapes, and is there once.

use super::urls::is_url_path;
use super::{Complaint, choice, complain};
use crate::knobs;
use crate::paths::{PathInterface, PathRule, PathRules};
use crate::problem::nearest;
use crate::raw::{Raw, What};
use crate::value::Value;

/// Keys that are rows of the table too.
const KEYS: [&str; 6] = ["allow", "deny", "rate", "basic_auth", "compress", "max_body"];

/// `{ "/prefix" = { interface = "asgi", rate = "10/s" } }`.
pub(super) fn read(raw: &Raw) -> Result<Value, Complaint> {
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
        if !rules.add(plain, rule(value)?) {
            return Err(at(format!("{prefix:?} is named twice"), "a closing / makes no difference"));
        }
    }
    Ok(Value::PathRules(rules))
}

/// The table of one prefix.
fn rule(raw: &Raw) -> Result<PathRule, Complaint> {
    let What::Table(entries) = &raw.what else {
        let hint = "write interface = \"asgi\" below its heading";
        return complain(raw, format!("{} is not a table", raw.quoted()), hint);
    };
    let mut rule = PathRule::default();
    for (key, span, value) in entries {
        if key == "interface" {
            rule.interface = Some(match choice(&["wsgi", "asgi"], value)? {
                Value::Word("wsgi") => PathInterface::Wsgi,
                _ => PathInterface::Asgi,
            });
            continue;
        }
        let row = KEYS.iter().find(|known| *known == key).and_then(|key| knobs::find(key));
        let Some(row) = row else {
            let known = KEYS.into_iter().chain(["interface"]);
            let hint = nearest(key, known).map_or_else(
                || format!("the keys here are interface, {}", KEYS.join(", ")),
                |key| format!("did you mean `{key}`?"),
            );
            return Err(Complaint { sentence: format!("unknown key `{key}`"), hint, span: span.clone() });
        };
        let value = super::read(row.kind, value).map_err(|complaint| Complaint {
            sentence: format!("{key}: {}", complaint.sentence),
            ..complaint
        })?;
        rule.values.push((row.key, value));
    }
    Ok(rule)
}
