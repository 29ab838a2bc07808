//! Which file does the app name?
//!
//! Owns the reading of `X-Accel-Redirect` (a path below the URL of a protected folder) and `X-Sendfile` (an absolute path of
//! the machine beneath one). One rule for both: the value is percent-decoded once, and is UTF-8 then. A `%` in a name is
//! written `%25`, a `?` `%3F`; what follows a bare `?` in `X-Accel-Redirect` is a query, which a file has none of.
//! Invariant: what is given has no empty, `.` or `..` segment and no NUL; the kernel refuses the rest (`assets::open`).

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use bandstand_config::Protected;
use bandstand_semantics::Fields;
use bandstand_semantics::path::{EncodedSlash, decode_path_as};

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
    let path = value.split(|&byte| byte == b'?').next().unwrap_or_default();
    let decoded = decoded(path)?;
    let (shown, outside) = (shown(value), BadName::Outside as fn(String) -> BadName);
    // Longest URL first, as the settings have them.
    for Protected { url, root } in roots {
        if let Some(relative) = decoded.strip_prefix(url.as_bytes()) {
            return match are_plain(relative) {
                true => Ok(Named { root, relative: relative.to_vec() }),
                false => Err(BadName::Segments(shown)),
            };
        }
    }
    Err(if roots.is_empty() { BadName::NoFolder(shown) } else { outside(shown) })
}

fn by_path<'a>(roots: &'a [Protected], value: &[u8]) -> Result<Named<'a>, BadName> {
    let decoded = decoded(value)?;
    let shown = shown(value);
    if !decoded.starts_with(b"/") {
        return Err(BadName::Relative(shown));
    }
    if !are_plain(&decoded[1..]) {
        return Err(BadName::Segments(shown));
    }
    if roots.is_empty() {
        return Err(BadName::NoFolder(shown));
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
    Err(BadName::Outside(shown))
}

fn decoded(value: &[u8]) -> Result<Cow<'_, [u8]>, BadName> {
    let bad = || BadName::NotDecodable(shown(value));
    let decoded = decode_path_as(value, EncodedSlash::Decoded).map_err(|_| bad())?;
    if std::str::from_utf8(&decoded).is_err() { Err(bad()) } else { Ok(decoded) }
}

/// Whether these are names, parted by slashes, that lead downwards only.
fn are_plain(relative: &[u8]) -> bool {
    relative.split(|&byte| byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
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
