//! Command, environment and inherited descriptors of a worker, and the one thread that starts them all.
//!
//! A child's parent-death signal follows the thread that forked it, so all workers come from one thread that lives as
//! long as their fleet: when it ends, however it ends, the kernel kills what is left of them. The thread also
//! has `orphans` reaped, since only it knows at any moment which children are workers.
//! Leaves watching to `watch`. Invariant: a worker gets descriptors 0, 1, 2, its channel, its loop's lane and its board, nothing
//! else.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{fmt, io, thread};

use bandstand_wire::{BOARD_ENV, CHANNEL_ENV, LOOP_ENV};
use rustix::process::{Pid, PidfdFlags};
use tokio::sync::oneshot;

use crate::orphans;
use crate::sys::{self, Board};

/// How to start workers, and how many.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The interpreter: an absolute path, or a name to be found on the plan's `PATH`.
    pub python: PathBuf,
    /// Its arguments, usually `-m bandstand.worker`.
    pub arguments: Vec<OsString>,
    /// Where it runs.
    pub directory: PathBuf,
    /// The whole environment; nothing of this program's own is added but the three variables that name the
    /// descriptors of the channel, the loop's lane and the board.
    pub environment: Vec<(OsString, OsString)>,
    /// How many workers to keep, at least 1.
    pub workers: u16,
    /// How long a worker may take to become ready; `None`: as long as it likes.
    pub boot_timeout: Option<Duration>,
    /// How long a worker that is to leave may take before it is killed.
    pub graceful_timeout: Duration,
    /// Mask of permissions for files that the workers make; `None`: this program's own.
    pub umask: Option<u32>,
}

/// Why no worker could be started; the operator's settings or the system are at fault.
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
        }
    }
}

impl std::error::Error for SpawnError {}

/// A worker process just started. Its end is to be waited for by `pidfd`.
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) channel: UnixStream,
    pub(crate) lane: UnixStream,
    pub(crate) board: Arc<Board>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

enum Order {
    Spawn(oneshot::Sender<Result<Child, SpawnError>>),
    Reaped(Pid),
    Orphans,
}

/// The thread that starts workers. Dropped, it ends, and every worker still alive is killed by the kernel.
pub(crate) struct Spawner {
    orders: mpsc::Sender<Order>,
}

impl Spawner {
    /// Starts the thread and, waiting for it (some milliseconds), the first worker: what is wrong with the plan shows.
    pub(crate) fn start(plan: Plan) -> Result<(Spawner, Child), SpawnError> {
        let (orders, received) = mpsc::channel();
        let (first, first_started) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || run(&plan, &first, &received))
            .map_err(|cause| SpawnError::Resource { what: "a thread", cause })?;
        let child = first_started.recv().unwrap_or_else(|_| Err(thread_ended()))?;
        Ok((Spawner { orders }, child))
    }

    /// Starts one more worker. If the future is dropped, a worker may run unseen until the spawner is dropped.
    pub(crate) async fn spawn(&self) -> Result<Child, SpawnError> {
        let (reply, started) = oneshot::channel();
        self.orders.send(Order::Spawn(reply)).map_err(|_| thread_ended())?;
        started.await.unwrap_or_else(|_| Err(thread_ended()))
    }

    /// The worker was reaped: its number may now be any other process's.
    pub(crate) fn reaped(&self, pid: Pid) {
        let _ = self.orders.send(Order::Reaped(pid)); // the thread ends with its last worker at the latest
    }

    /// A child has ended; if it is not a worker, it is an orphan given to the init process.
    pub(crate) fn reap_orphans(&self) {
        let _ = self.orders.send(Order::Orphans);
    }
}

fn thread_ended() -> SpawnError {
    SpawnError::Resource { what: "a process", cause: io::Error::other("the spawning thread has ended") }
}

fn run(plan: &Plan, first: &mpsc::SyncSender<Result<Child, SpawnError>>, orders: &mpsc::Receiver<Order>) {
    let mut workers = HashSet::new();
    let start = |workers: &mut HashSet<Pid>| {
        let child = start_worker(plan)?;
        workers.insert(child.pid);
        Ok(child)
    };
    let _ = first.send(start(&mut workers)); // both sends: a caller that went away wants no worker
    while let Ok(order) = orders.recv() {
        match order {
            Order::Spawn(reply) => drop(reply.send(start(&mut workers))),
            Order::Reaped(pid) => {
                workers.remove(&pid);
                orphans::reap(&workers);
            }
            Order::Orphans => orphans::reap(&workers),
        }
    }
}

fn start_worker(plan: &Plan) -> Result<Child, SpawnError> {
    let resource = |what| move |cause| SpawnError::Resource { what, cause };
    let (channel, their_channel) = socket_pair().map_err(resource("a channel"))?;
    let (lane, their_lane) = socket_pair().map_err(resource("a lane"))?;
    let (board, memory) = Board::create().map_err(resource("a board"))?;
    let mut command = command(plan);
    let inherited = [their_channel.as_raw_fd(), their_lane.as_raw_fd(), memory.as_raw_fd()];
    for (name, descriptor) in [CHANNEL_ENV, LOOP_ENV, BOARD_ENV].into_iter().zip(inherited) {
        command.env(name, descriptor.to_string());
    }
    sys::prepare_child(&mut command, inherited, plan.umask);
    let mut child = command.spawn().map_err(|cause| explain(plan, cause))?;
    let pid = Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
    let pidfd =
        pidfd.map_err(io::Error::from).and_then(|pidfd| match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), Some(stderr)) => Ok((pidfd, stdout, stderr)),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        });
    match pidfd {
        Ok((pidfd, stdout, stderr)) => Ok(Child {
            pid,
            pidfd,
            channel,
            lane,
            board: Arc::new(board),
            stdout: stdout.into(),
            stderr: stderr.into(),
        }),
        Err(cause) => {
            // A process that cannot be watched is not left running. Killed, it ends within milliseconds.
            let _ = child.kill().and_then(|()| child.wait());
            Err(SpawnError::Resource { what: "a process descriptor", cause })
        }
    }
}

/// Our end, which never blocks, and theirs.
fn socket_pair() -> io::Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((ours, theirs))
}

fn command(plan: &Plan) -> Command {
    let mut command = Command::new(&plan.python);
    command
        .args(&plan.arguments)
        .current_dir(&plan.directory)
        .env_clear()
        .envs(plan.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// "No such file" is said of the folder and of the program alike: look which it is.
fn explain(plan: &Plan, cause: io::Error) -> SpawnError {
    match std::fs::read_dir(&plan.directory) {
        Err(cause) if !plan.directory.is_dir() => {
            SpawnError::Directory { path: plan.directory.clone(), cause }
        }
        _ => SpawnError::Program { path: plan.python.clone(), cause },
    }
}
