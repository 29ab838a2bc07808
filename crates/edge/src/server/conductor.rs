//! The one task that owns the server's course: orders in, generations swapped, workers looked after.
//!
//! Owns every decision about the fleet. Signals, control socket, service manager and `dev` send it the same orders; it follows
//! what the supervisor tells of processes and the channels of workers, one thing after the other, so that nothing it decides
//! on changes under it. It never waits for a process: what takes long comes back to it as a `Word`.
//! Invariant: clients notice a reload only when it is complete; whatever fails before leaves everything as it was.
//! `docs/decisions/0006-generations.md`.

mod ears;
mod obey;
mod reload;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bandstand_supervisor::{Command, Event, Fleet, TemplateState, WorkerNumber};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

pub(super) use self::ears::Word;
use self::ears::{Ears, Heard};
use self::reload::Reading;
use super::care::{self, Care};
use super::coming::{Coming, Made, Next};
use super::doors::{Bound, Doors};
use super::environment::plan;
use super::orders::Order;
use super::pid_file::PidFile;
use super::upgrade::{self, Hold, Program};
use super::view::{FleetView, TemplateView, WorkerState};
use super::{Mode, Run, ServeError, clock, probe, service, stop};
use crate::control::Control;
use crate::dispatch::{Notice, Sockets, Writers, run_channel};
use crate::observe::logging;
use crate::shared::{Phase, Shared, State};

/// How long a worker may live after its channel has ended.
const AFTER_CHANNEL: Duration = Duration::from_secs(1);
/// The first generation.
const FIRST: u32 = 1;
/// How much longer a start or reload may take, as the service manager is told while it lasts, and how often.
const TIME_MORE: Duration = Duration::from_secs(30);
const TIME_PERIOD: Duration = Duration::from_secs(10);

/// What the server is made of.
pub(super) struct Parts {
    pub(super) run: Run,
    pub(super) shared: Arc<Shared>,
    pub(super) bound: Bound,
    pub(super) control: Option<Arc<Control>>,
    pub(super) pid_file: Arc<PidFile>,
    /// Where the program before this one waits for a word.
    pub(super) heir_of: Option<OwnedFd>,
}

/// The course of one server.
pub(super) struct Conductor {
    shared: Arc<Shared>,
    fleet: Fleet,
    /// What the generation that serves was made from.
    run: Arc<Run>,
    /// A reload that reads settings and binds addresses.
    reading: Option<Reading>,
    /// How many reloads there were.
    tickets: u64,
    /// The generation that is not complete yet. Only the first may serve before it is.
    coming: Option<Coming>,
    doors: Doors,
    /// Bound, and silent until we serve: the program before this one accepts meanwhile.
    waiting: Option<(Bound, OwnedFd)>,
    control: Option<Arc<Control>>,
    pid_file: Arc<PidFile>,
    program: Option<Program>,
    /// An upgrade that is under way.
    heir: Option<Hold>,
    care: Care,
    ears: Ears,
    /// What tells the channel of a worker that its process is gone.
    gone: HashMap<u32, Arc<Notify>>,
    /// Of the last worker, from its start to its hello.
    boot: Duration,
    stage: Stage,
    /// Whether it was said that the server is ready.
    is_announced: bool,
    asked_for_time: Option<Instant>,
    clock: Option<JoinHandle<()>>,
    /// How many workers are wanted, as hooks were told last.
    counted: Option<usize>,
}

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    /// In `dev`: the first start failed, and there is no fleet until the next reload.
    Stranded,
    /// `heir`: another program serves on. `asked`: somebody has asked this one to stop; asked again, it ends at once.
    Stopping {
        heir: bool,
        asked: bool,
    },
}

/// Whether the server goes on, and how it ended.
type Flow = ControlFlow<Result<(), ServeError>>;

impl Conductor {
    /// Starts the first generation.
    ///
    /// # Errors
    /// No process can be started; none is there then.
    pub(super) fn start(parts: Parts) -> Result<Self, ServeError> {
        let Parts { run, shared, bound, control, pid_file, heir_of } = parts;
        let program = Program::current().map_err(|error| tracing::debug!(%error, "no upgrade in place")).ok();
        let wanted = run.loaded.settings.workers.get();
        let (fleet, events) =
            Fleet::start(plan(&run, wanted)).map_err(|error| ServeError::new(error.to_string()))?;
        let run = Arc::new(run);
        let access_log = shared.state().access_log.clone();
        let mut conductor = Self {
            coming: Some(Coming::new(1, run.clone(), access_log, None, wanted, None)),
            fleet,
            run,
            reading: None,
            tickets: 0,
            doors: Doors::default(),
            waiting: None,
            control,
            pid_file,
            program,
            heir: None,
            care: Care::default(),
            ears: Ears::new(events),
            gone: HashMap::new(),
            boot: Duration::ZERO,
            stage: Stage::Running,
            is_announced: false,
            asked_for_time: None,
            clock: None,
            counted: None,
            shared,
        };
        conductor.show(|view| {
            view.begin(1);
            view.wanted = wanted;
        });
        match heir_of {
            Some(ready) => conductor.waiting = Some((bound, ready)),
            None => conductor.open(bound),
        }
        let limit = conductor.run.loaded.settings.boot_timeout.unwrap_or_default();
        conductor.asked_for_time = Some(Instant::now());
        service::extend_start(limit.max(TIME_MORE));
        conductor.watch_clock();
        Ok(conductor)
    }

    /// Until the server is stopped, or its first start fails.
    pub(super) async fn run(
        mut self,
        mut signals: mpsc::Receiver<Command>,
        mut orders: mpsc::Receiver<Order>,
    ) -> Result<(), ServeError> {
        loop {
            let cares = self.stage == Stage::Running && self.has_to_look();
            let heard = self.ears.hear(&mut signals, &mut orders, cares).await;
            if let ControlFlow::Break(result) = self.on(heard).await {
                self.end().await;
                return result;
            }
        }
    }

    fn has_to_look(&self) -> bool {
        self.coming.is_some() || self.reading.is_some() || care::is_needed(&self.run.loaded.settings)
    }

    async fn on(&mut self, heard: Heard) -> Flow {
        match heard {
            Heard::Order(order) => return self.obey(order).await,
            Heard::Event(Event::GaveUp { traceback }) => return self.give_up(&traceback).await,
            Heard::Event(event) => self.follow(event),
            Heard::Notice(notice) => self.listen(notice).await,
            Heard::Word(word) => return self.take(word).await,
            Heard::Silence if self.stage == Stage::Running => {
                return ControlFlow::Break(Err(ServeError::new("the keeper of the workers has ended")));
            }
            Heard::Silence => {}
            Heard::Tick => self.look(),
            Heard::Drained => return ControlFlow::Break(Ok(())),
        }
        ControlFlow::Continue(())
    }

    /// Nothing of ours is left behind.
    async fn end(mut self) {
        let heir = matches!(self.stage, Stage::Stopping { heir: true, .. });
        if let Some(unwanted) = &mut self.heir {
            unwanted.dismiss();
        }
        if let Some(coming) = self.coming.take() {
            coming.over(Err("the server is stopping".to_owned()));
        }
        self.give_up_reading("the server is stopping");
        self.doors.close_all(!heir && !service::keeps_sockets());
        self.fleet.stop_now();
        self.fleet.stop(Instant::now()).await;
        if let Some(unwanted) = self.heir.take() {
            unwanted.end().await;
        }
    }

    /// Processes: started, leaving, gone.
    fn follow(&mut self, event: Event) {
        match event {
            Event::Started { number, generation, pid, channel, lane, guard, board } => {
                tracing::debug!(worker = number.0, generation = generation.0, pid, "worker started");
                self.show(|view| view.start(number.0, generation.0, pid));
                let pool = self.shared.pool.clone();
                let writers = Writers::default();
                pool.add(number.0, generation.0, board, writers.clone());
                let gone = Arc::new(Notify::new());
                self.gone.insert(number.0, gone.clone());
                let sockets = Sockets { channel, lane, guard: Some(guard), gone };
                tokio::spawn(run_channel(pool, number.0, sockets, writers, self.ears.notices()));
            }
            Event::Draining { number, deadline } => {
                self.show(|view| view.turn(number.0, WorkerState::Draining));
                // At the stop of the server everybody goes at once: there is nobody else to come back to.
                let gently = deadline.filter(|_| self.stage == Stage::Running);
                self.shared.pool.retire(number.0, gently);
            }
            // The supervisor has logged it; what the worker held is seen to when its channel has been read to the end.
            Event::Gone { number, .. } => {
                if let Some(gone) = self.gone.remove(&number.0) {
                    gone.notify_one();
                }
                self.show(|view| view.end(number.0));
                self.care.gone(number.0);
                if let Some(coming) = &mut self.coming {
                    coming.lost(number.0);
                }
            }
            Event::Failed { generation, account } => self.on_failed(generation.0, account),
            Event::Template { generation, state } => self.on_template(generation.0, state),
            Event::Faltering { generation, account, retry } => {
                tracing::debug!(generation = generation.0, ?retry, "another is started after a pause");
                self.show(|view| view.last_failure = Some((SystemTime::now(), account)));
                self.shared.outage.falter(Instant::now() + retry + self.boot);
            }
            Event::Scaled { wanted } => {
                self.show(|view| view.wanted = wanted);
                if self.counted != Some(wanted) {
                    self.count_workers(wanted);
                }
            }
            Event::GaveUp { .. } => {} // `on` has seen to it
        }
    }

    fn on_template(&mut self, generation: u32, state: TemplateState) {
        let of_coming = self.coming.as_ref().filter(|coming| coming.generation == generation);
        let (word, pid) = match state {
            TemplateState::Importing { pid } => ("importing", pid),
            TemplateState::Ready { pid, took } => {
                self.boot = took;
                if let Some(coming) = of_coming {
                    coming.say(format!("imported in {:.1} s, starting workers", took.as_secs_f64()));
                }
                ("ready", pid)
            }
            TemplateState::Lost { account } => {
                // That of a generation on its way is told as the reload's.
                if of_coming.is_none() {
                    self.show(|view| view.last_failure = Some((SystemTime::now(), account)));
                }
                ("lost", 0)
            }
            TemplateState::Threads { names } => {
                if let Some(coming) = of_coming {
                    coming.say(format!(
                        "the import left threads running ({}): workers import by themselves",
                        names.join(", ")
                    ));
                }
                ("none", 0)
            }
        };
        self.show(|view| view.turn_template(TemplateView { generation, state: word, pid }));
    }

    /// Channels: hello, failed, lost.
    async fn listen(&mut self, notice: Notice) {
        match notice {
            Notice::Hello { number, project } => self.on_hello(number, project).await,
            // The supervisor logs it, or tells it as the end of its generation.
            Notice::Failed { number, traceback } => self.fleet.boot_failed(WorkerNumber(number), traceback),
            Notice::Lost { number, error: Some(error) } => {
                tracing::error!(worker = number, error, "the worker broke the channel and is replaced");
                self.fleet.kill(WorkerNumber(number));
            }
            Notice::Lost { number, error: None } => {
                let fleet = self.fleet.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(AFTER_CHANNEL).await;
                    fleet.kill(WorkerNumber(number));
                });
            }
        }
    }

    async fn on_hello(&mut self, number: u32, hello: Vec<u8>) {
        self.fleet.ready(WorkerNumber(number));
        let worker = {
            let mut view = self.shared.fleet();
            let worker = view.worker(number).map(|worker| (worker.generation, worker.since));
            view.turn(number, WorkerState::Ready);
            worker
        };
        let Some((generation, since)) = worker else { return };
        if let Some(dev) = &self.shared.dev {
            dev.hello(&hello);
        }
        match self.coming.as_mut().filter(|coming| coming.generation == generation) {
            Some(coming) => {
                self.care.ready(number, &coming.run.loaded.settings);
                if coming.hello(number) {
                    self.make_state(hello);
                }
            }
            None => {
                self.boot = since.elapsed();
                self.care.ready(number, &self.run.loaded.settings);
            }
        }
        if self.shared.state().generation == generation {
            self.shared.outage.is_over();
        }
        self.advance().await;
    }

    /// Looks what the generation on its way still needs.
    pub(super) async fn advance(&mut self) {
        let Some(coming) = &mut self.coming else { return };
        let generation = coming.generation;
        match coming.next() {
            Next::Wait => {}
            Next::Probe(state, worker) => {
                let (shared, words) = (self.shared.clone(), self.ears.words());
                tokio::spawn(async move {
                    let outcome = probe::probe(shared, state, worker).await;
                    let _ = words.send(Word::Probed { generation, outcome }); // nobody listens any more at the end
                });
            }
            Next::Serve(state) => self.serve(state).await,
        }
    }

    /// What took long is done.
    async fn take(&mut self, word: Word) -> Flow {
        let of_coming = |coming: &Option<Coming>, generation| {
            coming.as_ref().is_some_and(|coming| coming.generation == generation)
        };
        let (generation, outcome) = match word {
            Word::Made { generation, .. } | Word::Probed { generation, .. }
                if !of_coming(&self.coming, generation) =>
            {
                return ControlFlow::Continue(());
            }
            Word::Made { generation, outcome } => (generation, outcome.map(|state| self.on_made(state))),
            Word::Probed { generation, outcome } => (
                generation,
                outcome.map(|()| {
                    if let Some(coming) = &mut self.coming {
                        coming.passed();
                    }
                }),
            ),
            Word::Measured(memory) => {
                self.care.measured(memory);
                return ControlFlow::Continue(());
            }
            Word::Prepared { ticket, outcome } => {
                self.on_prepared(ticket, outcome).await;
                return ControlFlow::Continue(());
            }
            Word::Heir { outcome, progress } => {
                self.on_heir(outcome, &progress);
                return ControlFlow::Continue(());
            }
        };
        match outcome {
            Ok(()) => self.advance().await,
            Err(why) if self.is_first() => return ControlFlow::Break(Err(ServeError::new(why))),
            Err(why) => self.on_failed(generation, why),
        }
        ControlFlow::Continue(())
    }

    /// The state of the generation on its way. The first serves from its first worker on, if it need not be probed.
    fn on_made(&mut self, state: Arc<State>) {
        let first = self.is_first();
        let Some(coming) = &mut self.coming else { return };
        coming.state = Made::Yes(state.clone());
        if first && state.settings.ready_check.paths.is_empty() {
            self.swap(state);
            self.show(|view| view.promote(FIRST));
        }
    }

    /// From now on requests see this state.
    fn swap(&mut self, state: Arc<State>) {
        self.shared.current.store(state);
        self.shared.outage.is_over();
        self.shared.phase.send_if_modified(|phase| {
            let booting = *phase == Phase::Booting;
            if booting {
                *phase = Phase::Open;
            }
            booting
        });
    }

    /// Nothing has ever served.
    fn is_first(&self) -> bool {
        self.shared.fleet().current().is_none() && self.stage != Stage::Stranded
    }

    /// One look of the clock.
    fn look(&mut self) {
        // A generation on its way has its own number of workers.
        if self.coming.is_some() || self.reading.is_some() {
            return self.ask_for_time();
        }
        if let Some(wanted) = self.care.look(&self.shared, &self.fleet, &self.ears.words()) {
            tracing::info!(workers = wanted, "the number of workers follows the queue");
            self.scale_to(wanted);
        }
    }

    /// The service manager waits for the end of a start or reload only so long, if it is not asked for more.
    fn ask_for_time(&mut self) {
        if self.asked_for_time.is_none_or(|last| last.elapsed() >= TIME_PERIOD) {
            self.asked_for_time = Some(Instant::now());
            service::extend_start(TIME_MORE);
        }
    }

    fn scale_to(&mut self, wanted: usize) {
        // Before the forks that follow from it, as with gunicorn.
        if self.counted != Some(wanted) {
            self.count_workers(wanted);
        }
        self.fleet.scale_to(wanted);
        self.show(|view| view.wanted = wanted);
    }

    /// Of the fleet as it is now: the one before has its numbers, and would be told of them.
    fn watch_clock(&mut self) {
        let clock = tokio::spawn(clock::watch_clock(self.shared.clone(), self.fleet.clone()));
        if let Some(older) = self.clock.replace(clock) {
            older.abort();
        }
    }

    fn open(&mut self, bound: Bound) {
        self.doors.open(bound, &self.shared);
        self.doors.tell_https_port(&self.shared);
        self.doors.follow_quic(&self.shared);
        crate::tls::acme::follow(&self.shared);
        let urls = self.doors.urls(&self.shared.state().settings);
        self.show(|view| view.addresses = urls);
    }

    fn show(&self, change: impl FnOnce(&mut FleetView)) {
        change(&mut self.shared.fleet());
    }

    /// Has the user's hook called, if there are any. Those of ends (`child_exit`, `on_exit`) are the supervisor's to call.
    fn hook(&self, name: &'static str, details: String) {
        if self.run.loaded.settings.hooks.is_some() {
            self.fleet.hook(name, details);
        }
    }

    /// Tells hooks how many workers there are to be.
    fn count_workers(&mut self, wanted: usize) {
        let old = self.counted.replace(wanted).map_or_else(|| "null".to_owned(), |old| old.to_string());
        self.hook("nworkers_changed", format!(r#"{{"new":{wanted},"old":{old}}}"#));
    }

    /// The first start failed. Somebody looks: the program ends, but in `dev`, where the page says why.
    async fn give_up(&mut self, traceback: &str) -> Flow {
        let sentence = format!("the application could not be started:\n{}", traceback.trim_end());
        let Some(dev) = self.shared.dev.clone().filter(|_| self.run.mode == Mode::Dev) else {
            return ControlFlow::Break(Err(ServeError::new(sentence)));
        };
        tracing::error!("{sentence}");
        self.stage = Stage::Stranded;
        if let Some(coming) = self.coming.take() {
            coming.over(Err(traceback.to_owned()));
        }
        dev.broke(traceback).await;
        ControlFlow::Continue(())
    }

    #[allow(
        clippy::print_stderr,
        reason = "the line that scripts and people wait for, whatever the log's form"
    )]
    fn say_ready(&mut self, wanted: usize) {
        self.is_announced = true;
        if let Some((bound, ready)) = self.waiting.take() {
            self.open(bound);
            if let Some(control) = &self.control {
                control.take_over();
            }
            if let Err(why) = self.pid_file.write() {
                tracing::warn!("{why}");
            }
            upgrade::tell_ready(ready);
        }
        let workers = match wanted {
            1 => "1 worker".to_owned(),
            n => format!("{n} workers"),
        };
        let state = self.shared.state();
        let app = state.project.as_ref().and_then(|project| project.said.app.clone()).unwrap_or_default();
        let app = app.strip_suffix(":application").unwrap_or(&app);
        logging::flush();
        let sentence = format!("ready on {} ({workers}, {app})", self.doors.urls(&state.settings).join(", "));
        eprintln!("bandstand: {sentence}");
        if let Some(hint) = crate::tls::local::hint(&self.shared.tls) {
            eprintln!("bandstand: {hint}");
        }
        self.hook("when_ready", String::new());
        service::store(&self.doors.sockets());
        service::ready(&sentence);
    }

    /// No new connections; what runs is finished beside us.
    fn stop(&mut self, heir: bool) {
        self.stage = Stage::Stopping { heir, asked: !heir };
        if !heir {
            self.heir.iter_mut().for_each(Hold::dismiss);
            service::stopping();
        }
        if let Some(coming) = self.coming.take() {
            self.abandon(coming, "the server is stopping");
        }
        self.give_up_reading("the server is stopping");
        self.doors.close_all(!heir && !service::keeps_sockets());
        self.ears.drained = Some(tokio::spawn(stop::drain(self.shared.clone(), self.fleet.clone())));
    }
}
