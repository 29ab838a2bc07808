//! Templates as real processes: import once, fork twice; what their loss means; and that nothing outlives the fleet.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // the helpers of tests are tests too

mod stage;

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::time::Duration;

use bandstand_supervisor::{Gone, Plan, Preload, TemplateState, WorkerNumber};
use stage::{Log, PATIENCE, Stage, has_ended, is_reaped, kill, parent_of, plan};
use tokio::time::{Instant, timeout};

/// Workers that do not leave are killed then.
const SOON: Duration = Duration::from_millis(300);
const SIGKILL: Gone = Gone::Killed { signal: libc::SIGKILL, core: false };

fn template(variables: &[(&str, &str)]) -> Plan {
    plan(Preload::Template, variables)
}

#[tokio::test]
async fn workers_are_forked_and_are_our_children() {
    let (log, _guard) = Log::listen();
    let mut stage = Stage::start(Plan { workers: 2, ..template(&[]) });
    let pid = stage.importing().await;
    match stage.template().await.1 {
        TemplateState::Ready { pid: same, took } => assert!(same == pid && took > Duration::ZERO),
        other => panic!("{other:?}"),
    }
    let (first, second) = (stage.ready().await, stage.ready().await);
    for worker in [&first, &second] {
        assert_ne!(worker.pid, pid);
        assert_eq!(parent_of(worker.pid), std::process::id());
    }
    for (mut line, word) in [(&first.lane, "hello"), (&first.guard, "hallo")] {
        line.write_all(word.as_bytes()).unwrap();
        line.shutdown(Shutdown::Write).unwrap();
    }
    first.run(
        "import mmap; mmap.mmap(board, 256 * 64); \
        print('heard', os.read(lane, 9), os.read(guard, 9)); print('oops', file=sys.stderr); sys.stdout.flush(); os._exit(3)",
    );
    assert_eq!(stage.gone().await, (first.number, Gone::Exited(3)));
    for text in ["heard b'hello' b'hallo'", "oops"] {
        assert!(log.line_with(&[text, r#""worker":1,"#]).is_some(), "{text} in {}", log.text());
    }
    assert!(log.line_with(&["WARN", "a connection was closed"]).is_some());
    let third = stage.ready().await;
    assert_eq!(third.number, WorkerNumber(3));
    assert_eq!(parent_of(third.pid), std::process::id());
    stage.fleet.stop(Instant::now() + SOON).await;
    assert!(is_reaped(pid) && [first.pid, second.pid, third.pid].into_iter().all(is_reaped));
}

#[tokio::test]
async fn workers_live_on_without_their_template_and_it_comes_back() {
    let mut stage = Stage::start(template(&[]));
    let pid = stage.importing().await;
    let first = stage.ready().await;
    kill(pid);
    match stage.template().await.1 {
        TemplateState::Lost { account } => assert!(account.contains("was killed by SIGKILL"), "{account}"),
        other => panic!("{other:?}"),
    }
    first.run("os._exit(5)"); // it is alive, and its place waits for the template
    assert_eq!(stage.gone().await, (first.number, Gone::Exited(5)));
    let second = stage.ready().await;
    assert_eq!(parent_of(second.pid), std::process::id());
    let again = stage.templates.iter().find_map(|(_, state)| match state {
        TemplateState::Importing { pid } => Some(*pid),
        _ => None,
    });
    let again = again.unwrap();
    assert_ne!(again, pid);
    stage.fleet.stop_now();
    assert_eq!(stage.gone().await, (second.number, Gone::Ended));
    stage.over().await;
    assert!([pid, again, first.pid, second.pid].into_iter().all(is_reaped));
}

#[tokio::test]
async fn a_first_import_that_fails_is_given_up() {
    let rows = [
        ("say(event='failed', traceback='Traceback: E'); os._exit(1)", "Traceback: E"),
        ("say(event='failed', traceback='Traceback: E'); time.sleep(1000)", "Traceback: E"),
        (
            "print('the reason', file=sys.stderr); os._exit(3)",
            "the reason\nthe template of generation 1 exited with status 3",
        ),
        ("line.send(b'x'); time.sleep(1000)", "the template said gibberish"),
        ("say(event='forked', worker=1, pid=2); time.sleep(1000)", "the template answered what nobody asked"),
        ("line.close(); time.sleep(1000)", "the template has closed its line"),
    ];
    for (import, account) in rows {
        let mut stage = Stage::start(template(&[("IMPORT", import)]));
        let pid = stage.importing().await;
        assert_eq!(stage.gave_up().await, account, "{import}");
        stage.over().await;
        assert!(is_reaped(pid));
    }
}

#[tokio::test]
async fn an_import_that_takes_too_long_is_given_up() {
    let boot_timeout = Some(Duration::from_millis(300));
    let mut stage = Stage::start(Plan { boot_timeout, ..template(&[("IMPORT", "time.sleep(1000)")]) });
    assert_eq!(
        stage.gave_up().await,
        "the template of generation 1 was not ready after 0.3 s and was killed"
    );
    stage.over().await;
}

#[tokio::test]
async fn a_template_that_cannot_be_trusted_with_forks_is_given_up() {
    let rows = [
        ("line.send(b'x')", "the template answered gibberish"),
        ("say(event='ready')", "the template answered out of turn: Ready { warnings: [] }"),
        ("say(event='forked', worker=order['worker'], pid=os.getppid())", "which is no child of ours"),
        ("say(event='fork_failed', worker=order['worker'], error='no memory')", "no memory"),
        ("os._exit(4)", "the template of generation 1 exited with status 4"),
    ];
    for (fork, account) in rows {
        let mut stage = Stage::start(template(&[("FORK", fork)]));
        let said = stage.gave_up().await;
        assert!(said.contains(account), "{fork}: {said}");
        stage.over().await;
    }
}

#[tokio::test]
async fn threads_of_the_import_make_workers_import_by_themselves() {
    let (log, _guard) = Log::listen();
    let import = "say(event='threads', names=['poller', 'timer']); os._exit(0)";
    let mut stage = Stage::start(Plan { workers: 2, ..template(&[("IMPORT", import)]) });
    let pid = stage.importing().await;
    let names = ["poller", "timer"].map(str::to_owned).to_vec();
    assert_eq!(stage.template().await.1, TemplateState::Threads { names });
    let (first, second) = (stage.ready().await, stage.ready().await);
    first.run("os._exit(6)");
    assert_eq!(stage.gone().await, (first.number, Gone::Exited(6)));
    let third = stage.ready().await;
    assert!(log.line_with(&["WARN", "poller, timer"]).is_some(), "{}", log.text());
    stage.fleet.stop(Instant::now() + SOON).await;
    assert!([pid, first.pid, second.pid, third.pid].into_iter().all(is_reaped));
    assert!(stage.templates.is_empty(), "{:?}", stage.templates);
}

#[tokio::test]
async fn a_worker_killed_between_fork_and_hello_is_followed_by_another() {
    let mut stage = Stage::start(Plan { workers: 2, ..template(&[]) });
    let _first = stage.ready().await;
    let second = stage.started().await;
    kill(second.pid);
    assert_eq!(stage.gone().await, (second.number, SIGKILL));
    assert!(stage.faltering().await.contains("worker 2 was killed by SIGKILL"));
    assert_eq!(stage.ready().await.number, WorkerNumber(3));
}

#[tokio::test]
async fn hooks_are_called_in_the_template() {
    let (log, _guard) = Log::listen();
    let mut stage = Stage::start(template(&[]));
    stage.fleet.hook("on_starting", "{}".into()); // nobody is ready to hear it
    let worker = stage.ready().await;
    stage.fleet.hook("child_exit", format!(r#"{{"worker":{}}}"#, worker.number));
    stage.fleet.stop(Instant::now() + SOON).await;
    assert!(log.line_with(&["called child_exit 1", r#""worker":"template""#]).is_some(), "{}", log.text());
    assert!(log.line_with(&["on_starting"]).is_none());
}

#[tokio::test]
async fn the_last_hooks_come_after_the_last_ends() {
    for (now, hooks) in [(false, true), (true, true), (false, false)] {
        let (log, _guard) = Log::listen();
        let mut stage = Stage::start(Plan { workers: 2, hooks, ..template(&[]) });
        let _workers = [stage.ready().await, stage.ready().await];
        if now {
            stage.fleet.stop_now();
        } else {
            stage.fleet.stop(Instant::now() + SOON).await;
        }
        stage.rest().await;
        let text = log.text();
        let called = ["child_exit 1", "child_exit 2", "on_exit None"].map(|hook| text.find(hook));
        match hooks {
            true => assert!(called[0].max(called[1]) < called[2] && !called.contains(&None), "{text}"),
            false => assert_eq!(called, [None; 3], "{text}"),
        }
    }
}

#[tokio::test]
async fn only_the_very_first_template_is_the_first() {
    let (log, _guard) = Log::listen();
    let import = "print('first:', os.environ.get('BANDSTAND_FIRST'), flush=True)";
    let mut stage = Stage::start(template(&[("IMPORT", import)]));
    let pid = stage.importing().await;
    let _worker = stage.ready().await;
    kill(pid);
    while !log.text().contains("first: None") {
        stage.any().await;
    }
    assert!(log.line_with(&["first: 1"]).is_some(), "{}", log.text());
    stage.fleet.stop_now();
    stage.rest().await;
}

#[tokio::test]
async fn a_stop_at_every_stage_leaves_nothing() {
    for now in [true, false] {
        let stop = async |stage: &mut Stage| {
            if now {
                stage.fleet.stop_now();
            } else {
                let fleet = stage.fleet.clone();
                timeout(PATIENCE, fleet.stop(Instant::now() + SOON)).await.unwrap();
            }
        };
        // While the template imports.
        let mut stage = Stage::start(template(&[("IMPORT", "time.sleep(1000)")]));
        let pid = stage.importing().await;
        stop(&mut stage).await;
        stage.over().await;
        assert!(is_reaped(pid));
        // While it forks, and is as slow as can be.
        let slowly = "say(event='x') if os.path.exists('/x') else line.recv(9)";
        let mut stage = Stage::start(template(&[("FORK", slowly)]));
        let pid = stage.importing().await;
        assert!(matches!(stage.template().await.1, TemplateState::Ready { .. }));
        stop(&mut stage).await;
        stage.over().await;
        assert!(is_reaped(pid));
        // While a worker starts, and while one that does not leave serves.
        let mut stage = Stage::start(Plan { workers: 2, ..template(&[]) });
        let pid = stage.importing().await;
        let stuck = stage.ready().await;
        stuck.run("signal.pause()");
        let starting = stage.started().await;
        stop(&mut stage).await;
        let rest = stage.rest().await;
        assert!(!rest.is_empty());
        assert!([pid, stuck.pid, starting.pid].into_iter().all(is_reaped), "{rest:?}");
    }
}

#[test]
fn nothing_outlives_the_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (stage, template, worker) = runtime.block_on(async {
        let mut stage = Stage::start(template(&[]));
        let template = stage.importing().await;
        let worker = stage.started().await;
        (stage, template, worker)
    });
    drop(runtime); // as after a panic: nobody said stop
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(other.block_on(has_ended(template)) && other.block_on(has_ended(worker.pid)));
    drop((stage, worker));
}

/// Not a test by itself: the process that the next one kills.
#[tokio::test]
async fn stand_in_for_the_edge() {
    if std::env::var_os("STAND_IN").is_none() {
        return;
    }
    let mut stage = Stage::start(Plan { workers: 2, ..template(&[]) });
    let template = stage.importing().await;
    let (ready, starting) = (stage.ready().await, stage.started().await);
    let mut out = std::io::stdout();
    writeln!(out, "processes {template} {} {}", ready.pid, starting.pid).unwrap();
    out.flush().unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_outlives_a_killed_edge() {
    let mut edge = Command::new(std::env::current_exe().unwrap());
    edge.args(["--exact", "stand_in_for_the_edge", "--nocapture"]).env("STAND_IN", "1");
    edge.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut edge = bandstand_supervisor::start_own(|| edge.spawn()).unwrap();
    let lines = BufReader::new(edge.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.filter_map(|line| Some(line.split_once("processes ")?.1.to_owned())).next().unwrap();
    let pids: Vec<u32> = said.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    edge.kill().unwrap();
    edge.wait().unwrap();
    for pid in pids {
        assert!(has_ended(pid).await, "{pid}");
    }
}
