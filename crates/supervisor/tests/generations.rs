//! Generations of real processes: a reload that succeeds, one that fails, recycling; by execution and by template.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // the helpers of tests are tests too

mod stage;

use std::time::Duration;

use bandstand_supervisor::{Event, GenerationNumber, Gone, Plan, Preload, TemplateState, WorkerNumber};
use stage::{Stage, Worker, is_reaped, kill, plan};
use tokio::time::Instant;

const BOTH: [Preload; 2] = [Preload::Direct, Preload::Template];
const SECOND: GenerationNumber = GenerationNumber(2);
/// Workers that do not leave are killed then.
const SOON: Duration = Duration::from_millis(300);

/// The worker serves: it does what it is told, and is followed by another when it dies.
async fn serves(stage: &mut Stage, worker: Worker) -> Worker {
    worker.run("os._exit(9)");
    assert_eq!(stage.gone().await, (worker.number, Gone::Exited(9)));
    let next = stage.ready().await;
    assert_eq!(next.generation, worker.generation);
    next
}

async fn end(mut stage: Stage) {
    stage.fleet.stop_now();
    for event in stage.rest().await {
        assert!(matches!(event, Event::Gone { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn a_reload_that_succeeds() {
    for from in BOTH {
        for to in BOTH {
            let mut stage = Stage::start(plan(from, &[]));
            let first = stage.ready().await;
            assert_eq!(stage.fleet.begin(Plan { workers: 2, ..plan(to, &[]) }), SECOND);
            let (second, third) = (stage.ready().await, stage.ready().await);
            assert_eq!((second.generation, third.generation), (SECOND, SECOND));
            assert!(stage.fleet.promote(SECOND).await);
            assert_eq!(stage.draining().await, first.number);
            drop(first.channel);
            assert_eq!(stage.gone().await, (first.number, Gone::Stopped));
            let _next = serves(&mut stage, second).await;
            let templates = stage.templates.iter().filter_map(|(generation, state)| match state {
                TemplateState::Ready { pid, .. } => Some((*generation, *pid)),
                TemplateState::Importing { .. } => None,
                other => panic!("{other:?}"),
            });
            let templates: Vec<_> = templates.collect();
            let expected = [from, to].iter().filter(|preload| **preload == Preload::Template).count();
            assert_eq!(templates.len(), expected);
            end(stage).await;
            assert!(templates.iter().all(|(_, pid)| is_reaped(*pid)));
        }
    }
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let booting = |variables: &[(&str, &str)]| Plan { workers: 2, ..plan(Preload::Template, variables) };
    let rows = [
        ("say(event='failed', traceback='Traceback: E'); os._exit(1)", "Traceback: E"),
        ("os.kill(os.getpid(), 11)", "the template of generation 2 was killed by SIGSEGV"),
        ("line.send(b'x')", "the template said gibberish"),
        ("time.sleep(1000)", "the template of generation 2 was not ready after 1 s and was killed"),
    ];
    for (import, expected) in rows {
        for preload in BOTH {
            let mut stage = Stage::start(plan(preload, &[]));
            let first = stage.ready().await;
            let boot_timeout = Some(Duration::from_secs(1));
            stage.fleet.begin(Plan { boot_timeout, ..booting(&[("IMPORT", import)]) });
            let (generation, account) = stage.failed().await;
            assert_eq!(generation, SECOND);
            assert!(account.contains(expected), "{import}: {account}");
            let next = serves(&mut stage, first).await;
            assert!(!stage.fleet.promote(SECOND).await, "it is too late for that");
            let _last = serves(&mut stage, next).await;
            end(stage).await;
        }
    }
}

#[tokio::test]
async fn one_worker_that_does_not_start_fails_its_generation() {
    for preload in BOTH {
        for how in ["said", "died", "killed"] {
            let mut stage = Stage::start(plan(preload, &[]));
            let first = stage.ready().await;
            stage.fleet.begin(Plan { workers: 2, ..plan(preload, &[]) });
            let (second, third) = (stage.ready().await, stage.started().await);
            match how {
                "said" => stage.fleet.boot_failed(third.number, "Traceback: E".into()),
                "died" => third.run("print('the reason', file=sys.stderr, flush=True); os._exit(3)"),
                _ => stage.fleet.kill(third.number),
            }
            let mut gone = Vec::new();
            let mut account = None;
            while gone.len() < 2 || account.is_none() {
                match stage.next().await {
                    Some(Event::Failed { generation: SECOND, account: said }) => account = Some(said),
                    Some(Event::Gone { number, .. }) => gone.push(number),
                    other => panic!("{how}: {other:?}"),
                }
            }
            let expected = match how {
                "said" => "Traceback: E",
                "died" => "the reason\nworker 3 exited with status 3",
                _ => "worker 3 was killed by bandstand",
            };
            assert_eq!(account.unwrap(), expected);
            gone.sort();
            assert_eq!(gone, [second.number, third.number]);
            let _next = serves(&mut stage, first).await;
            end(stage).await;
        }
    }
}

#[tokio::test]
async fn a_worker_that_is_not_ready_in_time_fails_its_generation() {
    let mut stage = Stage::start(plan(Preload::Direct, &[]));
    let first = stage.ready().await;
    let boot_timeout = Some(Duration::from_millis(300));
    stage.fleet.begin(Plan { boot_timeout, ..plan(Preload::Template, &[]) });
    let mut started = Vec::new(); // their channels stay open
    let mut gone = 0;
    let account = loop {
        match stage.next().await {
            Some(Event::Failed { account, .. }) => break account,
            Some(event @ Event::Started { .. }) => started.push(event),
            Some(Event::Gone { .. }) => gone += 1,
            other => panic!("{other:?}"),
        }
    };
    assert!(account.contains("was not ready after 0.3 s and was killed"), "{account}");
    for _ in gone..started.len() {
        assert_ne!(stage.gone().await.0, first.number);
    }
    let _next = serves(&mut stage, first).await;
    end(stage).await;
}

#[tokio::test]
async fn a_newer_reload_takes_the_place_of_one_that_boots() {
    let mut stage = Stage::start(plan(Preload::Template, &[]));
    let first = stage.ready().await;
    stage.fleet.begin(plan(Preload::Template, &[("IMPORT", "time.sleep(1000)")]));
    let third = stage.fleet.begin(plan(Preload::Template, &[]));
    assert_eq!(third, GenerationNumber(3));
    assert_eq!(stage.failed().await, (SECOND, "a newer reload took its place".into()));
    let second = stage.ready().await;
    assert_eq!(second.generation, third);
    assert!(stage.fleet.promote(third).await);
    assert_eq!(stage.draining().await, first.number);
    end(stage).await;
}

#[tokio::test]
async fn a_discarded_generation_is_killed() {
    let mut stage = Stage::start(plan(Preload::Template, &[]));
    let first = stage.ready().await;
    stage.fleet.begin(plan(Preload::Template, &[]));
    let second = stage.ready().await;
    stage.fleet.discard(SECOND);
    stage.fleet.discard(GenerationNumber(1)); // current: no
    assert_eq!(stage.gone().await, (second.number, Gone::Ended));
    let _next = serves(&mut stage, first).await;
    end(stage).await;
}

#[tokio::test]
async fn a_recycled_worker_leaves_when_its_successor_is_ready() {
    for preload in BOTH {
        let mut stage = Stage::start(Plan { workers: 2, ..plan(preload, &[]) });
        let (first, second) = (stage.ready().await, stage.ready().await);
        stage.fleet.recycle(second.number, "it is old".into());
        stage.fleet.recycle(first.number, "it is old".into());
        stage.fleet.recycle(second.number, "told twice".into());
        let third = stage.ready().await; // had the old one been asked before, that would be told first
        assert_eq!(stage.draining().await, second.number, "in the order asked");
        stage.fleet.recycle(second.number, "it is leaving already".into());
        drop(second.channel);
        assert_eq!(stage.gone().await, (second.number, Gone::Stopped));
        let fourth = stage.ready().await;
        assert_eq!(stage.draining().await, first.number);
        drop(first.channel);
        assert_eq!(stage.gone().await, (first.number, Gone::Stopped));
        assert_eq!((third.number, fourth.number), (WorkerNumber(3), WorkerNumber(4)));
        let fifth = serves(&mut stage, third).await;
        assert_eq!(fifth.number, WorkerNumber(5), "none came in between");
        end(stage).await;
    }
}

#[tokio::test]
async fn a_successor_that_dies_is_tried_again_while_the_old_one_serves() {
    for preload in BOTH {
        let mut stage = Stage::start(plan(preload, &[]));
        let first = stage.ready().await;
        stage.fleet.recycle(first.number, "it is old".into());
        for _ in 0..2 {
            let successor = stage.started().await;
            kill(successor.pid);
            assert_eq!(stage.gone().await.0, successor.number);
            assert!(stage.faltering().await.contains("was killed by SIGKILL"));
        }
        let fourth = stage.ready().await;
        assert_eq!(stage.draining().await, first.number);
        drop(first.channel);
        assert_eq!(stage.gone().await, (first.number, Gone::Stopped));
        let _next = serves(&mut stage, fourth).await;
        end(stage).await;
    }
}

#[tokio::test]
async fn the_successor_has_the_place_of_an_old_worker_that_dies_first() {
    let mut stage = Stage::start(plan(Preload::Template, &[]));
    let first = stage.ready().await;
    stage.fleet.recycle(first.number, "it is old".into());
    let second = stage.started().await;
    first.run("os._exit(1)");
    assert_eq!(stage.gone().await, (first.number, Gone::Exited(1)));
    stage.fleet.ready(second.number);
    let next = serves(&mut stage, second).await;
    assert_eq!(next.number, WorkerNumber(3), "none came in between");
    end(stage).await;
}

#[tokio::test]
async fn both_generations_are_scaled() {
    let mut stage = Stage::start(plan(Preload::Template, &[]));
    let first = stage.ready().await;
    stage.fleet.begin(plan(Preload::Template, &[]));
    let second = stage.ready().await;
    stage.fleet.scale(1);
    assert!(matches!(stage.next().await, Some(Event::Scaled { wanted: 2 })));
    let more = [stage.ready().await.generation, stage.ready().await.generation];
    assert!(more.contains(&first.generation) && more.contains(&second.generation));
    stage.fleet.scale_to(1);
    assert!(matches!(stage.next().await, Some(Event::Scaled { wanted: 1 })));
    let mut leaving = [stage.draining().await, stage.draining().await];
    leaving.sort();
    assert_eq!(leaving, [WorkerNumber(3), WorkerNumber(4)]);
    end(stage).await;
}

#[tokio::test]
async fn a_stop_ends_a_generation_that_boots_too() {
    for now in [true, false] {
        for import in ["time.sleep(1000)", ""] {
            let mut stage = Stage::start(plan(Preload::Template, &[]));
            let first_template = stage.importing().await;
            let first = stage.ready().await;
            stage.fleet.begin(plan(Preload::Template, &[("IMPORT", import)]));
            let second_template = loop {
                match stage.any().await {
                    Some(Event::Template { generation: SECOND, state: TemplateState::Importing { pid } }) => {
                        break pid;
                    }
                    Some(Event::Template { .. }) => {}
                    other => panic!("{other:?}"),
                }
            };
            let second = if import.is_empty() { Some(stage.started().await) } else { None };
            if now {
                stage.fleet.stop_now();
            } else {
                stage.fleet.stop(Instant::now() + SOON).await;
            }
            let rest = stage.rest().await;
            let gone = rest.iter().filter(|event| matches!(event, Event::Gone { .. })).count();
            assert_eq!(gone, 1 + usize::from(second.is_some()), "{rest:?}");
            let workers = second.iter().map(|worker| worker.pid).chain([first.pid]);
            assert!(workers.chain([first_template, second_template]).all(is_reaped), "{rest:?}");
        }
    }
}
