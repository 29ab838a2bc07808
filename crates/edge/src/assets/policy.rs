//! TABLES of what files get along, and of names that are never served.
//!
//! Owns `Cache-Control` by kind of root, the fields that keep an upload from running as a page of the site, and the names
//! refused although they lie beneath a root. Leaves dotfiles, `~` and climbing to `semantics::path`.
//! Why the refused names: `manage.py` or `settings.py` in a root is a mistake of deployment, and its source is the loot.
//! Source maps (`.map`) are served: `ManifestStaticFilesStorage` itself rewrites links to them.

use bandstand_semantics::Fields;
use bandstand_semantics::media_type::is_active;

/// Who wrote the files of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RootKind {
    /// The developers: `STATIC_ROOT`.
    Static,
    /// The users: `MEDIA_ROOT`. Nothing in it is trusted.
    Media,
}

/// How long an answer may be kept. One row per kind of name:
///
/// | row | why |
/// | --- | --- |
/// | hashed | the name changes with the content; a year is the most RFC 9111 readers honour |
/// | static | the name stays when the content changes; a minute spares most requests of a visit, and a deploy shows at once (as WhiteNoise) |
/// | media | may be personal, so no shared cache; an hour, as the usual nginx recipe has it |
const CACHE_CONTROL: [(RootKind, bool, &str); 4] = [
    (RootKind::Static, true, "public, max-age=31536000, immutable"),
    (RootKind::Static, false, "public, max-age=60"),
    (RootKind::Media, true, "private, max-age=3600"),
    (RootKind::Media, false, "private, max-age=3600"),
];

/// The `Cache-Control` of a file; `hashed` when its name tells its content.
pub(super) fn cache_control(kind: RootKind, hashed: bool) -> &'static str {
    CACHE_CONTROL
        .iter()
        .find(|(row_kind, row_hashed, _)| (*row_kind, *row_hashed) == (kind, hashed))
        .map_or("no-cache", |(_, _, value)| value)
}

/// Sent with every answer from a root, so that no browser takes a text for a script.
pub(super) const NOSNIFF: (&[u8], &[u8]) = (b"x-content-type-options", b"nosniff");

/// Sent with media that could run as a page: no script, no origin of ours, no frame; inline style only, so that an SVG still
/// looks right in an `<img>`. The attachment makes the browser save what it would have opened.
const UPLOADED_PAGE: [(&[u8], &[u8]); 2] = [
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    (b"content-disposition", b"attachment"),
];

/// Adds the safety fields for a file of this kind and media type.
pub(super) fn add_safety(fields: &mut Fields, kind: RootKind, media_type: &str) {
    fields.push(NOSNIFF.0, NOSNIFF.1);
    if kind == RootKind::Media && is_active(media_type) {
        for (name, value) in UPLOADED_PAGE {
            fields.push(name, value);
        }
    }
}

/// Ends of names that are never served, in lower case.
const REFUSED_ENDS: [&[u8]; 3] = [b".py", b".pyc", b".pyo"];

/// True for names that are never served although they lie beneath a root.
pub(super) fn is_refused(kind: RootKind, relative: &[u8]) -> bool {
    let ends_with = |end: &[u8]| {
        relative.len().checked_sub(end.len()).is_some_and(|start| relative[start..].eq_ignore_ascii_case(end))
    };
    (kind == RootKind::Static && relative == super::hashed::MANIFEST_NAME)
        || REFUSED_ENDS.into_iter().any(ends_with)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_control_has_a_row_for_every_case() {
        for (kind, hashed, expected) in [
            (RootKind::Static, true, "public, max-age=31536000, immutable"),
            (RootKind::Static, false, "public, max-age=60"),
            (RootKind::Media, false, "private, max-age=3600"),
            (RootKind::Media, true, "private, max-age=3600"),
        ] {
            assert_eq!(cache_control(kind, hashed), expected);
        }
    }

    #[test]
    fn refused_names() {
        for (kind, name, expected) in [
            (RootKind::Static, "staticfiles.json", true),
            (RootKind::Media, "staticfiles.json", false),
            (RootKind::Static, "sub/staticfiles.json", false),
            (RootKind::Static, "settings.py", true),
            (RootKind::Media, "x/SETTINGS.PY", true),
            (RootKind::Static, "x.pyc", true),
            (RootKind::Static, "app.js.map", false),
            (RootKind::Static, "happy", false),
            (RootKind::Static, "py", false),
        ] {
            assert_eq!(is_refused(kind, name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn only_uploads_that_could_run_are_fenced() {
        for (kind, media_type, fenced) in [
            (RootKind::Media, "text/html; charset=utf-8", true),
            (RootKind::Media, "image/svg+xml", true),
            (RootKind::Media, "image/png", false),
            (RootKind::Static, "text/html; charset=utf-8", false),
        ] {
            let mut fields = Fields::new();
            add_safety(&mut fields, kind, media_type);
            assert_eq!(fields.first("x-content-type-options"), Some(&b"nosniff"[..]));
            assert_eq!(fields.contains("content-security-policy"), fenced, "{media_type}");
            assert_eq!(fields.contains("content-disposition"), fenced, "{media_type}");
        }
    }
}
