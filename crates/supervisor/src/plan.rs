//! How a generation is started: interpreter, environment, folder, times. And what can be wrong with that.
//!
//! Owns values only; `spawn` carries them out. Invariant: a plan does not change once its generation began; whatever
//! changes comes with a new generation.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

/// Number of a generation, from 1. A later one is of newer code and settings; none is used twice by a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationNumber(pub u32);

impl fmt::Display for GenerationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the application is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preload {
    /// In each worker.
    Direct,
    /// Once, in a template process that forks the workers.
    Template,
}

/// How to start workers, and how many.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The interpreter: an absolute path, or a name to be found on the plan's `PATH`.
    pub python: PathBuf,
    /// Its arguments, usually `-m bandstand.worker`.
    pub arguments: Vec<OsString>,
    /// Where it runs.
    pub directory: PathBuf,
    /// The whole environment; nothing of this program's own is added but the variables that name descriptors and, for
    /// a template, this process.
    pub environment: Vec<(OsString, OsString)>,
    /// How many workers to keep, at least 1.
    pub workers: u16,
    /// How long a generation's template and first workers together, and later each new worker, may take to become
    /// ready; `None`: as long as they like.
    pub boot_timeout: Option<Duration>,
    /// How long a worker that is to leave may take before it is killed.
    pub graceful_timeout: Duration,
    /// Mask of permissions for files that the workers make; `None`: this program's own.
    pub umask: Option<u32>,
    /// Where the application is imported.
    pub preload: Preload,
    /// Whether the template has hooks of the user's that are to hear of the ends of workers and of the fleet.
    pub hooks: bool,
}

/// Why no process could be started; the operator's settings or the system are at fault.
#[derive(Debug)]
pub enum SpawnError {
    /// The working directory cannot be used.
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The interpreter cannot be run.
    Program {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The system has no more of something.
    Resource {
        /// What was to be made.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// The template could not make a worker; it can be asked again.
    Fork {
        /// What it said.
        said: String,
    },
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, cause } => {
                write!(f, "cannot enter the folder {}: {cause}", path.display())
            }
            Self::Program { path, cause } => {
                write!(f, "cannot run the interpreter {}: {cause}", path.display())
            }
            Self::Resource { what, cause } => write!(f, "cannot make {what} for a worker: {cause}"),
            Self::Fork { said } => write!(f, "the template cannot make a worker: {said}"),
        }
    }
}

impl std::error::Error for SpawnError {}
