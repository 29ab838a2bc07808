//! TABLE: which signal does what.
//!
//! Owns the listening; leaves the doing to whoever reads the commands. The names and meanings are those users of
//! gunicorn and nginx know. Invariant: a signal of the table never ends the program by itself once `listen` returned.

use std::io;
use std::io::IsTerminal;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What somebody outside asks of the running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Take no new connections, finish what runs, end.
    Stop,
    /// End without finishing.
    StopNow,
    /// Read configuration, certificates and code again.
    Reload,
    /// One worker more.
    MoreWorkers,
    /// One worker fewer.
    FewerWorkers,
    /// Open the log files again, after they were rotated.
    ReopenLogs,
    /// Replace the program by a newer one, sockets kept.
    Upgrade,
    /// Let all workers finish and leave; the edge stays.
    DrainWorkers,
}

/// Where a signal is obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Always,
    /// Terminals send it by themselves, WINCH whenever their window changes its size.
    AwayFromTerminal,
}

const TABLE: &[(i32, Command, Scope)] = &[
    (libc::SIGTERM, Command::Stop, Scope::Always),
    (libc::SIGINT, Command::StopNow, Scope::Always),
    (libc::SIGQUIT, Command::StopNow, Scope::Always),
    (libc::SIGHUP, Command::Reload, Scope::Always),
    (libc::SIGTTIN, Command::MoreWorkers, Scope::Always),
    (libc::SIGTTOU, Command::FewerWorkers, Scope::Always),
    (libc::SIGUSR1, Command::ReopenLogs, Scope::Always),
    (libc::SIGUSR2, Command::Upgrade, Scope::Always),
    (libc::SIGWINCH, Command::DrainWorkers, Scope::AwayFromTerminal),
];

/// Commands not yet read. Signals coalesce in the kernel anyway; past this the sender's next one waits there.
const PENDING: usize = 16;

/// Starts to listen; to be called inside the runtime, before anything that a signal should stop in good order.
/// Listening ends when the receiver is dropped, but from now on no signal of the table has its default effect.
///
/// # Errors
/// The system's, when a handler cannot be installed.
pub fn listen() -> io::Result<mpsc::Receiver<Command>> {
    let on_terminal = io::stdin().is_terminal() || io::stderr().is_terminal();
    let (sender, receiver) = mpsc::channel(PENDING);
    for &(number, command, scope) in TABLE {
        let heard = signal(SignalKind::from_raw(number))?;
        if scope == Scope::Always || !on_terminal {
            tokio::spawn(forward(heard, command, sender.clone()));
        }
    }
    Ok(receiver)
}

async fn forward(mut heard: Signal, command: Command, sender: mpsc::Sender<Command>) {
    loop {
        tokio::select! {
            Some(()) = heard.recv() => {
                if sender.send(command).await.is_err() {
                    return;
                }
            }
            () = sender.closed() => return,
        }
    }
}
