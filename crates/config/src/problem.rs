//! What is wrong with a configuration, in words for people: sentence, place, caret, hint.
//!
//! Owns the look of every configuration error. Whoever finds the problem says what and where; nothing here decides.
//! Invariant: a secret's value is never repeated, because `load.rs` replaces the sentence of a secret key.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::raw::{Origin, SourceFile};

/// Everything wrong with a configuration, in the order it was found. Exit status 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub place: Place,
    /// What is wrong, without a full stop.
    pub sentence: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// The place a person has to edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Bytes `span` of a file; shown with a caret.
    Span {
        /// The file.
        file: Arc<SourceFile>,
        /// Bytes in it; may be empty.
        span: Range<usize>,
    },
    /// A flag or a variable, by its name.
    Name(String),
    /// Nothing in particular: the sentence says it all.
    Nowhere,
}

impl Problem {
    /// A problem with a hint.
    pub fn new(place: Place, sentence: impl Into<String>, hint: impl Into<String>) -> Problem {
        let hint = hint.into();
        Problem { place, sentence: sentence.into(), hint: (!hint.is_empty()).then_some(hint) }
    }

    /// A problem that no file, variable or flag is to blame for.
    pub fn general(sentence: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Place::Nowhere, sentence, hint)
    }
}

impl Place {
    /// The place of a value that came from `origin`; `span` is the part to blame, empty for the whole value.
    pub(crate) fn of(origin: &Origin, span: &Range<usize>) -> Place {
        match origin {
            Origin::Flag(name) | Origin::Variable(name) => Place::Name(name.clone()),
            Origin::EnvFile { file, line, name } => Place::Name(format!("{}:{line}: {name}", file.shown)),
            Origin::File { file, span: whole } => {
                let span = if span.is_empty() { whole.clone() } else { span.clone() };
                Place::Span { file: file.clone(), span }
            }
            Origin::Django(setting) => Place::Name(format!("Django's {setting}")),
            Origin::Default => Place::Nowhere,
        }
    }
}

/// The name of `known` a person most likely meant by `name`.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Two slips in a short word, one in three letters of a long one: past that a suggestion only confuses.
    let most = (name.chars().count() / 3).max(2);
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    known
        .into_iter()
        .map(|other| (distance(other), other))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

impl From<Problem> for Errors {
    fn from(problem: Problem) -> Errors {
        Errors(vec![problem])
    }
}

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Nowhere => write!(f, "{}", self.sentence)?,
            Place::Name(name) => write!(f, "{name}: {}", self.sentence)?,
            Place::Span { file, span } => write_caret(f, file, span, &self.sentence)?,
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  = {hint}"),
            None => Ok(()),
        }
    }
}

/// `file:line:column: sentence`, then the line with carets under the span, as compilers do it.
fn write_caret(
    f: &mut fmt::Formatter<'_>,
    file: &SourceFile,
    span: &Range<usize>,
    sentence: &str,
) -> fmt::Result {
    let (line, column) = file.position(span.start);
    let text = file.line(line);
    let margin = " ".repeat(line.to_string().len());
    // A span over several lines is marked to the end of its first.
    let length =
        file.text.get(span.clone()).and_then(|part| part.lines().next()).map_or(1, |l| l.chars().count());
    // Tabs keep their width, so that the caret stands under what it means.
    let indent: String = text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    writeln!(f, "{}:{line}:{column}: {sentence}", file.shown)?;
    writeln!(f, "{margin} |")?;
    writeln!(f, "{line} | {text}")?;
    write!(f, "{margin} | {indent}{}", "^".repeat(length.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        let known = ["max_body", "max_headers", "timeout", "threads"];
        for (name, wanted) in [
            ("max_boddy", Some("max_body")),
            ("tiemout", Some("timeout")),
            ("thread", Some("threads")),
            ("max_header", Some("max_headers")),
            ("proxy", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), wanted, "{name}");
        }
    }

    #[test]
    fn the_caret_stands_under_the_value() {
        let file = Arc::new(SourceFile {
            path: "b.toml".into(),
            shown: "b.toml".into(),
            text: "# naïve\n\ttimeout = \"sün\" # why\n".to_owned(),
        });
        let start = file.text.find("\"s").unwrap();
        let problem = Problem::new(Place::Span { file, span: start..start + 6 }, "bad", "do better");
        assert_eq!(
            problem.to_string(),
            "b.toml:2:12: bad\n  |\n2 | \ttimeout = \"sün\" # why\n  | \t          ^^^^^\n  = do better"
        );
    }
}
