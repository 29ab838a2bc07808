//! One file as it is kept in memory: its variants, their validators, and their heads ready to send.
//!
//! Owns the finding of ready-compressed siblings, the reading of small files, entity tags and the prepared fields. Leaves
//! the choice between variants to `serve.rs`.
//! Invariant: an entry describes the files of one moment; nothing in it changes but the time of the last look. Content,
//! length, tag and date of a variant always belong together.

use super::every::EverySecond;
use super::open::{Miss, Opened, RootDir, Stamp};
use super::policy::{self, RootKind};
use super::siblings::Siblings;
use super::single::Said;
use bandstand_semantics::conditional::{Validators, parse_date};
use bandstand_semantics::negotiate::Coding;
use bandstand_semantics::{Fields, media_type};
use bytes::Bytes;
use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Files up to this size live in memory; larger ones are kept open. Below it one copy from memory beats `sendfile`'s
/// extra system call.
pub(super) const SMALL_BYTES: u64 = 64 * 1024;

/// What an open file counts in the bound on memory, so that one bound holds both: 512 of them fill 64 MiB.
const OPEN_FILE_WEIGHT: u64 = 128 * 1024;

/// A file written less than this long ago may be written again with the same size and time stamp, as the clock of a file
/// system ticks in milliseconds; until it is older every look reads it again.
const SETTLES_MS: i64 = 2_000;

/// Suffix and coding of the siblings looked for; `policy.rs` says of whose files.
const SIBLINGS: [(&[u8], Coding); 3] =
    [(b".br", Coding::Br), (b".zst", Coding::Zstd), (b".gz", Coding::Gzip)];

/// The files behind one path: itself, and its siblings in the order of [`SIBLINGS`].
pub(super) struct Found {
    original: Opened,
    siblings: [Option<Opened>; 3],
}

/// Opens a file and, for static roots, its siblings.
///
/// A user may upload `a.txt` and `a.txt.gz` with different content, so media have no siblings. A sibling older than its
/// original was made from an earlier one and is passed over. Whole seconds are compared: WhiteNoise gives the sibling the
/// time of the original through a float, which loses some nanoseconds.
///
/// Where the project has none, those that `made` has are taken.
pub(super) fn find(
    dir: &RootDir,
    kind: RootKind,
    relative: &[u8],
    made: Option<&Siblings>,
) -> Result<Found, Miss> {
    let original = dir.open_file(relative)?;
    let mut siblings = [None, None, None];
    if kind == RootKind::Static {
        for ((suffix, _), place) in SIBLINGS.iter().zip(&mut siblings) {
            let sibling = dir.open_file(&[relative, suffix].concat()).ok();
            *place = sibling.filter(|sibling| sibling.stamp.modified_s >= original.stamp.modified_s);
        }
        if let Some(made) = made
            && siblings.iter().all(Option::is_none)
        {
            siblings = made.find(relative, &original, SIBLINGS.map(|(_, coding)| coding));
        }
    }
    Ok(Found { original, siblings })
}

/// What a root knows about a path, beside the files.
pub(super) struct Facts<'a> {
    pub(super) relative: &'a [u8],
    pub(super) kind: RootKind,
    pub(super) hashed: bool,
    pub(super) generation: u64,
    pub(super) now_ms: u64,
}

/// A file in memory.
#[derive(Debug)]
pub(super) struct Entry {
    /// The original first, then its siblings; never empty.
    variants: Vec<Variant>,
    /// The codings of `variants`, in their order.
    codings: Vec<Coding>,
    generation: u64,
    looks: EverySecond,
    settled: bool,
}

/// One coding of a file.
#[derive(Debug)]
pub(super) struct Variant {
    stamp: Stamp,
    etag: Box<[u8]>,
    modified: Option<u64>,
    pub(super) media_type: Cow<'static, str>,
    pub(super) content: Content,
    /// The fields of a 200.
    pub(super) head: Arc<Fields>,
    /// The fields of a 304: of those of a 200 the ones RFC 9110 §15.4.5 asks for, and `nosniff`.
    pub(super) head_304: Arc<Fields>,
}

/// Where the bytes of a variant are.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// All of them, here.
    Memory(Bytes),
    /// In this file, so many.
    File(Arc<File>, u64),
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_, size) => *size,
        }
    }
}

impl Entry {
    /// Reads what was found into memory.
    pub(super) fn load(found: Found, facts: &Facts<'_>) -> Result<Entry, Miss> {
        let has_siblings = found.siblings.iter().any(Option::is_some);
        let codings = SIBLINGS.map(|(_, coding)| coding);
        let siblings =
            found.siblings.into_iter().zip(codings).filter_map(|(sibling, coding)| Some((sibling?, coding)));
        let mut entry = Entry {
            variants: Vec::new(),
            codings: Vec::new(),
            generation: facts.generation,
            looks: EverySecond::since(facts.now_ms),
            settled: true,
        };
        for (opened, coding) in std::iter::once((found.original, Coding::Identity)).chain(siblings) {
            let variant = Variant::load(opened, coding, has_siblings, facts)?;
            entry.settled &= is_settled(&variant.stamp, facts.now_ms);
            entry.variants.push(variant);
            entry.codings.push(coding);
        }
        Ok(entry)
    }

    /// True for one caller a second, who must look whether the files are still the same.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.looks.due(now_ms)
    }

    /// True when these are the very files this entry was made from, and old enough to say so.
    pub(super) fn is_still(&self, found: &Found, generation: u64) -> bool {
        let siblings = found.siblings.iter().flatten();
        let now = std::iter::once(&found.original).chain(siblings).map(|opened| opened.stamp);
        self.settled
            && self.generation == generation
            && now.eq(self.variants.iter().map(|variant| variant.stamp))
    }

    /// The codings there are; the original's first.
    pub(super) fn codings(&self) -> &[Coding] {
        &self.codings
    }

    /// The variant of a coding; the original if there is none.
    pub(super) fn variant(&self, coding: Coding) -> &Variant {
        let place = self.codings.iter().position(|&known| known == coding).unwrap_or(0);
        &self.variants[place]
    }

    /// Bytes this entry counts in the bound of the cache.
    pub(super) fn weight(&self) -> u64 {
        let of = |variant: &Variant| match &variant.content {
            Content::Memory(bytes) => bytes.len() as u64 + 1024,
            Content::File(..) => OPEN_FILE_WEIGHT,
        };
        self.variants.iter().map(of).sum()
    }
}

fn is_settled(stamp: &Stamp, now_ms: u64) -> bool {
    let modified_ms = stamp.modified_s.saturating_mul(1000).saturating_add(stamp.modified_ns / 1_000_000);
    i64::try_from(now_ms).unwrap_or(i64::MAX).saturating_sub(modified_ms) > SETTLES_MS
}

impl Variant {
    fn load(opened: Opened, coding: Coding, has_siblings: bool, facts: &Facts<'_>) -> Result<Variant, Miss> {
        let (content, stamp) = read_small(opened)?;
        let etag = entity_tag(&stamp, coding);
        let modified = last_modified(&stamp, facts.now_ms);
        let media_type = media_type::of_path(facts.relative);
        let mut head_304 = Fields::with_capacity(6, 256);
        head_304.push(b"etag", &etag);
        if let Some(seconds) = modified {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            head_304.push(b"last-modified", date.as_bytes());
        }
        head_304.push(b"cache-control", policy::cache_control(facts.kind, facts.hashed).as_bytes());
        if has_siblings {
            head_304.push(b"vary", b"accept-encoding");
        }
        let mut head = Fields::with_capacity(10, 512);
        head.push(b"content-type", media_type.as_bytes());
        if coding != Coding::Identity {
            head.push(b"content-encoding", coding.as_str().as_bytes());
        }
        for (name, value) in head_304.iter() {
            head.push(name, value);
        }
        head.push(b"accept-ranges", b"bytes");
        policy::add_safety(&mut head, facts.kind, media_type);
        head_304.push(policy::NOSNIFF.0, policy::NOSNIFF.1);
        Ok(Variant {
            stamp,
            etag: etag.into(),
            modified,
            media_type: Cow::Borrowed(media_type),
            content,
            head: Arc::new(head),
            head_304: Arc::new(head_304),
        })
    }

    /// A file that the app names, with what it says of it; no policy of ours, the app has its own.
    pub(super) fn of_app(opened: Opened, relative: &[u8], said: &Said, now_ms: u64) -> Result<Variant, Miss> {
        let (content, stamp) = read_small(opened)?;
        let etag = said.etag.clone().unwrap_or_else(|| entity_tag(&stamp, Coding::Identity));
        let of_file = last_modified(&stamp, now_ms);
        let modified = said.modified.as_deref().map_or(of_file, parse_date);
        let media_type = said_type(relative, said);
        let mut head_304 = Fields::with_capacity(2, 128);
        head_304.push(b"etag", &etag);
        if let Some(seconds) = modified {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            head_304.push(b"last-modified", date.as_bytes());
        }
        let mut head = Fields::with_capacity(4, 256);
        head.push(b"content-type", media_type.as_bytes());
        for (name, value) in head_304.iter() {
            head.push(name, value);
        }
        head.push(b"accept-ranges", b"bytes");
        let (head, head_304) = (Arc::new(head), Arc::new(head_304));
        Ok(Variant { stamp, etag: etag.into(), modified, media_type, content, head, head_304 })
    }

    /// What preconditions are compared with.
    pub(super) fn validators(&self) -> Validators<'_> {
        Validators { etag: &self.etag, modified: self.modified }
    }
}

fn said_type(relative: &[u8], said: &Said) -> Cow<'static, str> {
    if let Some(given) = &said.media_type {
        return Cow::Owned(String::from_utf8_lossy(given).into_owned());
    }
    let known = media_type::of_path(relative);
    // The table says utf-8 of texts, and of nothing else.
    match (&said.charset, known.split_once("; charset=")) {
        (Some(charset), Some((bare, _))) => {
            Cow::Owned(format!("{bare}; charset={}", String::from_utf8_lossy(charset)))
        }
        _ => Cow::Borrowed(known),
    }
}

/// Strong: the time to the nanosecond and the length, one tag per coding (RFC 9110 §8.8.3.3).
fn entity_tag(stamp: &Stamp, coding: Coding) -> Vec<u8> {
    let time = i128::from(stamp.modified_s) * 1_000_000_000 + i128::from(stamp.modified_ns);
    let (time, size) = (time as u64, stamp.size); // wraps in the year 2554; any number will do
    match coding {
        Coding::Identity => format!("\"{time:x}-{size:x}\"").into_bytes(),
        coding => format!("\"{time:x}-{size:x}-{}\"", coding.as_str()).into_bytes(),
    }
}

/// Not before 1970, which HTTP dates cannot say; not in the future, which RFC 9110 §8.8.2.1 forbids.
fn last_modified(stamp: &Stamp, now_ms: u64) -> Option<u64> {
    u64::try_from(stamp.modified_s).ok().filter(|&seconds| seconds <= now_ms / 1000)
}

/// Reads a small file whole, and again if it was written to meanwhile; a larger one stays open.
fn read_small(opened: Opened) -> Result<(Content, Stamp), Miss> {
    let Opened { file, mut stamp } = opened;
    for _ in 0..3 {
        if stamp.size > SMALL_BYTES {
            break;
        }
        let bytes = read_up_to(&file, stamp.size).map_err(|_| Miss::Unavailable)?;
        let after = Stamp::again(&file).ok_or(Miss::Unavailable)?;
        if after == stamp && bytes.len() as u64 == stamp.size {
            return Ok((Content::Memory(bytes.into()), stamp));
        }
        stamp = after;
    }
    let size = stamp.size;
    Ok((Content::File(Arc::new(file), size), stamp))
}

fn read_up_to(file: &File, size: u64) -> std::io::Result<Vec<u8>> {
    // At most SMALL_BYTES, so it fits a usize.
    let mut bytes = vec![0; size as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
