//! The task that keeps the fleet: carries out what `roster` decides, and tells it what happens to processes.
//!
//! Owns the processes' descriptors and the plans; rules are in `roster`, making and watching in `spawn` and `watch`.
//! Invariants: every action is carried out, in its order, before anything else is heard; the task ends when the fleet
//! was stopped, or nobody is left to ask or to tell, and nothing is left; dropped before, it kills what there is.

use std::collections::{BTreeMap, VecDeque};
use std::future;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::{Pid, Signal, pidfd_send_signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::event::Event;
use crate::fleet::Order;
use crate::orphans::Orphans;
use crate::plan::{GenerationNumber, Plan, Preload, SpawnError};
use crate::roster::{Action, FIRST, Input, Roster, Sign, Terms, Way};
use crate::spawn::{Ends, Process, Spawner, Task};
use crate::sys::dump_signal;
use crate::template::{FIRST_ENV, Line};
use crate::watch::{Watched, watch_template, watch_worker};
use crate::worker::WorkerNumber;

/// What the spawning thread and the watches tell.
pub(crate) enum Report {
    Started(WorkerNumber, Process, Ends),
    NotStarted(WorkerNumber, SpawnError),
    /// Found when this worker was to be forked.
    TemplateBroken(GenerationNumber, WorkerNumber, String),
    Opened(GenerationNumber, Process, Line),
    NotOpened(GenerationNumber, SpawnError),
    Heard(Input),
}

impl Report {
    /// Nobody hears it: a process that it tells of is not left running.
    pub(crate) fn kill(&self) {
        if let Self::Started(_, process, _) | Self::Opened(_, process, _) = self {
            process.kill();
        }
    }
}

/// A process that runs, or has ended and was not heard of yet.
struct Running {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
}

pub(crate) struct Keeper {
    roster: Roster,
    plans: BTreeMap<GenerationNumber, Arc<Plan>>,
    generation_of: BTreeMap<WorkerNumber, GenerationNumber>,
    workers: BTreeMap<WorkerNumber, Running>,
    templates: BTreeMap<GenerationNumber, (Running, Line)>,
    spawner: Spawner,
    orphans: Orphans,
    events: mpsc::UnboundedSender<Event>,
    reports: (mpsc::UnboundedSender<Report>, mpsc::UnboundedReceiver<Report>),
    /// Who waits for the end.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Keeper {
    /// Begins the first generation with its first process.
    pub(crate) fn start(plan: Plan, events: mpsc::UnboundedSender<Event>) -> Result<Keeper, SpawnError> {
        let mut orphans = Orphans::listen()?;
        if plan.preload == Preload::Template {
            orphans.adopt()?;
        }
        let (roster, actions) = Roster::start(Terms::from(&plan), Instant::now());
        let mut actions = VecDeque::from(actions);
        let plan = Arc::new(plan);
        let first = match actions.pop_front() {
            Some(Action::Start { number, .. }) => Task::Exec(number, plan.clone()),
            _ => Task::Open(FIRST, Arc::new(the_very_first(&plan))),
        };
        let reports = mpsc::unbounded_channel();
        let (spawner, report) = Spawner::start(first, reports.0.clone())?;
        let mut keeper = Keeper {
            roster,
            plans: BTreeMap::from([(FIRST, plan)]),
            generation_of: BTreeMap::new(),
            workers: BTreeMap::new(),
            templates: BTreeMap::new(),
            spawner,
            orphans,
            events,
            reports,
            waiting: Vec::new(),
        };
        match report {
            Some(Report::NotStarted(_, error) | Report::NotOpened(_, error)) => return Err(error),
            Some(report) => {
                if let Report::Started(number, ..) = report {
                    keeper.generation_of.insert(number, FIRST);
                }
                keeper.hear(report);
            }
            None => {}
        }
        actions.into_iter().for_each(|action| keeper.carry_out(action));
        Ok(keeper)
    }

    pub(crate) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut has_owner = true;
        while !self.roster.is_over() {
            let wake = self.roster.next_deadline();
            tokio::select! {
                biased; // what the edge has said of a worker comes before the worker's end
                order = orders.recv(), if has_owner => match order {
                    Some(order) => self.obey(order),
                    None => {
                        has_owner = false;
                        self.apply(Input::StopNow);
                    }
                },
                Some(report) = self.reports.1.recv() => self.hear(report),
                () = self.events.closed(), if !self.roster.is_stopping() => self.apply(Input::StopNow),
                () = self.orphans.heard() => self.spawner.ask(Task::Orphans),
                () = until(wake) => self.apply(Input::Tick),
            }
        }
        for done in self.waiting.drain(..) {
            let _ = done.send(()); // whoever asked may have stopped waiting
        }
        tracing::debug!("no worker is left");
    }

    fn obey(&mut self, order: Order) {
        let input = match order {
            Order::Begin(generation, plan) => return self.begin(generation, plan),
            Order::Promote(generation, told) => {
                self.apply(Input::Promote(generation));
                let _ = told.send(self.roster.is_current(generation)); // whoever asked may have stopped waiting
                return;
            }
            Order::Discard(generation) => Input::Discard(generation),
            Order::Ready(number) => Input::Hello(number),
            Order::BootFailed(number, traceback) => Input::BootFailed(number, traceback),
            Order::Replace(number, why) => Input::Replace(number, why),
            Order::Recycle(number, why) => Input::Recycle(number, why),
            // Only what was told can be meant.
            Order::Kill(number) if !self.workers.contains_key(&number) => return,
            Order::Kill(number) => Input::Kill(number),
            Order::DumpStacks(number) => return self.dump_stacks(number),
            Order::Scale(scale) => Input::Scale(scale),
            Order::Hook(name, details) => return self.hook(name, details),
            Order::Stop(deadline, done) => {
                self.waiting.push(done);
                Input::Stop { deadline }
            }
            Order::StopNow => Input::StopNow,
        };
        self.apply(input);
    }

    fn begin(&mut self, generation: GenerationNumber, plan: Plan) {
        let terms = Terms::from(&plan);
        if plan.preload == Preload::Template
            && let Err(error) = self.orphans.adopt()
        {
            self.tell(Event::Failed { generation, account: error.to_string() });
            return;
        }
        self.plans.insert(generation, Arc::new(plan));
        self.apply(Input::Begin(generation, terms));
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Started(number, process, ends) => self.admit(number, process, ends),
            Report::NotStarted(number, error) => {
                self.generation_of.remove(&number);
                let account = error.to_string();
                self.apply(Input::NotStarted { number, account, again: false });
            }
            Report::TemplateBroken(generation, number, account) => {
                self.generation_of.remove(&number);
                self.apply(Input::Template(generation, Sign::Broken { account: account.clone() }));
                self.apply(Input::NotStarted { number, account, again: true });
            }
            Report::Opened(generation, process, line) => self.admit_template(generation, process, line),
            Report::NotOpened(generation, error) => {
                self.apply(Input::Template(generation, Sign::NotOpened { account: error.to_string() }));
            }
            Report::Heard(Input::Template(generation, sign @ Sign::Ended { .. })) => {
                if let Some((process, _)) = self.templates.remove(&generation) {
                    self.spawner.ask(Task::Reaped(process.pid));
                }
                self.apply(Input::Template(generation, sign));
            }
            Report::Heard(input) => {
                if let Input::Ended { number, .. } = &input
                    && let Some(worker) = self.workers.get(number)
                {
                    self.spawner.ask(Task::Reaped(worker.pid));
                }
                self.apply(input);
            }
        }
    }

    fn admit(&mut self, number: WorkerNumber, process: Process, ends: Ends) {
        let generation = self.generation_of.remove(&number).unwrap_or(FIRST); // set when it was ordered
        let Process { pid, pidfd, stdout, stderr } = process;
        let pidfd = Arc::new(pidfd);
        let watched = Watched { pidfd: pidfd.clone(), stdout, stderr };
        tokio::spawn(watch_worker(number, watched, self.reports.0.clone()));
        self.workers.insert(number, Running { pid, pidfd });
        let pid = number_of(pid);
        tracing::debug!(worker = number.0, pid, generation = generation.0, "worker started");
        let Ends { channel, lane, guard, board } = ends;
        self.tell(Event::Started { number, generation, pid, channel, lane, guard, board });
        self.apply(Input::Started(number));
    }

    fn admit_template(&mut self, generation: GenerationNumber, process: Process, line: Line) {
        let Process { pid, pidfd, stdout, stderr } = process;
        let pidfd = Arc::new(pidfd);
        let watched = Watched { pidfd: pidfd.clone(), stdout, stderr };
        tokio::spawn(watch_template(generation, line.clone(), watched, self.reports.0.clone()));
        self.templates.insert(generation, (Running { pid, pidfd }, line));
        tracing::debug!(pid = number_of(pid), generation = generation.0, "template started");
        self.apply(Input::Template(generation, Sign::Opened { pid: number_of(pid) }));
    }

    fn apply(&mut self, input: Input) {
        for action in self.roster.apply(input, Instant::now()) {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::OpenTemplate(generation) => {
                if let Some(plan) = self.plans.get(&generation) {
                    self.spawner.ask(Task::Open(generation, plan.clone()));
                }
            }
            Action::CloseTemplate(generation) => {
                if self.roster.is_stopping() && self.roster.hooks() == Some(generation) {
                    self.hook_of_ours("on_exit", String::new());
                }
                if let Some((_, line)) = self.templates.get(&generation) {
                    // After the hooks that it was told to call.
                    self.spawner.ask(Task::Close(line.clone()));
                }
            }
            Action::KillTemplate(generation) => {
                let template = self.templates.get(&generation);
                template.into_iter().for_each(|(process, _)| send(process, Signal::KILL));
            }
            Action::Start { number, generation, way } => self.order(number, generation, way),
            Action::Terminate(number) => self.signal(number, Signal::TERM),
            Action::Kill(number) => self.signal(number, Signal::KILL),
            Action::Forget(generation) => drop(self.plans.remove(&generation)),
            Action::TellDraining { number, deadline } => {
                self.tell(Event::Draining { number, deadline: Some(deadline.into_std()) });
            }
            Action::TellGone { number, generation, reason } => {
                let Some(worker) = self.workers.remove(&number) else { return };
                let pid = number_of(worker.pid);
                self.hook_of_ours("child_exit", format!(r#"{{"pid":{pid},"age":{number}}}"#));
                self.tell(Event::Gone { number, generation, pid, reason });
            }
            Action::TellFailed { generation, account } => self.tell(Event::Failed { generation, account }),
            Action::TellGaveUp { traceback } => self.tell(Event::GaveUp { traceback }),
            Action::TellTemplate { generation, state } => self.tell(Event::Template { generation, state }),
            Action::TellFaltering { generation, account, retry } => {
                self.tell(Event::Faltering { generation, account, retry });
            }
            Action::TellScaled { wanted } => self.tell(Event::Scaled { wanted }),
        }
    }

    fn order(&mut self, number: WorkerNumber, generation: GenerationNumber, way: Way) {
        self.generation_of.insert(number, generation);
        let plan = || self.plans.get(&generation).cloned();
        let line = || self.templates.get(&generation).map(|(_, line)| line.clone());
        let task = match way {
            Way::Exec => plan().map(|plan| Task::Exec(number, plan)),
            Way::Fork => line().map(|line| Task::Fork(number, generation, line)),
        };
        if let Some(task) = task {
            self.spawner.ask(task);
        }
    }

    fn dump_stacks(&self, number: WorkerNumber) {
        if self.roster.is_listening(number) {
            self.signal(number, dump_signal());
        } else {
            tracing::debug!(worker = number.0, "no stacks: the worker is not ready");
        }
    }

    fn hook(&self, name: &'static str, details: String) {
        let template = self.roster.hooks().and_then(|generation| self.templates.get(&generation));
        if let Some((_, line)) = template {
            self.spawner.ask(Task::Hook(line.clone(), name, details));
        }
    }

    /// A hook that follows from the end of a process: told from here, it comes in its order also when the fleet stops.
    fn hook_of_ours(&self, name: &'static str, details: String) {
        let plan = self.roster.hooks().and_then(|generation| self.plans.get(&generation));
        if plan.is_some_and(|plan| plan.hooks) {
            self.hook(name, details);
        }
    }

    fn signal(&self, number: WorkerNumber, signal: Signal) {
        self.workers.get(&number).into_iter().for_each(|worker| send(worker, signal));
    }

    fn tell(&self, event: Event) {
        let _ = self.events.send(event); // nobody listens: run() sees that too, and ends
    }
}

/// The runtime ends, or has ended, without a stop: forked workers are not the spawning thread's, and would live on.
impl Drop for Keeper {
    fn drop(&mut self) {
        let templates = self.templates.values().map(|(process, _)| process);
        self.workers.values().chain(templates).for_each(|process| send(process, Signal::KILL));
        self.reports.1.close();
        while let Ok(report) = self.reports.1.try_recv() {
            report.kill();
        }
    }
}

/// What generation 1 is begun with, and no later template: its hooks call `on_starting`.
fn the_very_first(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    plan.environment.push((FIRST_ENV.into(), "1".into()));
    plan
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => future::pending().await,
    }
}

/// A process that has just ended cannot be told anything; its end is on its way here.
fn send(process: &Running, signal: Signal) {
    if let Err(error) = pidfd_send_signal(&process.pidfd, signal) {
        tracing::debug!(pid = number_of(process.pid), %error, "signal not sent");
    }
}

fn number_of(pid: Pid) -> u32 {
    pid.as_raw_pid().unsigned_abs()
}
