//! `bandstand stacks [WORKER|REQUEST_ID]`: where Python is.
//!
//! Owns the form for people and the reading of the argument: digits alone are a worker, all else is a request.

use bandstand_edge::control::{Command, Stack, Stacks, Whose};
use clap::ArgMatches;

use crate::figures::plain;
use crate::report::{self, Failure};
use crate::running;

/// Prints them, worker by worker.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let whose = whose(matches.get_one::<String>("whose").map(String::as_str));
    let stacks: Vec<Stacks> = running::server(matches)?.ask(&Command::Stacks(whose), "stacks")?;
    if matches.get_flag("json") {
        return report::print(&format!("{:#}\n", serde_json::json!(stacks)));
    }
    report::print(&shown(&stacks))
}

fn whose(written: Option<&str>) -> Whose {
    match written {
        None => Whose::All,
        // Ids of requests have 32 digits, or are what a client wrote; no worker has a number that long.
        Some(text) => match text.parse() {
            Ok(number) if text.len() <= 10 => Whose::Worker(number),
            _ => Whose::Request(text.to_owned()),
        },
    }
}

/// Also what `top` shows.
pub(crate) fn shown(stacks: &[Stacks]) -> String {
    let mut shown = String::new();
    for worker in stacks {
        let gap = if shown.is_empty() { "" } else { "\n" };
        shown += &format!("{gap}worker {} (pid {})\n", worker.worker, worker.pid);
        if let Some(error) = &worker.error {
            shown += &format!("  {error}\n");
        }
        for (kind, stacks) in [("thread", &worker.threads), ("task", &worker.tasks)] {
            stacks.iter().for_each(|stack| shown += &one(kind, stack));
        }
    }
    if shown.is_empty() { "no workers\n".to_owned() } else { shown }
}

fn one(kind: &str, stack: &Stack) -> String {
    let name = plain(stack.name.as_deref().unwrap_or("?"), 80);
    let request =
        stack.request_id.as_ref().map(|id| format!(", request {}", plain(id, 128))).unwrap_or_default();
    if stack.stack.trim().is_empty() {
        return format!("  {kind} {name}{request}: not in Python code\n");
    }
    let lines = stack.stack.trim_end().lines().map(|line| format!("    {}\n", plain(line, 400)));
    format!("\n  {kind} {name}{request}\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        for (written, wanted) in [
            (None, Whose::All),
            (Some("3"), Whose::Worker(3)),
            (
                Some("01234567890123456789012345678901"),
                Whose::Request("01234567890123456789012345678901".to_owned()),
            ),
            (Some("abc"), Whose::Request("abc".to_owned())),
        ] {
            assert_eq!(super::whose(written), wanted);
        }
    }

    #[test]
    fn as_people_read_it() {
        let stack = Stack {
            name: Some("bandstand-1".to_owned()),
            request_id: Some("a1".to_owned()),
            stack: "File \"views.py\", line 7, in slow\n  sleep(9)\n".to_owned(),
        };
        let busy = Stacks { worker: 1, pid: 70, threads: vec![stack], ..Stacks::default() };
        let resting = Stack { name: Some("bandstand-2".to_owned()), ..Stack::default() };
        let busy = Stacks { tasks: vec![resting], ..busy };
        let stuck = Stacks {
            worker: 2,
            pid: 71,
            error: Some("no answer within 2 s".to_owned()),
            ..Stacks::default()
        };
        assert_eq!(
            shown(&[busy, stuck]),
            "worker 1 (pid 70)\n\n  thread bandstand-1, request a1\n    File \"views.py\", line 7, in slow\n      sleep(9)\n  task bandstand-2: not in Python code\n\n\
             worker 2 (pid 71)\n  no answer within 2 s\n"
        );
        assert_eq!(shown(&[]), "no workers\n");
    }
}
