//! All that the conductor hears, one thing at a time.
//!
//! Owns the ends of the channels. Invariant: nothing that was said is lost because something else was heard first.

use std::sync::Arc;
use std::time::Duration;

use bandstand_supervisor::{Command, Event};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

use super::super::care::Measured;
use super::super::orders::{Order, Progress, Scaling};
use super::super::prepare::Prepared;
use crate::dispatch::Notice;
use crate::shared::State;

/// How often the fleet is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// What the conductor had begun beside itself is done.
pub(in super::super) enum Word {
    /// The state of a generation, from its first hello.
    Made { generation: u32, outcome: Result<Arc<State>, String> },
    /// The probe of a generation.
    Probed { generation: u32, outcome: Result<(), String> },
    /// Memory of the workers.
    Measured(Measured),
    /// The program that is to take over serves, or does not.
    Heir { outcome: Result<u32, String>, progress: mpsc::UnboundedSender<Progress> },
    /// What a reload needs before anything is started.
    Prepared { ticket: u64, outcome: Result<Box<Prepared>, String> },
}

/// One thing.
pub(super) enum Heard {
    Order(Order),
    Event(Event),
    /// Nothing more is told of the fleet: it has ended.
    Silence,
    Notice(Notice),
    Word(Word),
    Tick,
    /// The drain is over.
    Drained,
}

/// The channels that the conductor itself has made.
pub(super) struct Ears {
    events: mpsc::UnboundedReceiver<Event>,
    silent: bool,
    notices: (mpsc::UnboundedSender<Notice>, mpsc::UnboundedReceiver<Notice>),
    words: (mpsc::UnboundedSender<Word>, mpsc::UnboundedReceiver<Word>),
    tick: Interval,
    pub(super) drained: Option<JoinHandle<()>>,
}

impl Ears {
    /// `events`: of the fleet.
    pub(super) fn new(events: mpsc::UnboundedReceiver<Event>) -> Self {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (notices, words) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        Self { events, silent: false, notices, words, tick, drained: None }
    }

    /// Another fleet: nothing that was said of the one before means it.
    pub(super) fn turn_to(&mut self, events: mpsc::UnboundedReceiver<Event>) {
        *self = Self::new(events);
    }

    /// For the channel of a worker.
    pub(super) fn notices(&self) -> mpsc::UnboundedSender<Notice> {
        self.notices.0.clone()
    }

    /// For what is done beside the conductor.
    pub(super) fn words(&self) -> mpsc::UnboundedSender<Word> {
        self.words.0.clone()
    }

    /// The next thing; the clock only while it `cares`.
    pub(super) async fn hear(
        &mut self,
        signals: &mut mpsc::Receiver<Command>,
        orders: &mut mpsc::Receiver<Order>,
        cares: bool,
    ) -> Heard {
        let Self { events, silent, notices, words, tick, drained } = self;
        let drained = async {
            match drained {
                Some(drain) => drop(drain.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(order) = orders.recv() => Heard::Order(order),
            // A listener that has ended hears nothing more: then only an end in good order is left.
            command = signals.recv() => Heard::Order(command.map_or(Order::Stop, order_of)),
            event = events.recv(), if !*silent => {
                *silent = event.is_none();
                event.map_or(Heard::Silence, Heard::Event)
            }
            Some(notice) = notices.1.recv() => Heard::Notice(notice),
            Some(word) = words.1.recv() => Heard::Word(word),
            _ = tick.tick(), if cares => Heard::Tick,
            () = drained => Heard::Drained,
        }
    }
}

/// What a signal asks for. Nobody waits for its answer but the log.
fn order_of(command: Command) -> Order {
    let progress = || mpsc::unbounded_channel().0;
    let scale = |by| Order::Scale { to: Scaling::By(by), reply: oneshot::channel().0 };
    match command {
        Command::Stop => Order::Stop,
        Command::StopNow => Order::StopNow,
        Command::Reload => Order::Reload { hold: false, progress: progress() },
        Command::MoreWorkers => scale(1),
        Command::FewerWorkers => scale(-1),
        Command::ReopenLogs => Order::Reopen { reply: oneshot::channel().0 },
        Command::Upgrade => Order::Upgrade { progress: progress() },
        Command::DrainWorkers => Order::DrainWorkers,
    }
}
