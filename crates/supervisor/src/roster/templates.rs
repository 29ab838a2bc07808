//! The rules of templates: opened, importing, ready to fork, ending; and what their loss means.
//!
//! ```text
//!   Vacant ──► Opening ──► Importing ──► Ready ──► Ending ──► None, or Vacant again after a pause
//!                              └──failed, threads, killed──────▲
//! ```
//! Invariants: workers live on without their template; a generation that boots does not survive its template; whatever
//! was told to end is killed in time.

use std::time::Duration;

use tokio::time::Instant;

use super::generations::Stage;
use super::lives::FAILED_GRACE;
use super::{Action, Roster, Sign};
use crate::event::TemplateState;
use crate::plan::{GenerationNumber, Preload};
use crate::restart::{Backoff, History, Verdict, after_death};
use crate::worker::Gone;

/// How long a template whose stream was ended may take to leave.
const LEAVE_GRACE: Duration = Duration::from_secs(1);
/// The same at the stop of the fleet, where the user's last hook may have something to tell to another machine.
const FAREWELL_GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Template {
    /// There is none, and none will come.
    None,
    /// To be opened at some time.
    Vacant {
        at: Instant,
        backoff: Backoff,
    },
    /// Asked for.
    Opening {
        backoff: Backoff,
    },
    Importing {
        pid: u32,
        since: Instant,
        deadline: Option<Instant>,
        backoff: Backoff,
    },
    Ready {
        pid: u32,
        since: Instant,
        backoff: Backoff,
    },
    /// Told to leave, or found to be of no use. Without `kill_at` it was killed; without `loss` it was to leave.
    Ending {
        kill_at: Option<Instant>,
        loss: Option<Loss>,
    },
}

/// A template that ended unasked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Loss {
    account: String,
    ready_for: Option<Duration>,
    backoff: Backoff,
}

impl Template {
    /// Whether there is no process, now or soon, to wait for.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::None | Self::Vacant { .. })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Vacant { at, .. } => Some(*at),
            Self::Importing { deadline, .. } => *deadline,
            Self::Ending { kill_at, .. } => *kill_at,
            Self::None | Self::Opening { .. } | Self::Ready { .. } => None,
        }
    }

    /// What it means if this one is lost now.
    fn loss(&self, account: String, now: Instant) -> Option<Loss> {
        match self {
            Self::Opening { backoff } | Self::Importing { backoff, .. } => {
                Some(Loss { account, ready_for: None, backoff: *backoff })
            }
            Self::Ready { since, backoff, .. } => {
                Some(Loss { account, ready_for: Some(now.duration_since(*since)), backoff: *backoff })
            }
            Self::None | Self::Vacant { .. } | Self::Ending { .. } => None,
        }
    }
}

impl Roster {
    pub(super) fn template(&mut self, generation: GenerationNumber, sign: Sign, now: Instant) {
        match sign {
            Sign::Opened { pid } => self.template_opened(generation, pid, now),
            Sign::NotOpened { account } => {
                if let Some(loss) = self.swap(generation, Template::None).loss(account, now) {
                    self.lose(generation, loss, now);
                }
            }
            Sign::Ready => self.template_ready(generation, now),
            Sign::Failed { traceback } => self.template_failed(generation, traceback, now),
            Sign::Threads { names } => self.fall_back(generation, names, now),
            Sign::Broken { account } => self.template_broken(generation, account, now),
            Sign::Ended { seen, last_words } => self.template_ended(generation, &seen, &last_words, now),
        }
    }

    pub(super) fn open_due_template(&mut self, generation: GenerationNumber, now: Instant) {
        let Some(this) = self.generations.get_mut(&generation) else { return };
        if let Template::Vacant { at, backoff } = this.template
            && at <= now
        {
            this.template = Template::Opening { backoff };
            self.actions.push(Action::OpenTemplate(generation));
        }
    }

    fn template_opened(&mut self, generation: GenerationNumber, pid: u32, now: Instant) {
        let stopping = self.is_stopping();
        let Some(this) = self.generations.get_mut(&generation) else { return };
        let Template::Opening { backoff } = this.template else { return };
        if stopping || !this.stage.is_alive() {
            this.template = Template::Ending { kill_at: None, loss: None };
            self.actions.push(Action::KillTemplate(generation));
            return;
        }
        this.template = Template::Importing { pid, since: now, deadline: this.ready_by(now), backoff };
        self.tell_template(generation, TemplateState::Importing { pid });
    }

    fn template_ready(&mut self, generation: GenerationNumber, now: Instant) {
        let Some(this) = self.generations.get_mut(&generation) else { return };
        let Template::Importing { pid, since, backoff, .. } = this.template else { return };
        this.template = Template::Ready { pid, since: now, backoff };
        self.tell_template(generation, TemplateState::Ready { pid, took: now.duration_since(since) });
    }

    fn template_failed(&mut self, generation: GenerationNumber, traceback: String, now: Instant) {
        let Some(this) = self.generations.get_mut(&generation) else { return };
        if let Some(loss) = this.template.loss(traceback, now) {
            this.template = Template::Ending { kill_at: Some(now + FAILED_GRACE), loss: Some(loss) };
        }
    }

    /// Workers of this generation import by themselves.
    fn fall_back(&mut self, generation: GenerationNumber, names: Vec<String>, now: Instant) {
        let Some(this) = self.generations.get_mut(&generation) else { return };
        if !matches!(this.template, Template::Importing { .. } | Template::Ready { .. }) {
            return;
        }
        this.terms.preload = Preload::Direct;
        this.template = Template::Ending { kill_at: Some(now + LEAVE_GRACE), loss: None };
        tracing::warn!(
            generation = generation.0,
            "the import left threads running, which a fork would lose ({}): each worker imports by itself",
            names.join(", ")
        );
        self.tell_template(generation, TemplateState::Threads { names });
    }

    fn template_broken(&mut self, generation: GenerationNumber, account: String, now: Instant) {
        let Some(this) = self.generations.get_mut(&generation) else { return };
        // One that is only to come cannot be meant: the one before it is, whose end was heard of meanwhile.
        if matches!(this.template, Template::Opening { .. }) {
            return;
        }
        let Some(loss) = this.template.loss(account, now) else { return };
        this.template = Template::Ending { kill_at: None, loss: Some(loss) };
        self.actions.push(Action::KillTemplate(generation));
    }

    fn template_ended(&mut self, generation: GenerationNumber, seen: &Gone, last_words: &str, now: Instant) {
        let sentence = format!("the template of generation {generation} {seen}");
        let account = if last_words.is_empty() { sentence } else { format!("{last_words}\n{sentence}") };
        let before = self.swap(generation, Template::None);
        let loss = match before {
            Template::Ending { kill_at: None, loss: Some(mut loss) } => {
                // It was broken because it was ending: its end says more than that it did not answer.
                let killed = matches!(seen, Gone::Killed { signal: libc::SIGKILL, .. });
                loss.account = if killed { loss.account } else { account };
                Some(loss)
            }
            Template::Ending { loss, .. } => loss,
            other => other.loss(account, now),
        };
        if let Some(loss) = loss {
            self.lose(generation, loss, now);
        }
    }

    /// A template is gone unasked.
    fn lose(&mut self, generation: GenerationNumber, loss: Loss, now: Instant) {
        let Loss { account, ready_for, backoff } = loss;
        self.tell_template(generation, TemplateState::Lost { account: account.clone() });
        let stage = self.generations.get(&generation).map(|this| this.stage);
        match stage.filter(|_| !self.is_stopping()) {
            Some(Stage::Booting) => self.fail_boot(generation, account, now),
            Some(Stage::Current) => {
                tracing::warn!(generation = generation.0, "the template is lost, workers go on: {account}");
                // A generation that was current once is never given up.
                let verdict = after_death(History::WasReady, backoff, ready_for);
                let Verdict::Restart { delay, backoff } = verdict else { return };
                if ready_for.is_none() {
                    self.actions.push(Action::TellFaltering { generation, account, retry: delay });
                }
                self.swap(generation, Template::Vacant { at: now + delay, backoff });
            }
            _ => {}
        }
    }

    /// Lets a template leave. One that imports does not listen, and has nothing to finish.
    pub(super) fn close_template(&mut self, generation: GenerationNumber, now: Instant) {
        let stopping = self.is_stopping();
        let Some(this) = self.generations.get_mut(&generation) else { return };
        match &mut this.template {
            Template::Ready { .. } => {
                let farewell = stopping && this.stage == Stage::Current;
                let grace = if farewell { FAREWELL_GRACE } else { LEAVE_GRACE };
                this.template = Template::Ending { kill_at: Some(now + grace), loss: None };
                self.actions.push(Action::CloseTemplate(generation));
            }
            Template::Ending { loss, .. } => *loss = None,
            _ => self.kill_template(generation),
        }
    }

    pub(super) fn kill_template(&mut self, generation: GenerationNumber) {
        let Some(this) = self.generations.get_mut(&generation) else { return };
        match &this.template {
            Template::Vacant { .. } => this.template = Template::None,
            Template::Importing { .. }
            | Template::Ready { .. }
            | Template::Ending { kill_at: Some(_), .. } => {
                this.template = Template::Ending { kill_at: None, loss: None };
                self.actions.push(Action::KillTemplate(generation));
            }
            Template::Ending { kill_at: None, .. } => {
                this.template = Template::Ending { kill_at: None, loss: None };
            }
            Template::None | Template::Opening { .. } => {} // killed as soon as it is there
        }
    }

    /// In a stop: templates that have no worker any more.
    pub(super) fn close_idle_templates(&mut self, now: Instant) {
        let ready = |template: &Template| matches!(template, Template::Ready { .. });
        let idle =
            self.generations.iter().filter(|(_, this)| ready(&this.template)).map(|(&number, _)| number);
        let idle: Vec<_> = idle.filter(|&number| self.workers_of(number).is_empty()).collect();
        idle.into_iter().for_each(|number| self.close_template(number, now));
    }

    pub(super) fn enforce_template_deadlines(&mut self, now: Instant) {
        let late =
            self.generations.iter().filter(|(_, this)| this.template.deadline().is_some_and(|at| at <= now));
        let late: Vec<_> = late.map(|(&number, this)| (number, this.terms.boot_timeout)).collect();
        for (generation, timeout) in late {
            let Some(this) = self.generations.get_mut(&generation) else { continue };
            match &mut this.template {
                Template::Importing { .. } => {
                    let seconds = timeout.unwrap_or_default().as_secs_f32();
                    let sentence = format!(
                        "the template of generation {generation} was not ready after {seconds} s and was killed"
                    );
                    self.template_broken(generation, sentence, now);
                }
                Template::Ending { kill_at, .. } => {
                    *kill_at = None;
                    self.actions.push(Action::KillTemplate(generation));
                }
                _ => {}
            }
        }
    }

    fn swap(&mut self, generation: GenerationNumber, template: Template) -> Template {
        match self.generations.get_mut(&generation) {
            Some(this) => std::mem::replace(&mut this.template, template),
            None => Template::None,
        }
    }

    fn tell_template(&mut self, generation: GenerationNumber, state: TemplateState) {
        self.actions.push(Action::TellTemplate { generation, state });
    }
}
