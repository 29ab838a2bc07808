//! What `stages/access.rs` decides with: how often an address may come, and who knows a password.
//!
//! Owns the tables behind both. Invariant: their memory is fixed when they are made, whatever clients do.

pub(crate) mod passwords;
pub(crate) mod rates;

use bandstand_config::{PathSettings, Settings};

/// All rules that may be meant by a path, as `identify` decoded it: of the path itself, where escaped slashes stand for nothing; of
/// the path with those as slashes; and of either without dot segments and doubled slashes. Which of them an application looks at
/// nobody knows, so whoever one of them stops is stopped.
pub(crate) fn rules<'s>(
    settings: &'s Settings,
    path: &[u8],
) -> impl Iterator<Item = &'s PathSettings> + Clone + use<'s> {
    let (plain, flat) = settings.at_strictest(path);
    let (open, open_flat) = match unescape_slashes(path) {
        Some(path) => {
            let (plain, flat) = settings.at_strictest(&path);
            (Some(plain), flat)
        }
        None => (None, None),
    };
    [Some(plain), flat, open, open_flat].into_iter().flatten()
}

/// `%2F` as `/`; `None` where there is none. It is the one escape that decoding a path leaves (`semantics::path`).
fn unescape_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let is_escape = |three: &[u8]| three.eq_ignore_ascii_case(b"%2f");
    if !path.windows(3).any(is_escape) {
        return None;
    }
    let mut open = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = rest.get(..3).is_some_and(is_escape);
        open.push(if escaped { b'/' } else { byte });
        rest = if escaped { &rest[3..] } else { after };
    }
    Some(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_slashes() {
        for (path, wanted) in [
            ("/admin/x", None),
            ("/100%", None),
            ("/%2", None),
            ("/admin%2Fx", Some("/admin/x")),
            ("/%2fadmin%2F", Some("//admin/")),
            ("%2F%2f", Some("//")),
            ("/%252Fx", None),
        ] {
            let found = unescape_slashes(path.as_bytes());
            assert_eq!(found.as_deref(), wanted.map(str::as_bytes), "{path}");
        }
    }
}
