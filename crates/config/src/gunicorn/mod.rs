//! A `gunicorn.conf.py`, as the project's Python has told it: its settings in ours, and a sentence for each that means nothing here.
//!
//! Owns the way from that JSON to written values with their line in the file. What each setting means is `table.rs`, how its value is
//! read `reading.rs`, and what a worker class asks for `classes.rs`. Running the file is the program's. Invariant: every setting
//! that gunicorn documents is answered: by a key, a sentence or, where passing over it would be dangerous, an error.
//! Source: gunicorn's documentation of settings, versions 20 to 27.

pub mod cfg;
pub mod classes;
mod reading;
pub mod table;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::knobs;
use crate::problem::{Place, Problem, nearest};
use crate::raw::{Origin, Raw, SourceFile, What, Written};
use table::Meaning;

/// What a file says, in the words of `python -m bandstand.worker --gunicorn FILE`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// Plain values by name. Names that are no settings are among them: it is a Python file.
    pub settings: BTreeMap<String, Json>,
    /// Hooks that are defined.
    pub hooks: Vec<String>,
    /// Classes, functions and objects, by name, with a word for what they are.
    pub objects: BTreeMap<String, String>,
    /// The line of each name, from 1.
    pub lines: BTreeMap<String, usize>,
    /// The traceback, when the file cannot be run; nothing else is said then.
    pub failed: Option<String>,
}

impl Configuration {
    /// Reads the JSON.
    ///
    /// # Errors
    /// What serde_json says, as text.
    pub fn from_json(bytes: &[u8]) -> Result<Configuration, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

/// What was made of a file.
#[derive(Debug, Default)]
pub(crate) struct Understood {
    pub(crate) written: Vec<Written>,
    pub(crate) notes: Vec<String>,
    /// `raw_env`.
    pub(crate) variables: Vec<(String, String)>,
}

/// Every name of `said` in our terms; `cwd` is what gunicorn counts `chdir` from.
pub(crate) fn understand(
    said: &Configuration,
    file: &Arc<SourceFile>,
    cwd: &Path,
    problems: &mut Vec<Problem>,
) -> Understood {
    let mut reader = Reader { said, file, cwd, understood: Understood::default(), problems };
    let objects = said.objects.iter().map(|(name, what)| (name, Json::String(what.clone()), true));
    let plain = said.settings.iter().map(|(name, value)| (name, value.clone(), false));
    let mut names: Vec<_> = plain.chain(objects).collect();
    // As a person reads the file.
    names.sort_by_key(|(name, ..)| (said.lines.get(*name).copied(), (*name).clone()));
    for (name, value, is_object) in names {
        reader.setting(name, &value, is_object);
    }
    reader.hooks();
    reader.understood
}

struct Reader<'a> {
    said: &'a Configuration,
    file: &'a Arc<SourceFile>,
    cwd: &'a Path,
    understood: Understood,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn setting(&mut self, name: &str, value: &Json, is_object: bool) {
        let Some(row) = table::find(name) else { return self.unknown(name) };
        if name == "ca_certs" && !self.asks_clients() {
            let sentence = "ca_certs means nothing without cert_reqs, as with gunicorn: clients are not asked for certificates";
            return self.note(name, sentence);
        }
        match row.meaning {
            Meaning::Key(key, read) if !is_object => match read(value) {
                Ok(Some((what, note))) => {
                    self.write(name, key, what);
                    if let Some(note) = note {
                        self.note(name, &format!("{name} {note}"));
                    }
                }
                Ok(None) => {}
                Err(why) => self.refuse(name, format!("{name}: {why}"), ""),
            },
            Meaning::Class if matches!(value, Json::String(_)) => self.class(name, value),
            Meaning::Variables if !is_object => self.variables(name, value),
            Meaning::Folder if !is_object => match value {
                Json::String(folder) => {
                    let folder = self.cwd.join(folder).display().to_string();
                    self.write(name, "chdir", What::Text(folder));
                }
                _ => self.refuse(name, format!("{name} is not text"), ""),
            },
            Meaning::Nothing(why) if row.asks(value) => {
                self.note(name, &format!("{name} means nothing here: {why}"));
            }
            Meaning::Missing(hint) if row.asks(value) => {
                self.refuse(name, format!("{name} is not in this version yet"), hint);
            }
            Meaning::Nothing(_) | Meaning::Missing(_) => {}
            Meaning::Key(..) | Meaning::Class | Meaning::Variables | Meaning::Folder => {
                self.refuse(name, format!("{name} is no plain value, but {}", shown(value)), "");
            }
        }
    }

    /// Gunicorn passes over names it does not know, because they may be the file's own; one slip away from a setting they are not.
    fn unknown(&mut self, name: &str) {
        let known = table::TABLE.iter().map(|row| row.name);
        if self.said.objects.contains_key(name) || name.len() < 5 {
            return;
        }
        if let Some(meant) =
            nearest(name, known).filter(|meant| strsim::damerau_levenshtein(name, meant) == 1)
        {
            self.note(
                name,
                &format!("{name} is no setting of gunicorn's, and is passed over: did you mean {meant}?"),
            );
        }
    }

    /// Python's `ssl` looks at authorities only when certificates are asked for.
    fn asks_clients(&self) -> bool {
        self.said.settings.get("cert_reqs").and_then(Json::as_i64).is_some_and(|required| required > 0)
    }

    fn class(&mut self, name: &str, value: &Json) {
        let class = value.as_str().unwrap_or_default();
        let meaning = classes::worker_class(class);
        for (key, text) in meaning.settings {
            self.write(name, key, What::Text((*text).to_owned()));
        }
        self.note(name, &format!("{name} {class} {}", meaning.sentence));
    }

    fn variables(&mut self, name: &str, value: &Json) {
        for text in reading::texts(value).unwrap_or_default() {
            match text.split_once('=') {
                Some((variable, value)) if !variable.is_empty() && !text.contains('\0') => {
                    self.understood.variables.push((variable.to_owned(), value.to_owned()));
                }
                _ => self.refuse(name, format!("{name}: {text:?} is not NAME=value"), ""),
            }
        }
    }

    /// A file with hooks is where hooks are.
    fn hooks(&mut self) {
        if let Some(first) = self.said.hooks.first() {
            let path = self.file.path.display().to_string();
            self.write(first, "hooks", What::Text(path));
        }
    }

    /// Of two settings of gunicorn's that are one here, the larger number counts; of others, what the file says by itself.
    fn write(&mut self, name: &str, key: &'static str, what: What) {
        let Some(knob) = knobs::find(key) else { return };
        let span = self.span(name);
        let origin = Origin::File { file: self.file.clone(), span: span.clone() };
        let raw = Raw { what, span };
        let written = Written { knob, raw, origin };
        match self.understood.written.iter_mut().find(|other| other.knob.key == key) {
            Some(Written { raw: Raw { what: What::Integer { value: most, .. }, .. }, .. }) if matches!(written.raw.what, What::Integer { value, .. } if value <= *most) =>
                {}
            // What a class asks for gives way to the setting itself.
            Some(other) if table::find(name).is_some_and(|row| matches!(row.meaning, Meaning::Key(..))) => {
                *other = written;
            }
            Some(_) => {}
            None => self.understood.written.push(written),
        }
    }

    fn note(&mut self, name: &str, sentence: &str) {
        let line = self.said.lines.get(name).map_or_else(String::new, |line| format!(":{line}"));
        self.understood.notes.push(format!("{}{line}: {sentence}", self.file.shown));
    }

    fn refuse(&mut self, name: &str, sentence: String, hint: &str) {
        let place = Place::Span { file: self.file.clone(), span: self.span(name) };
        self.problems.push(Problem::new(place, sentence, hint));
    }

    /// The line of a name; the file's first byte where it comes from elsewhere.
    fn span(&self, name: &str) -> Range<usize> {
        let Some(line) = self.said.lines.get(name) else { return 0..0 };
        let start: usize =
            self.file.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        start..start + self.file.line(*line).trim_end().len()
    }
}

impl table::Row {
    /// Not one of the values that say "no".
    fn asks(&self, value: &Json) -> bool {
        match value {
            Json::Null | Json::Bool(false) => false,
            Json::String(text) => {
                !text.is_empty() && !self.harmless.contains(&text.to_ascii_lowercase().as_str())
            }
            Json::Array(items) => !items.is_empty(),
            Json::Object(entries) => !entries.is_empty(),
            Json::Bool(true) | Json::Number(_) => true,
        }
    }
}

fn shown(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
