//! `bandstand requests`: what runs now, for how long, in which worker.
//!
//! Owns the form for people. WebSockets are not listed, they are mostly silent: `status` counts them.

use bandstand_edge::control::{Command, Running};
use clap::ArgMatches;

use crate::figures::{plain, seconds, table};
use crate::report::{self, Failure};
use crate::running;

/// Longest target that is shown whole.
const TARGET_MOST: usize = 80;

/// Prints them, the longest first.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let requests: Vec<Running> = running::server(matches)?.ask(&Command::Requests, "requests")?;
    if matches.get_flag("json") {
        return report::print(&format!("{:#}\n", serde_json::json!(requests)));
    }
    report::print(&shown(&requests))
}

fn shown(requests: &[Running]) -> String {
    if requests.is_empty() {
        return "nothing runs\n".to_owned();
    }
    let row = |one: &Running| {
        vec![
            seconds(one.since),
            one.worker.to_string(),
            one.on.clone(),
            plain(&one.method, 16),
            plain(&one.target, TARGET_MOST),
            one.request_id.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = requests.iter().map(row).collect();
    table(&[">since", ">worker", "on", "method", "target", "request id"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_read_it() {
        assert_eq!(shown(&[]), "nothing runs\n");
        let one = Running {
            request_id: "a1".to_owned(),
            method: "GET".to_owned(),
            target: "/report/".to_owned(),
            since: 3.21,
            on: "thread".to_owned(),
            worker: 2,
        };
        let other =
            Running { since: 0.0042, on: "loop".to_owned(), target: "/\u{1b}[31m".to_owned(), ..one.clone() };
        assert_eq!(
            shown(&[one, other]),
            " since  worker  on      method  target    request id\n\
             \x203.2 s       2  thread  GET     /report/  a1\n\
             4.2 ms       2  loop    GET     /\u{fffd}[31m    a1\n"
        );
    }
}
