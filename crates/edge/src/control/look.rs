//! The state of the server, gathered for those who ask: fleet, pool, counters and memory as one `Status`; stacks by request.
//!
//! Owns how the views are joined: a worker is what the fleet knows of its process and what the pool knows of its work. What it joins
//! was copied under their locks, one after the other, so a worker may be in one and not yet in the other; the fleet's word decides.
//! Invariant: no lock is held while anything waits, and what walks through `/proc` is not on the runtime's thread.

use std::time::{Duration, Instant};

use super::memory;
use super::protocol::Whose;
use super::status::{
    Failure, Generation, Memory, Queue, Reload, Running, Stack, Stacks, Status, Template, Worker,
};
use crate::dispatch::{self, LinkSnapshot, PoolSnapshot, Work};
use crate::observe::logging::rfc3339;
use crate::server::view::{FleetView, GenerationState, WorkerView};
use crate::shared::{Phase, Shared};

/// For the stacks of one worker: its guard answers within milliseconds, or something holds the interpreter.
const STACKS_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything.
pub(super) async fn status(shared: &Shared, pss: bool) -> Status {
    let view = shared.fleet().clone();
    let pool = shared.pool.snapshot();
    let state = shared.state();
    let now = Instant::now();
    let phase = *shared.phase.borrow();
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        project: state.settings.chdir.display().to_string(),
        state: word(phase, &view).to_owned(),
        uptime: shared.started.elapsed().as_secs_f64(),
        connections: shared.connections.len(),
        counters: shared.counters.snapshot(),
        violations: shared.violations.counts(),
        ..of_fleet(&view, &pool, now)
    };
    let Ok(status) = tokio::task::spawn_blocking(move || {
        measure(&mut status, pss);
        status
    })
    .await
    else {
        unreachable!("reading files of /proc does not panic")
    };
    status
}

/// One word for the whole.
fn word(phase: Phase, view: &FleetView) -> &'static str {
    let is = |state| view.generations.iter().any(|generation| generation.state == state);
    match phase {
        Phase::Draining => "stopping",
        Phase::Booting => "booting",
        Phase::Open if is(GenerationState::Booting) && is(GenerationState::Current) => "reloading",
        Phase::Open => "serving",
    }
}

/// What fleet and pool tell; memory and the edge's own numbers are missing.
fn of_fleet(view: &FleetView, pool: &PoolSnapshot, now: Instant) -> Status {
    let since = |then: Instant| now.saturating_duration_since(then).as_secs_f64();
    let generations: Vec<Generation> = view
        .generations
        .iter()
        .map(|generation| Generation {
            number: generation.number,
            state: generation.state.as_str().to_owned(),
            since: since(generation.since),
            workers: generation.workers,
        })
        .collect();
    let current = view.generations.iter().find(|generation| generation.state == GenerationState::Current);
    Status {
        addresses: view.addresses.clone(),
        generation: current.map_or(0, |generation| generation.number),
        generations,
        template: view.template().map(|template| Template {
            generation: template.generation,
            state: template.state.to_owned(),
            pid: (template.pid != 0).then_some(template.pid),
            memory: Memory::default(),
        }),
        wanted: view.wanted,
        workers: view.workers.iter().map(|worker| join(worker, pool, since(worker.since))).collect(),
        queue: Queue { length: pool.queued, oldest: pool.oldest.as_secs_f64() },
        last_failure: view
            .last_failure
            .as_ref()
            .map(|(time, reason)| Failure { time: rfc3339(*time), reason: reason.clone() }),
        last_reload: view.last_reload.as_ref().map(|(time, outcome)| Reload {
            time: rfc3339(*time),
            generation: outcome.as_ref().ok().copied(),
            error: outcome.as_ref().err().cloned(),
        }),
        ..Status::default()
    }
}

fn join(worker: &WorkerView, pool: &PoolSnapshot, age: f64) -> Worker {
    let common = Worker {
        number: worker.number,
        pid: worker.pid,
        generation: worker.generation,
        state: worker.state.as_str().to_owned(),
        age,
        ..Worker::default()
    };
    let Some(link) = pool.links.iter().find(|link| link.number == worker.number) else { return common };
    Worker {
        served: link.served,
        threads: link.threads,
        busy: link.load[Work::Thread as usize],
        tasks_most: link.tasks,
        tasks: link.load[Work::Task as usize],
        sockets: link.load[Work::Socket as usize],
        running: running(link),
        ..common
    }
}

fn running(link: &LinkSnapshot) -> Vec<Running> {
    let one = |held: &dispatch::Running| Running {
        request_id: held.name.as_str().to_owned(),
        method: held.method.clone(),
        target: held.target.clone(),
        since: held.since.as_secs_f64(),
        on: if held.work == Work::Thread { "thread" } else { "loop" }.to_owned(),
        worker: link.number,
    };
    link.held.iter().map(one).collect()
}

fn measure(status: &mut Status, pss: bool) {
    status.memory = memory::of(status.pid, pss);
    if let Some(template) = &mut status.template {
        template.memory = memory::of(template.pid.unwrap_or(0), pss);
    }
    for worker in &mut status.workers {
        worker.memory = memory::of(worker.pid, pss);
    }
}

/// What runs in any worker, the longest first.
pub(super) fn requests(shared: &Shared) -> Vec<Running> {
    let mut all: Vec<Running> = shared.pool.snapshot().links.iter().flat_map(running).collect();
    all.sort_by(|one, other| other.since.total_cmp(&one.since));
    all
}

/// Stacks of a worker, of all of them at once, or of a request.
///
/// # Errors
/// There is no such worker or request.
pub(super) async fn stacks(shared: &Shared, whose: &Whose) -> Result<Vec<Stacks>, String> {
    let pool = shared.pool.snapshot();
    let asked = find(&pool, whose)?;
    // Asked all at once, so that several that hang take no longer than one.
    let waiting: Vec<_> = asked.iter().map(|(link, _)| shared.pool.stacks(link.number)).collect();
    let deadline = tokio::time::Instant::now() + STACKS_TIMEOUT;
    let mut all = Vec::new();
    for ((link, only), answer) in asked.into_iter().zip(waiting) {
        let told = match answer {
            Some(answer) => match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(told)) => read(&told, link, only),
                Ok(Err(_)) => Err("the worker ended".to_owned()),
                Err(_) => Err(format!(
                    "no answer within {} s: something holds the interpreter",
                    STACKS_TIMEOUT.as_secs()
                )),
            },
            None => Err("the worker cannot be asked: it is starting or ending, or too many ask".to_owned()),
        };
        let pid = shared.fleet().workers.iter().find(|view| view.number == link.number).map(|view| view.pid);
        let stacks = told.unwrap_or_else(|error| Stacks { error: Some(error), ..Stacks::default() });
        all.push(Stacks { worker: link.number, pid: pid.unwrap_or(0), ..stacks });
    }
    Ok(all)
}

/// The workers to ask; with a request, the exchange whose stack is wanted.
fn find<'p>(pool: &'p PoolSnapshot, whose: &Whose) -> Result<Vec<(&'p LinkSnapshot, Option<u64>)>, String> {
    match whose {
        Whose::All => Ok(pool.links.iter().map(|link| (link, None)).collect()),
        Whose::Worker(number) => match pool.links.iter().find(|link| link.number == *number) {
            Some(link) => Ok(vec![(link, None)]),
            None => Err(format!("there is no worker {number}; there are {}", numbers(pool))),
        },
        Whose::Request(id) => {
            let held = pool.links.iter().flat_map(|link| link.held.iter().map(move |held| (link, held)));
            match held.into_iter().find(|(_, held)| held.name.as_str() == id) {
                Some((link, held)) => Ok(vec![(link, Some(held.id))]),
                None => Err(format!("no worker works on a request {id}: it is over, or waits for a worker")),
            }
        }
    }
}

fn numbers(pool: &PoolSnapshot) -> String {
    match pool.links.is_empty() {
        true => "none".to_owned(),
        false => pool.links.iter().map(|link| link.number.to_string()).collect::<Vec<_>>().join(", "),
    }
}

/// What the guard of a worker says (`docs/decisions/0006-generations.md`), with the names of requests.
fn read(told: &str, link: &LinkSnapshot, only: Option<u64>) -> Result<Stacks, String> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Told {
        threads: Vec<One>,
        tasks: Vec<One>,
    }
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct One {
        name: Option<String>,
        id: Option<u64>,
        stack: String,
    }
    let told: Told =
        serde_json::from_str(told).map_err(|error| format!("the worker's answer cannot be read: {error}"))?;
    let named = |stacks: Vec<One>| {
        let wanted = stacks.into_iter().filter(|one| only.is_none() || one.id == only);
        let stack = |one: One| Stack {
            request_id: one
                .id
                .and_then(|id| link.held.iter().find(|held| held.id == id))
                .map(|held| held.name.as_str().to_owned()),
            name: one.name,
            stack: one.stack,
        };
        wanted.map(stack).collect::<Vec<_>>()
    };
    let stacks = Stacks { threads: named(told.threads), tasks: named(told.tasks), ..Stacks::default() };
    match only.is_some() && stacks.threads.is_empty() && stacks.tasks.is_empty() {
        true => Err("the request has just ended, or nothing has begun it".to_owned()),
        false => Ok(stacks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::request_id::RequestId;
    use crate::server::view::GenerationView;

    #[test]
    fn one_word_for_the_whole() {
        use GenerationState::{Booting, Current, Leaving};
        for (phase, states, wanted) in [
            (Phase::Booting, &[Booting][..], "booting"),
            (Phase::Open, &[Current], "serving"),
            (Phase::Open, &[Leaving, Current], "serving"),
            (Phase::Open, &[Current, Booting], "reloading"),
            (Phase::Draining, &[Current, Booting], "stopping"),
        ] {
            let generations = states.iter().map(|&state| GenerationView {
                number: 1,
                state,
                since: Instant::now(),
                workers: 1,
            });
            let view = FleetView { generations: generations.collect(), ..FleetView::default() };
            assert_eq!(word(phase, &view), wanted);
        }
    }

    #[test]
    fn stacks_have_the_names_of_requests() {
        let held = dispatch::Running {
            id: 9,
            name: RequestId::given(b"slow-one").unwrap(),
            method: String::new(),
            target: String::new(),
            since: Duration::ZERO,
            work: Work::Thread,
        };
        let link = LinkSnapshot {
            number: 1,
            accepting: true,
            threads: 2,
            tasks: 0,
            load: [1, 0, 0],
            served: 0,
            idle_since: None,
            held: vec![held],
        };
        let told = r#"{"threads": [{"name": "a", "place": 0, "id": 9, "stack": "x"}, {"name": "b", "place": null, "id": null, "stack": ""}], "tasks": []}"#;
        let names = |only| {
            let stacks = read(told, &link, only)?;
            Ok::<_, String>(
                stacks.threads.into_iter().map(|one| (one.name.unwrap(), one.request_id)).collect::<Vec<_>>(),
            )
        };
        let a = ("a".to_owned(), Some("slow-one".to_owned()));
        assert_eq!(names(None).unwrap(), [a.clone(), ("b".to_owned(), None)]);
        assert_eq!(names(Some(9)).unwrap(), [a]);
        assert!(names(Some(10)).unwrap_err().contains("just ended"));
        assert!(read("[", &link, None).unwrap_err().contains("cannot be read"));
    }
}
