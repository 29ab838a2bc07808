//! What a worker of `dev` says on an answer: route, SQL, modules imported since the last one.
//!
//! Owns the reading of the private field (JSON, `python/bandstand/dev.py`) and takes it out of the answer. Every member may
//! be missing, and what cannot be read is dropped: the answer is not to suffer for it. Invariant: outside `dev` nobody
//! looks for the field.

use std::path::PathBuf;

use crate::exchange::Answer;

/// The field.
const FIELD: &str = "x-bandstand-dev";

/// For the access line.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Note {
    /// Django's URL pattern.
    pub(crate) route: Option<String>,
    /// The name of the URL, or the dotted path of the view.
    pub(crate) view: Option<String>,
    /// Statements asked of databases before the answer began.
    pub(crate) sql: u64,
    /// How long they took, in milliseconds.
    pub(crate) sql_ms: f64,
    /// How often the most frequent statement was asked; its parameters may have differed.
    pub(crate) same: u64,
}

/// Takes the note from the answer, with the modules it names.
pub(crate) fn take(answer: &mut Answer) -> Option<(Note, Vec<PathBuf>)> {
    let told = read(answer.fields.first(FIELD)?);
    answer.fields.remove(FIELD);
    told
}

fn read(json: &[u8]) -> Option<(Note, Vec<PathBuf>)> {
    let told: serde_json::Value = serde_json::from_slice(json).ok()?;
    let text = |name: &str| told[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let note = Note {
        route: text("route"),
        view: text("view"),
        sql: told["sql"].as_u64().unwrap_or(0),
        sql_ms: told["sql_ms"].as_f64().unwrap_or(0.0),
        same: told["same"].as_u64().unwrap_or(0),
    };
    let files = told["files"].as_array().into_iter().flatten();
    Some((note, files.filter_map(|file| file.as_str().map(PathBuf::from)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes() {
        let whole = Note {
            route: Some("/products/<slug:slug>/".into()),
            view: Some("product".into()),
            sql: 12,
            sql_ms: 3.5,
            same: 10,
        };
        for (json, wanted) in [
            (
                r#"{"route":"/products/<slug:slug>/","view":"product","sql":12,"sql_ms":3.5,"same":10,"files":["/a.py"]}"#,
                Some((whole, vec![PathBuf::from("/a.py")])),
            ),
            ("{}", Some((Note::default(), vec![]))),
            (r#"{"route":"","sql":-1,"files":[1]}"#, Some((Note::default(), vec![]))),
            ("[1]", Some((Note::default(), vec![]))),
            ("not json", None),
            ("", None),
        ] {
            assert_eq!(read(json.as_bytes()), wanted, "{json}");
        }
    }

    #[test]
    fn the_field_never_leaves() {
        for value in [&b"{\"sql\":1}"[..], b"garbage"] {
            let mut answer = Answer::new(200);
            answer.fields.push(b"X-Bandstand-Dev", value);
            answer.fields.push(b"X-Other", b"1");
            take(&mut answer);
            assert_eq!(answer.fields.len(), 1);
            assert!(take(&mut answer).is_none());
        }
    }
}
