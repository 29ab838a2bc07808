//! `bandstand check [--deploy]`: everything that can be known before traffic, one line a finding.
//!
//! Owns the order (settings, project, import, Django's word, then this machine) and what is looked at on the machine itself. What the
//! project says of itself comes from its own Python. Invariant: nothing is changed: an address is bound and let go, a file is
//! looked at and never made.

mod certificates;
mod rights;

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use bandstand_config::{Bind, Destination, Finding, Loaded, Weight};
use bandstand_edge::control::{Place, connect};
use clap::ArgMatches;

use crate::report::{self, Failure};
use crate::{args, gunicorn, project};

/// Prints what was found; status 1 if any of it is an error.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let loaded = gunicorn::load(args::sources(matches)?)
        .map_err(|failure| Failure::Run { sentence: failure.sentence(), code: 1 })?;
    let run = project::find(loaded)?;
    let wishes: &[&str] = if matches.get_flag("deploy") { &["--check", "--deploy"] } else { &["--check"] };
    let described = project::describe(&run, wishes).map_err(|why| Failure::Run {
        sentence: format!("error: the application cannot be imported: {why}"),
        code: 1,
    })?;
    let loaded = run.loaded.with_django(&described.project);
    let debug = described.project.django.as_ref().is_some_and(|django| django.debug);
    let mut findings = described.findings;
    findings.extend(rights::look(&loaded, debug, rustix::process::geteuid().is_root()));
    findings.extend(certificates::look(&loaded, connect(&Place::of(&loaded)).is_ok()));
    findings.extend(files(&loaded));
    findings.extend(folders(&loaded));
    findings.extend(loaded.settings.bind.iter().filter_map(|bind| address(bind, &origin(&loaded, "bind"))));
    tell(&findings)
}

fn tell(findings: &[Finding]) -> Result<(), Failure> {
    let lines: String = findings.iter().map(|finding| report::line(finding) + "\n").collect();
    report::print(&lines)?;
    match sum(findings) {
        (0, sum) => report::print(&format!("bandstand check: {sum}\n")),
        (_, sentence) => Err(Failure::Run { sentence, code: 1 }),
    }
}

/// Errors, and errors and warnings in words.
fn sum(findings: &[Finding]) -> (usize, String) {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (count(Weight::Error), count(Weight::Warning));
    let plural = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    (errors, format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")))
}

fn origin(loaded: &Loaded, key: &str) -> String {
    loaded.origins.get(key).map_or_else(|| "default".to_owned(), ToString::to_string)
}

fn finding(level: Weight, what: String, place: &str, advice: &str) -> Finding {
    Finding { level, what, place: place.to_owned(), advice: advice.to_owned() }
}

/// Static and uploaded files.
fn files(loaded: &Loaded) -> Vec<Finding> {
    let mut found = Vec::new();
    for note in &loaded.notes {
        let unset = note.starts_with("STATIC_ROOT is not set");
        let (level, advice) = match unset {
            true => (Weight::Warning, "set STATIC_ROOT and run collectstatic, or set static"),
            false => (Weight::Info, ""),
        };
        found.push(finding(level, note.clone(), "", advice));
    }
    if let Some(mount) = &loaded.settings.static_files {
        let place = origin(loaded, "static");
        let root = mount.root.display();
        let what = match std::fs::read_dir(&mount.root).map(|mut entries| entries.next().is_none()) {
            Ok(false) => None,
            Ok(true) => Some(format!("the folder of static files {root} is empty")),
            Err(error) => {
                Some(format!("the folder of static files {root} cannot be read: {}", reason(&error)))
            }
        };
        found.extend(what.map(|what| finding(Weight::Warning, what, &place, "run collectstatic")));
    }
    if let Some(mount) = loaded.settings.media.as_ref().filter(|mount| !mount.root.is_dir()) {
        let what = format!("there is no folder of uploaded files {} yet", mount.root.display());
        found.push(finding(Weight::Info, what, &origin(loaded, "media"), ""));
    }
    found
}

/// Folders that must be there for files of the server itself.
fn folders(loaded: &Loaded) -> Vec<Finding> {
    let settings = &loaded.settings;
    let log = match &settings.access_log {
        Destination::File(path) => path.parent(),
        _ => None,
    };
    let rows = [
        ("spool_dir", Some(settings.spool_dir.as_path())),
        ("pid", settings.pid.as_deref().and_then(Path::parent)),
        ("access_log", log),
    ];
    let missing = rows.into_iter().filter_map(|(key, folder)| {
        let folder = folder.filter(|folder| !folder.is_dir())?;
        let what = format!("{key}: there is no folder {}", folder.display());
        Some(finding(Weight::Error, what, &origin(loaded, key), "make it, or name another"))
    });
    missing.collect()
}

/// Why `bind` cannot be listened on. Sockets that are passed by others are theirs to check.
fn address(bind: &Bind, place: &str) -> Option<Finding> {
    let outcome = match bind {
        Bind::Tcp { host, port, .. } => tcp(host, *port),
        Bind::Unix(path) => unix(path),
        Bind::Fd(_) | Bind::Systemd => Ok(()),
    };
    let error = outcome.err()?;
    Some(match error.kind() {
        // A check before a deploy meets the server that still runs.
        io::ErrorKind::AddrInUse => finding(
            Weight::Warning,
            format!("{bind} is in use"),
            place,
            "nothing, if that is the server to be replaced; else stop it or choose another address",
        ),
        _ => finding(
            Weight::Error,
            format!("{bind} cannot be bound: {}", reason(&error)),
            place,
            match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "start as root, or with CAP_NET_BIND_SERVICE, or let systemd pass the socket"
                }
                _ => "choose an address of this machine",
            },
        ),
    })
}

/// Every address of the host, bound and let go.
fn tcp(host: &str, port: u16) -> io::Result<()> {
    if host.is_empty() {
        // As the server does: both families, or IPv4 where the machine has no other.
        return match TcpListener::bind(("::", port)) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(("0.0.0.0", port)).map(drop)
            }
            other => other.map(drop),
        };
    }
    let mut last = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in (host, port).to_socket_addrs()? {
        match TcpListener::bind(address) {
            Ok(_) => last = Ok(()),
            // One family of a name may be missing on this machine.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && last.is_ok() => {}
            Err(error) => return Err(error),
        }
    }
    last
}

/// A socket that nobody listens behind is replaced by the server; anything else in its place is in the way.
fn unix(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if !found.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
            Err(_) => Ok(()),
        },
        Err(_) => match path.parent() {
            Some(folder) => folder.metadata().map(drop),
            None => Ok(()),
        },
    }
}

/// The error in words, without Rust's number behind it.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(bind: &str) -> Option<(Weight, String)> {
        address(&Bind::parse(bind).unwrap(), "--bind").map(|finding| (finding.level, finding.what))
    }

    #[test]
    fn addresses() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("bandstand-check-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        let live = std::os::unix::net::UnixListener::bind(folder.join("live")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(folder.join("stale")).unwrap());
        let shown = folder.display();
        for (bind, wanted) in [
            ("127.0.0.1:0".to_owned(), None),
            (":0".to_owned(), None),
            ("fd://9".to_owned(), None),
            (format!("127.0.0.1:{port}"), Some(Weight::Warning)),
            // TEST-NET-1 (RFC 5737) is no machine's own.
            ("192.0.2.1:8000".to_owned(), Some(Weight::Error)),
            (format!("unix:{shown}/new"), None),
            (format!("unix:{shown}/stale"), None),
            (format!("unix:{shown}/live"), Some(Weight::Warning)),
            (format!("unix:{shown}/file"), Some(Weight::Error)),
            (format!("unix:{shown}/gone/new"), Some(Weight::Error)),
        ] {
            assert_eq!(level(&bind).map(|(level, _)| level), wanted, "{bind}: {:?}", level(&bind));
        }
        drop(live);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn sums() {
        let one = |level| finding(level, "w".to_owned(), "", "");
        for (levels, wanted) in [
            (&[][..], (0, "0 errors, 0 warnings")),
            (&[Weight::Warning, Weight::Info], (0, "0 errors, 1 warning")),
            (&[Weight::Error, Weight::Warning, Weight::Warning], (1, "1 error, 2 warnings")),
        ] {
            let findings: Vec<Finding> = levels.iter().copied().map(one).collect();
            assert_eq!(sum(&findings), (wanted.0, wanted.1.to_owned()));
        }
    }

    #[test]
    fn what_the_machine_lacks() {
        let flags = [
            ("pid", "/nowhere/run/x.pid"),
            ("access_log", "/nowhere/log"),
            ("static", "/nowhere/s"),
            ("media", "/nowhere/m"),
        ];
        let loaded = bandstand_config::load(bandstand_config::Sources {
            flags: flags.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).to_vec(),
            app_env: vec![],
            env: vec![],
            cwd: "/nowhere/shop".into(),
            cpus: std::num::NonZeroUsize::MIN,
            pid: 1,
            root: false,
        })
        .unwrap();
        let mut lines: Vec<String> = files(&loaded).iter().map(report::line).collect();
        lines.extend(folders(&loaded).iter().map(report::line));
        assert_eq!(
            lines,
            [
                "warning: the folder of static files /nowhere/s cannot be read: no such file or directory (--static): run collectstatic",
                "info: there is no folder of uploaded files /nowhere/m yet (--media)",
                "error: pid: there is no folder /nowhere/run (--pid): make it, or name another",
                "error: access_log: there is no folder /nowhere (--access-log): make it, or name another",
            ]
        );
    }
}
