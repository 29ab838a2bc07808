//! Bodies that are larger than memory should hold.

pub(crate) mod spool;
