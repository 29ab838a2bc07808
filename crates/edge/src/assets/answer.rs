//! What a request for a file becomes, before any HTTP version writes it down.
//!
//! Owns the shape of the answer. Leaves the deciding to `serve.rs` and the writing to the connection.
//! Invariant: the pieces of a body sum up to `content_length`, or the body is empty because HEAD or the status says so.

use bandstand_semantics::Fields;
use bytes::Bytes;
use std::fs::File;
use std::sync::Arc;

/// Is the path below one of our roots?
#[derive(Debug)]
pub(crate) enum Outcome {
    /// No: somebody else answers.
    NotMine,
    /// Yes, and this is the answer, be it a 404.
    Answer(FileAnswer),
}

/// An answer made from a file, or the reason why there is none.
#[derive(Debug, Clone)]
pub(crate) struct FileAnswer {
    /// 200, 206, 304, 404, 405, 412, 416 or 503.
    pub(crate) status: u16,
    /// Everything but the framing, `Date` and what all answers share; names in lower case. Shared: a 200 or 304 from
    /// memory costs a reference, not a copy.
    pub(crate) fields: Arc<Fields>,
    /// `Content-Length` to send; `None` for 304, which has none. For HEAD the length GET would have.
    pub(crate) content_length: Option<u64>,
    /// The bytes to send.
    pub(crate) body: FileBody,
}

/// Where the bytes of an answer come from.
#[derive(Debug, Clone)]
pub(crate) enum FileBody {
    /// Nowhere.
    Empty,
    /// A small file, or a slice of one.
    Memory(Bytes),
    /// `len` bytes of a file from `offset`. The file may be shared: read with `pread` or `sendfile` with an offset, never
    /// by its own position. It may have shrunk since: fewer bytes than `len` mean cutting the connection.
    File {
        /// Open for reading.
        file: Arc<File>,
        /// First byte.
        offset: u64,
        /// Number of bytes, at least 1.
        len: u64,
    },
    /// `multipart/byteranges`: heads and slices, to be sent one after the other.
    Parts(Vec<Part>),
}

/// One piece of a body in several parts.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// A part's head, or a slice of a small file.
    Memory(Bytes),
    /// A slice of a larger file; as in [`FileBody::File`].
    File {
        /// Open for reading.
        file: Arc<File>,
        /// First byte.
        offset: u64,
        /// Number of bytes, at least 1.
        len: u64,
    },
}

impl Part {
    /// Bytes this part adds to the body.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Part::Memory(bytes) => bytes.len() as u64,
            Part::File { len, .. } => *len,
        }
    }
}

impl From<Part> for FileBody {
    fn from(part: Part) -> FileBody {
        match part {
            Part::Memory(bytes) if bytes.is_empty() => FileBody::Empty,
            Part::Memory(bytes) => FileBody::Memory(bytes),
            Part::File { file, offset, len } => FileBody::File { file, offset, len },
        }
    }
}
