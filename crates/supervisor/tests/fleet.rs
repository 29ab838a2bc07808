//! Real processes: how they are started, how their ends are told, what follows. Shells stand in for Python.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // the helpers of tests are tests too

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bandstand_supervisor::{Board, Event, Fleet, Gone, Plan, Preload, SpawnError, WorkerNumber};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};

/// Long enough for a busy machine; no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// Does what one line on its channel says; leaves at the channel's end.
const OBEDIENT: &str = r#"read -r -u "$BANDSTAND_CHANNEL_FD" line; eval "$line""#;

fn plan(program: &str, arguments: &[&str]) -> Plan {
    Plan {
        python: program.into(),
        arguments: arguments.iter().map(Into::into).collect(),
        directory: "/".into(),
        environment: vec![
            ("PATH".into(), std::env::var_os("PATH").unwrap()),
            ("NAME".into(), "value".into()),
        ],
        workers: 1,
        boot_timeout: None,
        graceful_timeout: PATIENCE,
        umask: None,
        preload: Preload::Direct,
        hooks: false,
    }
}

fn shell(script: &str) -> Plan {
    plan("/bin/bash", &["--norc", "-c", script])
}

/// A fleet and what it tells, with a deadline on every wait.
struct Stage {
    fleet: Fleet,
    events: UnboundedReceiver<Event>,
}

struct Worker {
    number: WorkerNumber,
    pid: u32,
    channel: UnixStream,
    lane: UnixStream,
    guard: UnixStream,
    board: Arc<Board>,
}

impl Worker {
    fn run(&self, line: &str) {
        (&self.channel).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl Stage {
    fn start(plan: Plan) -> Stage {
        listen_everywhere();
        let (fleet, events) = Fleet::start(plan).unwrap();
        Stage { fleet, events }
    }

    async fn next(&mut self) -> Option<Event> {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time")
    }

    async fn started(&mut self) -> Worker {
        match self.next().await {
            Some(Event::Started { number, pid, channel, lane, guard, board, .. }) => {
                Worker { number, pid, channel, lane, guard, board }
            }
            other => panic!("expected Started, got {other:?}"),
        }
    }

    async fn ready(&mut self) -> Worker {
        let worker = self.started().await;
        self.fleet.ready(worker.number);
        worker
    }

    async fn draining(&mut self) -> WorkerNumber {
        match self.next().await {
            Some(Event::Draining { number, .. }) => number,
            other => panic!("expected Draining, got {other:?}"),
        }
    }

    async fn gone(&mut self) -> (WorkerNumber, Gone) {
        match self.next().await {
            Some(Event::Gone { number, reason, .. }) => (number, reason),
            other => panic!("expected Gone, got {other:?}"),
        }
    }

    async fn faltering(&mut self) -> String {
        match self.next().await {
            Some(Event::Faltering { account, .. }) => account,
            other => panic!("expected Faltering, got {other:?}"),
        }
    }

    async fn scaled(&mut self) -> usize {
        match self.next().await {
            Some(Event::Scaled { wanted }) => wanted,
            other => panic!("expected Scaled, got {other:?}"),
        }
    }

    async fn gave_up(&mut self) -> String {
        match self.next().await {
            Some(Event::GaveUp { traceback }) => traceback,
            other => panic!("expected GaveUp, got {other:?}"),
        }
    }

    async fn over(&mut self) {
        let event = self.next().await;
        assert!(event.is_none(), "expected the end, got {event:?}");
    }
}

/// Somebody listens on every thread. A place that logs remembers whether anybody does: one that is met first while another test
/// begins to keep its thread's log would remember that nobody does, and that test would find nothing.
fn listen_everywhere() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let nowhere = || tracing_subscriber::fmt().with_writer(io::sink).finish();
    ONCE.call_once(|| tracing::subscriber::set_global_default(nowhere()).unwrap_or_default());
}

/// What is logged on this thread, where a test's runtime runs too.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn listen() -> (Log, tracing::subscriber::DefaultGuard) {
        listen_everywhere();
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines a worker printed to a stream, in order.
    fn printed(&self, stream: &str) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter(|line| line.contains(&format!(r#""stream":"{stream}""#)));
        let message = |line: &str| Some(line.split_once(r#""message":""#)?.1.split_once('"')?.0.to_owned());
        lines.filter_map(message).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs the plan's program to its end at first start and returns what it printed.
async fn print(plan: Plan) -> Vec<String> {
    let (log, _guard) = Log::listen();
    let mut stage = Stage::start(plan);
    stage.started().await;
    assert_eq!(stage.gone().await.1, Gone::Exited(0));
    log.printed("stdout")
}

#[tokio::test]
async fn the_environment_is_the_plans() {
    let mut lines = print(plan("/usr/bin/env", &[])).await;
    for name in ["BOARD_FD=", "CHANNEL_FD=", "GUARD_FD=", "LOOP_FD="].map(|name| format!("BANDSTAND_{name}"))
    {
        let found = lines.iter().position(|line| line.starts_with(&name));
        lines.remove(found.unwrap_or_else(|| panic!("{name} in {lines:?}")));
    }
    for name in ["NAME=value", "PATH="] {
        let found = lines.iter().position(|line| line.starts_with(name));
        lines.remove(found.unwrap_or_else(|| panic!("{name} in {lines:?}")));
    }
    assert!(lines.is_empty(), "{lines:?}");
}

#[tokio::test]
async fn only_seven_descriptors_are_inherited() {
    let file = std::fs::File::open("/").unwrap();
    let _leaky = rustix::io::dup(&file).unwrap(); // stays open over exec, unless somebody takes care
    let script = r#"for fd in /proc/$$/fd/*; do [ -e "$fd" ] && echo "${fd##*/}"; done
        echo "channel $BANDSTAND_CHANNEL_FD"; echo "lane $BANDSTAND_LOOP_FD"; echo "guard $BANDSTAND_GUARD_FD"
        echo "board $BANDSTAND_BOARD_FD"; readlink /proc/$$/fd/0"#;
    let mut lines = print(plan("/bin/sh", &["-c", script])).await;
    assert_eq!(lines.pop().unwrap(), "/dev/null");
    let board = lines.pop().unwrap().replace("board ", "");
    let guard = lines.pop().unwrap().replace("guard ", "");
    let lane = lines.pop().unwrap().replace("lane ", "");
    let channel = lines.pop().unwrap().replace("channel ", "");
    lines.sort_by_key(|line| line.parse::<u32>().unwrap());
    let mut expected = vec!["0".to_owned(), "1".into(), "2".into(), channel, lane, guard, board];
    expected.sort_by_key(|line| line.parse::<u32>().unwrap());
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn signals_umask_and_group_are_set() {
    let mut plan = plan("/bin/grep", &["-E", "^(SigIgn|SigBlk|Umask|NSpgid|NStgid)", "/proc/self/status"]);
    plan.umask = Some(0o027);
    let lines = print(plan).await;
    let field = |name: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(name)).expect(name);
        line.rsplit(['t', '\\']).next().unwrap().trim().to_owned()
    };
    assert_eq!(field("Umask:"), "0027");
    for name in ["SigIgn:", "SigBlk:"] {
        let reserved = 0b11 << 31; // 32 and 33 are the C library's own
        assert_eq!(u64::from_str_radix(&field(name), 16).unwrap() & !reserved, 0, "{name} {lines:?}");
    }
    assert_eq!(field("NSpgid:"), field("NStgid:"), "its own process group");
}

#[tokio::test]
async fn lane_and_guard_are_sockets_of_their_own_and_their_ends_are_seen() {
    let script = "import os\n\
        for name in 'LOOP', 'GUARD':\n    \
            line = int(os.environ[f'BANDSTAND_{name}_FD'])\n    \
            said = os.read(line, 9)\n    \
            print(name, said.decode(), len(os.read(line, 9)), flush=True)\n\
        os.read(int(os.environ['BANDSTAND_CHANNEL_FD']), 1)";
    let (log, _guard) = Log::listen();
    let mut stage = Stage::start(plan("python3", &["-c", script]));
    let worker = stage.ready().await;
    for (line, word) in [(&worker.lane, "hello"), (&worker.guard, "hallo")] {
        (&*line).write_all(word.as_bytes()).unwrap();
        line.shutdown(std::net::Shutdown::Write).unwrap();
    }
    worker.run("");
    assert_eq!(stage.gone().await, (worker.number, Gone::Exited(0)));
    assert_eq!(log.printed("stdout"), ["LOOP hello 0", "GUARD hallo 0"]);
}

#[tokio::test]
async fn the_board_is_shared() {
    let script = "import mmap, os, struct\n\
        board = mmap.mmap(int(os.environ['BANDSTAND_BOARD_FD']), 256 * 64)\n\
        os.read(int(os.environ['BANDSTAND_CHANNEL_FD']), 1)\n\
        seen, = struct.unpack_from('=Q', board, 64)\n\
        struct.pack_into('=Q', board, 255 * 64, seen + 1)";
    let mut stage = Stage::start(plan("python3", &["-c", script]));
    let first = stage.ready().await;
    first.board.word(1).store(41, Ordering::Release);
    first.run("");
    assert_eq!(stage.gone().await, (first.number, Gone::Exited(0)));
    assert_eq!(first.board.word(255).load(Ordering::Acquire), 42);
    let second = stage.started().await;
    assert_eq!(second.board.word(255).load(Ordering::Acquire), 0, "a new worker has a new board");
}

#[tokio::test]
async fn an_end_is_told_by_its_reason_and_another_worker_follows() {
    let rows = [
        ("exit 0", Gone::Exited(0)),
        ("exit 3", Gone::Exited(3)),
        ("kill -KILL $$", Gone::Killed { signal: libc::SIGKILL, core: false }),
        ("kill -TERM $$", Gone::Killed { signal: libc::SIGTERM, core: false }),
    ];
    let mut stage = Stage::start(shell(OBEDIENT));
    let (mut before, mut last) = (Instant::now(), WorkerNumber(0));
    for (quick_deaths, (line, reason)) in rows.into_iter().enumerate() {
        let worker = stage.ready().await;
        // The first counts as an accident.
        if quick_deaths > 1 {
            let pause = Duration::from_millis(100) * 2_u32.pow(quick_deaths as u32 - 1);
            assert!(before.elapsed() >= pause, "death {quick_deaths} is followed by a pause");
        }
        assert!(worker.number > last);
        last = worker.number;
        before = Instant::now();
        worker.run(line);
        assert_eq!(stage.gone().await, (worker.number, reason), "{line}");
    }
    stage.fleet.stop_now();
    stage.over().await;
}

#[tokio::test]
async fn output_is_carried_by_line_and_named() {
    let (log, _guard) = Log::listen();
    let mut stage = Stage::start(shell(OBEDIENT));
    let worker = stage.ready().await;
    worker.run(r"echo one; printf 'bad \377 byte\n'; echo oops >&2; printf 'no newline'; exit 0");
    stage.gone().await;
    assert_eq!(log.printed("stdout"), ["one", "bad \u{fffd} byte", "no newline"]);
    assert_eq!(log.printed("stderr"), ["oops"]);
    assert!(log.text().contains(&format!(r#""worker":{}"#, worker.number)));
    assert!(log.text().contains(r#""target":"app""#));
}

#[tokio::test]
async fn a_grandchild_with_the_pipe_does_not_hold_the_news_up() {
    let (log, _guard) = Log::listen();
    let mut stage = Stage::start(shell(OBEDIENT));
    let worker = stage.ready().await;
    worker.run("sleep 15 & printf partial; exit 4");
    let before = Instant::now();
    assert_eq!(stage.gone().await.1, Gone::Exited(4));
    assert!(before.elapsed() < Duration::from_secs(10));
    assert_eq!(log.printed("stdout"), ["partial"]);
}

#[tokio::test]
async fn a_first_start_that_fails_is_given_up() {
    let mut stage = Stage::start(Plan { workers: 3, ..shell("echo the reason >&2; exit 3") });
    let (mut accounts, mut started, mut gone) = (Vec::new(), 0, 0);
    while let Some(event) = stage.next().await {
        match event {
            Event::Started { .. } => started += 1,
            Event::Gone { .. } => gone += 1,
            Event::GaveUp { traceback } => accounts.push(traceback),
            other => panic!("nothing but starts and ends, not {other:?}"),
        }
    }
    assert_eq!(started, gone, "every one started is told gone");
    assert!(started <= 3, "none is started again");
    assert_eq!(accounts.len(), 1, "{accounts:?}");
    assert!(accounts[0].starts_with("the reason\nworker ") && accounts[0].ends_with("exited with status 3"));
}

#[tokio::test]
async fn a_traceback_at_first_start_is_handed_on() {
    let mut stage = Stage::start(shell(OBEDIENT));
    let worker = stage.started().await;
    stage.fleet.boot_failed(worker.number, "Traceback: E".into());
    assert_eq!(stage.gave_up().await, "Traceback: E");
    assert_eq!(stage.gone().await, (worker.number, Gone::BootFailed("Traceback: E".into())));
    stage.over().await;
}

#[tokio::test]
async fn what_a_worker_said_before_it_ended_is_heard() {
    for failed in [true, false] {
        let mut stage = Stage::start(shell(OBEDIENT));
        let worker = stage.started().await;
        worker.run("exit 1");
        let channel = tokio::net::UnixStream::from_std(worker.channel).unwrap();
        timeout(PATIENCE, channel.readable()).await.unwrap().unwrap(); // its end of stream: it has ended
        if failed {
            stage.fleet.boot_failed(worker.number, "Traceback: E".into());
            assert_eq!(stage.gave_up().await, "Traceback: E");
            assert_eq!(stage.gone().await, (worker.number, Gone::BootFailed("Traceback: E".into())));
        } else {
            stage.fleet.ready(worker.number);
            assert_eq!(stage.gone().await, (worker.number, Gone::Exited(1)));
            assert_eq!(stage.started().await.number, WorkerNumber(2), "it was ready once: not given up");
        }
    }
}

#[tokio::test]
async fn a_fleet_that_was_ready_is_never_given_up() {
    let mut stage = Stage::start(shell(OBEDIENT));
    let first = stage.ready().await;
    first.run("exit 1");
    stage.gone().await;
    let second = stage.started().await;
    stage.fleet.boot_failed(second.number, "Traceback: E".into());
    second.run("exit 1");
    assert_eq!(stage.faltering().await, "Traceback: E");
    assert_eq!(stage.gone().await, (second.number, Gone::BootFailed("Traceback: E".into())));
    let third = stage.started().await;
    third.run("exit 7");
    assert_eq!(stage.gone().await, (third.number, Gone::Exited(7)), "before it was ready");
    assert_eq!(stage.faltering().await, "worker 3 exited with status 7");
    stage.ready().await;
}

#[tokio::test]
async fn a_worker_that_does_not_boot_in_time_is_killed() {
    let boot_timeout = Duration::from_millis(50);
    let mut stage = Stage::start(Plan { boot_timeout: Some(boot_timeout), ..shell(OBEDIENT) });
    let worker = stage.started().await;
    assert_eq!(stage.gave_up().await, "worker 1 was not ready after 0.05 s and was killed");
    assert_eq!(stage.gone().await, (worker.number, Gone::BootTimeout(boot_timeout)));
    stage.over().await;
}

#[tokio::test]
async fn stop_lets_workers_leave_and_kills_the_rest() {
    let mut stage = Stage::start(Plan { workers: 3, ..shell(OBEDIENT) });
    let (polite, stuck) = (stage.ready().await, stage.ready().await);
    let booting = stage.started().await;
    stuck.run("kill -STOP $$");
    let fleet = stage.fleet.clone();
    let stop = tokio::spawn(async move { fleet.stop(Instant::now() + Duration::from_millis(500)).await });
    let mut draining = [stage.draining().await, stage.draining().await, stage.draining().await];
    draining.sort();
    assert_eq!(draining, [polite.number, stuck.number, booting.number]);
    drop(polite.channel);
    let mut gone = [stage.gone().await, stage.gone().await, stage.gone().await];
    assert_eq!(gone[2], (stuck.number, Gone::Overdue), "the last to go");
    gone.sort_by_key(|(number, _)| *number);
    assert_eq!(gone[0].1, Gone::Stopped);
    assert_eq!(gone[2].1, Gone::Stopped, "what was not ready yet held no request");
    timeout(PATIENCE, stop).await.unwrap().unwrap();
    stage.over().await;
    stage.fleet.stop(Instant::now() + PATIENCE).await; // a second time: returns at once
}

#[tokio::test]
async fn a_stuck_worker_is_replaced_and_then_killed() {
    let graceful_timeout = Duration::from_millis(300);
    let mut stage = Stage::start(Plan { graceful_timeout, ..shell(OBEDIENT) });
    let stuck = stage.ready().await;
    stuck.run("kill -STOP $$");
    stage.fleet.replace(stuck.number, "a request is over its time limit");
    stage.fleet.replace(stuck.number, "a request is over its time limit");
    assert_eq!(stage.draining().await, stuck.number);
    let next = stage.ready().await;
    assert_eq!(stage.gone().await, (stuck.number, Gone::Overdue));
    stage.fleet.kill(next.number);
    assert_eq!(stage.gone().await, (next.number, Gone::Ended));
    assert_eq!(stage.started().await.number, WorkerNumber(3), "twice told to replace, once replaced");
}

#[tokio::test]
async fn workers_more_and_fewer() {
    let mut stage = Stage::start(shell(OBEDIENT));
    let first = stage.ready().await;
    stage.fleet.scale(1);
    assert_eq!(stage.scaled().await, 2);
    let second = stage.ready().await;
    stage.fleet.scale(-7);
    assert_eq!(stage.scaled().await, 1);
    assert_eq!(stage.draining().await, second.number, "the newest leaves, the last stays");
    drop(second.channel);
    assert_eq!(stage.gone().await, (second.number, Gone::Stopped));
    stage.fleet.drain_all();
    assert_eq!(stage.scaled().await, 0);
    assert_eq!(stage.draining().await, first.number);
    drop(first.channel);
    assert_eq!(stage.gone().await, (first.number, Gone::Stopped));
    stage.fleet.scale_to(2);
    assert_eq!(stage.scaled().await, 2);
    // Both are held: a worker whose channel is closed ends.
    let (third, fourth) = (stage.ready().await, stage.ready().await);
    assert_eq!((third.number, fourth.number), (WorkerNumber(3), WorkerNumber(4)));
}

#[tokio::test]
async fn stacks_are_asked_of_ready_workers_only() {
    let (log, _guard) = Log::listen();
    let script = "trap 'echo stacks >&2; exit 0' RTMIN+1; echo x >&\"$BANDSTAND_CHANNEL_FD\"; \
        while :; do read -t 0.1 -u \"$BANDSTAND_CHANNEL_FD\" line; done";
    let mut stage = Stage::start(shell(script));
    let worker = stage.started().await;
    stage.fleet.dump_stacks(worker.number); // not yet ready: would end a worker without the handler
    let channel = tokio::net::UnixStream::from_std(worker.channel).unwrap();
    timeout(PATIENCE, channel.readable()).await.unwrap().unwrap();
    stage.fleet.ready(worker.number);
    stage.fleet.dump_stacks(worker.number);
    assert_eq!(stage.gone().await.1, Gone::Exited(0));
    assert_eq!(log.printed("stderr"), ["stacks"]);
}

#[tokio::test]
async fn without_anybody_to_ask_or_to_tell_no_worker_stays() {
    let Stage { fleet, mut events } = Stage::start(shell(OBEDIENT));
    drop(fleet);
    let told = timeout(PATIENCE, async {
        let mut told = Vec::new();
        while let Some(event) = events.recv().await {
            told.push(event);
        }
        told
    });
    assert!(matches!(
        told.await.unwrap()[..],
        [Event::Started { .. }, Event::Gone { reason: Gone::Ended, .. }]
    ));

    let mut stage = Stage::start(shell(OBEDIENT));
    let worker = stage.started().await;
    drop(stage.events);
    assert!(has_ended(worker.pid).await);
}

async fn has_ended(pid: u32) -> bool {
    let process = match pidfd_open(Pid::from_raw(pid as i32).unwrap(), PidfdFlags::empty()) {
        Ok(process) => process,
        Err(_) => return true, // already reaped
    };
    tokio::task::spawn_blocking(move || {
        let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)) == Ok(1)
    })
    .await
    .unwrap()
}

#[test]
fn workers_do_not_outlive_the_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (stage, worker) = runtime.block_on(async {
        let mut stage = Stage::start(shell(OBEDIENT));
        let worker = stage.started().await;
        (stage, worker)
    });
    drop(runtime); // as after a panic: nobody said stop, the kernel does it
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(other.block_on(has_ended(worker.pid)));
    drop((stage, worker.channel));
}

#[tokio::test]
async fn plans_that_cannot_work_say_why() {
    let error = Fleet::start(plan("/no/such/python", &[])).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot run the interpreter /no/such/python: No such file"),
        "{error}"
    );
    let error = Fleet::start(Plan { directory: "/no/such/folder".into(), ..shell("") }).unwrap_err();
    assert!(matches!(error, SpawnError::Directory { .. }));
    assert!(
        error.to_string().starts_with("cannot enter the folder /no/such/folder: No such file"),
        "{error}"
    );
    let error = Fleet::start(plan("/etc/passwd", &[])).unwrap_err();
    assert!(error.to_string().contains("/etc/passwd: Permission denied"), "{error}");
}
