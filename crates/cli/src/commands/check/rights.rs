//! What `check` finds about rights: who runs as whom, who can read keys, and what strangers would see.
//!
//! Owns the questions; a start answers the same ones by itself (`edge::server::rights`). Asked as who would start the server.
//! Nothing is changed.

use std::net::ToSocketAddrs;
use std::os::unix::fs::PermissionsExt;

use bandstand_config::{Bind, CertificateFiles, Finding, Loaded, Settings, Weight};

use super::{finding, origin};

/// All of them. `debug`: what the project says of itself.
pub(super) fn look(loaded: &Loaded, debug: bool, is_root: bool) -> Vec<Finding> {
    let settings = &loaded.settings;
    let mut found = Vec::new();
    let mut add = |level, what: String, key: &str, advice: &str| {
        found.push(finding(level, what, &origin(loaded, key), advice));
    };
    if debug
        && !settings.allow_debug
        && let Some(bind) = settings.bind.iter().find(|bind| is_public(bind))
    {
        let what = format!("DEBUG is True and others can reach {bind}; serve refuses that");
        add(Weight::Error, what, "bind", "set DEBUG = False, listen on 127.0.0.1, or set allow_debug");
    }
    for (key, needs) in [("user", &settings.user), ("worker_user", &settings.worker_user)] {
        if let Some(user) = needs
            && let Err(error) = bandstand_supervisor::account_of(user)
        {
            add(Weight::Error, format!("{key}: {error}"), key, "make it, or name another");
        }
    }
    if settings.worker_user.is_some() && !is_root {
        let advice = "start as root, or with the capabilities CAP_SETUID and CAP_SETGID";
        add(Weight::Warning, "worker_user needs rights that this user has not".into(), "worker_user", advice);
    }
    if is_root && settings.user.is_none() {
        let what = "started by this user, bandstand runs as root";
        add(Weight::Warning, what.into(), "user", "set user");
    }
    let keeps = settings.uses_acme() || settings.local_https;
    if is_root && keeps && settings.user.is_some() && settings.worker_user.is_none() {
        let what = format!("the application can read the keys in {}", settings.state_dir.display());
        add(Weight::Warning, what, "state_dir", "set worker_user");
    }
    for key in exposed(settings) {
        add(Weight::Error, format!("everybody can read the key {key}"), "tls_key", "chmod o-r");
    }
    if !is_root && let Some(sentence) = bandstand_edge::unprivileged(settings) {
        add(Weight::Info, sentence, "bind", "");
    }
    found
}

/// Any address but those of the loopback. Whose sockets are passed by others is seen at the start.
fn is_public(bind: &Bind) -> bool {
    match bind {
        Bind::Tcp { host, .. } if host.is_empty() => true,
        Bind::Tcp { host, port, .. } => (host.as_str(), *port)
            .to_socket_addrs()
            .is_ok_and(|mut addresses| addresses.any(|address| !address.ip().to_canonical().is_loopback())),
        Bind::Unix(_) | Bind::Fd(_) | Bind::Systemd => false,
    }
}

fn exposed(settings: &Settings) -> Vec<String> {
    let keys = settings.certificate_files().into_iter().filter_map(|files| match files {
        CertificateFiles::Pair { key, .. } => Some(key),
        CertificateFiles::Tree(_) => None, // certbot's own modes
    });
    let open = keys.filter(|key| key.metadata().is_ok_and(|found| found.permissions().mode() & 0o004 != 0));
    open.map(|key| key.display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;

    fn lines(flags: &[(&str, &str)], debug: bool, is_root: bool) -> Vec<String> {
        let loaded = bandstand_config::load(bandstand_config::Sources {
            flags: flags.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect(),
            app_env: vec![],
            env: vec![],
            cwd: "/nowhere/shop".into(),
            cpus: std::num::NonZeroUsize::MIN,
            pid: 1,
            root: is_root,
        });
        look(&loaded.unwrap(), debug, is_root).iter().map(report::line).collect()
    }

    /// Row 98.
    #[test]
    fn debug_for_everybody_is_an_error() {
        for (bind, allowed, debug, wanted) in [
            ("0.0.0.0:8000", "off", true, true),
            (":8000", "off", true, true),
            ("192.0.2.1:8000", "off", true, true),
            ("127.0.0.1:8000", "off", true, false),
            ("[::1]:8000", "off", true, false),
            ("localhost:8000", "off", true, false),
            ("unix:/run/shop.sock", "off", true, false),
            ("0.0.0.0:8000", "on", true, false),
            ("0.0.0.0:8000", "off", false, false),
        ] {
            let found = lines(&[("bind", bind), ("allow_debug", allowed)], debug, false);
            let said = found.iter().any(|line| line.starts_with("error: DEBUG is True"));
            assert_eq!(said, wanted, "{bind} {allowed} {debug}: {found:?}");
        }
    }

    #[test]
    fn who_runs_as_whom() {
        let found = lines(&[], false, true);
        assert!(found[0].starts_with("warning: started by this user, bandstand runs as root"), "{found:?}");
        assert_eq!(lines(&[], false, false), [""; 0]);
        let found = lines(&[("user", "root"), ("local_https", "on")], false, true);
        assert!(found[0].contains("the application can read the keys in") && found.len() == 1, "{found:?}");
        let apart = [("user", "nobody"), ("worker_user", "4242"), ("local_https", "on")];
        assert_eq!(lines(&apart, false, true), [""; 0]);
        let found = lines(&[("worker_user", "no such user")], false, false);
        assert!(found[0].starts_with("error: worker_user: there is no user"), "{found:?}");
        assert!(found[1].starts_with("warning: worker_user needs rights"), "{found:?}");
    }
}
