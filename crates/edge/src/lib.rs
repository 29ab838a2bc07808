//! The edge: everything a request meets between the client's socket and the app's worker.
//!
//! `pipeline.rs` is the way in. Doors: `serve` runs the whole until it is stopped.
#![forbid(unsafe_code)]

mod assets;
mod body;
mod connection;
pub mod control;
mod dev;
mod dispatch;
mod exchange;
mod filters;
mod handed_down;
mod listener;
mod observe;
mod pipeline;
mod refusal;
mod server;
mod shared;
mod stages;

pub use server::{Again, Mode, Run, ServeError, serve, worker_environment};
