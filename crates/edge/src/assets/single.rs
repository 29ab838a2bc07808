//! One file that the app names, beneath a folder of its own.
//!
//! Owns nothing that lasts: the folder and the file are opened for each answer. An app may write a file and name it within the
//! same second, and what it may take back at any time must not be answered from memory. Leaves the reading of names and the
//! app's fields to `protected`.
//! Invariant: that of `open.rs`: a regular file beneath the folder, or nothing.

use super::answer::FileAnswer;
use super::entry::Variant;
use super::every::millis;
use super::open::{Miss, RootDir};
use super::serve::answer_variant;
use bandstand_semantics::Fields;
use rustix::io::Errno;
use std::path::Path;
use std::time::SystemTime;

/// What an app says about a file; it is believed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// Its media type; `None`: by its name.
    pub(crate) media_type: Option<Vec<u8>>,
    /// The charset of a text whose type is told by its name.
    pub(crate) charset: Option<Vec<u8>>,
    /// Entity tag, quotes and all; `None`: made from time and length.
    pub(crate) etag: Option<Vec<u8>>,
    /// Last-Modified as it is to be sent; `None`: the file's.
    pub(crate) modified: Option<Vec<u8>>,
}

/// Why there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Not there, not readable, not regular, or not beneath the folder.
    NotFound,
    /// The machine has no descriptors or memory left, or the disk fails.
    Unavailable,
}

/// Answers GET or HEAD with the file `relative` beneath `folder`: 200, 206, 304, 412 or 416. `relative` has no empty, `.` or
/// `..` segment. Reads up to 64 KiB.
///
/// # Errors
/// See [`Missing`].
pub(crate) fn send_file(
    folder: &Path,
    relative: &[u8],
    said: &Said,
    method: &[u8],
    fields: &Fields,
    now: SystemTime,
) -> Result<FileAnswer, Missing> {
    let dir = RootDir::open(folder.to_owned()).map_err(|error| match error {
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO => Missing::Unavailable,
        _ => Missing::NotFound,
    })?;
    let opened = dir.open_file(relative)?;
    let variant = Variant::of_app(opened, relative, said, millis(now))?;
    Ok(answer_variant(&variant, method, fields))
}

impl From<Miss> for Missing {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::NotFound => Self::NotFound,
            Miss::Unavailable => Self::Unavailable,
        }
    }
}
