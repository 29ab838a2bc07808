//! Which static files have a name that tells their content, and may be kept for ever.
//!
//! Owns the reading of `staticfiles.json`, written by Django's `ManifestStaticFilesStorage` at the top of `STATIC_ROOT`, and
//! the pattern used without it. Leaves the header to `policy.rs`.
//! Invariant: with a manifest, only names it lists as hashed are hashed; a manifest that cannot be read counts as none.
//! Source: django/contrib/staticfiles/storage.py (`HashedFilesMixin.hashed_name`, `ManifestFilesMixin`).

use super::every::EverySecond;
use super::open::{RootDir, Stamp};
use std::collections::HashSet;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Django's default `manifest_name`. It is read, and never served: it lists every file of the project.
pub(super) const MANIFEST_NAME: &[u8] = b"staticfiles.json";

/// The largest manifest read, in bytes: a hundred thousand files have one of about 15 MB.
const LARGEST_MANIFEST_BYTES: u64 = 32 * 1024 * 1024;

/// Hex digits of the content's MD5 that Django puts into a name.
const HASH_DIGITS: usize = 12;

/// Whether a root has names that tell their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum HashedNames {
    /// By `staticfiles.json` where there is one, else by the pattern `name.0123456789ab.ext`.
    #[default]
    Detect,
    /// None: media, or a storage that does not hash.
    Never,
}

/// What is known about a root's hashed names.
#[derive(Debug)]
pub(super) struct Names {
    mode: HashedNames,
    manifest: RwLock<Manifest>,
    looks: EverySecond,
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Manifest {
    stamp: Option<Stamp>,
    /// `None`: go by the pattern.
    hashed: Option<HashSet<Box<[u8]>>>,
}

impl Names {
    pub(super) fn new(mode: HashedNames) -> Names {
        Names {
            mode,
            manifest: RwLock::new(Manifest::default()),
            looks: EverySecond::never(),
            generation: AtomicU64::new(0),
        }
    }

    /// Grows by one each time another manifest was read.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Looks, at most once a second, whether the manifest changed, and reads it then.
    pub(super) fn refresh(&self, dir: &RootDir, now_ms: u64) {
        if self.mode == HashedNames::Never || !self.looks.due(now_ms) {
            return;
        }
        let opened = dir.open_file(MANIFEST_NAME).ok();
        let stamp = opened.as_ref().map(|opened| opened.stamp);
        if self.manifest.read().unwrap_or_else(PoisonError::into_inner).stamp == stamp {
            return;
        }
        let hashed = opened.and_then(|opened| {
            let mut text = Vec::new();
            opened.file.take(LARGEST_MANIFEST_BYTES).read_to_end(&mut text).ok()?;
            let hashed = hashed_names(&text);
            if hashed.is_none() {
                tracing::warn!(
                    "staticfiles.json is not a manifest of Django's; hashed names are told by their pattern"
                );
            }
            hashed
        });
        *self.manifest.write().unwrap_or_else(PoisonError::into_inner) = Manifest { stamp, hashed };
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// True when the content of this file can never change under this name.
    pub(super) fn is_hashed(&self, relative: &[u8]) -> bool {
        if self.mode == HashedNames::Never {
            return false;
        }
        match &self.manifest.read().unwrap_or_else(PoisonError::into_inner).hashed {
            Some(hashed) => hashed.contains(relative),
            None => looks_hashed(relative),
        }
    }
}

/// The values of `paths` that differ from their keys; a name mapped to itself was not hashed.
fn hashed_names(text: &[u8]) -> Option<HashSet<Box<[u8]>>> {
    let manifest: serde_json::Value = serde_json::from_slice(text).ok()?;
    let paths = manifest.get("paths")?.as_object()?;
    let hashed = paths.iter().filter_map(|(name, value)| value.as_str().filter(|value| value != name));
    Some(hashed.map(|value| value.as_bytes().into()).collect())
}

/// `name.0123456789ab.ext` or `name.0123456789ab`.
fn looks_hashed(relative: &[u8]) -> bool {
    let name = relative.rsplit(|&byte| byte == b'/').next().unwrap_or(relative);
    let mut pieces = name.rsplitn(3, |&byte| byte == b'.');
    let (last, before, rest) = (pieces.next(), pieces.next(), pieces.next());
    let is_hash = |piece: Option<&[u8]>| {
        piece.is_some_and(|piece| {
            piece.len() == HASH_DIGITS && piece.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    (is_hash(before) && rest.is_some()) || (is_hash(last) && before.is_some())
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;

    #[test]
    fn the_pattern() {
        for (name, expected) in [
            ("app.0123456789ab.css", true),
            ("css/app.min.0123456789ab.css", true),
            ("LICENSE.0123456789ab", true),
            ("app.0123456789AB.css", false),
            ("app.0123456789a.css", false),
            ("app.0123456789abc.css", false),
            ("app.0123456789ag.css", false),
            ("0123456789ab.css", false),
            ("0123456789ab", false),
            ("app.0123456789ab.css.map", false),
            ("d.0123456789ab.x/app.css", false),
            ("app.css", false),
        ] {
            assert_eq!(looks_hashed(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn manifests() {
        let found = |text: &str| {
            hashed_names(text.as_bytes()).map(|names| {
                let mut names: Vec<_> =
                    names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
                names.sort();
                names
            })
        };
        for (text, expected) in [
            (
                r#"{"paths": {"a.css": "a.111.css", "b": "b", "c": 1}, "version": "1.1"}"#,
                Some(vec!["a.111.css".into()]),
            ),
            (r#"{"paths": {}}"#, Some(vec![])),
            (r#"{"paths": []}"#, None),
            (r#"[]"#, None),
            ("", None),
            ("{", None),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn a_manifest_is_read_again_when_it_changes() {
        let folder = Folder::new();
        let dir = RootDir::open(folder.path().to_owned()).unwrap();
        let names = Names::new(HashedNames::Detect);
        names.refresh(&dir, 1_000);
        assert!(names.is_hashed(b"a.0123456789ab.css"));
        folder.write("staticfiles.json", r#"{"paths": {"a.css": "a.special.css"}}"#);
        names.refresh(&dir, 1_500);
        assert!(!names.is_hashed(b"a.special.css"), "not looked at twice within a second");
        names.refresh(&dir, 2_000);
        assert!(names.is_hashed(b"a.special.css"));
        assert!(!names.is_hashed(b"a.0123456789ab.css"), "the manifest wins over the pattern");
        assert_eq!(names.generation(), 1);
        names.refresh(&dir, 3_000);
        assert_eq!(names.generation(), 1);
        folder.write("staticfiles.json", "broken");
        names.refresh(&dir, 4_000);
        assert!(names.is_hashed(b"a.0123456789ab.css"));
        assert!(!Names::new(HashedNames::Never).is_hashed(b"a.0123456789ab.css"));
    }
}
