//! Settings: what was written, where, and what it means.
//!
//! Owns the table of settings (`knobs.rs`), the places they are written in (`places.rs`, `file.rs`, `dotenv.rs`), what a value
//! means (`syntax.rs`), who wins (`load.rs`), the typed result (`settings.rs`), and what goes with starting a project: which
//! one it is and which Python runs it. It opens files and nothing else: no socket, no clock, no global state.
//! Invariant: past `load` nothing is validated again.

#![forbid(unsafe_code)]

mod access;
mod app;
mod between;
mod bind;
pub mod describe;
pub mod django;
mod dotenv;
pub mod explain;
mod file;
pub mod gunicorn;
pub mod knobs;
mod load;
mod networks;
mod origin;
mod paths;
mod places;
mod problem;
mod project;
pub mod python;
mod raw;
mod ready;
pub mod reference;
mod settings;
mod syntax;
mod units;
mod value;
mod values;

pub use access::{Passwords, PathSettings, PathTable, Rate, Secret};
pub use bind::{Bind, Scheme};
pub use describe::{Description, Finding, Weight};
pub use django::{DjangoSettings, ProjectSettings};
pub use load::{Loaded, Sources, load, load_with};
pub use networks::{Network, Networks};
pub use paths::{PathInterface, PathRules};
pub use problem::{Errors, Place, Problem, nearest};
pub use project::Project;
pub use raw::{Origin, SourceFile};
pub use ready::ReadyCheck;
pub use settings::{
    AcmeChallenge, CertificateFiles, ClientCert, Destination, EventLoop, Interface, Level, Lifespan,
    LogFormat, MemoryMeasure, Mount, Protected, Settings, WatchMethod,
};
