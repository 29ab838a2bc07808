//! As the init of a container, the program reaps what its workers leave behind, and still sees its workers' ends.
//! Alone in its process, which is declared to be a subreaper: to the kernel, the same thing as an init here.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // the helpers of tests are tests too

use std::io::{self, Write};
use std::time::Duration;

use bandstand_supervisor::{Event, Fleet, Gone, Plan, Preload};
use rustix::process::{getpid, set_child_subreaper};
use tokio::sync::mpsc;
use tokio::time::timeout;

#[derive(Clone)]
struct Lines(mpsc::UnboundedSender<String>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn orphans_are_reaped_and_workers_are_not_lost() {
    set_child_subreaper(Some(getpid())).unwrap();
    let (sender, mut lines) = mpsc::unbounded_channel();
    let log = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::DEBUG);
    log.with_writer(move || Lines(sender.clone())).init();
    // The inner shell starts three processes and ends before them; only then does the outer one end them.
    let script = r#"orphans=$(for n in 1 2 3; do /bin/sleep 1000 >/dev/null 2>&1 & echo "$!"; done)
        for pid in $orphans; do echo "orphan $pid"; kill "$pid"; done
        read -r -u "$BANDSTAND_CHANNEL_FD" line; exit 5"#;
    let plan = Plan {
        python: "/bin/bash".into(),
        arguments: ["--norc", "-c", script].map(Into::into).into(),
        directory: "/".into(),
        environment: Vec::new(),
        workers: 2,
        boot_timeout: None,
        graceful_timeout: Duration::from_secs(5),
        umask: None,
        preload: Preload::Direct,
        hooks: false,
    };
    let (fleet, mut events) = Fleet::start(plan).unwrap();
    let mut channels = Vec::new();
    while channels.len() < 2 {
        if let Some(Event::Started { number, channel, .. }) = events.recv().await {
            fleet.ready(number);
            channels.push(channel);
        }
    }
    let (mut printed, mut reaped) = (Vec::new(), Vec::new());
    let all_reaped = async {
        while printed.len() < 6 || printed.iter().any(|pid| !reaped.contains(pid)) {
            let line = lines.recv().await.unwrap();
            let last = |line: &str| line.trim().rsplit([' ', '=']).next().unwrap().to_owned();
            if let Some((_, rest)) = line.split_once("orphan ").filter(|_| line.contains("stdout")) {
                printed.push(rest.split_whitespace().next().unwrap().to_owned());
            } else if line.contains("reaped an orphan") {
                reaped.push(last(&line));
            }
        }
    };
    timeout(Duration::from_secs(20), all_reaped).await.expect("every orphan is reaped");
    drop(channels);
    for _ in 0..2 {
        match timeout(Duration::from_secs(20), events.recv()).await.unwrap() {
            Some(Event::Gone { reason, .. }) => assert_eq!(reason, Gone::Exited(5)),
            Some(Event::Started { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}
