//! A fleet on a stage: real processes, and a deadline on every wait. Shared by the tests of templates and generations.
#![allow(dead_code, unreachable_pub)] // each test uses its part

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bandstand_supervisor::{
    Event, Fleet, GenerationNumber, Gone, Plan, Preload, TemplateState, WorkerNumber,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

/// Long enough for a busy machine; no test waits for it unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
const PROGRAM: &str = include_str!("template.py");

/// A plan of one worker. `variables` go into its environment: see `template.py`.
pub fn plan(preload: Preload, variables: &[(&str, &str)]) -> Plan {
    let path = ("PATH".into(), std::env::var_os("PATH").unwrap());
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    Plan {
        python: "python3".into(),
        arguments: ["-S", "-c", PROGRAM].map(Into::into).into(),
        directory: "/".into(),
        environment: std::iter::once(path).chain(variables).collect(),
        workers: 1,
        boot_timeout: None,
        graceful_timeout: PATIENCE,
        umask: None,
        preload,
        hooks: false,
    }
}

pub struct Stage {
    pub fleet: Fleet,
    pub events: UnboundedReceiver<Event>,
    /// What was told of templates.
    pub templates: Vec<(GenerationNumber, TemplateState)>,
}

pub struct Worker {
    pub number: WorkerNumber,
    pub generation: GenerationNumber,
    pub pid: u32,
    pub channel: UnixStream,
    pub lane: UnixStream,
    pub guard: UnixStream,
}

impl Worker {
    /// Has it run a line of Python.
    pub fn run(&self, line: &str) {
        (&self.channel).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl Stage {
    pub fn start(plan: Plan) -> Stage {
        listen_everywhere();
        let (fleet, events) = Fleet::start(plan).unwrap();
        Stage { fleet, events, templates: Vec::new() }
    }

    /// The next event, whatever it is of.
    pub async fn any(&mut self) -> Option<Event> {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time")
    }

    /// The next event that is not of a template.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.any().await {
                Some(Event::Template { generation, state }) => self.templates.push((generation, state)),
                other => return other,
            }
        }
    }

    /// The next event of a template; no other may come before it.
    pub async fn template(&mut self) -> (GenerationNumber, TemplateState) {
        match self.any().await {
            Some(Event::Template { generation, state }) => (generation, state),
            other => panic!("expected Template, got {other:?}"),
        }
    }

    /// The process id of the template that imports now.
    pub async fn importing(&mut self) -> u32 {
        match self.template().await {
            (_, TemplateState::Importing { pid }) => pid,
            other => panic!("expected Importing, got {other:?}"),
        }
    }

    pub async fn started(&mut self) -> Worker {
        match self.next().await {
            Some(Event::Started { number, generation, pid, channel, lane, guard, .. }) => {
                Worker { number, generation, pid, channel, lane, guard }
            }
            other => panic!("expected Started, got {other:?}"),
        }
    }

    pub async fn ready(&mut self) -> Worker {
        let worker = self.started().await;
        self.fleet.ready(worker.number);
        worker
    }

    pub async fn draining(&mut self) -> WorkerNumber {
        match self.next().await {
            Some(Event::Draining { number, deadline: Some(_) }) => number,
            other => panic!("expected Draining, got {other:?}"),
        }
    }

    pub async fn gone(&mut self) -> (WorkerNumber, Gone) {
        match self.next().await {
            Some(Event::Gone { number, reason, .. }) => (number, reason),
            other => panic!("expected Gone, got {other:?}"),
        }
    }

    pub async fn failed(&mut self) -> (GenerationNumber, String) {
        match self.next().await {
            Some(Event::Failed { generation, account }) => (generation, account),
            other => panic!("expected Failed, got {other:?}"),
        }
    }

    pub async fn faltering(&mut self) -> String {
        match self.next().await {
            Some(Event::Faltering { account, .. }) => account,
            other => panic!("expected Faltering, got {other:?}"),
        }
    }

    pub async fn gave_up(&mut self) -> String {
        match self.next().await {
            Some(Event::GaveUp { traceback }) => traceback,
            other => panic!("expected GaveUp, got {other:?}"),
        }
    }

    pub async fn over(&mut self) {
        let event = self.next().await;
        assert!(event.is_none(), "expected the end, got {event:?}");
    }

    /// All that comes until the events end.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut rest = Vec::new();
        while let Some(event) = self.next().await {
            rest.push(event);
        }
        rest
    }
}

pub fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

/// Whether nothing of the process is left, not even its number.
pub fn is_reaped(pid: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

pub fn parent_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Waits for the process's end; false if that does not come.
pub async fn has_ended(pid: u32) -> bool {
    let Ok(process) = pidfd_open(Pid::from_raw(pid as i32).unwrap(), PidfdFlags::empty()) else {
        return true; // already reaped
    };
    let wait = move || {
        let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)) == Ok(1)
    };
    tokio::task::spawn_blocking(wait).await.unwrap()
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
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn listen() -> (Log, tracing::subscriber::DefaultGuard) {
        listen_everywhere();
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The first line that has all these.
    pub fn line_with(&self, parts: &[&str]) -> Option<String> {
        let text = self.text();
        text.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
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
