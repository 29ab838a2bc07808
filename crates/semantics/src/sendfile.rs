//! What an application may write into `X-Accel-Redirect` and `X-Sendfile`.
//!
//! Owns the one rule of names: the value is percent-decoded once and is UTF-8 then, and it leads downwards by plain names only. Leaves to
//! the caller which folders there are, and to the kernel what a name cannot show (links).
//! Invariant: what is given has no empty, `.` or `..` segment and no NUL, and is below what it was asked to be below.
//! Sources: nginx `ngx_http_parse_unsafe_uri`; Apache mod_xsendfile (`XSendFileUnescape`).

use std::borrow::Cow;

use crate::path::{EncodedSlash, decode_path_as};

/// Why a name cannot be followed. All are the application's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Not percent-encoded UTF-8, or with a control byte.
    NotDecodable,
    /// An empty, `.` or `..` segment.
    Segments,
    /// Below none of the given prefixes.
    Outside,
    /// No absolute path.
    Relative,
}

/// Reads `X-Accel-Redirect`: which of `prefixes` (each ends with `/`, the longest first) it is below, and the path from there. What
/// follows a bare `?` is a query, which a file has none of.
///
/// # Errors
/// See [`NameError`].
pub fn below<'a>(
    value: &'a [u8],
    prefixes: impl IntoIterator<Item = &'a str>,
) -> Result<(usize, Vec<u8>), NameError> {
    let path = value.split(|&byte| byte == b'?').next().unwrap_or_default();
    let decoded = decode(path)?;
    let mut found = prefixes.into_iter().enumerate();
    let found = found.find_map(|(at, prefix)| Some((at, decoded.strip_prefix(prefix.as_bytes())?)));
    let (at, relative) = found.ok_or(NameError::Outside)?;
    if leads_downwards(relative) { Ok((at, relative.to_vec())) } else { Err(NameError::Segments) }
}

/// Reads `X-Sendfile`: an absolute path of the machine.
///
/// # Errors
/// See [`NameError`]; never `Outside`.
pub fn absolute(value: &[u8]) -> Result<Cow<'_, [u8]>, NameError> {
    let decoded = decode(value)?;
    match decoded.strip_prefix(b"/") {
        None => Err(NameError::Relative),
        Some(rest) if leads_downwards(rest) => Ok(decoded),
        Some(_) => Err(NameError::Segments),
    }
}

fn decode(value: &[u8]) -> Result<Cow<'_, [u8]>, NameError> {
    let decoded = decode_path_as(value, EncodedSlash::Decoded).map_err(|_| NameError::NotDecodable)?;
    if std::str::from_utf8(&decoded).is_err() { Err(NameError::NotDecodable) } else { Ok(decoded) }
}

fn leads_downwards(relative: &[u8]) -> bool {
    relative.split(|&byte| byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row 48 of part 2 of the checklist.
    #[test]
    fn row_48_nothing_leads_out() {
        for (value, expected) in [
            (&b"/files/a"[..], Ok((1, &b"a"[..]))),
            (b"/files/deep/a?x=/../y", Ok((0, b"a"))),
            (b"/files/deep", Ok((1, b"deep"))),
            (b"/files/a%2Fb%3F%25", Ok((1, b"a/b?%"))),
            (b"/files/...", Ok((1, b"..."))),
            (b"/files/a\\..\\b", Ok((1, b"a\\..\\b"))),
            (b"/files/", Err(NameError::Segments)),
            (b"/files/deep/", Err(NameError::Segments)),
            (b"/files//a", Err(NameError::Segments)),
            (b"/files/./a", Err(NameError::Segments)),
            (b"/files/a/%2e%2e/%2E%2e/b", Err(NameError::Segments)),
            (b"/files/a/..%2fb", Err(NameError::Segments)),
            (b"/files%2f..%2f", Err(NameError::Segments)),
            (b"/files", Err(NameError::Outside)),
            (b"/filesystem/a", Err(NameError::Outside)),
            (b"/Files/a", Err(NameError::Outside)),
            (b"?/files/a", Err(NameError::Outside)),
            (b"", Err(NameError::Outside)),
            (b"/files/a%", Err(NameError::NotDecodable)),
            (b"/files/%00", Err(NameError::NotDecodable)),
            (b"/files/a\r\nSet-Cookie: x", Err(NameError::NotDecodable)),
            (b"/files/%c0%ae%c0%ae/a", Err(NameError::NotDecodable)),
            (b"/files/\xff", Err(NameError::NotDecodable)),
        ] {
            let found = below(value, ["/files/deep/", "/files/"]);
            let expected = expected.map(|(at, relative)| (at, relative.to_vec()));
            assert_eq!(found, expected, "{}", value.escape_ascii());
        }
        assert_eq!(below(b"/files/a", []), Err(NameError::Outside));
    }

    #[test]
    fn absolute_paths() {
        for (value, expected) in [
            (&b"/srv/a%20b"[..], Ok(&b"/srv/a b"[..])),
            (b"/srv/what?", Ok(b"/srv/what?")),
            (b"srv/a", Err(NameError::Relative)),
            (b"", Err(NameError::Relative)),
            (b"/", Err(NameError::Segments)),
            (b"//srv", Err(NameError::Segments)),
            (b"/srv/%2e%2e/a", Err(NameError::Segments)),
            (b"/srv/%00", Err(NameError::NotDecodable)),
        ] {
            assert_eq!(
                absolute(value).as_deref(),
                expected.as_ref().map(|path| *path),
                "{}",
                value.escape_ascii()
            );
        }
    }
}
