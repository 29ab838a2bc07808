//! What was written, and where: values as text, number, list or table, each with its origin.
//!
//! Owns the shape that flags, variables and files have in common before anybody asks what they mean. It judges nothing;
//! `syntax.rs` does. Invariant: a `Written` can always be traced to the place a person can edit.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::knobs::Knob;

/// One value as written.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) what: What,
    /// Bytes of the value in its file; `0..0` when it is not from a file.
    pub(crate) span: Range<usize>,
}

/// The forms a value can have. Flags and variables only know `Text` and `List`.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Text(String),
    Integer {
        value: i64,
        /// Written as `0o…`.
        octal: bool,
    },
    Float(f64),
    Switch(bool),
    Date,
    List(Vec<Raw>),
    /// Keys with their own span.
    Table(Vec<(String, Range<usize>, Raw)>),
}

/// A value of one setting, with the place it came from.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) knob: &'static Knob,
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
}

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag, as `--max-body`.
    Flag(String),
    /// A variable of the environment.
    Variable(String),
    /// A variable in the env file.
    EnvFile {
        /// The file.
        file: Arc<SourceFile>,
        /// Line, from 1.
        line: usize,
        /// The variable.
        name: String,
    },
    /// A settings file.
    File {
        /// The file.
        file: Arc<SourceFile>,
        /// Bytes of the value in the file.
        span: Range<usize>,
    },
    /// A setting of the Django project, as `STATIC_ROOT`.
    Django(String),
    /// Nobody wrote it.
    Default,
}

/// A file that was read, kept so that errors can show the line.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// How it is named to people: as written, or relative to the current folder.
    pub shown: String,
    /// Its whole text.
    pub text: String,
}

impl Raw {
    pub(crate) fn text(text: &str) -> Raw {
        Raw { what: What::Text(text.to_owned()), span: 0..0 }
    }

    /// One text as it is; several as a list.
    pub(crate) fn texts(texts: &[String]) -> Raw {
        match texts {
            [one] => Raw::text(one),
            many => Raw { what: What::List(many.iter().map(|text| Raw::text(text)).collect()), span: 0..0 },
        }
    }

    /// The value as a person would recognise it in a message.
    pub(crate) fn quoted(&self) -> String {
        match &self.what {
            What::Text(text) => format!("{text:?}"),
            What::Integer { value, octal: false } => value.to_string(),
            What::Integer { value, octal: true } => format!("0o{value:o}"),
            What::Float(value) => value.to_string(),
            What::Switch(value) => value.to_string(),
            What::Date => "a date".to_owned(),
            What::List(_) => "a list".to_owned(),
            What::Table(_) => "a table".to_owned(),
        }
    }
}

impl SourceFile {
    /// Line and column, from 1, of byte `offset`; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }

    /// The text of `line` (from 1), without its end.
    pub fn line(&self, line: usize) -> &str {
        self.text.lines().nth(line.saturating_sub(1)).unwrap_or("")
    }
}

impl Origin {
    /// One word for programs: `flag`, `environment`, `env_file`, `file`, `django`, `default`.
    pub fn kind(&self) -> &'static str {
        match self {
            Origin::Flag(_) => "flag",
            Origin::Variable(_) => "environment",
            Origin::EnvFile { .. } => "env_file",
            Origin::File { .. } => "file",
            Origin::Django(_) => "django",
            Origin::Default => "default",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(f, "{flag}"),
            Origin::Variable(name) => write!(f, "environment: {name}"),
            Origin::EnvFile { file, line, name } => write!(f, "{}:{line}: {name}", file.shown),
            Origin::File { file, span } => write!(f, "{}:{}", file.shown, file.position(span.start).0),
            Origin::Django(setting) => write!(f, "Django: {setting}"),
            Origin::Default => write!(f, "default"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_stay_inside() {
        let file =
            SourceFile {
                path: "x".into(), shown: "x".into(), text: "a = 1\n# é\nb = \"ö\" # c".to_owned()
            };
        for (offset, position) in [(0, (1, 1)), (4, (1, 5)), (6, (2, 1)), (15, (3, 5)), (9999, (3, 12))] {
            assert_eq!(file.position(offset), position, "{offset}");
        }
        assert_eq!((file.line(2), file.line(9)), ("# é", ""));
    }
}
