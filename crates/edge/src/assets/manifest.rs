//! What may be served from disk, and the door to it.
//!
//! Owns the list of roots, the memory they share, and the way from a raw path to a root, an entry and an answer. Leaves
//! opening to `open.rs` and answering to `serve.rs`.
//! Invariant: a path below a root's prefix is answered here, found or not; it never falls through to the app, where a
//! catch-all view could answer for a file. Memory stays below [`CACHE_BYTES`], open files counted in.

use super::answer::{FileAnswer, Outcome};
use super::entry::{Entry, Facts, Found, find};
use super::every::millis;
use super::hashed::{HashedNames, Names};
use super::open::{Miss, RootDir};
use super::policy::{RootKind, is_refused};
use super::serve::{answer, refusal};
use super::siblings::Siblings;
use bandstand_semantics::Fields;
use bandstand_semantics::path::{StaticMatch, static_path};
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Bound on small files in memory, in bytes; an open larger file counts 128 KiB.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Entries the memory is laid out for; a guess at what a site has, not a bound.
const EXPECTED_ENTRIES: usize = 1024;

/// A directory to serve, as declared.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    /// Path prefix of its URLs; `/` at both ends is added if missing (`STATIC_URL = "static/"` is usual).
    pub(crate) prefix: String,
    /// The directory; may not exist yet.
    pub(crate) dir: PathBuf,
    /// Whose files they are.
    pub(crate) kind: RootKind,
    /// Whether names may tell the content.
    pub(crate) hashed: HashedNames,
}

/// A root that cannot be served. The operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AssetError {
    /// The directory is there and cannot be opened.
    Unreadable { prefix: String, dir: PathBuf, reason: String },
    /// The prefix is `/` or no path.
    Prefix { prefix: String },
    /// Two roots have the same prefix.
    Twice { prefix: String },
}

impl fmt::Display for AssetError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AssetError::Unreadable { prefix, dir, reason } => write!(
                out,
                "the files of {prefix} cannot be served: {} cannot be opened as a directory ({reason}); \
                 let the user bandstand runs as read it, or point the setting elsewhere",
                dir.display()
            ),
            AssetError::Prefix { prefix } => write!(
                out,
                "`{prefix}` cannot be the prefix of a root of files: it must be a path below /, as in /static/; \
                 / itself would hide every page of the app"
            ),
            AssetError::Twice { prefix } => {
                write!(out, "two roots of files have the prefix {prefix}; static and media need one each")
            }
        }
    }
}

impl std::error::Error for AssetError {}

/// Something about a root the operator should hear of; it is served all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AssetWarning {
    /// The root's prefix.
    pub(crate) prefix: String,
    /// The directory that is not there.
    pub(crate) dir: PathBuf,
    /// Whose files should be there.
    pub(crate) kind: RootKind,
}

impl fmt::Display for AssetWarning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = match self.kind {
            RootKind::Static => "run `manage.py collectstatic`; until then its files are 404",
            RootKind::Media => "it will be used as soon as the first upload makes it",
        };
        write!(out, "{} for {} does not exist; {next}", self.dir.display(), self.prefix)
    }
}

/// Everything that may be served from disk. Shared by all threads.
#[derive(Debug)]
pub(crate) struct Manifest {
    roots: Vec<Served>,
    memory: Memory,
    warnings: Vec<AssetWarning>,
    siblings: Option<Siblings>,
}

#[derive(Debug)]
struct Served {
    prefix: String,
    kind: RootKind,
    dir: RootDir,
    names: Names,
}

impl Manifest {
    /// Opens the roots.
    ///
    /// # Errors
    /// The first root that cannot be served, see [`AssetError`]. A directory that is missing is a warning.
    pub(crate) fn new(roots: Vec<Root>) -> Result<Manifest, AssetError> {
        let mut served: Vec<Served> = Vec::new();
        let mut warnings = Vec::new();
        for root in roots {
            let Root { prefix, dir, kind, hashed } = root;
            let prefix = normal_prefix(&prefix)?;
            if served.iter().any(|other| other.prefix == prefix) {
                return Err(AssetError::Twice { prefix });
            }
            let opened = RootDir::open(dir.clone()).map_err(|error| AssetError::Unreadable {
                prefix: prefix.clone(),
                dir: dir.clone(),
                reason: std::io::Error::from(error).to_string(),
            })?;
            if opened.is_missing() {
                warnings.push(AssetWarning { prefix: prefix.clone(), dir, kind });
            }
            served.push(Served { prefix, kind, dir: opened, names: Names::new(hashed) });
        }
        // `/static/admin/` is asked before `/static/`.
        served.sort_by_key(|root| std::cmp::Reverse(root.prefix.len()));
        Ok(Manifest { roots: served, memory: Memory::new(), warnings, siblings: None })
    }

    /// The same, with compressed siblings made for what has none.
    pub(crate) fn with_siblings(self, siblings: Option<Siblings>) -> Manifest {
        Manifest { siblings, ..self }
    }

    /// What the operator should hear of, found by `new`.
    pub(crate) fn warnings(&self) -> &[AssetWarning] {
        &self.warnings
    }

    /// Answers a request if its path lies below a root. May read up to 64 KiB from disk, when a file is asked for the
    /// first time or has changed. `now` is the wall clock.
    pub(crate) fn respond(
        &self,
        method: &[u8],
        raw_path: &[u8],
        fields: &Fields,
        now: SystemTime,
    ) -> Outcome {
        for (index, root) in self.roots.iter().enumerate() {
            let found = static_path(raw_path, &root.prefix);
            if found == StaticMatch::NoMatch {
                continue;
            }
            if !matches!(method, b"GET" | b"HEAD") {
                return Outcome::Answer(refusal(405, &[(b"allow", b"GET, HEAD")]));
            }
            return Outcome::Answer(match found {
                StaticMatch::File(relative) if !is_refused(root.kind, &relative) => {
                    self.file(index, root, &relative, method, fields, millis(now))
                }
                _ => refusal(404, &[]),
            });
        }
        Outcome::NotMine
    }

    fn file(
        &self,
        index: usize,
        root: &Served,
        relative: &[u8],
        method: &[u8],
        fields: &Fields,
        now_ms: u64,
    ) -> FileAnswer {
        match self.entry(index, root, relative, now_ms) {
            Ok(entry) => answer(&entry, method, fields),
            Err(Miss::NotFound) => refusal(404, &[]),
            Err(Miss::Unavailable) => {
                tracing::warn!(
                    prefix = root.prefix,
                    "a file could not be read: no descriptors or memory left, or a disk error"
                );
                refusal(503, &[(b"retry-after", b"1")])
            }
        }
    }

    /// The entry of a path: from memory if it was looked at within the last second, else after a look at the disk.
    fn entry(&self, index: usize, root: &Served, relative: &[u8], now_ms: u64) -> Result<Arc<Entry>, Miss> {
        let wanted = Wanted { root: index, relative };
        let held = self.memory.cache.get(&wanted);
        if let Some(entry) = &held
            && !entry.is_due(now_ms)
        {
            return Ok(Arc::clone(entry));
        }
        root.dir.refresh(now_ms);
        root.names.refresh(&root.dir, now_ms);
        let generation = root.dir.generation() + root.names.generation();
        match (find(&root.dir, root.kind, relative, self.siblings.as_ref()), held) {
            (Ok(found), Some(entry)) if entry.is_still(&found, generation) => Ok(entry),
            (Ok(found), _) => self.load(index, root, relative, found, generation, now_ms),
            // The disk is in trouble, the file is in memory: that is what memory is for.
            (Err(Miss::Unavailable), Some(entry)) => Ok(entry),
            (Err(miss), _) => {
                self.memory.cache.remove(&wanted);
                Err(miss)
            }
        }
    }

    fn load(
        &self,
        index: usize,
        root: &Served,
        relative: &[u8],
        found: Found,
        generation: u64,
        now_ms: u64,
    ) -> Result<Arc<Entry>, Miss> {
        let hashed = root.names.is_hashed(relative);
        let facts = Facts { relative, kind: root.kind, hashed, generation, now_ms };
        let entry = Arc::new(Entry::load(found, &facts)?);
        self.memory.cache.insert(Key { root: index, relative: relative.into() }, Arc::clone(&entry));
        Ok(entry)
    }
}

fn normal_prefix(prefix: &str) -> Result<String, AssetError> {
    let bare = prefix.trim_matches('/');
    let is_path = !bare.is_empty()
        && !bare.contains("://")
        && !bare.contains(['?', '#', '%', '\\'])
        && bare.split('/').all(|name| !matches!(name, "" | "." | ".."));
    if is_path { Ok(format!("/{bare}/")) } else { Err(AssetError::Prefix { prefix: prefix.to_owned() }) }
}

/// Entries of all roots, within one bound.
struct Memory {
    cache: Cache<Key, Arc<Entry>, ByWeight>,
}

impl Memory {
    fn new() -> Memory {
        Memory { cache: Cache::with_weighter(EXPECTED_ENTRIES, CACHE_BYTES, ByWeight) }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Memory")
            .field("entries", &self.cache.len())
            .field("weight", &self.cache.weight())
            .finish()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    root: usize,
    relative: Box<[u8]>,
}

/// A key not yet owned: a look-up allocates nothing. Must hash as [`Key`] does: same fields, same order.
#[derive(Hash)]
struct Wanted<'a> {
    root: usize,
    relative: &'a [u8],
}

impl Equivalent<Key> for Wanted<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.root == key.root && *self.relative == *key.relative
    }
}

#[derive(Debug, Clone)]
struct ByWeight;

impl Weighter<Key, Arc<Entry>> for ByWeight {
    fn weight(&self, key: &Key, entry: &Arc<Entry>) -> u64 {
        entry.weight() + key.relative.len() as u64
    }
}
