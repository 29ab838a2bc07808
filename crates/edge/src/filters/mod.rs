//! One file a filter; their order is `pipeline.rs`.

pub(crate) mod headers;
pub(crate) mod hop;
