//! The edge: everything a request meets between the client's socket and the app's worker.
//!
//! `pipeline.rs` is the way in. Doors: `serve` runs the whole until it is stopped.
#![forbid(unsafe_code)]

mod access;
mod arrival;
mod assets;
mod body;
mod connection;
pub mod control;
mod dev;
mod dispatch;
mod exchange;
mod filters;
mod handed_down;
mod hosts;
mod listener;
mod observe;
mod pipeline;
mod protected;
mod refusal;
mod server;
mod shared;
mod stages;
mod tls;

pub use server::{Again, Mode, Run, ServeError, is_low, serve, unprivileged, worker_environment};

/// This machine's own authority: where it is kept, and for which names.
pub mod local_authority {
    pub use crate::tls::local::{folder, names};
}
pub use tls::acme::wish as acme_wish;
