//! Which file does the app name?
//!
//! Owns which protected folder `X-Accel-Redirect` (a path below its URL) and `X-Sendfile` (an absolute path of the machine
//! beneath it) mean, and the words for a name that means none. How a name is spelled is `semantics::sendfile`'s.
//! Invariant: what is given has no empty, `.` or `..` segment and no NUL; the kernel refuses the rest (`assets::open`).

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use bandstand_config::Protected;
use bandstand_semantics::Fields;
use bandstand_semantics::sendfile::{self, NameError};

/// A file beneath a protected folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) root: &'a Path,
    pub(super) relative: Vec<u8>,
}

/// Why a name cannot be followed; all are the app's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadName {
    Several,
    NotDecodable(String),
    Segments(String),
    NoFolder(String),
    Outside(String),
    Relative(String),
}

impl BadName {
    fn of(error: NameError, value: &[u8]) -> Self {
        let kind = match error {
            NameError::NotDecodable => Self::NotDecodable,
            NameError::Segments => Self::Segments,
            NameError::Outside => Self::Outside,
            NameError::Relative => Self::Relative,
        };
        kind(shown(value))
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Several => {
                write!(out, "the app names more than one file in X-Accel-Redirect and X-Sendfile")
            }
            Self::NotDecodable(name) => write!(
                out,
                "the app names the file {name:?}, which is not percent-encoded UTF-8 (a % itself is %25)"
            ),
            Self::Segments(name) => {
                write!(out, "the app names the file {name:?}, which has an empty, . or .. segment")
            }
            Self::NoFolder(name) => write!(
                out,
                "the app names the file {name:?}, but no folder is protected; the setting `protected` names them"
            ),
            Self::Outside(name) => {
                write!(
                    out,
                    "the app names the file {name:?}, which is outside every folder of the setting `protected`"
                )
            }
            Self::Relative(name) => {
                write!(out, "the app names the file {name:?} in X-Sendfile, which takes absolute paths")
            }
        }
    }
}

/// The file that these fields of an answer name, if any.
pub(super) fn file<'a>(roots: &'a [Protected], fields: &Fields) -> Result<Option<Named<'a>>, BadName> {
    let mut accel = fields.all("x-accel-redirect");
    let mut sendfile = fields.all("x-sendfile");
    match (accel.next(), accel.next(), sendfile.next(), sendfile.next()) {
        (None, _, None, _) => Ok(None),
        (Some(value), None, None, _) => by_url(roots, value).map(Some),
        (None, _, Some(value), None) => by_path(roots, value).map(Some),
        _ => Err(BadName::Several),
    }
}

fn by_url<'a>(roots: &'a [Protected], value: &[u8]) -> Result<Named<'a>, BadName> {
    // Longest URL first, as the settings have them.
    match sendfile::below(value, roots.iter().map(|row| row.url.as_str())) {
        Ok((at, relative)) => Ok(Named { root: &roots[at].root, relative }),
        Err(NameError::Outside) if roots.is_empty() => Err(BadName::NoFolder(shown(value))),
        Err(error) => Err(BadName::of(error, value)),
    }
}

fn by_path<'a>(roots: &'a [Protected], value: &[u8]) -> Result<Named<'a>, BadName> {
    let decoded = sendfile::absolute(value).map_err(|error| BadName::of(error, value))?;
    if roots.is_empty() {
        return Err(BadName::NoFolder(shown(value)));
    }
    let wanted = Path::new(OsStr::from_bytes(&decoded));
    let beneath = |root: &Path| {
        let relative = wanted.strip_prefix(root).ok()?;
        let is_file = relative.components().next().is_some_and(|part| matches!(part, Component::Normal(_)));
        is_file.then(|| relative.as_os_str().as_bytes().to_vec())
    };
    // As it was written, and where the links in it lead: apps name files either way.
    let ways: [fn(&Path) -> io::Result<PathBuf>; 2] =
        [|root| std::path::absolute(root), |root| root.canonicalize()];
    for way in ways {
        let found = roots.iter().filter_map(|Protected { root, .. }| {
            way(root).ok().and_then(|absolute| beneath(&absolute)).map(|relative| Named { root, relative })
        });
        // The innermost of several that hold it.
        if let Some(named) = found.min_by_key(|named| named.relative.len()) {
            return Ok(named);
        }
    }
    Err(BadName::Outside(shown(value)))
}

fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> Vec<Protected> {
        [("/protected/invoices/", "/srv/private/invoices"), ("/protected/", "/srv/private")]
            .map(|(url, root)| Protected { url: url.into(), root: root.into() })
            .to_vec()
    }

    fn found(name: &str, value: &[u8]) -> Result<(String, String), BadName> {
        let (roots, fields) = (roots(), [(name.as_bytes(), value)].into_iter().collect());
        let named = file(&roots, &fields)?.expect("a file is named");
        Ok((named.root.display().to_string(), String::from_utf8(named.relative).unwrap()))
    }

    #[test]
    fn row_75_what_is_named() {
        for (name, value, root, relative) in [
            ("X-Accel-Redirect", &b"/protected/a.pdf"[..], "/srv/private", "a.pdf"),
            ("x-accel-redirect", b"/protected/a/b.pdf", "/srv/private", "a/b.pdf"),
            ("X-Accel-Redirect", b"/protected/invoices/7.pdf", "/srv/private/invoices", "7.pdf"),
            ("X-Accel-Redirect", b"/protected/a%20b.pdf", "/srv/private", "a b.pdf"),
            ("X-Accel-Redirect", b"/protected/a b.pdf", "/srv/private", "a b.pdf"),
            ("X-Accel-Redirect", b"/protected/100%25.pdf", "/srv/private", "100%.pdf"),
            ("X-Accel-Redirect", b"/protected/a%252fb", "/srv/private", "a%2fb"),
            ("X-Accel-Redirect", b"/protected/a%2fb", "/srv/private", "a/b"),
            ("X-Accel-Redirect", b"/protected/a%3fb", "/srv/private", "a?b"),
            ("X-Accel-Redirect", b"/protected/a?download=1", "/srv/private", "a"),
            ("X-Accel-Redirect", b"/protected/%C3%A9t%C3%A9.pdf", "/srv/private", "été.pdf"),
            ("X-Accel-Redirect", "/protected/été.pdf".as_bytes(), "/srv/private", "été.pdf"),
            ("X-Sendfile", b"/srv/private/a.pdf", "/srv/private", "a.pdf"),
            ("X-Sendfile", b"/srv/private/invoices/7.pdf", "/srv/private/invoices", "7.pdf"),
            ("X-Sendfile", b"/srv/private/a%20b.pdf", "/srv/private", "a b.pdf"),
            ("X-Sendfile", b"/srv/private/what?.pdf", "/srv/private", "what?.pdf"),
        ] {
            let expected = (root.to_owned(), relative.to_owned());
            assert_eq!(found(name, value), Ok(expected), "{name}: {}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn row_48_what_is_refused() {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        type Bad = fn(String) -> BadName;
        for (name, value, expected) in [
            ("X-Accel-Redirect", &b"/etc/passwd"[..], BadName::Outside as Bad),
            ("X-Accel-Redirect", b"/protectedx/a", BadName::Outside),
            ("X-Accel-Redirect", b"/protected", BadName::Outside),
            ("X-Accel-Redirect", b"protected/a", BadName::Outside),
            ("X-Accel-Redirect", b"", BadName::Outside),
            ("X-Accel-Redirect", b"https://example.com/a", BadName::Outside),
            ("X-Accel-Redirect", b"@named", BadName::Outside),
            ("X-Accel-Redirect", b"/protected/", BadName::Segments),
            ("X-Accel-Redirect", b"/protected/a/", BadName::Segments),
            ("X-Accel-Redirect", b"/protected//a", BadName::Segments),
            ("X-Accel-Redirect", b"/protected/../settings.py", BadName::Segments),
            ("X-Accel-Redirect", b"/protected/%2e%2e/settings.py", BadName::Segments),
            ("X-Accel-Redirect", b"/protected/a/..%2f..%2fb", BadName::Segments),
            ("X-Accel-Redirect", b"/protected/invoices/../a", BadName::Segments),
            ("X-Accel-Redirect", b"/protected/%00", BadName::NotDecodable),
            ("X-Accel-Redirect", b"/protected/100%.pdf", BadName::NotDecodable),
            ("X-Accel-Redirect", b"/protected/%FF", BadName::NotDecodable),
            ("X-Accel-Redirect", b"/protected/%c0%ae%c0%ae/a", BadName::NotDecodable),
            ("X-Accel-Redirect", b"/protected/a\x07", BadName::NotDecodable),
            ("X-Sendfile", b"/etc/passwd", BadName::Outside),
            ("X-Sendfile", b"/srv/private", BadName::Outside),
            ("X-Sendfile", b"/srv/privateer/a", BadName::Outside),
            ("X-Sendfile", b"/srv/private/../private/a", BadName::Segments),
            ("X-Sendfile", b"/srv/private/%2e%2e/a", BadName::Segments),
            ("X-Sendfile", b"/srv/private//a", BadName::Segments),
            ("X-Sendfile", b"a.pdf", BadName::Relative),
            ("X-Sendfile", b"", BadName::Relative),
        ] {
            assert_eq!(found(name, value), Err(expected(text(value))), "{name}: {}", text(value));
        }
        let fields =
            [("X-Accel-Redirect", "/protected/a"), ("X-Sendfile", "/srv/private/a")].into_iter().collect();
        assert_eq!(file(&roots(), &fields), Err(BadName::Several));
        let fields = [("X-Accel-Redirect", "/protected/a"), ("X-Accel-Redirect", "/protected/b")]
            .into_iter()
            .collect();
        assert_eq!(file(&roots(), &fields), Err(BadName::Several));
        let fields = [("X-Accel-Redirect", "/protected/a")].into_iter().collect();
        assert_eq!(file(&[], &fields), Err(BadName::NoFolder("/protected/a".into())));
        assert_eq!(file(&roots(), &Fields::new()), Ok(None));
    }
}
