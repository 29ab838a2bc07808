//! The other end of the control socket: how a command finds the server and speaks with it.
//!
//! Owns the search among the instances of a project, the connection and its bounds; what is done with the answer is the commands'.
//! Blocking: a command has nothing else to do. Invariant: only a server of root, or of the user who asks, is believed; root
//! believes everybody's.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::place::Place;
use super::protocol::Command;
use super::status::Status;

/// Longest line of an answer: the state of a thousand workers with all they do is far below.
const LINE_MOST: u64 = 64 << 20;
/// For the line of an answer that needs no work, and for the request.
const QUICK: Duration = Duration::from_secs(30);
/// Between two looks at a server that is to end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A process may take so long to end after its socket is closed.
const LAST_STEPS: Duration = Duration::from_secs(10);

/// Why a command could not be done; the sentence is for people.
#[derive(Debug, PartialEq, Eq)]
pub enum Gone {
    /// No server of this project runs.
    NotRunning(String),
    /// Several run, and none was named.
    Several(String),
    /// The server would not, or could not.
    Refused(String),
    /// The connection ended before the answer did.
    Cut(String),
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::NotRunning(sentence)
        | Self::Several(sentence)
        | Self::Refused(sentence)
        | Self::Cut(sentence)) = self;
        f.write_str(sentence)
    }
}

impl std::error::Error for Gone {}

/// A server that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    path: PathBuf,
}

/// Finds the one server of a project.
///
/// # Errors
/// None runs, or several do: the sentence lists them.
pub fn connect(place: &Place) -> Result<Connection, Gone> {
    let mut alive = Vec::new();
    let mut refused = None;
    for path in place.sockets() {
        match dial(&path) {
            Ok(_) => alive.push(Connection { path }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => refused = Some(Gone::Refused(format!("{}: {error}", path.display()))),
        }
    }
    match (alive.len(), refused) {
        (1, _) => Ok(alive.remove(0)),
        (0, Some(refused)) => Err(refused),
        (0, None) => Err(Gone::NotRunning(format!(
            "not running for this project (no control socket at {})",
            place.shown()
        ))),
        _ => Err(several(&alive)),
    }
}

fn several(alive: &[Connection]) -> Gone {
    let mut sentence = String::from("several servers of this project run; choose one with --control:");
    for one in alive {
        let status: Result<Status, Gone> = one.ask(&Command::Status { pss: false }, "status");
        let told = match status {
            Ok(status) => format!("pid {}, {}", status.pid, status.addresses.join(", ")),
            Err(error) => error.to_string(),
        };
        sentence += &format!("\n  --control {}  ({told})", one.path.display());
    }
    Gone::Several(sentence)
}

impl Connection {
    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks for one field of an answer that comes at once.
    ///
    /// # Errors
    /// See [`Gone`].
    pub fn ask<T: DeserializeOwned>(&self, command: &Command, field: &str) -> Result<T, Gone> {
        let mut fields = self.order(command, Some(QUICK), |_| {})?;
        let value = fields.remove(field).unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|error| {
            Gone::Cut(format!("the server's answer has no `{field}` that can be read: {error}"))
        })
    }

    /// Gives an order, and each sentence of progress to `told`, until the outcome is there. `patience`: for each line;
    /// `None`: as long as it takes.
    ///
    /// # Errors
    /// See [`Gone`].
    pub fn order(
        &self,
        command: &Command,
        patience: Option<Duration>,
        mut told: impl FnMut(&str),
    ) -> Result<Map<String, Value>, Gone> {
        let cut =
            |error: io::Error| Gone::Cut(format!("the server at {} is gone: {error}", self.path.display()));
        let mut stream = dial(&self.path).map_err(cut)?;
        stream.set_read_timeout(patience).map_err(cut)?;
        stream.set_write_timeout(Some(QUICK)).map_err(cut)?;
        // A server that has refused already does not read it: what it said tells why.
        let _ = stream.write_all(&command.write());
        let mut lines = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            lines.by_ref().take(LINE_MOST).read_until(b'\n', &mut line).map_err(cut)?;
            if line.is_empty() {
                return Err(Gone::Cut("the server ended before it had answered".to_owned()));
            }
            let said: Map<String, Value> = serde_json::from_slice(&line)
                .map_err(|error| Gone::Cut(format!("the server's answer cannot be read: {error}")))?;
            if said.get("done") == Some(&Value::Bool(true)) {
                return outcome(said);
            }
            if let Some(step) = said.get("progress").and_then(Value::as_str) {
                told(step);
            }
        }
    }

    /// Orders the end and waits until the process is gone.
    ///
    /// # Errors
    /// See [`Gone`].
    pub fn stop(&self, now: bool) -> Result<(), Gone> {
        let process = self.process();
        self.order(&Command::Stop { now }, Some(QUICK), |_| {})?;
        // Where the process cannot be watched, or is not the one it seems, the socket says it, a little early.
        let mut silent = Duration::ZERO;
        loop {
            let ended = match &process {
                Some(process) => has_ended(process, LOOK_AGAIN),
                None => {
                    std::thread::sleep(LOOK_AGAIN);
                    false
                }
            };
            silent = if dial(&self.path).is_ok() { Duration::ZERO } else { silent + LOOK_AGAIN };
            if ended || silent >= if process.is_some() { LAST_STEPS } else { LOOK_AGAIN } {
                return Ok(());
            }
        }
    }

    /// The server's process, so that no other of the same number is taken for it later.
    #[cfg(target_os = "linux")]
    fn process(&self) -> Option<OwnedFd> {
        let stream = dial(&self.path).ok()?;
        let pid = rustix::net::sockopt::socket_peercred(&stream).ok()?.pid;
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn process(&self) -> Option<OwnedFd> {
        None
    }
}

fn outcome(mut said: Map<String, Value>) -> Result<Map<String, Value>, Gone> {
    if said.get("ok") == Some(&Value::Bool(true)) {
        return Ok(said);
    }
    match said.remove("error") {
        Some(Value::String(why)) => Err(Gone::Refused(why)),
        _ => Err(Gone::Refused("the server refused, and gave no reason".to_owned())),
    }
}

/// Whether the process has ended, or does so within `patience`.
fn has_ended(process: &OwnedFd, patience: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut ends = [PollFd::new(process, PollFlags::IN)];
    let patience = Timespec::try_from(patience).ok();
    matches!(poll(&mut ends, patience.as_ref()), Ok(1..))
}

/// Connects, to a server of ours.
fn dial(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    believe(&stream)?;
    Ok(stream)
}

#[cfg(target_os = "linux")]
fn believe(stream: &UnixStream) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw();
    let ours = rustix::process::geteuid().as_raw();
    match peer == 0 || peer == ours || ours == 0 {
        true => Ok(()),
        false => Err(io::Error::other("another user answers there")),
    }
}

/// Elsewhere the folder and the mode of the file say it.
#[cfg(not(target_os = "linux"))]
fn believe(_stream: &UnixStream) -> io::Result<()> {
    Ok(())
}
