//! Upgrade in place (USR2): a newer program takes the listening sockets over while this one goes on.
//!
//! Owns starting the heir (the same path, arguments and environment as this program was started with) with its estate, and
//! waiting for its word. The heir boots beside this program as any start does, accepts only once it is ready, and says so;
//! then this program drains. If it never is, nothing has changed. Leaves the other side to `handed_down`.
//! Invariant: this program goes on serving until the heir has said that it does. Source: nginx's "upgrading executable on
//! the fly", gunicorn's USR2.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::{Child, Command};

use rustix::io::FdFlags;
use rustix::pipe::PipeFlags;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::handed_down::{ESTATE_ENV, Estate};

/// What the heir writes.
const READY: &[u8] = b"ready\n";
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
    child: Child,
    word: pipe::Receiver,
}

/// Starts the heir. `listeners`: address as it is written in the settings, and its socket.
///
/// # Errors
/// A sentence for people: nothing was started.
pub(crate) fn start(
    program: &Program,
    listeners: &[(String, BorrowedFd<'_>)],
    control: Option<(&str, BorrowedFd<'_>)>,
) -> Result<Heir, String> {
    if rustix::process::getpid().is_init() {
        return Err(
            "this is process 1 of a container, which ends with it: replace the container instead".into()
        );
    }
    let started = hand_down(program, listeners, control);
    started.map_err(|error| format!("{} cannot be started: {error}", program.path.display()))
}

fn hand_down(
    program: &Program,
    listeners: &[(String, BorrowedFd<'_>)],
    control: Option<(&str, BorrowedFd<'_>)>,
) -> io::Result<Heir> {
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
    let child = spawn_with(&mut command, &open)?;
    Ok(Heir { child, word: pipe::Receiver::from_owned_fd(word)? })
}

/// Open for the time of the call only. Workers that are forked meanwhile close whatever is not theirs.
fn spawn_with(command: &mut Command, open: &[OwnedFd]) -> io::Result<Child> {
    for descriptor in open {
        rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    command.spawn()
}

impl Heir {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
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
                // It is no use to anybody any more; it may be gone already.
                let _ = self.child.kill();
                let _ = self.child.try_wait();
                Err("the new program ended before it was ready; its own messages say why".into())
            }
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

    async fn outcome(script: &str) -> Result<(), String> {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut heir = start(&program(script), &[(":0".into(), socket.as_fd())], None).unwrap();
        let outcome = heir.ready().await;
        let _ = heir.child.wait();
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
        let mut heir = start(&program(&said), &[(":0".into(), socket.as_fd())], None).unwrap();
        assert!(heir.pid() > 1);
        assert_eq!(heir.ready().await, Ok(()));
        let _ = heir.child.wait();
        assert_eq!(
            rustix::io::fcntl_getfd(&socket).unwrap(),
            flags,
            "our own socket is closed on exec as before"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_a_sentence() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _inside = runtime.enter();
        let missing = Program { path: "/nonexistent/bandstand".into(), arguments: Vec::new() };
        assert!(
            start(&missing, &[], None).err().unwrap().starts_with("/nonexistent/bandstand cannot be started")
        );
    }
}
