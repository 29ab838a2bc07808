//! Files from disk: static and media roots, whatever HTTP version asks.
//!
//! Owns the whole way from a raw path to an answer: `manifest.rs` finds the root, `open.rs` the file and never one outside
//! the root, `entry.rs` what is kept of it in memory, `serve.rs` the answer to one request; `policy.rs` holds the tables.
//! Leaves to the stage: which paths come here, `Date`, the fields every answer gets, and writing the body.
//! Invariant: nothing is served that is not a regular file beneath a declared root. A file seen within the last second is
//! answered without a system call.

mod answer;
mod entry;
mod every;
mod hashed;
mod manifest;
mod open;
mod policy;
mod serve;
mod siblings;
mod single;
#[cfg(test)]
mod tests;

#[allow(unused_imports)] // the doors of this folder; not every stage passes through each
pub(crate) use self::{
    answer::{FileAnswer, FileBody, Outcome, Part},
    hashed::HashedNames,
    manifest::{AssetError, AssetWarning, Manifest, Root},
    policy::RootKind,
    siblings::Siblings,
    single::{Missing, Said, send_file},
};
