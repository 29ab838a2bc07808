//! What is to be done about an exchange that is over its time: the rules, and nothing else.
//!
//! ```text
//!   interrupted ──stack──► told ──over──► forgotten
//!        │                   └──2 s──► its worker is replaced
//!        ├──1 s, and it is over──► said without a stack
//!        └──1 s, or no guard──► the interpreter is held: C-level dump, its worker is replaced
//! ```
//! A guard works off its questions one after the other, so the first second is one of its silence, and the two begin with
//! its answer, which is when the exchange was interrupted.
//! A worker that is being replaced is killed as soon as nothing else is left in it.

use std::time::{Duration, Instant};

/// Within this the guard tells a stack: it needs the interpreter for a moment, which Python hands over every 5 ms.
pub(super) const STACK_WITHIN: Duration = Duration::from_secs(1);
/// Within this an exchange that was interrupted is over: its `finally` blocks and middleware still run.
pub(super) const END_WITHIN: Duration = Duration::from_secs(2);

/// A worker that is to write its stacks is not killed before: the signal has to find a moment of the processor.
pub(super) const DUMP_WITHIN: Duration = Duration::from_millis(500);

/// What is known of an exchange that is over its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sight {
    /// Since its stack was told; before that since it was asked for, or the guard last spoke. See `waited`.
    pub(super) waited: Duration,
    /// The worker's guard can be spoken to.
    pub(super) guarded: bool,
    /// The guard has told its stack.
    pub(super) told: bool,
    /// The worker has finished with it.
    pub(super) over: bool,
    /// Its worker was blamed for it already.
    pub(super) blamed: bool,
}

impl Sight {
    /// Its stack was told, or will not come: nothing is lost by ending its task.
    pub(super) fn can_be_cancelled(self) -> bool {
        self.told || !self.guarded || self.waited >= STACK_WITHIN
    }
}

/// How long an exchange keeps us waiting for its next step: its stack was asked for at `asked` and told at `told`, and its
/// worker's guard has last spoken at `heard`, about whatever.
pub(super) fn waited(
    asked: Instant,
    heard: Option<Instant>,
    told: Option<Instant>,
    now: Instant,
) -> Duration {
    let since = told.or(heard).map_or(asked, |spoken| spoken.max(asked));
    now.saturating_duration_since(since)
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing yet.
    Wait,
    /// It is over, and all has been said.
    Forget,
    /// It is over, and its stack will not come: that is said, then it is forgotten.
    Close,
    /// Nobody tells its stack: a dump of all stacks, and another worker.
    Dump,
    /// It goes on after it was interrupted: another worker.
    Replace,
}

pub(super) fn judge(sight: Sight) -> Action {
    let Sight { waited, guarded, told, over, blamed } = sight;
    let nothing_will_come = !guarded || waited >= STACK_WITHIN;
    match (over, told || blamed) {
        (true, true) => Action::Forget,
        (true, false) if nothing_will_come => Action::Close,
        (false, false) if nothing_will_come => Action::Dump,
        (false, true) if !blamed && waited >= END_WITHIN => Action::Replace,
        _ => Action::Wait,
    }
}

/// Whether a worker that is being replaced is killed now: all that it still has are exchanges it was blamed for.
/// `exchanges` are those it works on, answered ones in `close()` included; `blamed` those of them that are at fault.
pub(super) fn is_hopeless(replaced: bool, leaving: bool, exchanges: usize, blamed: usize) -> bool {
    replaced && leaving && blamed > 0 && exchanges <= blamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_about_an_exchange_that_is_over_its_time() {
        let start = Sight { waited: Duration::ZERO, guarded: true, told: false, over: false, blamed: false };
        let at = |ms| Sight { waited: Duration::from_millis(ms), ..start };
        for (name, sight, action) in [
            ("just interrupted", start, Action::Wait),
            ("the stack is on its way", at(999), Action::Wait),
            ("no stack", at(1000), Action::Dump),
            ("no stack, and none was ever to come", Sight { guarded: false, ..start }, Action::Dump),
            ("over before the stack", Sight { over: true, ..at(10) }, Action::Wait),
            ("over, and no stack", Sight { over: true, ..at(1000) }, Action::Close),
            ("over, and no guard", Sight { over: true, guarded: false, ..start }, Action::Close),
            ("told", Sight { told: true, ..at(10) }, Action::Wait),
            ("told, and it goes on", Sight { told: true, ..at(1999) }, Action::Wait),
            ("told, and it goes on too long", Sight { told: true, ..at(2000) }, Action::Replace),
            ("told, and the guard is gone", Sight { told: true, guarded: false, ..at(10) }, Action::Wait),
            ("told and over", Sight { told: true, over: true, ..at(10) }, Action::Forget),
            ("over at the last moment", Sight { told: true, over: true, ..at(2000) }, Action::Forget),
            ("blamed", Sight { blamed: true, ..at(60_000) }, Action::Wait),
            ("blamed, and told after all", Sight { blamed: true, told: true, ..at(60_000) }, Action::Wait),
            ("blamed, and over after all", Sight { blamed: true, over: true, ..at(60_000) }, Action::Forget),
        ] {
            assert_eq!(judge(sight), action, "{name}");
        }
    }

    #[test]
    fn what_is_waited_for_begins_with_the_last_word() {
        let asked = Instant::now();
        let at = |ms| asked + Duration::from_millis(ms);
        for (name, heard, told, waited_ms) in [
            ("nothing was heard", None, None, 5000),
            ("another exchange's stack", Some(at(900)), None, 4100),
            ("its stack", Some(at(1900)), Some(at(1900)), 3100),
            ("others after its stack", Some(at(4000)), Some(at(1900)), 3100),
            ("what was said before", asked.checked_sub(Duration::from_secs(1)), None, 5000),
        ] {
            assert_eq!(waited(asked, heard, told, at(5000)), Duration::from_millis(waited_ms), "{name}");
        }
    }

    #[test]
    fn a_worker_is_killed_when_nothing_but_its_fault_is_left() {
        for (replaced, leaving, exchanges, blamed, kill) in [
            (true, true, 1, 1, true),
            (true, true, 3, 3, true),
            (true, true, 2, 1, false),
            (true, true, 0, 0, false),
            (true, false, 1, 1, false),
            (false, true, 1, 1, false),
        ] {
            let state = (replaced, leaving, exchanges, blamed);
            assert_eq!(is_hopeless(replaced, leaving, exchanges, blamed), kill, "{state:?}");
        }
    }
}
