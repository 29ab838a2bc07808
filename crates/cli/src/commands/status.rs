//! `bandstand status`: the state of the running server on one screen; `--json` has every field.
//!
//! Owns the form for people: what matters first, nothing that is as it should be said twice.

use bandstand_edge::control::{Command, Counts, Memory, Status, Times, Worker};
use clap::ArgMatches;

use crate::figures::{bytes, count, many, plain, seconds, table, time};
use crate::report::{self, Failure};
use crate::running;

/// Longest target that is shown whole.
const TARGET_MOST: usize = 40;

/// Prints it.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let server = running::server(matches)?;
    let command = Command::Status { pss: true };
    if matches.get_flag("json") {
        // As it came: a newer server may say more than this program knows.
        let status: serde_json::Value = server.ask(&command, "status")?;
        return report::print(&format!("{status:#}\n"));
    }
    report::print(&shown(&server.ask(&command, "status")?))
}

fn shown(status: &Status) -> String {
    let mut shown = format!(
        "bandstand {} is {}, pid {}, up {}\n\n",
        status.version,
        status.state,
        status.pid,
        seconds(status.uptime)
    );
    for (name, text) in facts(status) {
        shown += &format!("  {name:<13} {text}\n");
    }
    if !status.workers.is_empty() {
        let rows: Vec<Vec<String>> = status.workers.iter().map(row).collect();
        let headings = [
            ">worker",
            ">pid",
            ">generation",
            "state",
            ">age",
            ">served",
            ">busy",
            ">sockets",
            ">memory",
            "runs",
        ];
        shown += "\n";
        shown += &table(&headings, &rows);
    }
    let failed = status.last_reload.as_ref().and_then(|reload| Some((&reload.time, reload.error.as_ref()?)));
    for (what, at) in [
        ("the last reload failed", failed),
        (
            "the last failure of a worker",
            status.last_failure.as_ref().map(|failure| (&failure.time, &failure.reason)),
        ),
    ] {
        if let Some((time, reason)) = at {
            let lines = reason.trim_end().lines().map(|line| format!("    {}\n", plain(line, 400)));
            shown += &format!("\n  {what}, {time}:\n{}", lines.collect::<String>());
        }
    }
    shown
}

fn facts(status: &Status) -> Vec<(&'static str, String)> {
    let ready = status.workers.iter().filter(|worker| worker.state == "ready").count();
    let current = status.generations.iter().find(|generation| generation.number == status.generation);
    let others = status.generations.iter().filter(|generation| generation.number != status.generation);
    let mut generation = match current {
        Some(current) => format!("{} for {}", current.number, seconds(current.since)),
        None => "none serves yet".to_owned(),
    };
    for other in others {
        generation +=
            &format!("; {} is {} with {}", other.number, other.state, many(other.workers, "worker"));
    }
    let mut facts = vec![
        ("project", status.project.clone()),
        ("addresses", status.addresses.join(", ")),
        ("generation", generation),
        ("workers", format!("{ready} ready, {} wanted", status.wanted)),
        ("queue", waiting(status)),
        ("connections", count(status.connections as u64)),
        ("memory", memories(status)),
        ("requests", requests(&status.counters)),
    ];
    for (name, times) in times(&status.counters) {
        facts.extend(quantiles(times).map(|text| (name, text)));
    }
    if let Some(template) = &status.template {
        facts.insert(3, ("template", template.state.clone()));
    }
    if let Some(reload) = status.last_reload.as_ref().filter(|reload| reload.error.is_none()) {
        facts.push(("last reload", reload.time.clone()));
    }
    facts
}

fn waiting(status: &Status) -> String {
    match status.queue.length {
        0 => "empty".to_owned(),
        length => {
            format!("{} waiting, the oldest for {}", count(length as u64), seconds(status.queue.oldest))
        }
    }
}

fn memories(status: &Status) -> String {
    let workers: Vec<Memory> = status.workers.iter().map(|worker| worker.memory).collect();
    let mut shown = vec![format!("edge {}", size(&status.memory))];
    if let Some(template) = &status.template {
        shown.push(format!("template {}", size(&template.memory)));
    }
    if let Some(sum) = workers.iter().map(|memory| memory.pss.or(memory.rss)).sum::<Option<u64>>() {
        shown.push(format!("workers {}", bytes(sum)));
    }
    shown.join(", ")
}

/// The proportional size where it is known: it can be added up.
fn size(memory: &Memory) -> String {
    memory.pss.or(memory.rss).map_or_else(|| "-".to_owned(), bytes)
}

/// `12,345: 2xx 12,000, 3xx 200`; classes that never were are left out.
fn requests(counts: &Counts) -> String {
    let classes = [
        ("1xx", counts.informational),
        ("2xx", counts.success),
        ("3xx", counts.redirection),
        ("4xx", counts.client_error),
        ("5xx", counts.server_error),
        ("unanswered", counts.none),
    ];
    let seen: Vec<String> = classes
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(name, number)| format!("{name} {}", count(*number)))
        .collect();
    match seen.is_empty() {
        true => "none yet".to_owned(),
        false => format!("{}: {}", count(counts.requests), seen.join(", ")),
    }
}

fn times(counts: &Counts) -> [(&'static str, &Times); 3] {
    [("time", &counts.total), ("  in queue", &counts.queue), ("  in app", &counts.app)]
}

fn quantiles(times: &Times) -> Option<String> {
    let at = |share| times.quantile(share).map(time);
    Some(format!("p50 {}, p90 {}, p99 {}", at(0.5)?, at(0.9)?, at(0.99)?))
}

fn row(worker: &Worker) -> Vec<String> {
    let busy = match (worker.threads, worker.tasks_most) {
        (0, 0) => String::new(),
        (0, _) => worker.tasks.to_string(),
        (threads, 0) => format!("{}/{threads}", worker.busy),
        (threads, _) => format!("{}/{threads} + {}", worker.busy, worker.tasks),
    };
    vec![
        worker.number.to_string(),
        worker.pid.to_string(),
        worker.generation.to_string(),
        worker.state.clone(),
        seconds(worker.age),
        count(worker.served),
        busy,
        if worker.sockets == 0 { String::new() } else { count(worker.sockets as u64) },
        size(&worker.memory),
        runs(worker),
    ]
}

/// The oldest of what it works on, and how many more.
fn runs(worker: &Worker) -> String {
    let Some(first) = worker.running.first() else { return String::new() };
    let more = match worker.running.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let method = plain(&first.method, 16);
    format!("{method} {} for {}{more}", plain(&first.target, TARGET_MOST), seconds(first.since))
}
