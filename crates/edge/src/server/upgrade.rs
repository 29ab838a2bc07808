//! Upgrade in place (USR2): a newer program takes the listening sockets over while this one goes on.
//!
//! Owns starting the heir (the same path, arguments and environment as this program was started with) with its estate, and
//! waiting for its word. The heir boots beside this program as any start does, accepts only once it is ready, and says so;
//! then this program drains. If it never is, nothing has changed. Leaves the other side to `handed_down`.
//! Invariants: this program goes on serving until the heir has said that it does; an heir that was not let go ends with this
//! program. Source: nginx's "upgrading executable on the fly", gunicorn's USR2.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::handed_down::{ESTATE_ENV, Estate};

/// What the heir writes.
const READY: &[u8] = b"ready\n";
/// How long an heir that gave up may take to end.
const END_GRACE: Duration = Duration::from_secs(5);
/// Descriptors of the heir begin above those that shells and service managers give away.
const LOWEST: RawFd = 20;

/// How this program was started. To be read at the start: later its file may have another name.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// The running program.
    ///
    /// # Errors
    /// The system does not say which file it runs.
    pub(crate) fn current() -> io::Result<Self> {
        Ok(Self { path: std::env::current_exe()?, arguments: std::env::args_os().skip(1).collect() })
    }
}

/// The program that is to take over.
pub(crate) struct Heir {
    pid: u32,
    /// Until it was waited for; the one that serves outlives this program.
    child: Option<Child>,
    word: pipe::Receiver,
}

/// An heir that is not started yet, with what it is to have.
pub(crate) struct Launch {
    path: PathBuf,
    command: Command,
    open: Vec<OwnedFd>,
    word: OwnedFd,
}

/// Gathers what the heir is to have. `listeners`: address as it is written in the settings, and its socket.
///
/// # Errors
/// A sentence for people: it cannot be started here.
pub(crate) fn prepare(
    program: &Program,
    listeners: &[(String, BorrowedFd<'_>)],
    control: Option<(&str, BorrowedFd<'_>)>,
) -> Result<Launch, String> {
    if rustix::process::getpid().is_init() {
        return Err(
            "this is process 1 of a container, which ends with it: replace the container instead".into()
        );
    }
    hand_down(program, listeners, control).map_err(|error| cannot_start(&program.path, &error))
}

fn cannot_start(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be started: {error}", path.display())
}

fn hand_down(
    program: &Program,
    listeners: &[(String, BorrowedFd<'_>)],
    control: Option<(&str, BorrowedFd<'_>)>,
) -> io::Result<Launch> {
    let (word, ready) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let mut open = Vec::new();
    let mut keep = |socket: BorrowedFd<'_>| -> io::Result<RawFd> {
        let copy = rustix::io::fcntl_dupfd_cloexec(socket, LOWEST)?;
        let number = copy.as_raw_fd();
        open.push(copy);
        Ok(number)
    };
    let mut estate = Estate { ready: Some(keep(ready.as_fd())?), ..Estate::default() };
    for (address, socket) in listeners {
        estate.listeners.push((address.clone(), keep(*socket)?));
    }
    if let Some((path, socket)) = control {
        estate.control = Some((path.to_owned(), keep(socket)?));
    }
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).env(ESTATE_ENV, serde_json::to_string(&estate)?);
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    Ok(Launch { path: program.path.clone(), command, open, word })
}

impl Launch {
    /// Starts it; inside the runtime. Beside it, that is: a process that is being made elsewhere is waited for.
    ///
    /// # Errors
    /// A sentence for people: nothing was started.
    pub(crate) async fn start(self) -> Result<Heir, String> {
        let started = tokio::task::spawn_blocking(|| self.spawn()).await;
        started.unwrap_or_else(|_| Err("the new program cannot be started".into()))
    }

    fn spawn(mut self) -> Result<Heir, String> {
        // Open for the time of the call only. Workers that are forked meanwhile close whatever is not theirs.
        let child = bandstand_supervisor::start_own(|| {
            for descriptor in &self.open {
                rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
            }
            let child = self.command.spawn();
            self.open.clear();
            child
        });
        let heir = child.and_then(|child| {
            let (pid, child) = (child.id(), Some(child));
            Ok(Heir { pid, child, word: pipe::Receiver::from_owned_fd(self.word)? })
        });
        heir.map_err(|error| cannot_start(&self.path, &error))
    }
}

/// The conductor's hold on an upgrade that is under way.
pub(crate) struct Hold {
    /// `None`: it is not wanted any more.
    release: Option<oneshot::Sender<()>>,
    following: JoinHandle<()>,
}

impl Hold {
    /// Starts the heir and follows it, beside the conductor. `begun` hears its process id, `tell` the same when it serves, or
    /// why it does not.
    pub(crate) fn follow(
        launch: Launch,
        begun: impl FnOnce(u32) + Send + 'static,
        tell: impl FnOnce(Result<u32, String>) + Send + 'static,
    ) -> Self {
        let (release, mut released) = oneshot::channel();
        let following = tokio::spawn(async move {
            let mut heir = match launch.start().await {
                Ok(heir) => heir,
                Err(why) => return tell(Err(why)),
            };
            begun(heir.pid());
            let outcome = tokio::select! {
                outcome = heir.ready() => outcome,
                _ = &mut released => {
                    heir.stop().await;
                    return tell(Err("the server is stopping".to_owned()));
                }
            };
            let serves = outcome.is_ok();
            tell(outcome.map(|()| heir.pid()));
            if serves && released.await.is_err() {
                heir.stop().await;
            }
        });
        Self { release: Some(release), following }
    }

    /// Lets it live on without this program; false if it is not wanted any more.
    pub(crate) fn release(mut self) -> bool {
        self.release.take().is_some_and(|release| release.send(()).is_ok())
    }

    /// It is not wanted any more: it is being ended.
    pub(crate) fn dismiss(&mut self) {
        self.release = None;
    }

    /// Whether somebody still waits for it to serve.
    pub(crate) fn is_wanted(&self) -> bool {
        self.release.is_some()
    }

    /// Ends it, and waits until it has ended.
    pub(crate) async fn end(mut self) {
        self.dismiss();
        let _ = self.following.await; // it ends with the heir, or with the runtime
    }
}

impl Heir {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// It has ended without a word, or said something else. It is gone then.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        let mut said = Vec::new();
        // At most a byte more than what is to come: the other side is a program of ours, of whatever version.
        let most = READY.len() as u64 + 1;
        let read = (&mut self.word).take(most).read_to_end(&mut said).await;
        match read {
            Ok(_) if said == READY => Ok(()),
            _ => {
                self.end().await;
                Err("the new program ended before it was ready; its own messages say why".into())
            }
        }
    }

    /// Ends it, whatever it is doing.
    async fn stop(&mut self) {
        if let Some(child) = &self.child {
            let handle = pidfd_open(Pid::from_child(child), PidfdFlags::empty());
            let _ = handle.and_then(|handle| pidfd_send_signal(handle, Signal::TERM)); // it has ended: so much the better
        }
        self.end().await;
    }

    /// It is no use to anybody any more; usually it is ending, and about to say why. Waited for beside the runtime: an ended
    /// child that nobody waits for hides orphans from whoever reaps them.
    async fn end(&mut self) {
        let Some(child) = self.child.take() else { return };
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let mut ended = tokio::task::spawn_blocking(move || bandstand_supervisor::wait_own(child));
        if tokio::time::timeout(END_GRACE, &mut ended).await.is_err() {
            // Without a handle it is left to itself: its number may be another's by now.
            let _ = handle.and_then(|handle| pidfd_send_signal(handle, Signal::KILL));
            let _ = ended.await;
        }
    }
}

/// Tells the program before this one that this one serves.
pub(crate) fn tell_ready(ready: OwnedFd) {
    if let Err(error) = rustix::io::write(&ready, READY) {
        tracing::warn!(%error, "the program before this one could not be told that this one serves");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn program(script: &str) -> Program {
        Program { path: "/bin/sh".into(), arguments: ["-c", script].map(OsString::from).to_vec() }
    }

    /// The shell finds the number of the pipe in the estate.
    const SAYS: &str = r#"number=${HEIR_OF_BANDSTAND##*\"ready\":}; number=${number%\}}; printf 'WORD' > "/proc/self/fd/$number""#;

    async fn begin(program: &Program, socket: &TcpListener) -> Heir {
        let launch = prepare(program, &[(":0".into(), socket.as_fd())], None).unwrap();
        launch.start().await.unwrap()
    }

    async fn outcome(script: &str) -> Result<(), String> {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut heir = begin(&program(script), &socket).await;
        let outcome = heir.ready().await;
        heir.end().await;
        outcome
    }

    #[tokio::test]
    async fn an_heir_is_ready_when_it_says_so_and_not_before() {
        assert_eq!(outcome(&SAYS.replace("WORD", r"ready\n")).await, Ok(()));
        for script in
            ["exit 0", "exit 1", &SAYS.replace("WORD", "rea"), &SAYS.replace("WORD", r"ready\nmore")]
        {
            assert!(outcome(script).await.is_err(), "{script}");
        }
    }

    #[tokio::test]
    async fn the_heir_has_the_sockets_and_we_still_have_them() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let flags = rustix::io::fcntl_getfd(&socket).unwrap();
        let script = r#"
            number=${HEIR_OF_BANDSTAND##*\":0\",}; number=${number%%]*}
            case "$(readlink /proc/self/fd/$number)" in socket:*) ;; *) exit 1 ;; esac
        "#;
        let said = format!("{script}\n{}", SAYS.replace("WORD", r"ready\n"));
        let mut heir = begin(&program(&said), &socket).await;
        assert!(heir.pid() > 1);
        assert_eq!(heir.ready().await, Ok(()));
        heir.end().await;
        assert_eq!(
            rustix::io::fcntl_getfd(&socket).unwrap(),
            flags,
            "our own socket is closed on exec as before"
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_a_sentence() {
        let missing = Program { path: "/nonexistent/bandstand".into(), arguments: Vec::new() };
        let started = prepare(&missing, &[], None).unwrap().start().await;
        assert!(started.err().unwrap().starts_with("/nonexistent/bandstand cannot be started"));
    }

    /// The pipe is closed after the word, as a number of two digits can be in few shells.
    fn serving() -> String {
        format!("{}; exec {{number}}>&-; exec sleep 60", SAYS.replace("WORD", r"ready\n"))
    }

    /// The process, and what was told of it.
    async fn follow(script: &str) -> (Pid, Hold, oneshot::Receiver<Result<u32, String>>) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let bash = Program { path: "/bin/bash".into(), ..program(script) };
        let launch = prepare(&bash, &[(":0".into(), socket.as_fd())], None).unwrap();
        let ((began, begins), (told, tells)) = (oneshot::channel(), oneshot::channel());
        let begun = move |pid| began.send(pid).unwrap();
        let hold = Hold::follow(launch, begun, move |outcome| told.send(outcome).unwrap());
        let pid: u32 = begins.await.unwrap();
        (Pid::from_raw(pid.try_into().unwrap()).unwrap(), hold, tells)
    }

    fn is_there(pid: Pid) -> bool {
        rustix::process::test_kill_process(pid).is_ok()
    }

    #[tokio::test]
    async fn an_heir_that_was_not_let_go_ends() {
        let (pid, hold, told) = follow("exec sleep 60").await;
        hold.end().await;
        assert!(told.await.unwrap().is_err());
        assert!(!is_there(pid), "before it was ready");

        let (pid, hold, told) = follow(&serving()).await;
        assert_eq!(told.await.unwrap(), Ok(pid.as_raw_pid().unsigned_abs()));
        hold.end().await;
        assert!(!is_there(pid), "after it was");
    }

    #[tokio::test]
    async fn an_heir_that_was_let_go_stays() {
        let (pid, hold, told) = follow(&serving()).await;
        assert!(told.await.unwrap().is_ok());
        assert!(hold.release());
        assert!(is_there(pid));
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
}
