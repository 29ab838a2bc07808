//! A traceback as Python prints it, taken apart.
//!
//! Owns the way from text to headline and frames, and which frames are the project's. Reads no file. Invariant: any text is
//! understood as far as it can be; what is not recognised is in `text`, which holds all of it.
//! Source: `traceback.TracebackException.format`; a `SyntaxError` has a `File` line without a function.

use std::path::{Path, PathBuf};

/// A traceback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traceback {
    /// `ImportError: no shop`, one line.
    pub(crate) headline: String,
    /// Outermost first; of the last exception, where one led to another.
    pub(crate) frames: Vec<Frame>,
    /// All of it.
    pub(crate) text: String,
}

/// One line of code on the way to the exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) file: PathBuf,
    /// From 1.
    pub(crate) line: usize,
    /// `None`: the line itself could not be read as Python.
    pub(crate) function: Option<String>,
}

impl Traceback {
    /// Understands `text`.
    pub(crate) fn read(text: &str) -> Self {
        let text = text.trim_end();
        let last = text.rfind(TITLE).map_or(text, |at| &text[at..]);
        let frames: Vec<Frame> = last.lines().filter_map(frame).collect();
        Self { headline: headline(text), frames, text: text.to_owned() }
    }

    /// Where to look first: the innermost frame of the project, else the innermost.
    pub(crate) fn place(&self, project: &Path) -> Option<&Frame> {
        self.frames.iter().rev().find(|frame| frame.is_of(project)).or(self.frames.last())
    }
}

impl Frame {
    /// Whether the project's own people wrote it: neither installed nor part of Python.
    pub(crate) fn is_of(&self, project: &Path) -> bool {
        let has = |name: &str| self.file.components().any(|part| part.as_os_str() == name);
        let below = self.file.strip_prefix(project);
        let inside = below.is_ok_and(|rest| {
            !rest
                .components()
                .any(|part| part.as_os_str() == "site-packages" || part.as_os_str() == "dist-packages")
        });
        let is_library = has("site-packages")
            || has("dist-packages")
            || self.file.components().any(|part| is_python_library(&part.as_os_str().to_string_lossy()));
        self.file.is_absolute() && (inside || !is_library)
    }
}

/// `python3.11`, the folder of the standard library.
fn is_python_library(name: &str) -> bool {
    name.strip_prefix("python3.")
        .is_some_and(|rest| rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit()))
}

const TITLE: &str = "Traceback (most recent call last):";

/// `  File "x.py", line 3, in load`.
fn frame(line: &str) -> Option<Frame> {
    let rest = line.trim_start().strip_prefix("File \"")?;
    let (file, rest) = rest.split_once("\", line ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let function = rest[digits..].strip_prefix(", in ").map(str::to_owned);
    Some(Frame { file: PathBuf::from(file), line: rest[..digits].parse().ok()?, function })
}

/// The line that says most: the first, or where a bare traceback begins there, its last that names an exception.
fn headline(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let line = match text.trim_start().starts_with(TITLE) {
        true => lines.rfind(|line| !line.starts_with(' ')),
        false => lines.next(),
    };
    line.unwrap_or("The application could not be started.").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMPORT: &str = "NameError: name 'nope' is not defined\n\nTraceback (most recent call last):\n  File \"/p/config/wsgi.py\", line 5, in <module>\n    application = get()\n                  ^^^^^\n  File \"/v/lib/python3.11/site-packages/django/x.py\", line 9, in get\n    run()\n  File \"/p/shop/views.py\", line 12, in <module>\n    nope\nNameError: name 'nope' is not defined\n";

    #[test]
    fn tracebacks() {
        let read = Traceback::read(IMPORT);
        assert_eq!(read.headline, "NameError: name 'nope' is not defined");
        let places: Vec<_> =
            read.frames.iter().map(|frame| (frame.file.to_str().unwrap(), frame.line)).collect();
        assert_eq!(
            places,
            [
                ("/p/config/wsgi.py", 5),
                ("/v/lib/python3.11/site-packages/django/x.py", 9),
                ("/p/shop/views.py", 12)
            ]
        );
        assert_eq!(read.place(Path::new("/p")).unwrap().line, 12);
        for (text, headline, place) in [
            (
                "SyntaxError: '(' was never closed (views.py, line 3)\n\nTraceback (most recent call last):\n  File \"/p/u.py\", line 1, in <module>\n    import v\n  File \"/p/v.py\", line 3\n    f(\n     ^\nSyntaxError: '(' was never closed\n",
                "SyntaxError: '(' was never closed (views.py, line 3)",
                Some(("/p/v.py", 3)),
            ),
            (
                "Traceback (most recent call last):\n  File \"/p/a.py\", line 1, in f\nKeyError: 'K'\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"/p/b.py\", line 2, in g\nValueError: v\n",
                "ValueError: v",
                Some(("/p/b.py", 2)),
            ),
            ("the worker was killed by signal 9", "the worker was killed by signal 9", None),
            ("", "The application could not be started.", None),
            ("X\n  File \"/p/a.py\", line 99999999999999999999999, in f", "X", None),
            ("X\n  File \"/p/é.py\", line 7é", "X", Some(("/p/é.py", 7))),
        ] {
            let read = Traceback::read(text);
            assert_eq!(read.headline, headline);
            let found = read.place(Path::new("/p")).map(|frame| (frame.file.to_str().unwrap(), frame.line));
            assert_eq!(found, place, "{text}");
        }
    }

    #[test]
    fn whose_code_it_is() {
        for (file, project, own) in [
            ("/p/shop/views.py", "/p", true),
            ("/src/editable/x.py", "/p", true),
            ("/p/.venv/lib/python3.12/site-packages/django/x.py", "/p", false),
            ("/usr/lib/python3.11/importlib/__init__.py", "/p", false),
            ("/usr/lib/python3/dist-packages/x.py", "/p", false),
            ("<frozen importlib._bootstrap>", "/p", false),
            ("/v/lib/python3.11/site-packages/site/views.py", "/v/lib/python3.11/site-packages/site", true),
        ] {
            let frame = Frame { file: file.into(), line: 1, function: None };
            assert_eq!(frame.is_of(Path::new(project)), own, "{file}");
        }
    }
}
