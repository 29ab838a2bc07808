//! One request for one file: which variant, all of it, a part of it, or nothing.
//!
//! Owns the order of RFC 9110 for a file: negotiation (§12.5.3), preconditions (§13.2), range (§14). Leaves the rules
//! themselves to `semantics` and the bytes to the connection.
//! Invariant: tag, length and ranges are those of the variant that is sent, never of its original.

use super::answer::{FileAnswer, FileBody, Part};
use super::entry::{Content, Entry, Variant};
use super::policy::NOSNIFF;
use bandstand_semantics::Fields;
use bandstand_semantics::conditional::{Decision, evaluate};
use bandstand_semantics::negotiate::{Coding, choose};
use bandstand_semantics::range::{Ranges, if_range, ranges};
use bytes::Bytes;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

/// Answers GET or HEAD for a file that exists.
pub(super) fn answer(entry: &Entry, method: &[u8], fields: &Fields) -> FileAnswer {
    answer_variant(chosen(entry, fields), method, fields)
}

/// The same for one variant that there is no choice about.
pub(super) fn answer_variant(variant: &Variant, method: &[u8], fields: &Fields) -> FileAnswer {
    match evaluate(method, fields, variant.validators()) {
        Decision::Send => {}
        Decision::NotModified => return not_modified(variant),
        Decision::PreconditionFailed => return precondition_failed(variant),
    }
    // Only GET has ranges (RFC 9110 §14.2); a HEAD tells of the whole.
    if method == b"HEAD" {
        return FileAnswer { body: FileBody::Empty, ..whole(variant) };
    }
    match wanted_ranges(variant, fields) {
        Ranges::Ignore => whole(variant),
        Ranges::Unsatisfiable => unsatisfiable(variant),
        Ranges::Slices(slices) => match slices.as_slice() {
            [slice] => one_part(variant, slice),
            _ => many_parts(variant, &slices),
        },
    }
}

/// 404, 405 and the like: no content of their own, the stage may dress them.
pub(super) fn refusal(status: u16, extra: &[(&[u8], &[u8])]) -> FileAnswer {
    let mut fields = Fields::with_capacity(4, 128);
    for (name, value) in extra {
        fields.push(name, value);
    }
    fields.push(NOSNIFF.0, NOSNIFF.1);
    FileAnswer { status, fields: Arc::new(fields), content_length: Some(0), body: FileBody::Empty }
}

fn chosen<'a>(entry: &'a Entry, fields: &Fields) -> &'a Variant {
    match entry.codings() {
        [_] => entry.variant(Coding::Identity),
        // Nothing acceptable: as it is, which every client can read.
        codings => entry.variant(choose(fields.all("accept-encoding"), codings).unwrap_or(Coding::Identity)),
    }
}

fn whole(variant: &Variant) -> FileAnswer {
    let length = variant.content.len();
    FileAnswer {
        status: 200,
        fields: Arc::clone(&variant.head),
        content_length: Some(length),
        body: slice_of(&variant.content, &(0..length)).into(),
    }
}

fn not_modified(variant: &Variant) -> FileAnswer {
    FileAnswer {
        status: 304,
        fields: Arc::clone(&variant.head_304),
        content_length: None,
        body: FileBody::Empty,
    }
}

fn precondition_failed(variant: &Variant) -> FileAnswer {
    refusal(412, &[(b"etag", variant.validators().etag)])
}

fn unsatisfiable(variant: &Variant) -> FileAnswer {
    let range = format!("bytes */{}", variant.content.len());
    let etag = variant.validators().etag;
    refusal(416, &[(b"content-range", range.as_bytes()), (b"accept-ranges", b"bytes"), (b"etag", etag)])
}

fn wanted_ranges(variant: &Variant, fields: &Fields) -> Ranges {
    let mut lines = fields.all("range");
    // Range is no list field: two lines of it cannot be combined and are as good as none.
    let (Some(range), None) = (lines.next(), lines.next()) else { return Ranges::Ignore };
    match fields.first("if-range") {
        Some(condition) if !if_range(condition, variant.validators()) => Ranges::Ignore,
        _ => ranges(range, variant.content.len()),
    }
}

fn one_part(variant: &Variant, slice: &Range<u64>) -> FileAnswer {
    let mut fields = (*variant.head).clone();
    fields.push(b"content-range", content_range(slice, variant.content.len()).as_bytes());
    FileAnswer {
        status: 206,
        fields: Arc::new(fields),
        content_length: Some(slice.end - slice.start),
        body: slice_of(&variant.content, slice).into(),
    }
}

/// `multipart/byteranges`, RFC 9110 §14.6.
fn many_parts(variant: &Variant, slices: &[Range<u64>]) -> FileAnswer {
    let boundary = boundary();
    let mut parts = Vec::with_capacity(slices.len() * 2 + 1);
    let mut line_end = "";
    for slice in slices {
        let range = content_range(slice, variant.content.len());
        let head = format!(
            "{line_end}--{boundary}\r\nContent-Type: {}\r\nContent-Range: {range}\r\n\r\n",
            variant.media_type
        );
        parts.push(Part::Memory(head.into()));
        parts.push(slice_of(&variant.content, slice));
        line_end = "\r\n";
    }
    parts.push(Part::Memory(format!("\r\n--{boundary}--\r\n").into()));
    let mut fields = (*variant.head).clone();
    fields.set("content-type", format!("multipart/byteranges; boundary={boundary}").as_bytes());
    FileAnswer {
        status: 206,
        fields: Arc::new(fields),
        content_length: Some(parts.iter().map(Part::len).sum()),
        body: FileBody::Parts(parts),
    }
}

fn content_range(slice: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", slice.start, slice.end - 1)
}

/// 128 random bits: whoever uploads a file cannot know them, and so cannot write a part's end into it.
fn boundary() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

fn slice_of(content: &Content, slice: &Range<u64>) -> Part {
    match content {
        // Slices lie within the content, which fits in memory, so both ends fit a usize.
        Content::Memory(bytes) => Part::Memory(bytes.slice(slice.start as usize..slice.end as usize)),
        Content::File(_, 0) => Part::Memory(Bytes::new()),
        Content::File(file, _) => {
            Part::File { file: Arc::clone(file), offset: slice.start, len: slice.end - slice.start }
        }
    }
}
