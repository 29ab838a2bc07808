//! One file a filter; their order is `pipeline.rs`.

pub(crate) mod alt_svc;
pub(crate) mod compress;
pub(crate) mod headers;
pub(crate) mod hop;
pub(crate) mod security;
