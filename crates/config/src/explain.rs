//! Every value with its origin, as `bandstand config` prints it.
//!
//! Owns the two forms, TOML for people and JSON for programs. Invariant: the TOML form is a settings file that gives the same
//! settings when read (the keys that no file may hold are comments); a secret is never printed.

use crate::knobs::{Group, Knob, Place, TABLE};
use crate::load::Loaded;
use crate::raw::Origin;

/// What stands in place of a secret.
const HIDDEN: &str = "(hidden)";

/// `key = value  # origin`, under headings; a key that is not set is a comment.
pub fn to_toml(loaded: &Loaded) -> String {
    let mut out = String::from("# Effective settings, and where each was set.\n");
    for group in Group::ALL {
        out += &format!("\n# {}\n", group.title());
        for knob in TABLE.iter().filter(|knob| knob.group == group) {
            let line = match shown(loaded, knob) {
                serde_json::Value::Null => format!("# {} is not set", knob.key),
                value if knob.secret || knob.place == Place::Flag => {
                    format!("# {} = {}", knob.key, toml(&value))
                }
                value => format!("{} = {}", knob.key, toml(&value)),
            };
            out += &match origin(loaded, knob) {
                Origin::Default if line.ends_with("is not set") => format!("{line}\n"),
                origin => format!("{line}  # {origin}\n"),
            };
        }
    }
    for note in &loaded.notes {
        out += &format!("\n# note: {}\n", note.replace('\n', "\n#   "));
    }
    out
}

/// `{key: {value, origin: {kind, where, line?}}}`, with `notes` beside `settings`.
pub fn to_json(loaded: &Loaded) -> String {
    let mut settings = serde_json::Map::new();
    for knob in TABLE {
        let origin = origin(loaded, knob);
        let mut place = serde_json::json!({ "kind": origin.kind(), "text": origin.to_string() });
        if let Origin::File { file, span } = &origin {
            place["path"] = file.path.display().to_string().into();
            place["line"] = file.position(span.start).0.into();
        }
        settings.insert(
            knob.key.to_owned(),
            serde_json::json!({ "value": shown(loaded, knob), "origin": place }),
        );
    }
    let document = serde_json::json!({ "settings": settings, "notes": loaded.notes });
    format!("{document:#}\n")
}

fn shown(loaded: &Loaded, knob: &Knob) -> serde_json::Value {
    match loaded.values.0.get(knob.key).map(|value| value.shown()) {
        None | Some(serde_json::Value::Null) => serde_json::Value::Null,
        Some(_) if knob.secret => HIDDEN.into(),
        Some(value) => value,
    }
}

fn origin(loaded: &Loaded, knob: &Knob) -> Origin {
    loaded.origins.get(knob.key).cloned().unwrap_or(Origin::Default)
}

/// A JSON value on one line of TOML; the two agree on numbers, booleans and lists, and the toml crate writes the texts.
fn toml(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => toml::Value::String(text.clone()).to_string(),
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        serde_json::Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{} = {}", toml_key(key), toml(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// A key, in quotes unless TOML takes it bare.
fn toml_key(key: &str) -> String {
    match key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') && !key.is_empty() {
        true => key.to_owned(),
        false => toml::Value::String(key.to_owned()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knobs;

    #[test]
    fn a_secret_is_never_printed() {
        let loaded = crate::load::load(crate::load::Sources {
            flags: vec![("user".to_owned(), vec!["hunter2".to_owned()])],
            app_env: vec![],
            env: vec![],
            cwd: "/nowhere".into(),
            cpus: std::num::NonZeroUsize::MIN,
            pid: 1,
            root: false,
        })
        .unwrap();
        let open = *knobs::find("user").unwrap();
        assert_eq!(shown(&loaded, &open), "hunter2");
        assert_eq!(shown(&loaded, &Knob { secret: true, ..open }), HIDDEN);
        let unset = Knob { secret: true, ..*knobs::find("group").unwrap() };
        assert_eq!(shown(&loaded, &unset), serde_json::Value::Null);
    }

    #[test]
    fn texts_are_quoted_as_toml() {
        for (value, wanted) in [
            (serde_json::json!("30s"), "\"30s\""),
            (serde_json::json!(["a", "b"]), "[\"a\", \"b\"]"),
            (serde_json::json!({"url": "/s/", "root": "/x"}), "{ url = \"/s/\", root = \"/x\" }"),
            (serde_json::json!({"/a b": {"interface": "asgi"}}), "{ \"/a b\" = { interface = \"asgi\" } }"),
            (serde_json::json!(true), "true"),
            (serde_json::json!(4), "4"),
        ] {
            assert_eq!(toml(&value), wanted);
        }
        let awkward = serde_json::json!("a\"b\\c");
        let read: toml::Table = format!("x = {}", toml(&awkward)).parse().unwrap();
        assert_eq!(read["x"].as_str(), awkward.as_str());
    }
}
