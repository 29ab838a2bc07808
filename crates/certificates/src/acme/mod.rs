//! Certificates from an authority on the network (ACME, RFC 8555).
//!
//! `wish` says what is wanted, `authority` who is asked, `keeper` takes a turn: `due` what to order and when, `course` what is
//! remembered, `backoff`, `quota` and `renewal` the rules of time, `advice` who is asked about it, `account` and `order` the protocol over `client`, `challenge`
//! and `hook` the proofs, `failure` whose fault it was; `report` shows it all, `standalone` works without a server. Sockets of
//! clients are the edge's: proofs are shown through a `Stage`.
//! Invariant: whatever fails, the certificate that is there stays.

mod account;
mod advice;
mod authority;
mod backoff;
mod challenge;
mod client;
mod course;
mod due;
mod failure;
mod hook;
mod keeper;
mod order;
mod quota;
mod renewal;
mod report;
pub mod standalone;
#[cfg(test)]
mod tests;
mod wish;

pub use authority::Authority;
pub use challenge::{Choice, Stage, Ways};
pub use due::{Held, Zeal};
pub use keeper::{Rehearsal, Turn, best, held, rehearse, turn};
pub use report::{Entry, report};
pub use wish::Wish;
