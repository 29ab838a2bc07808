//! Worker processes: start, watch, restart, stop. Knows nothing of HTTP and nothing of what goes over the channel.
//!
//! Owns the processes (workers, and the templates that fork them), their inherited descriptors, their standard output
//! and error, and the rules of generations, of their life and restart. Leaves to its user (the edge) the channel's frames: the edge says when a worker is ready, failed to import
//! or is stuck, and the fleet says when a worker has started, must be drained, or is gone.
//! Invariant: no worker outlives this program, and every worker is reported `Started` once and `Gone` once.
#![deny(unsafe_code)]

mod event;
mod fleet;
mod keep;
mod orphans;
mod output;
mod plan;
mod privileges;
mod restart;
mod roster;
mod signals;
mod spawn;
#[allow(unsafe_code)] // system calls that rustix does not wrap, and shared memory
mod sys;
mod template;
mod watch;
mod worker;

pub use event::{Event, TemplateState};
pub use fleet::Fleet;
pub use orphans::{start_own, wait_own};
pub use plan::{GenerationNumber, Plan, Preload, SpawnError};
pub use privileges::{
    PrivilegeError, Users, account_of, drop_privileges, lock_down, run_as_self, workers_are_apart,
};
pub use signals::{Command, listen};
pub use sys::{Board, inherited_socket, watch_channel};
pub use worker::{Gone, WorkerNumber};
