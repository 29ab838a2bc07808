//! Settings files: TOML text in, written values with their place out.
//!
//! Owns reading `bandstand.toml` and `[tool.bandstand]`, and the errors only a file can have: syntax and unknown keys. What the
//! values mean is `syntax.rs`. Invariant: a file of more than 1 MiB is refused unread, and every problem of a file is reported
//! at once (of its syntax only the first, because the others follow from it).

use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::knobs::{self, Place as Where, TABLE};
use crate::problem::{Place, Problem, nearest};
use crate::raw::{Origin, Raw, SourceFile, What, Written};

/// Largest file read; a settings file is a few kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the text of `path`.
///
/// # Errors
/// A problem that names the file, for whatever reason it cannot be read; `None` inside `Ok` when there is no such file.
pub(crate) fn read(path: &Path, cwd: &Path) -> Result<Option<Arc<SourceFile>>, Problem> {
    let shown = path.strip_prefix(cwd).unwrap_or(path).display().to_string();
    let refuse = |why: String| Problem::general(format!("{shown}: {why}"), "");
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(format!("cannot be read: {error}"))),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refuse("is larger than 1 MiB".to_owned()));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(Arc::new(SourceFile { path: path.to_owned(), shown, text }))),
        Err(_) => Err(refuse("is not UTF-8 text".to_owned())),
    }
}

/// Values of `file`; with `section`, of the table at that place (`["tool", "bandstand"]`), which may be missing.
pub(crate) fn parse(file: &Arc<SourceFile>, section: &[&str], problems: &mut Vec<Problem>) -> Vec<Written> {
    let document = match DeTable::parse(&file.text) {
        Ok(document) => document,
        Err(error) => {
            problems.push(syntax(file, &error));
            return Vec::new();
        }
    };
    let mut table = document.get_ref();
    for name in section {
        match table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value.get_ref()) {
            Some(DeValue::Table(inner)) => table = inner,
            _ => return Vec::new(),
        }
    }
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for (key, value) in table.iter() {
        match known(key.get_ref()) {
            Ok(knob) => {
                let origin = Origin::File { file: file.clone(), span: value.span() };
                found.push(Written { knob, raw: raw(value), origin });
            }
            Err((sentence, hint)) => {
                let place = Place::Span { file: file.clone(), span: key.span() };
                unknown.push((key.span().start, Problem::new(place, sentence, hint)));
            }
        }
    }
    // The parser keeps keys by name; people read files from the top.
    unknown.sort_by_key(|(start, _)| *start);
    problems.extend(unknown.into_iter().map(|(_, problem)| problem));
    found.sort_by_key(|written| match &written.origin {
        Origin::File { span, .. } => span.start,
        _ => 0,
    });
    found
}

/// The row of a key in a file, or why it cannot stand there.
fn known(key: &str) -> Result<&'static knobs::Knob, (String, String)> {
    match knobs::find(key) {
        Some(knob) if knob.place == Where::Flag => {
            Err((format!("`{key}` cannot be set in a file"), format!("use the flag --{}", knob.flag())))
        }
        Some(knob) => Ok(knob),
        None if knobs::PLANNED.contains(&key) => {
            Err((format!("`{key}` is not in this version yet"), String::new()))
        }
        None => {
            let names = TABLE.iter().filter(|knob| knob.place != Where::Flag).map(|knob| knob.key);
            let dashes = key.replace('-', "_");
            let hint = nearest(&dashes, names).map_or_else(
                || "`bandstand config` lists every key".to_owned(),
                |name| format!("did you mean `{name}`?"),
            );
            Err((format!("unknown key `{key}`"), hint))
        }
    }
}

fn syntax(file: &Arc<SourceFile>, error: &toml::de::Error) -> Problem {
    let place = match error.span() {
        Some(span) => Place::Span { file: file.clone(), span },
        None => Place::Name(file.shown.clone()),
    };
    Problem::new(place, error.message().to_owned(), "")
}

/// A TOML value without its borrowed text. TOML's own parser bounds the depth.
fn raw(value: &Spanned<DeValue<'_>>) -> Raw {
    let span: Range<usize> = value.span();
    let what = match value.get_ref() {
        DeValue::String(text) => What::Text(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(value) => What::Integer { value, octal: integer.radix() == 8 },
            // Past 64 bits: no key goes there, and the text shows it in the complaint.
            Err(_) => What::Text(integer.to_string()),
        },
        DeValue::Float(float) => {
            float.as_str().parse().map_or_else(|_| What::Text(float.to_string()), What::Float)
        }
        DeValue::Boolean(value) => What::Switch(*value),
        DeValue::Datetime(_) => What::Date,
        DeValue::Array(items) => What::List(items.iter().map(raw).collect()),
        DeValue::Table(table) => What::Table(
            table.iter().map(|(key, value)| (key.get_ref().to_string(), key.span(), raw(value))).collect(),
        ),
    };
    Raw { what, span }
}
