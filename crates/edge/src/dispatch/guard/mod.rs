//! Exchanges that are over their time, and the guard of their worker, which tells where they are and interrupts them.
//!
//! Owns the list of them and what is said to the guard; its answers are `answers`'. When an exchange is over its time is
//! `clock`'s, what is done about it `rules`', the bytes of the guard line `line`'s, and the fleet hears of it through
//! `Verdict`. `docs/decisions/0006-generations.md` has the course.
//! Invariants: an exchange is interrupted once and spoken of once; a worker is dumped, replaced and
//! killed once each.

mod answers;
mod line;
mod rules;

use std::time::{Duration, Instant};

use bandstand_wire::{Flags, Header, Kind};
use tokio::sync::oneshot;

use super::link::Link;
use super::outlet::Line;
use super::title::Title;
use crate::observe::request_id::RequestId;
pub(super) use line::run_guard;
use rules::{Action, Sight, judge};

/// What the fleet has to do about a worker. `server/clock.rs` passes it on; what is to be said has been said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Something holds its interpreter: the C-level dump of its stacks goes to the log. Told once for each worker.
    Dump {
        /// Which worker.
        worker: u32,
    },
    /// It is to be replaced, for this reason; told once for each worker.
    Replace {
        /// Which worker.
        worker: u32,
        /// The end of the sentence "worker 3 is replaced: …".
        why: &'static str,
    },
    /// It is being replaced, and nothing but what it was blamed for is left in it.
    Kill {
        /// Which worker.
        worker: u32,
    },
}

/// What the edge knows of a worker's guard.
#[derive(Default)]
pub(crate) struct Guard {
    is_open: bool,
    late: Vec<Late>,
    /// Who asked for all stacks, by the question's id.
    questions: Vec<(u64, oneshot::Sender<String>)>,
    asked: u64,
    /// When it last answered.
    heard: Option<Instant>,
    dumped: Option<Instant>,
    replaced: bool,
    killed: bool,
}

/// An exchange that is over its time.
struct Late {
    place: u16,
    id: u64,
    name: RequestId,
    title: Title,
    /// How long the worker had it when its time was over.
    ran: Duration,
    interrupted: Instant,
    told: Option<Instant>,
    blamed: bool,
    /// The loop has still to cancel its task. It is told after the guard was heard, or nobody would know any more what the
    /// task was at: only how it cleans up.
    cancel: bool,
}

impl Guard {
    /// There are exchanges whose end has to be seen.
    pub(super) fn is_awaited(&self) -> bool {
        !self.late.is_empty()
    }
}

impl Link {
    /// The time of this exchange is over: its stack is asked for, and it is interrupted. To be called before its name is
    /// gone.
    pub(super) fn interrupt(&mut self, place: u16, id: u64, now: Instant) {
        let Some(held) = self.places.named(place, id) else { return };
        let assigned = held.job.reply.trace().assigned.unwrap_or(now);
        self.guard.late.push(Late {
            place,
            id,
            name: held.job.name.clone(),
            title: Title::of(held),
            ran: now.saturating_duration_since(assigned),
            interrupted: now,
            told: None,
            blamed: false,
            cancel: false,
        });
        self.tell_guard(Kind::Interrupt, place, id);
    }

    /// Whether the cancellation of this exchange's task can wait for its guard, which has been asked for its stack. It is
    /// made up for then.
    pub(super) fn cancels_later(&mut self, place: u16, id: u64) -> bool {
        let late = self.guard.late.iter_mut().find(|late| (late.place, late.id) == (place, id));
        match late.filter(|late| self.guard.is_open && late.told.is_none()) {
            Some(late) => {
                late.cancel = true;
                true
            }
            None => false,
        }
    }

    /// A request that the worker did not even begin within its time: it is held up as a whole.
    pub(super) fn is_held_up(&mut self, name: &RequestId, now: Instant, verdicts: &mut Vec<Verdict>) {
        tracing::error!(
            worker = self.number,
            request_id = name.as_str(),
            "a worker did not begin a request within its time limit; the stacks of all its threads follow"
        );
        self.dump(now, verdicts);
        self.replace("it did not begin a request in time", verdicts);
    }

    /// Looks after what is over its time.
    pub(super) fn see_to_late(&mut self, now: Instant, verdicts: &mut Vec<Verdict>) {
        for mut late in std::mem::take(&mut self.guard.late) {
            let sight = Sight {
                waited: rules::waited(late.interrupted, self.guard.heard, late.told, now),
                guarded: self.guard.is_open,
                told: late.told.is_some(),
                over: self.places.is_over(late.place, late.id),
                blamed: late.blamed,
            };
            if late.cancel && sight.can_be_cancelled() {
                late.cancel = false;
                self.cancel_task(late.place, late.id);
            }
            match judge(sight) {
                Action::Wait => {}
                Action::Forget => continue,
                Action::Close => {
                    late.say(
                        self.number,
                        "a request ran over its time limit, and was over before its stack was told",
                    );
                    continue;
                }
                Action::Dump => {
                    late.say(
                        self.number,
                        "a request ran over its time limit, and its worker does not tell its stack: something \
                         holds the interpreter; the stacks of all its threads follow",
                    );
                    late.blamed = true;
                    self.dump(now, verdicts);
                    self.replace("a request ran over its time limit and holds the interpreter", verdicts);
                }
                Action::Replace => {
                    late.say(self.number, "a request goes on although it was interrupted");
                    late.blamed = true;
                    self.replace("a request ran over its time limit and does not end", verdicts);
                }
            }
            self.guard.late.push(late);
        }
        let is_dumped = self.guard.dumped.is_none_or(|since| now >= since + rules::DUMP_WITHIN);
        if !self.guard.killed && is_dumped && self.is_hopeless() {
            self.guard.killed = true;
            verdicts.push(Verdict::Kill { worker: self.number });
        }
    }

    fn is_hopeless(&mut self) -> bool {
        let blamed = self.guard.late.iter().filter(|late| late.blamed).count();
        // The common case, and `close()` of neighbours need not be looked for.
        blamed > 0 && rules::is_hopeless(self.guard.replaced, self.is_leaving(), self.exchanges(), blamed)
    }

    fn dump(&mut self, now: Instant, verdicts: &mut Vec<Verdict>) {
        if self.guard.dumped.is_none() {
            self.guard.dumped = Some(now);
            verdicts.push(Verdict::Dump { worker: self.number });
        }
    }

    fn replace(&mut self, why: &'static str, verdicts: &mut Vec<Verdict>) {
        if !std::mem::replace(&mut self.guard.replaced, true) {
            verdicts.push(Verdict::Replace { worker: self.number, why });
        }
    }

    fn tell_guard(&mut self, kind: Kind, place: u16, id: u64) {
        if self.guard.is_open && self.outlets.reads(Line::Guard) {
            Header { kind, flags: Flags::NONE, place, id }.write(&[], self.outlets.open(Line::Guard));
        }
    }
}

impl Late {
    fn say(&self, worker: u32, what: &str) {
        tracing::error!(
            request_id = self.name.as_str(),
            worker,
            method = self.title.method,
            path = self.title.target,
            seconds = self.ran.as_secs_f64(),
            "{what}"
        );
    }
}
