//! Where certificates come from: files, an authority on the network (ACME), an authority on this machine.
#![forbid(unsafe_code)]

pub mod acme;
mod caa;
mod distinguished;
pub mod local;
pub mod pem;
pub mod preflight;
pub mod storage;
pub mod trust;
