//! One file per verb. Each reads its arguments, does its work and returns why it could not.

pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod explain;
pub(crate) mod serve;
pub(crate) mod version;
