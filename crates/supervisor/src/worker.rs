//! One worker's life, as rules: which step may follow which state, and what to call its end.
//!
//! ```text
//!   Ordered ──► Starting ──hello──► Ready ──drain──► Draining ──┐
//!                  │ └──────drain, failed to import─────▲       │ exit
//!                  ├──────────────── kill ─────────► Killed ────┼──────► Gone(reason)
//!                  └──────────────── exit ──────────────────────┘
//! ```
//! Owns no process: `keep` sends signals and hears of exits. Invariant: an illegal step changes nothing and is told.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// Number of a worker as logs show it, from 1. A replacement gets a new one; none is used twice by a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerNumber(pub u32);

impl fmt::Display for WorkerNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a worker is no more. Displays as the end of the sentence "worker 3 …".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Gone {
    /// It ended by itself, with this status.
    Exited(i32),
    /// A signal that this program did not send ended it.
    Killed {
        /// Number of the signal.
        signal: i32,
        /// Whether a core file was written.
        core: bool,
    },
    /// It could not import the application; the text is Python's traceback.
    BootFailed(String),
    /// It was not ready within the boot timeout, and was killed.
    BootTimeout(Duration),
    /// It left when asked to.
    Stopped,
    /// It was asked to leave, had not by its deadline, and was killed.
    Overdue,
    /// It was killed without being asked to leave first.
    Ended,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Killed { signal, core } => {
                write!(f, "was killed by {} ({signal})", signal_name(*signal))?;
                f.write_str(if *core { ", a core file was written" } else { "" })?;
                f.write_str(signal_hint(*signal))
            }
            Self::BootFailed(traceback) => {
                write!(f, "could not load the application:\n{}", traceback.trim_end())
            }
            Self::BootTimeout(timeout) => {
                write!(f, "was not ready after {} s and was killed", timeout.as_secs_f32())
            }
            Self::Stopped => f.write_str("stopped"),
            Self::Overdue => f.write_str("did not stop in time and was killed"),
            Self::Ended => f.write_str("was killed by bandstand"),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGSYS => "SIGSYS",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => "a signal",
    }
}

fn signal_hint(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => "; the kernel's out-of-memory killer does this, see dmesg",
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGABRT => {
            "; a compiled extension of the application crashed, PYTHONFAULTHANDLER=1 shows where"
        }
        libc::SIGSYS => "; a seccomp filter forbade a system call",
        _ => "",
    }
}

/// Where a worker is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    /// It was asked for; there is no process to be told anything yet.
    Ordered { boot_deadline: Option<Instant>, fate: Fate },
    /// Its process runs; the application is being imported.
    Starting { boot_deadline: Option<Instant> },
    /// It takes requests.
    Ready { since: Instant },
    /// It gets no more requests and is to leave by itself. `failure`: the traceback, if it could not import.
    Draining { deadline: Instant, failure: Option<String> },
    /// SIGKILL was sent for this reason; the kernel has not reported its end yet.
    Killed { reason: Gone },
    /// Its process has ended and was reaped.
    Gone(Gone),
}

/// What is to be done with a worker when its process is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    Serve,
    Drain { deadline: Instant },
    Kill { reason: Gone },
}

/// What can happen to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its process was started.
    Start,
    /// It said hello.
    Hello { now: Instant },
    /// It is asked to leave.
    Drain { deadline: Instant },
    /// It said that it cannot import; it has until the deadline to end by itself.
    FailBoot { traceback: String, deadline: Instant },
    /// It gets SIGKILL.
    Kill { reason: Gone },
    /// The kernel reported its end.
    Exit(Gone),
}

/// A step that may not follow the state; nothing changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IllegalStep;

impl Life {
    /// The state after `step`.
    pub(crate) fn next(&self, step: Step) -> Result<Life, IllegalStep> {
        match (self, step) {
            (Self::Gone(_), _) => Err(IllegalStep),
            (Self::Ordered { boot_deadline, fate }, step) => Self::ordered(*boot_deadline, fate, step),
            (_, Step::Exit(seen)) => Ok(Self::Gone(self.judge(seen))),
            (Self::Starting { .. }, Step::Hello { now }) => Ok(Self::Ready { since: now }),
            (Self::Starting { .. }, Step::FailBoot { traceback, deadline }) => {
                Ok(Self::Draining { deadline, failure: Some(traceback) })
            }
            (Self::Starting { .. } | Self::Ready { .. }, Step::Drain { deadline }) => {
                Ok(Self::Draining { deadline, failure: None })
            }
            // A shorter time may be set, never a longer one.
            (Self::Draining { deadline: old, failure }, Step::Drain { deadline }) => {
                Ok(Self::Draining { deadline: deadline.min(*old), failure: failure.clone() })
            }
            (Self::Draining { failure: Some(traceback), .. }, Step::Kill { .. }) => {
                Ok(Self::Killed { reason: Gone::BootFailed(traceback.clone()) })
            }
            (Self::Starting { .. } | Self::Ready { .. } | Self::Draining { .. }, Step::Kill { reason }) => {
                Ok(Self::Killed { reason })
            }
            _ => Err(IllegalStep),
        }
    }

    /// A worker that is to come can only be told what will become of it, and a harder word stays.
    fn ordered(boot_deadline: Option<Instant>, fate: &Fate, step: Step) -> Result<Life, IllegalStep> {
        let fate = match (fate, step) {
            (_, Step::Start) => return Ok(Self::Starting { boot_deadline }),
            (Fate::Serve, Step::Drain { deadline }) => Fate::Drain { deadline },
            (Fate::Drain { deadline: old }, Step::Drain { deadline }) => {
                Fate::Drain { deadline: deadline.min(*old) }
            }
            (Fate::Serve | Fate::Drain { .. }, Step::Kill { reason }) => Fate::Kill { reason },
            _ => return Err(IllegalStep),
        };
        Ok(Self::Ordered { boot_deadline, fate })
    }

    /// The truth about an end: what the kernel says, in the light of what was asked before.
    fn judge(&self, seen: Gone) -> Gone {
        match (self, seen) {
            (Self::Draining { failure: Some(traceback), .. }, _) => Gone::BootFailed(traceback.clone()),
            (Self::Draining { .. }, Gone::Exited(0) | Gone::Killed { signal: libc::SIGTERM, .. }) => {
                Gone::Stopped
            }
            (Self::Killed { reason }, Gone::Killed { signal: libc::SIGKILL, .. }) => reason.clone(),
            // It could still end by itself between the decision to kill and the signal.
            (Self::Killed { reason: Gone::BootFailed(traceback) }, _) => Gone::BootFailed(traceback.clone()),
            (Self::Killed { reason: Gone::Overdue }, Gone::Exited(0)) => Gone::Stopped,
            (_, seen) => seen,
        }
    }

    /// Whether it counts towards the wanted number of workers: such a one is replaced when it dies.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(self, Self::Ordered { fate: Fate::Serve, .. } | Self::Starting { .. } | Self::Ready { .. })
    }

    /// Whether it has installed its signal handlers and reads its channel.
    pub(crate) fn is_listening(&self) -> bool {
        matches!(self, Self::Ready { .. } | Self::Draining { failure: None, .. })
    }

    /// When something must be done about it, and what.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Starting { boot_deadline } => *boot_deadline,
            Self::Draining { deadline, .. } => Some(*deadline),
            Self::Ordered { .. } | Self::Ready { .. } | Self::Killed { .. } | Self::Gone(_) => None,
        }
    }

    /// How long it has been ready at `now`, if it is.
    pub(crate) fn ready_for(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Ready { since } => Some(now.duration_since(*since)),
            _ => None,
        }
    }

    /// One word for logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ordered { .. } => "ordered",
            Self::Starting { .. } => "starting",
            Self::Ready { .. } => "ready",
            Self::Draining { .. } => "draining",
            Self::Killed { .. } => "killed",
            Self::Gone(_) => "gone",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGKILL: Gone = Gone::Killed { signal: libc::SIGKILL, core: false };
    const SIGTERM: Gone = Gone::Killed { signal: libc::SIGTERM, core: false };

    #[test]
    fn every_state_and_every_step() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let starting = Life::Starting { boot_deadline: None };
        let ordered = |fate| Life::Ordered { boot_deadline: None, fate };
        let asked = ordered(Fate::Serve);
        let unwanted = ordered(Fate::Drain { deadline: later });
        let doomed = ordered(Fate::Kill { reason: Gone::Overdue });
        let ready = Life::Ready { since: now };
        let draining = Life::Draining { deadline: later, failure: None };
        let failed = Life::Draining { deadline: later, failure: Some("T".into()) };
        let killed = Life::Killed { reason: Gone::Overdue };
        let gone = Life::Gone(Gone::Stopped);
        let hello = Step::Hello { now };
        let drain = Step::Drain { deadline: later };
        let sooner = Step::Drain { deadline: now };
        let fail = Step::FailBoot { traceback: "T".into(), deadline: later };
        let kill = Step::Kill { reason: Gone::Overdue };
        let zero = Step::Exit(Gone::Exited(0));
        let three = Step::Exit(Gone::Exited(3));
        let died = |reason: Gone| Ok(Life::Gone(reason));
        let start = Step::Start;
        let rows = [
            (&asked, &start, Ok(starting.clone())),
            (&asked, &hello, Err(IllegalStep)),
            (&asked, &drain, Ok(unwanted.clone())),
            (&asked, &fail, Err(IllegalStep)),
            (&asked, &kill, Ok(doomed.clone())),
            (&asked, &zero, Err(IllegalStep)),
            (&unwanted, &start, Ok(starting.clone())),
            (&unwanted, &sooner, Ok(ordered(Fate::Drain { deadline: now }))),
            (&unwanted, &kill, Ok(doomed.clone())),
            (&doomed, &start, Ok(starting.clone())),
            (&doomed, &drain, Err(IllegalStep)),
            (&doomed, &kill, Err(IllegalStep)),
            (&starting, &start, Err(IllegalStep)),
            (&ready, &start, Err(IllegalStep)),
            (&starting, &hello, Ok(ready.clone())),
            (&starting, &drain, Ok(draining.clone())),
            (&starting, &fail, Ok(failed.clone())),
            (&starting, &kill, Ok(killed.clone())),
            (&starting, &zero, died(Gone::Exited(0))),
            (&starting, &three, died(Gone::Exited(3))),
            (&ready, &hello, Err(IllegalStep)),
            (&ready, &drain, Ok(draining.clone())),
            (&ready, &fail, Err(IllegalStep)),
            (&ready, &kill, Ok(killed.clone())),
            (&ready, &zero, died(Gone::Exited(0))),
            (&draining, &hello, Err(IllegalStep)),
            (&draining, &fail, Err(IllegalStep)),
            (&draining, &sooner, Ok(Life::Draining { deadline: now, failure: None })),
            (&draining, &kill, Ok(killed.clone())),
            (&draining, &zero, died(Gone::Stopped)),
            (&draining, &three, died(Gone::Exited(3))),
            (&failed, &drain, Ok(failed.clone())),
            (&failed, &zero, died(Gone::BootFailed("T".into()))),
            (&failed, &kill, Ok(Life::Killed { reason: Gone::BootFailed("T".into()) })),
            (&killed, &hello, Err(IllegalStep)),
            (&killed, &drain, Err(IllegalStep)),
            (&killed, &fail, Err(IllegalStep)),
            (&killed, &kill, Err(IllegalStep)),
            (&killed, &zero, died(Gone::Stopped)),
            (&killed, &three, died(Gone::Exited(3))),
            (&gone, &hello, Err(IllegalStep)),
            (&gone, &drain, Err(IllegalStep)),
            (&gone, &fail, Err(IllegalStep)),
            (&gone, &kill, Err(IllegalStep)),
            (&gone, &zero, Err(IllegalStep)),
        ];
        for (life, step, expected) in rows {
            assert_eq!(life.next(step.clone()), expected, "{life:?} + {step:?}");
        }
        assert_eq!(killed.next(Step::Exit(SIGKILL)), died(Gone::Overdue));
        assert_eq!(ready.next(Step::Exit(SIGKILL)), died(SIGKILL), "not our signal");
        assert_eq!(draining.next(Step::Exit(SIGTERM)), died(Gone::Stopped));
        assert_eq!(ready.next(Step::Exit(SIGTERM)), died(SIGTERM), "nobody asked it");
        let longer = Step::Drain { deadline: later + Duration::from_secs(9) };
        assert_eq!(draining.next(longer), Ok(draining.clone()), "a deadline is never put off");
    }

    #[test]
    fn reasons_read_as_sentences() {
        let rows = [
            (Gone::Exited(3), "exited with status 3"),
            (SIGKILL, "was killed by SIGKILL (9); the kernel's out-of-memory killer does this, see dmesg"),
            (SIGTERM, "was killed by SIGTERM (15)"),
            (
                Gone::Killed { signal: libc::SIGSEGV, core: true },
                "was killed by SIGSEGV (11), a core file was written; a compiled extension of the application \
                 crashed, PYTHONFAULTHANDLER=1 shows where",
            ),
            (Gone::Killed { signal: 40, core: false }, "was killed by a signal (40)"),
            (Gone::BootTimeout(Duration::from_millis(1500)), "was not ready after 1.5 s and was killed"),
            (Gone::BootFailed("Traceback\nE\n".into()), "could not load the application:\nTraceback\nE"),
            (Gone::Overdue, "did not stop in time and was killed"),
        ];
        for (gone, sentence) in rows {
            assert_eq!(gone.to_string(), sentence);
        }
    }
}
