//! A reload, step by step: settings read, addresses bound, a generation begun, and either all of it serves or nothing has
//! changed.
//!
//! Owns the order of the steps and the swap itself. The invariants of `docs/decisions/0006-generations.md` hold here: the
//! pool points at the old generation until the new one is complete, and of two reloads the newer wins.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bandstand_config::Settings;
use bandstand_supervisor::{Fleet, GenerationNumber};
use tokio::sync::mpsc;

use super::super::coming::{Asked, Coming};
use super::super::doors::Bound;
use super::super::environment::plan;
use super::super::orders::Progress;
use super::super::prepare::{Prepared, Present, prepare};
use super::super::view::{FleetView, GenerationState};
use super::super::{Again, Mode, Run, care, greet, limits, rights, service};
use super::{Conductor, Stage, Word};
use crate::observe::logging;
use crate::shared::State;

/// How often the books of an ended fleet are looked at until they are closed.
const CLOSING: Duration = Duration::from_millis(5);

/// A reload that reads settings and binds addresses.
pub(super) struct Reading {
    /// Which: a newer one may have begun when this one's words come.
    ticket: u64,
    asked: Asked,
}

impl Conductor {
    /// Begins a generation from settings and code as they are now.
    pub(super) fn reload(&mut self, hold: bool, progress: mpsc::UnboundedSender<Progress>) {
        let asked = Asked { hold, logged: self.run.mode == Mode::Serve, progress };
        let free =
            self.is_free().and_then(|()| self.run.again.clone().ok_or("it was started without".to_owned()));
        let again = match free {
            Ok(again) => again,
            Err(why) => return self.refuse(asked, why),
        };
        self.make_room();
        service::reloading();
        self.hook("on_reload", String::new());
        self.shared.pool.hold(hold);
        asked.say("reading settings");
        self.read(again, asked);
    }

    /// Nothing was begun. Who waits is told all the same, the service manager too: it waits for a reload that it asked for.
    fn refuse(&self, asked: Asked, why: String) {
        if asked.logged {
            tracing::error!("no reload: {why}");
        }
        if self.is_announced && !matches!(self.stage, Stage::Stopping { .. }) {
            service::reloading();
            service::ready("the last reload was refused");
        }
        asked.over(Err(why));
    }

    /// Of two reloads the newer wins.
    fn make_room(&mut self) {
        const WHY: &str = "a newer reload took its place";
        self.give_up_reading(WHY);
        match self.coming.take() {
            // The first, which serves though not all of its workers are there.
            Some(older) if older.generation == self.shared.state().generation => {
                if !self.is_announced {
                    self.say_ready(older.ready.len());
                }
                let generation = older.generation;
                older.over(Ok(generation));
            }
            Some(older) => self.abandon(older, WHY),
            None => {}
        }
    }

    /// What is being read is not wanted any more.
    pub(super) fn give_up_reading(&mut self, why: &str) {
        let Some(Reading { asked, .. }) = self.reading.take() else { return };
        if asked.hold {
            self.shared.pool.hold(false);
        }
        asked.over(Err(why.to_owned()));
    }

    /// Everything that can fail without a process, beside the runtime: names of hosts and the user's own code take their time,
    /// and the server is to be obeyed meanwhile.
    fn read(&mut self, again: Again, asked: Asked) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.reading = Some(Reading { ticket, asked });
        let (run, access_log) = (self.run.clone(), self.shared.state().access_log.clone());
        let settings = run.loaded.settings.clone();
        let (served, open, tls) = (self.doors.ports(), self.doors.binds(), self.shared.tls.clone());
        let present = Present { settings, access_log, served, open, tls };
        let words = self.ears.words();
        tokio::task::spawn_blocking(move || {
            let outcome = read(&again, &run, present).map(Box::new);
            let _ = words.send(Word::Prepared { ticket, outcome }); // nobody listens any more at the end
        });
    }

    /// What was read, if it is still wanted.
    pub(super) async fn on_prepared(&mut self, ticket: u64, outcome: Result<Box<Prepared>, String>) {
        let Some(reading) = self.reading.take_if(|reading| reading.ticket == ticket) else { return };
        match outcome {
            Ok(prepared) => self.begin(*prepared, reading.asked).await,
            Err(why) => self.fail(reading.asked, why),
        }
    }

    async fn begin(&mut self, prepared: Prepared, asked: Asked) {
        let Prepared { run, bound, access_log, tls, notes } = prepared;
        notes.iter().for_each(|sentence| asked.say(sentence));
        let wanted = self.wanted(&run.loaded.settings);
        let number = if self.stage == Stage::Stranded {
            match self.start_anew(plan(&run, wanted)).await {
                Ok(()) => 1,
                Err(why) => return self.fail(asked, why),
            }
        } else {
            self.fleet.begin(plan(&run, wanted)).0
        };
        self.show(|view| view.begin(number));
        asked.say("importing the project");
        let mut coming = Coming::new(number, Arc::new(run), access_log, Some(bound), wanted, Some(asked));
        coming.tls = Some(tls);
        self.coming = Some(coming);
    }

    /// As many as there are, if only somebody has scaled since: a reload must not take capacity away. As many as the
    /// settings say, if they say something else than before.
    fn wanted(&self, new: &Settings) -> usize {
        let (old, now) = (&self.run.loaded.settings, self.shared.fleet().wanted);
        let bounds = care::bounds_of(new);
        let kept = now > 0 && (old.workers == new.workers || bounds.is_some());
        let wanted = if kept { now } else { new.workers.get() };
        bounds.map_or(wanted, |(least, most)| wanted.clamp(least, most))
    }

    /// In `dev`, after a first start that failed: the fleet is gone, and another begins.
    async fn start_anew(&mut self, plan: bandstand_supervisor::Plan) -> Result<(), String> {
        self.fleet.stop(std::time::Instant::now()).await;
        // Numbers begin anew: nothing of the old ones may be left in the books.
        while !self.shared.pool.snapshot().links.is_empty() {
            tokio::time::sleep(CLOSING).await;
        }
        let wanted = usize::from(plan.workers);
        let (fleet, events) = Fleet::start(plan).map_err(|error| error.to_string())?;
        self.fleet = fleet;
        self.ears.turn_to(events);
        self.stage = Stage::Running;
        self.show(|view| {
            let addresses = std::mem::take(&mut view.addresses);
            *view = FleetView { addresses, wanted, ..FleetView::default() };
        });
        self.watch_clock();
        Ok(())
    }

    /// The state of the generation on its way, from its first hello.
    pub(super) fn make_state(&self, hello: Vec<u8>) {
        let Some(coming) = &self.coming else { return };
        let (run, access_log, generation) =
            (coming.run.clone(), coming.access_log.clone(), coming.generation);
        let mut places = self.doors.locations(&run.loaded.settings.bind);
        places.extend(coming.bound.iter().flat_map(Bound::locations));
        places.extend(self.waiting.iter().flat_map(|(bound, _)| bound.locations()));
        let reached = rights::reached_by_others(places.into_iter());
        let before = self.shared.state();
        let words = self.ears.words();
        tokio::task::spawn_blocking(move || {
            let outcome = greet::greet(&run.loaded, run.mode, &hello, access_log, generation, &before.notes);
            let outcome = outcome.and_then(|state| {
                rights::debug_is_private(&state, run.mode, reached.as_deref()).map(|()| state)
            });
            let _ = words.send(Word::Made { generation, outcome: outcome.map(Arc::new) }); // nobody listens any more at the end
        });
    }

    /// The generation on its way is complete: it serves from here on.
    pub(super) async fn serve(&mut self, state: Arc<State>) {
        let Some(generation) = self.coming.as_ref().map(|coming| coming.generation) else { return };
        // What nobody promotes has failed meanwhile: `Event::Failed` is on its way here.
        if !self.fleet.promote(GenerationNumber(generation)).await {
            return;
        }
        let Some(mut coming) = self.coming.take() else { return };
        let settings = &state.settings;
        self.shared.pool.switch(coming.generation);
        if let Some(setup) = coming.tls.take() {
            self.shared.tls.apply(setup);
        }
        self.swap(state.clone());
        self.shared.pool.set_limits(limits(settings));
        let most_each = settings.max_connections_per_ip.map(std::num::NonZeroUsize::get);
        self.shared.connections.set_limits(settings.max_connections.get(), most_each);
        if let Some(bound) = coming.bound.take() {
            self.open(bound);
            let gone = self.doors.keep_only(&settings.bind, &self.shared);
            service::store(&self.doors.sockets());
            service::forget(&gone);
            let urls = self.doors.urls(settings);
            self.show(|view| view.addresses = urls);
        }
        self.doors.tell_https_port(&self.shared);
        self.doors.follow_quic(&self.shared);
        crate::tls::acme::follow(&self.shared);
        // It cannot fail a second time: only the first opens anything.
        let _ = logging::start(settings.log, settings.log_format);
        self.show(|view| {
            view.promote(coming.generation);
            view.wanted = coming.wanted;
        });
        self.run = coming.run.clone();
        if let Some(dev) = &self.shared.dev {
            dev.serves();
        }
        self.count_workers(coming.wanted);
        if !self.is_announced {
            self.say_ready(coming.wanted);
        }
        self.succeed(coming);
    }

    fn succeed(&mut self, coming: Coming) {
        let generation = coming.generation;
        let Some(asked) = &coming.asked else { return };
        if asked.hold {
            self.shared.pool.hold(false);
        }
        let view = self.shared.fleet();
        let leaving: usize = view
            .generations
            .iter()
            .filter(|other| other.state == GenerationState::Leaving)
            .map(|other| other.workers)
            .sum();
        drop(view);
        let sentence = match leaving {
            0 => format!("generation {generation} serves"),
            1 => format!("generation {generation} serves, 1 older worker finishes"),
            n => format!("generation {generation} serves, {n} older workers finish"),
        };
        asked.say(&sentence);
        service::ready(&sentence);
        self.show(|view| view.last_reload = Some((SystemTime::now(), Ok(generation))));
        coming.over(Ok(generation));
    }

    /// A generation on its way could not boot, or was found wanting: it is ended, and everything is as it was.
    pub(super) fn on_failed(&mut self, generation: u32, account: String) {
        self.show(|view| view.fail(generation));
        let Some(coming) = self.coming.take_if(|coming| coming.generation == generation) else { return };
        self.fleet.discard(GenerationNumber(generation));
        if let Some(asked) = coming.asked {
            self.fail(asked, account);
        }
    }

    fn fail(&mut self, asked: Asked, why: String) {
        if asked.hold {
            self.shared.pool.hold(false);
        }
        if asked.logged {
            tracing::error!("the reload failed, everything is as it was: {}", why.trim_end());
        }
        service::ready("the last reload failed");
        self.show(|view| view.last_reload = Some((SystemTime::now(), Err(why.clone()))));
        asked.over(Err(why));
    }

    /// Nobody wants it any more.
    pub(super) fn abandon(&mut self, coming: Coming, why: &str) {
        self.fleet.discard(GenerationNumber(coming.generation));
        self.show(|view| view.fail(coming.generation));
        if coming.asked.as_ref().is_some_and(|asked| asked.hold) {
            self.shared.pool.hold(false);
        }
        coming.over(Err(why.to_owned()));
    }
}

/// Settings and project again, and what they need of the system. Blocks.
fn read(again: &Again, before: &Run, present: Present) -> Result<Prepared, String> {
    let mut run = again()?;
    run.again = run.again.or_else(|| before.again.clone());
    run.mode = before.mode;
    prepare(run, present)
}
