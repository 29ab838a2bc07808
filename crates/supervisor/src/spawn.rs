//! The one thread that makes processes: command, environment, inherited descriptors; and forks by a template.
//!
//! A child's parent-death signal follows the thread that forked it, so all that are executed come from one thread that
//! lives as long as their fleet: when it ends, however it ends, the kernel kills what is left of them. Forked workers
//! are children of the process's first thread, and see to that signal themselves. The thread also has orphans reaped,
//! and never while a process is being made, so that none is taken for one. Leaves watching to `watch`. Invariant: a
//! worker gets descriptors 0, 1, 2, its channel, lane, guard line and board, a template its line, nothing else.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::{io, thread};

use bandstand_wire::{BOARD_ENV, CHANNEL_ENV, GUARD_ENV, LOOP_ENV};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::keep::Report;
use crate::orphans::Owned;
use crate::plan::{GenerationNumber, Plan, SpawnError};
use crate::sys::{self, Board};
use crate::template::{Line, PARENT_ENV, TEMPLATE_ENV, Trouble};
use crate::worker::WorkerNumber;

/// A process just started. Its end is to be waited for by `pidfd`.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// The edge's ends of what it shares with a worker.
pub(crate) struct Ends {
    pub(crate) channel: UnixStream,
    pub(crate) lane: UnixStream,
    pub(crate) guard: UnixStream,
    pub(crate) board: Arc<Board>,
}

/// What the thread is asked to do.
pub(crate) enum Task {
    Exec(WorkerNumber, Arc<Plan>),
    Fork(WorkerNumber, GenerationNumber, Line),
    Open(GenerationNumber, Arc<Plan>),
    Hook(Line, &'static str, String),
    /// End the template's stream.
    Close(Line),
    Reaped(Pid),
    Orphans,
}

/// The thread that makes processes. Dropped, it ends, and every executed process still alive is killed by the kernel.
pub(crate) struct Spawner {
    tasks: mpsc::Sender<Task>,
}

impl Spawner {
    /// Starts the thread and waits (some milliseconds) for its first task's report: what is wrong with a plan shows.
    pub(crate) fn start(
        first: Task,
        reports: UnboundedSender<Report>,
    ) -> Result<(Spawner, Option<Report>), SpawnError> {
        let (tasks, received) = mpsc::channel();
        let (done, first_done) = mpsc::sync_channel(1);
        let run = move || {
            let _ = done.send(perform(first)); // all sends: who went away wants no process
            while let Ok(task) = received.recv() {
                if let Some(report) = perform(task)
                    && let Err(unheard) = reports.send(report)
                {
                    unheard.0.kill();
                }
            }
        };
        let thread = thread::Builder::new().name("spawner".into());
        thread.spawn(run).map_err(|cause| SpawnError::Resource { what: "a thread", cause })?;
        let ended = || io::Error::other("the spawning thread has ended");
        let report =
            first_done.recv().map_err(|_| SpawnError::Resource { what: "a process", cause: ended() })?;
        Ok((Spawner { tasks }, report))
    }

    /// Has it done, and reported if there is something to report. Dropped with the fleet, a process is killed.
    pub(crate) fn ask(&self, task: Task) {
        let _ = self.tasks.send(task); // the thread ends after its fleet
    }
}

fn perform(task: Task) -> Option<Report> {
    match task {
        Task::Exec(number, plan) => Some(match exec_worker(&plan) {
            Ok((process, ends)) => Report::Started(number, process, ends),
            Err(error) => Report::NotStarted(number, error),
        }),
        Task::Fork(number, generation, line) => Some(match fork_worker(number, &line) {
            Ok((process, ends)) => Report::Started(number, process, ends),
            Err(Failure::Worker(error)) => Report::NotStarted(number, error),
            Err(Failure::Template(account)) => Report::TemplateBroken(generation, number, account),
        }),
        Task::Open(generation, plan) => Some(match exec_template(&plan) {
            Ok((process, line)) => Report::Opened(generation, process, line),
            Err(error) => Report::NotOpened(generation, error),
        }),
        Task::Hook(line, name, details) => {
            if let Err(Trouble::Refused(why) | Trouble::Lost(why)) = line.hook(name, &details) {
                tracing::warn!(hook = name, "the hook `{name}` was not called: {why}");
            }
            None
        }
        Task::Close(line) => {
            line.close();
            None
        }
        Task::Reaped(pid) => {
            let mut owned = Owned::hold();
            owned.remove(pid);
            owned.reap_others();
            None
        }
        Task::Orphans => {
            Owned::hold().reap_others();
            None
        }
    }
}

fn resource(what: &'static str) -> impl Fn(io::Error) -> SpawnError {
    move |cause| SpawnError::Resource { what, cause }
}

/// The edge's ends, and the worker's: channel, lane, guard line, board.
fn make_ends() -> Result<(Ends, [OwnedFd; 4]), SpawnError> {
    let (channel, their_channel) = socket_pair().map_err(resource("a channel"))?;
    let (lane, their_lane) = socket_pair().map_err(resource("a lane"))?;
    let (guard, their_guard) = socket_pair().map_err(resource("a guard line"))?;
    let (board, memory) = Board::create().map_err(resource("a board"))?;
    let ends = Ends { channel, lane, guard, board: Arc::new(board) };
    Ok((ends, [their_channel.into(), their_lane.into(), their_guard.into(), memory]))
}

/// Our end, which never blocks, and theirs.
fn socket_pair() -> io::Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((ours, theirs))
}

fn exec_worker(plan: &Plan) -> Result<(Process, Ends), SpawnError> {
    let (ends, theirs) = make_ends()?;
    let names = [CHANNEL_ENV, LOOP_ENV, GUARD_ENV, BOARD_ENV];
    let inherited: Vec<_> = names.into_iter().zip(theirs.iter().map(AsFd::as_fd)).collect();
    Ok((exec(plan, &inherited, &[])?, ends))
}

fn exec_template(plan: &Plan) -> Result<(Process, Line), SpawnError> {
    let (line, theirs) = Line::pair().map_err(resource("a line"))?;
    let parent = std::process::id().to_string();
    Ok((exec(plan, &[(TEMPLATE_ENV, theirs.as_fd())], &[(PARENT_ENV, parent)])?, line))
}

fn exec(
    plan: &Plan,
    inherited: &[(&str, BorrowedFd<'_>)],
    further: &[(&str, String)],
) -> Result<Process, SpawnError> {
    let mut command = command(plan);
    command.envs(inherited.iter().map(|(name, descriptor)| (name, descriptor.as_raw_fd().to_string())));
    command.envs(further.iter().map(|(name, value)| (name, value)));
    let keep = inherited.iter().map(|(_, descriptor)| descriptor.as_raw_fd()).collect();
    sys::prepare_child(&mut command, keep, plan.umask);
    let mut owned = Owned::hold();
    let mut child = command.spawn().map_err(|cause| explain(plan, cause))?;
    let pid = Pid::from_child(&child);
    let watched = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from);
    let outputs = child.stdout.take().zip(child.stderr.take());
    let outputs = outputs.ok_or_else(|| io::ErrorKind::BrokenPipe.into());
    match watched.and_then(|pidfd| outputs.map(|outputs| (pidfd, outputs))) {
        Ok((pidfd, (stdout, stderr))) => {
            owned.add(pid);
            Ok(Process { pid, pidfd, stdout: stdout.into(), stderr: stderr.into() })
        }
        Err(cause) => {
            // A process that cannot be watched is not left running. Killed, it ends within milliseconds.
            let _ = child.kill().and_then(|()| child.wait());
            Err(resource("a process descriptor")(cause))
        }
    }
}

/// What is at fault when there is no worker.
enum Failure {
    Worker(SpawnError),
    Template(String),
}

fn fork_worker(number: WorkerNumber, line: &Line) -> Result<(Process, Ends), Failure> {
    let (ends, [channel, lane, guard, board]) = make_ends().map_err(Failure::Worker)?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| resource("a pipe")(error.into()));
    let (stdout, their_stdout) = pipe().map_err(Failure::Worker)?;
    let (stderr, their_stderr) = pipe().map_err(Failure::Worker)?;
    let theirs = [&channel, &lane, &guard, &board, &their_stdout, &their_stderr].map(AsFd::as_fd);
    let mut owned = Owned::hold();
    let pid = line.fork(number, &theirs).map_err(|trouble| match trouble {
        Trouble::Refused(said) => Failure::Worker(SpawnError::Fork { said }),
        Trouble::Lost(account) => Failure::Template(account),
    })?;
    let stranger =
        || Failure::Template(format!("the template named process {pid}, which is no child of ours"));
    let pid = Pid::from_raw(pid).ok_or_else(stranger)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| stranger())?;
    // Asks nothing but whether it is a child: as it must be, since the process between has ended.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd.as_fd()), look).map_err(|_| stranger())?;
    owned.add(pid);
    Ok((Process { pid, pidfd, stdout, stderr }, ends))
}

impl Process {
    /// Kills what nobody wants any more; its parent reaps it, or its parent's parent.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL); // it has ended already: so much the better
    }
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
