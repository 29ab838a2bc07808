//! `bandstand cert status`, `renew`, `check`: certificates, asked of the running server or else of the disk.
//!
//! Owns what is printed, and the choice: a server that runs does the work itself, since the authority looks at its addresses;
//! without one `renew` and `check` listen there for as long as it takes. Exit status: 0 everything is as it should be, 1 a name
//! has no valid certificate, could not be renewed, or would not be.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use bandstand_certificates::acme::{Entry, Wish, Zeal, report as on_disk, standalone};
use bandstand_certificates::preflight;
use bandstand_certificates::storage::Storage;
use bandstand_config::{Bind, Loaded, Settings};
use bandstand_edge::acme_wish;
use bandstand_edge::control::{Command as Order, Connection, Gone, Place, connect};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::args;
use crate::gunicorn;
use crate::report::{self, Failure};

/// An order takes minutes where the authority is slow, and there may be several.
const PATIENCE: Duration = Duration::from_secs(3600);
const DAY: u64 = 24 * 3600;

/// Names, and why there is no new certificate for them.
type Outcome = (Vec<String>, Option<String>);

/// The verb, with its own.
pub(crate) fn verb() -> Command {
    let force = Arg::new("force")
        .long("force")
        .action(ArgAction::SetTrue)
        .help("Renew what is not due too; authorities allow this a few times a week");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON, for programs");
    Command::new("cert")
        .about("Show, renew or check the certificates of `domains`")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(args::with_settings(
            Command::new("status").about("Names, issuer, days left, next renewal, last error").arg(json),
        ))
        .subcommand(args::with_settings(
            Command::new("renew").about("Renew what is due or has failed, now").arg(force),
        ))
        .subcommand(args::with_settings(
            Command::new("check")
                .about("Say what would keep an authority from issuing; rehearse with its test twin"),
        ))
}

/// Does one of them.
///
/// # Errors
/// See above for the status.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    let loaded = gunicorn::load(args::sources(matches)?)?;
    match verb {
        "status" => status(&loaded, matches.get_flag("json")),
        "renew" => renew(&loaded, matches.get_flag("force")),
        _ => check(&loaded),
    }
}

fn status(loaded: &Loaded, json: bool) -> Result<(), Failure> {
    let entries: Vec<Entry> = match server(loaded)? {
        Some(server) => server.ask(&Order::Certificates, "certificates")?,
        None => on_disk(&Storage::at(&loaded.settings.state_dir), &loaded.settings.domains),
    };
    if json {
        let text = serde_json::to_string_pretty(&entries).unwrap_or_default();
        report::print(&format!("{text}\n"))?;
    } else {
        report::print(&table(&entries, seconds()))?;
    }
    let now = seconds();
    let missing: Vec<String> =
        entries.iter().filter(|entry| !is_valid(entry, now)).map(|entry| entry.names.join(", ")).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(failed(format!("there is no valid certificate for {}", missing.join(", ")))),
    }
}

fn renew(loaded: &Loaded, force: bool) -> Result<(), Failure> {
    let outcomes: Vec<Outcome> = match server(loaded)? {
        Some(server) => asked(&server, &Order::Renew { force })?,
        None => {
            let wish = wish(&loaded.settings)?;
            let zeal = if force { Zeal::Force } else { Zeal::Now };
            let storage = Storage::at(&loaded.settings.state_dir);
            let turn = standalone::turn(&wish, &storage, &plain(&loaded.settings), zeal).map_err(failed)?;
            if turn.was_busy {
                return Err(failed("another process is at it, with the same state_dir".to_owned()));
            }
            turn.outcomes
        }
    };
    if outcomes.is_empty() {
        return report::print("nothing is due\n");
    }
    told(&outcomes, "renewed")
}

fn check(loaded: &Loaded) -> Result<(), Failure> {
    let wish = wish(&loaded.settings)?;
    let storage = Storage::at(&loaded.settings.state_dir);
    let server = server(loaded)?;
    let mut findings = preflight::storage(&storage);
    findings.extend(preflight::names_blocking(&wish.names, &wish, server.is_some()).map_err(failed)?);
    for finding in &findings {
        report::print(&format!("warning: {finding}\n"))?;
    }
    let outcomes: Vec<Outcome> = match server {
        Some(server) => asked(&server, &Order::Rehearse)?,
        None => {
            let rehearsals =
                standalone::rehearse(&wish, &storage, &plain(&loaded.settings)).map_err(failed)?;
            rehearsals.into_iter().map(|one| (vec![one.authority], one.error)).collect()
        }
    };
    if !outcomes.is_empty() {
        return told(&outcomes, "would issue");
    }
    report::print("no authority here has a test twin: nothing was rehearsed\n")?;
    match findings.is_empty() {
        true => Ok(()),
        false => Err(failed("see above".to_owned())),
    }
}

/// The server of this project, if one runs.
fn server(loaded: &Loaded) -> Result<Option<Connection>, Failure> {
    match connect(&Place::of(loaded)) {
        Ok(server) => Ok(Some(server)),
        Err(Gone::NotRunning(_)) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

fn asked(server: &Connection, order: &Order) -> Result<Vec<Outcome>, Failure> {
    let mut fields = server.order(order, Some(PATIENCE), |_| {})?;
    let outcomes = fields.remove("outcomes").unwrap_or_default();
    serde_json::from_value(outcomes)
        .map_err(|error| failed(format!("the server's answer cannot be read: {error}")))
}

fn told(outcomes: &[Outcome], fine: &str) -> Result<(), Failure> {
    let mut bad = 0;
    for (names, error) in outcomes {
        let names = names.join(", ");
        match error {
            None => report::print(&format!("{names}: {fine}\n"))?,
            Some(why) => {
                bad += 1;
                report::print(&format!("{names}: {why}\n"))?;
            }
        }
    }
    match bad {
        0 => Ok(()),
        bad => Err(failed(format!("{bad} of {} failed", outcomes.len()))),
    }
}

fn wish(settings: &Settings) -> Result<Wish, Failure> {
    acme_wish(settings).ok_or_else(|| failed("there are no `domains` to have certificates for".to_owned()))
}

/// The addresses that are spoken to in plain.
fn plain(settings: &Settings) -> Vec<SocketAddr> {
    let address = |bind: &Bind| match bind {
        Bind::Tcp { host, port, .. } if !settings.speaks_tls(bind) => {
            let host = if host.is_empty() { "0.0.0.0" } else { host.as_str() };
            (host, *port).to_socket_addrs().ok()?.next()
        }
        _ => None,
    };
    settings.bind.iter().filter_map(address).collect()
}

fn table(entries: &[Entry], now: u64) -> String {
    if entries.is_empty() {
        return "no certificates, and no `domains` to have any for\n".to_owned();
    }
    let mut text = String::new();
    for entry in entries {
        text += &format!("{}\n", entry.names.join(", "));
        match entry.not_after {
            Some(end) if end <= now => text += &format!("  over for {}\n", days(now - end)),
            Some(end) => text += &format!("  valid for {} more\n", days(end - now)),
            None => text += "  no certificate yet\n",
        }
        if !entry.issuer.is_empty() {
            text += &format!("  issuer: {} ({})\n", entry.issuer, entry.source);
        }
        if let Some(next) = entry.next {
            let what = if entry.error.is_some() { "next attempt" } else { "renewal" };
            text += &match next.checked_sub(now) {
                Some(wait) => format!("  {what}: in {}\n", days(wait)),
                None => format!("  {what}: due\n"),
            };
        }
        if let Some(error) = &entry.error {
            let ago = entry.failed_at.map_or(0, |at| now.saturating_sub(at));
            text += &format!("  last error, {} ago ({} in a row): {error}\n", days(ago), entry.failures);
        }
    }
    text
}

/// Two digits are enough to act on.
pub(crate) fn days(seconds: u64) -> String {
    let plural = |number: u64, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    match seconds {
        0..60 => plural(seconds, "second"),
        60..3600 => plural(seconds / 60, "minute"),
        3600..172_800 => plural(seconds / 3600, "hour"),
        _ => plural(seconds / DAY, "day"),
    }
}

fn is_valid(entry: &Entry, now: u64) -> bool {
    entry.not_after.is_some_and(|end| end > now)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn failed(sentence: String) -> Failure {
    Failure::Run { sentence, code: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown() {
        let now = 1_800_000_000;
        let good = Entry {
            names: vec!["a.test".into(), "b.test".into()],
            source: "acme".into(),
            issuer: "CN=R11".into(),
            not_after: Some(now + 30 * DAY),
            next: Some(now + 10 * DAY),
            ..Entry::default()
        };
        let over = Entry { not_after: Some(now - 3600), ..good.clone() };
        let none = Entry {
            names: vec!["c.test".into()],
            next: Some(now + 120),
            error: Some("no address".into()),
            failed_at: Some(now - 60),
            failures: 2,
            ..Entry::default()
        };
        assert_eq!(
            table(&[good.clone(), none.clone()], now),
            "a.test, b.test\n  valid for 30 days more\n  issuer: CN=R11 (acme)\n  renewal: in 10 days\n\
             c.test\n  no certificate yet\n  next attempt: in 2 minutes\n  last error, 1 minute ago (2 in a row): no address\n"
        );
        assert!(table(std::slice::from_ref(&over), now).contains("  over for 1 hour\n"));
        assert_eq!([good, over, none].map(|entry| is_valid(&entry, now)), [true, false, false]);
        assert!(table(&[], now).starts_with("no certificates"));
    }
}
