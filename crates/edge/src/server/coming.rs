//! A generation on its way: from its beginning to the moment at which it can serve.
//!
//! Owns what has to come together (all workers ready, the state made, the probe answered) and says what is to be done next;
//! doing it is the conductor's. Who asked for it is told how far it is. Invariant: it is over once, and its requester
//! hears of it once.
//!
//! ```text
//!   hello, hello, … ┐
//!   first hello ──► state made ┴─► (probe) ──► over: it serves
//! ```

use std::sync::Arc;

use tokio::sync::mpsc;

use super::doors::Bound;
use super::orders::Progress;
use super::{Run, service};
use crate::observe::record::AccessLog;
use crate::shared::State;
use crate::tls::Setup;

/// A generation that does not serve yet.
pub(super) struct Coming {
    pub(super) generation: u32,
    pub(super) run: Arc<Run>,
    pub(super) access_log: Option<Arc<AccessLog>>,
    /// New addresses, bound and silent.
    pub(super) bound: Option<Bound>,
    /// Certificates and what is spoken with them, read again.
    pub(super) tls: Option<Setup>,
    /// How many workers it has to have.
    pub(super) wanted: usize,
    /// Those that have said hello.
    pub(super) ready: Vec<u32>,
    pub(super) state: Made,
    test: Test,
    pub(super) asked: Option<Asked>,
}

/// Who waits for it.
pub(super) struct Asked {
    pub(super) hold: bool,
    /// Steps go to the log as well; `dev` has a line of its own.
    pub(super) logged: bool,
    pub(super) progress: mpsc::UnboundedSender<Progress>,
}

impl Asked {
    /// How far it is. Whoever asked may have left, here and below.
    pub(super) fn say(&self, step: impl Into<String>) {
        let step = step.into();
        if self.logged {
            tracing::info!("reload: {step}");
            service::status(&step);
        }
        let _ = self.progress.send(Progress::Step(step));
    }

    /// The last word.
    pub(super) fn over(self, outcome: Result<u32, String>) {
        let _ = self.progress.send(match outcome {
            Ok(generation) => Progress::Done { generation },
            Err(reason) => Progress::Failed { reason },
        });
    }
}

/// The state of the generation.
pub(super) enum Made {
    /// Nobody has said hello.
    No,
    /// Under way.
    Begun,
    Yes(Arc<State>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Open,
    Begun,
    Passed,
}

/// What is to be done.
pub(super) enum Next {
    /// Something is still under way.
    Wait,
    /// The probe, at this worker.
    Probe(Arc<State>, u32),
    /// It can serve.
    Serve(Arc<State>),
}

impl Coming {
    /// The first (`asked`: `None`), or that of a reload.
    pub(super) fn new(
        generation: u32,
        run: Arc<Run>,
        access_log: Option<Arc<AccessLog>>,
        bound: Option<Bound>,
        wanted: usize,
        asked: Option<Asked>,
    ) -> Self {
        let (ready, state, test) = (Vec::new(), Made::No, Test::Open);
        Self { generation, run, access_log, bound, tls: None, wanted, ready, state, test, asked }
    }

    /// How far it is, for people.
    pub(super) fn say(&self, step: impl Into<String>) {
        if let Some(asked) = &self.asked {
            asked.say(step);
        }
    }

    /// It is over: it serves as this generation, or this is why not.
    pub(super) fn over(self, outcome: Result<u32, String>) {
        if let Some(asked) = self.asked {
            asked.over(outcome);
        }
    }

    /// A worker said hello. True for the first, from whose words the state is to be made.
    pub(super) fn hello(&mut self, number: u32) -> bool {
        self.ready.push(number);
        self.say(format!("worker {number} ready ({} of {})", self.ready.len(), self.wanted));
        let first = matches!(self.state, Made::No);
        if first {
            self.state = Made::Begun;
        }
        first
    }

    /// A worker is gone again.
    pub(super) fn lost(&mut self, number: u32) {
        self.ready.retain(|ready| *ready != number);
    }

    /// The probe was answered.
    pub(super) fn passed(&mut self) {
        self.test = Test::Passed;
    }

    /// What is to be done now; a probe is asked for once.
    pub(super) fn next(&mut self) -> Next {
        let Made::Yes(state) = &self.state else { return Next::Wait };
        if self.ready.len() < self.wanted {
            return Next::Wait;
        }
        let paths = &self.run.loaded.settings.ready_check.paths;
        match (self.test, self.ready.first()) {
            (Test::Open, Some(&worker)) if !paths.is_empty() => {
                let state = state.clone();
                self.say(format!("probing {}", paths.join(", ")));
                self.test = Test::Begun;
                Next::Probe(state, worker)
            }
            (Test::Begun, _) => Next::Wait,
            _ => Next::Serve(state.clone()),
        }
    }
}
