//! Explores what can happen to a fleet of two workers, in every order up to a depth, and checks the promises at each step.
//!
//! `World` is what is outside of the rules: processes that run, answers that are under way, and an edge that promotes a
//! generation when all its workers are ready. States already seen are not gone through again.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::*;
use crate::fleet::Scale;
use crate::plan::Preload;
use crate::worker::Life;

const SIGKILL: Gone = Gone::Killed { signal: libc::SIGKILL, core: false };
const WORKERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outside {
    Opening,
    Importing,
    Ready,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Process {
    generation: GenerationNumber,
    spoke: bool,
    leaving: bool,
}

/// How often each may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Budget {
    begin: u8,
    scale: u8,
    recycle: u8,
    replace: u8,
    deaths: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    roster: Roster,
    now: Instant,
    terms: Terms,
    budget: Budget,
    newest: u32,
    ordered: VecDeque<(WorkerNumber, GenerationNumber, Way)>,
    processes: BTreeMap<WorkerNumber, Process>,
    templates: BTreeMap<GenerationNumber, Outside>,
    /// Templates that were told to end.
    ending: BTreeSet<GenerationNumber>,
    gone: BTreeSet<WorkerNumber>,
    given_up: bool,
}

impl World {
    fn begin(preload: Preload, boot_timeout: Option<Duration>) -> World {
        let terms =
            Terms { workers: WORKERS, boot_timeout, graceful_timeout: Duration::from_secs(3), preload };
        let now = Instant::now();
        let (roster, actions) = Roster::start(terms, now);
        let mut world = World {
            roster,
            now,
            terms,
            budget: Budget { begin: 2, scale: 1, recycle: 2, replace: 1, deaths: 2 },
            newest: 1,
            ordered: VecDeque::new(),
            processes: BTreeMap::new(),
            templates: BTreeMap::new(),
            ending: BTreeSet::new(),
            gone: BTreeSet::new(),
            given_up: false,
        };
        world.carry_out(actions);
        world
    }

    /// A fleet that serves: two workers are ready.
    fn serving(preload: Preload) -> World {
        let mut world = World::begin(preload, None);
        if preload == Preload::Template {
            world.step(Input::Template(FIRST, Sign::Opened { pid: 9 }));
            world.step(Input::Template(FIRST, Sign::Ready));
        }
        for number in [1, 2].map(WorkerNumber) {
            world.step(Input::Started(number));
            world.step(Input::Hello(number));
        }
        assert_eq!(world.capacity(), WORKERS);
        world
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            let stopping = self.roster.is_stopping();
            match action {
                Action::OpenTemplate(generation) => {
                    assert!(!stopping, "nothing is started after a stop");
                    assert_eq!(
                        self.templates.insert(generation, Outside::Opening),
                        None,
                        "one template each"
                    );
                }
                Action::Start { number, generation, way } => {
                    assert!(!stopping, "nothing is started after a stop");
                    let ready = self.templates.get(&generation) == Some(&Outside::Ready);
                    assert!(way == Way::Exec || ready, "only a template that is ready forks");
                    assert!(!self.processes.contains_key(&number) && !self.gone.contains(&number));
                    self.ordered.push_back((number, generation, way));
                }
                Action::CloseTemplate(generation) | Action::KillTemplate(generation) => {
                    assert!(self.templates.contains_key(&generation), "{generation} has no template");
                    self.ending.insert(generation);
                }
                Action::Terminate(number) | Action::Kill(number) => {
                    let process = self.processes.get_mut(&number).expect("a signal needs a process");
                    process.leaving = true;
                }
                Action::TellDraining { number, .. } => {
                    self.processes.get_mut(&number).expect("told after Started").leaving = true;
                }
                Action::TellGone { number, .. } => {
                    assert!(self.processes.remove(&number).is_some(), "Started before Gone");
                    assert!(self.gone.insert(number), "Gone once");
                }
                Action::TellFailed { generation, .. } => assert_ne!(generation, FIRST),
                Action::TellGaveUp { .. } => self.given_up = true,
                Action::Forget(_)
                | Action::TellTemplate { .. }
                | Action::TellFaltering { .. }
                | Action::TellScaled { .. } => {}
            }
        }
    }

    fn current(&self) -> Option<GenerationNumber> {
        let mut current = self.roster.generations.iter().filter(|(_, this)| this.stage == Stage::Current);
        let first = current.next().map(|(&number, _)| number);
        assert!(current.next().is_none(), "one current");
        first
    }

    /// Workers that requests can be given to.
    fn capacity(&self) -> usize {
        let current = self.current();
        let ready = |worker: &&Worker| {
            Some(worker.generation) == current && matches!(worker.life, Life::Ready { .. })
        };
        self.roster.workers.values().filter(ready).count()
    }

    /// The generation and workers of the current generation.
    fn of_current(&self) -> Option<(Generation, Vec<(WorkerNumber, Worker)>)> {
        let current = self.current()?;
        let own = self.roster.workers.iter().filter(|(_, worker)| worker.generation == current);
        let own = own.map(|(&number, worker)| (number, worker.clone())).collect();
        Some((self.roster.generations[&current].clone(), own))
    }

    fn generation_of(&self, input: &Input) -> Option<GenerationNumber> {
        match input {
            Input::Hello(number) | Input::BootFailed(number, _) | Input::Started(number) => {
                self.roster.workers.get(number).map(|worker| worker.generation)
            }
            Input::NotStarted { number, .. } | Input::Ended { number, .. } => {
                self.roster.workers.get(number).map(|worker| worker.generation)
            }
            Input::Template(generation, _) | Input::Discard(generation) => Some(*generation),
            _ => None,
        }
    }

    /// Lets it happen, and checks every promise.
    fn step(&mut self, input: Input) {
        let (capacity, before) = (self.capacity(), self.of_current());
        let (current, concerned) = (self.current(), self.generation_of(&input));
        let booting =
            concerned.filter(|number| self.roster.is_at(*number, Stage::Booting) && *number != FIRST);
        self.note(&input);
        let actions = self.roster.apply(input.clone(), self.now);
        let was_given_up = self.given_up;
        self.carry_out(actions);
        if self.given_up && !was_given_up {
            assert!(current.is_none() || current > Some(FIRST), "only before the first was ever current");
        }
        self.never_below_capacity(&input, capacity);
        if booting.is_some() && current.is_some() && !self.roster.is_stopping() {
            self.all_or_nothing(&input, before.as_ref());
        }
        self.replacement_first();
        let next = self.roster.next_deadline();
        assert!(next.is_none_or(|at| at > self.now), "what is due was done: {:?}", self.roster);
    }

    /// What the outside knows of it.
    fn note(&mut self, input: &Input) {
        match input {
            Input::Started(number) => {
                let place = self.ordered.iter().position(|(ordered, ..)| ordered == number).expect("ordered");
                let (number, generation, _) = self.ordered.remove(place).expect("just found");
                self.processes.insert(number, Process { generation, spoke: false, leaving: false });
            }
            Input::NotStarted { number, .. } => self.ordered.retain(|(ordered, ..)| ordered != number),
            Input::Hello(number) | Input::BootFailed(number, _) => {
                self.processes.entry(*number).and_modify(|process| process.spoke = true);
            }
            Input::Template(generation, sign) => match sign {
                Sign::Opened { .. } => drop(self.templates.insert(*generation, Outside::Importing)),
                Sign::Ready => drop(self.templates.insert(*generation, Outside::Ready)),
                Sign::NotOpened { .. } | Sign::Ended { .. } => {
                    self.templates.remove(generation);
                    self.ending.remove(generation);
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// What happens to a generation that boots changes nothing of the current one.
    fn all_or_nothing(&self, input: &Input, before: Option<&(Generation, Vec<(WorkerNumber, Worker)>)>) {
        assert_eq!(self.of_current().as_ref(), before, "all or nothing: {input:?}");
    }

    /// No ready worker leaves before another is ready, unless somebody asked for just that or it died.
    fn never_below_capacity(&self, input: &Input, before: usize) {
        let asked = match input {
            Input::Replace(..) | Input::Kill(_) | Input::Ended { .. } => 1,
            Input::Scale(_) | Input::Stop { .. } | Input::StopNow => before,
            _ if self.roster.is_stopping() => before,
            _ => 0,
        };
        assert!(self.capacity() + asked >= before, "never below capacity: {input:?} {:?}", self.roster);
    }

    /// Each place is taken or to be filled once; a successor is beside it, and there is one at a time.
    fn replacement_first(&self) {
        let mut successors = 0;
        for (&number, this) in &self.roster.generations {
            if !this.stage.is_alive() || self.roster.is_stopping() {
                continue;
            }
            let places = self.roster.places(number);
            let complete = places == this.wanted || (this.way().is_none() && places < this.wanted);
            assert!(complete, "{places} places for {} wanted: {:?}", this.wanted, self.roster);
            let succeeds = |worker: &&Worker| worker.life.is_serving() && worker.place.succeeds.is_some();
            let own = self.roster.workers.values().filter(|worker| worker.generation == number);
            successors += own.filter(succeeds).count();
            successors += this.vacancies.iter().filter(|vacancy| vacancy.place.succeeds.is_some()).count();
        }
        assert!(successors <= 1, "one is recycled at a time: {:?}", self.roster);
    }

    /// Everything that may happen now.
    fn possible(&self) -> Vec<(Input, World)> {
        let mut inputs = Vec::new();
        self.of_processes(&mut inputs);
        self.of_templates(&mut inputs);
        if !self.roster.is_stopping() {
            self.of_the_edge(&mut inputs);
        }
        let mut possible: Vec<_> = inputs
            .into_iter()
            .map(|(input, budget)| {
                let world = World { budget, ..self.clone() };
                (input, world)
            })
            .collect();
        if let Some(at) = self.roster.next_deadline() {
            possible.push((Input::Tick, World { now: at, ..self.clone() }));
        }
        possible
    }

    fn of_processes(&self, inputs: &mut Vec<(Input, Budget)>) {
        let budget = self.budget;
        let fewer = Budget { deaths: budget.deaths.saturating_sub(1), ..budget };
        if let Some(&(number, generation, way)) = self.ordered.front() {
            let usable = way == Way::Exec || self.templates.get(&generation) == Some(&Outside::Ready);
            if usable {
                inputs.push((Input::Started(number), budget));
            }
            if !usable || budget.deaths > 0 {
                let again = way == Way::Fork;
                inputs.push((
                    Input::NotStarted { number, account: "N".into(), again: again && !usable },
                    fewer,
                ));
            }
        }
        for (&number, process) in &self.processes {
            let ended = self.roster.workers.get(&number).is_none_or(|worker| worker.silent.is_some());
            if !process.spoke {
                inputs.push((Input::Hello(number), budget));
                inputs.push((Input::BootFailed(number, "T".into()), budget));
            }
            if !ended && (process.leaving || budget.deaths > 0) {
                let budget = if process.leaving { budget } else { fewer };
                inputs.push((Input::Ended { number, seen: SIGKILL, last_words: String::new() }, budget));
            }
        }
    }

    fn of_templates(&self, inputs: &mut Vec<(Input, Budget)>) {
        let budget = self.budget;
        let fewer = Budget { deaths: budget.deaths.saturating_sub(1), ..budget };
        for (&generation, state) in &self.templates {
            let mut add =
                |sign: Sign, budget: Budget| inputs.push((Input::Template(generation, sign), budget));
            if *state == Outside::Opening {
                add(Sign::Opened { pid: 9 }, budget);
                add(Sign::NotOpened { account: "N".into() }, budget);
                continue;
            }
            if *state == Outside::Importing {
                add(Sign::Ready, budget);
                add(Sign::Failed { traceback: "T".into() }, budget);
                add(Sign::Threads { names: vec!["t".into()] }, budget);
            }
            let ending = self.ending.contains(&generation);
            if ending || budget.deaths > 0 {
                let budget = if ending { budget } else { fewer };
                add(Sign::Ended { seen: SIGKILL, last_words: String::new() }, budget);
                if *state == Outside::Ready && !ending {
                    add(Sign::Broken { account: "B".into() }, budget);
                }
            }
        }
    }

    fn of_the_edge(&self, inputs: &mut Vec<(Input, Budget)>) {
        let budget = self.budget;
        inputs.push((Input::Stop { deadline: self.now + Duration::from_secs(2) }, budget));
        inputs.push((Input::StopNow, budget));
        if budget.begin > 0 {
            let generation = GenerationNumber(self.newest + 1);
            let budget = Budget { begin: budget.begin - 1, ..budget };
            inputs.push((Input::Begin(generation, self.terms), budget));
        }
        for (&generation, this) in &self.roster.generations {
            let own = self.roster.workers.values().filter(|worker| worker.generation == generation);
            let ready = own.filter(|worker| matches!(worker.life, Life::Ready { .. })).count();
            if generation != FIRST && this.stage == Stage::Booting && ready >= this.wanted.max(1) {
                inputs.push((Input::Promote(generation), budget));
                inputs.push((Input::Discard(generation), budget));
            }
        }
        if budget.scale > 0 {
            let budget = Budget { scale: budget.scale - 1, ..budget };
            for scale in [Scale::By(1), Scale::By(-1), Scale::Nothing] {
                inputs.push((Input::Scale(scale), budget));
            }
        }
        for &number in self.processes.keys() {
            if budget.recycle > 0 {
                let budget = Budget { recycle: budget.recycle - 1, ..budget };
                inputs.push((Input::Recycle(number, "R".into()), budget));
            }
            if budget.replace > 0 {
                let budget = Budget { replace: budget.replace - 1, ..budget };
                inputs.push((Input::Replace(number, "S".into()), budget));
                inputs.push((Input::Kill(number), budget));
            }
        }
    }

    fn follow(mut self, input: Input) -> World {
        if let Input::Begin(generation, _) = input {
            self.newest = generation.0;
        }
        self.step(input);
        self
    }

    /// From anywhere, a stop comes to its end, and nothing is left.
    fn stop(mut self) {
        self.step(Input::Stop { deadline: self.now + Duration::from_secs(2) });
        for _ in 0..100 {
            if self.roster.is_over() {
                assert!(self.processes.is_empty() && self.templates.is_empty() && self.ordered.is_empty());
                return;
            }
            let leaving = self
                .processes
                .iter()
                .find(|(number, process)| process.leaving && self.roster.workers[number].silent.is_none());
            let ended = Sign::Ended { seen: SIGKILL, last_words: String::new() };
            let opening = self.templates.iter().find(|(_, state)| **state == Outside::Opening);
            let input = if let Some(&(number, ..)) = self.ordered.front() {
                Input::Started(number)
            } else if let Some((&generation, _)) = opening {
                Input::Template(generation, Sign::Opened { pid: 9 })
            } else if let Some((&number, _)) = leaving {
                Input::Ended { number, seen: SIGKILL, last_words: String::new() }
            } else if let Some(&generation) = self.ending.first() {
                Input::Template(generation, ended)
            } else {
                self.now = self.roster.next_deadline().expect("what is not over waits for something");
                Input::Tick
            };
            self.step(input);
        }
        panic!("the stop does not end: {:?}", self.roster);
    }

    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// Goes through everything that can happen within `depth` steps; how many states that are.
fn explore(start: World, depth: usize) -> usize {
    let mut seen = HashSet::from([start.key()]);
    let mut front = vec![start];
    for _ in 0..depth {
        let mut next = Vec::new();
        for world in front {
            for (input, world) in world.possible() {
                let world = world.follow(input);
                if seen.insert(world.key()) {
                    if world.key() % 16 == 0 {
                        world.clone().stop();
                    }
                    next.push(world);
                }
            }
        }
        front = next;
    }
    seen.len()
}

#[test]
fn every_order_of_a_first_start() {
    let timeout = Some(Duration::from_secs(5));
    for (preload, depth) in [(Preload::Direct, 6), (Preload::Template, 8)] {
        let states = explore(World::begin(preload, timeout), depth);
        assert!(states > 1_000, "{preload:?}: {states}");
    }
}

#[test]
fn every_order_in_a_fleet_that_serves() {
    for (preload, depth) in [(Preload::Direct, 5), (Preload::Template, 5)] {
        let states = explore(World::serving(preload), depth);
        assert!(states > 10_000, "{preload:?}: {states}");
    }
}

#[test]
fn every_order_of_a_reload() {
    for preload in [Preload::Direct, Preload::Template] {
        let mut world = World::serving(preload);
        world.budget = Budget { begin: 0, scale: 0, recycle: 1, replace: 0, deaths: 2 };
        world = world.follow(Input::Begin(GenerationNumber(2), World::serving(preload).terms));
        let states = explore(world, 7);
        assert!(states > 10_000, "{preload:?}: {states}");
    }
}
