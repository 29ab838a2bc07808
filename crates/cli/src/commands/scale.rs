//! `bandstand scale N|+N|-N`: more or fewer workers.
//!
//! Owns the reading of its one argument. The number holds until the next reload reads `workers` again.

use bandstand_edge::control::{Command, Scale};
use clap::ArgMatches;

use crate::figures::many;
use crate::report::{self, Failure};
use crate::running;

/// Orders it and prints how many there are to be.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let written = matches.get_one::<String>("workers").map(String::as_str).unwrap_or_default();
    let scale = read(written).ok_or_else(|| Failure::Run {
        sentence: format!("{written:?} is no number of workers: write 4, +1 or -1"),
        code: 2,
    })?;
    let fields = running::server(matches)?.order(&Command::Scale(scale), None, |_| {})?;
    let wanted = fields.get("workers").and_then(serde_json::Value::as_u64).unwrap_or(0);
    report::print(&format!("{}\n", many(wanted as usize, "worker")))
}

fn read(written: &str) -> Option<Scale> {
    // `parse` takes more signs than one would write.
    let digits = written.trim_start_matches(['+', '-']);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || written.len() > digits.len() + 1 {
        return None;
    }
    match written.starts_with(['+', '-']) {
        true => written.parse().ok().map(Scale::By),
        false => written.parse().ok().filter(|workers| *workers > 0).map(Scale::To),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        for (written, wanted) in [
            ("4", Some(Scale::To(4))),
            ("+2", Some(Scale::By(2))),
            ("-1", Some(Scale::By(-1))),
            ("0", None),
            ("", None),
            ("+", None),
            ("--1", None),
            ("1.5", None),
            ("many", None),
            ("+99999999999", None),
        ] {
            assert_eq!(read(written), wanted, "{written:?}");
        }
    }
}
