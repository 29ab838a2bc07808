//! What the server may do, and what it gives away (docs/decisions/0007-front-door.md, "Rights").
//!
//! Owns the order: folders of its own are made while it may, then user and workers' user are taken on, then nobody gains rights
//! any more; and the sentences that say what could not be had. Leaves the calls to `bandstand_supervisor`. Called after
//! addresses are bound and certificates are read. Invariant: workers never have more rights than this process.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};

use bandstand_config::{Bind, CertificateFiles, Settings};
use bandstand_supervisor::{Users, account_of, drop_privileges, lock_down, workers_are_apart};
use rustix::thread::CapabilitySet;

use super::{Mode, ServeError};
use crate::listener::Location;
use crate::shared::State;

/// Becomes who the settings say, for good.
///
/// # Errors
/// A user is unknown, or this process may not become it: a sentence.
pub(super) fn give_away(settings: &Settings, mode: Mode) -> Result<(), ServeError> {
    let sentence = |error: &dyn std::fmt::Display| ServeError::new(error.to_string());
    let was_root = rustix::process::geteuid().is_root();
    if let Some(user) = settings.user.as_deref().filter(|_| was_root)
        && keeps_secrets(settings)
    {
        let (uid, gid) = account_of(user).map_err(|error| sentence(&error))?;
        own(&settings.state_dir, uid, gid)
            .map_err(|error| sentence(&format!("state_dir, {}: {error}", settings.state_dir.display())))?;
    }
    drop_privileges(users(settings)).map_err(|error| sentence(&error))?;
    if let Err(error) = lock_down() {
        tracing::warn!(%error, "set-user-ID programs still give rights to what the application runs");
    }
    if mode == Mode::Serve {
        say(settings, was_root);
    }
    Ok(())
}

/// The same for a start without root, which has nothing to wait for, and before the first thread: the capability to change users
/// is one that every thread has to give up. Does nothing for root.
///
/// # Errors
/// As `give_away`.
pub(super) fn give_away_early(settings: &Settings) -> Result<(), ServeError> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    drop_privileges(users(settings)).map_err(|error| ServeError::new(error.to_string()))
}

fn users(settings: &Settings) -> Users<'_> {
    Users {
        user: settings.user.as_deref(),
        group: settings.group.as_deref(),
        worker_user: settings.worker_user.as_deref(),
    }
}

/// Whether `state_dir` holds keys.
fn keeps_secrets(settings: &Settings) -> bool {
    settings.uses_acme() || settings.local_https
}

/// Makes the folder, and gives it to the user with all that is in it. Only what is root's alone is given away: in a folder of
/// somebody else a link could stand for any file.
fn own(folder: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let found = fs::symlink_metadata(folder)?;
    if found.uid() != 0 || uid == 0 || found.mode() & 0o022 != 0 {
        return Ok(());
    }
    give(folder, uid, gid)
}

fn give(path: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), uid, gid)?;
        }
    }
    lchown(path, Some(uid), Some(gid))
}

/// What an administrator would want to know, once.
fn say(settings: &Settings, was_root: bool) {
    let secrets = secrets(settings);
    let unreadable = |path: &&PathBuf| matches!(fs::File::open(path), Err(error) if error.kind() == ErrorKind::PermissionDenied);
    let (locked, open): (Vec<&PathBuf>, Vec<&PathBuf>) = secrets.iter().partition(unreadable);
    if rustix::process::geteuid().is_root() {
        tracing::warn!(
            "bandstand runs as root{}: set `user`",
            if workers_are_apart() { "" } else { ", and so does the application" }
        );
    } else if was_root && !workers_are_apart() && !open.is_empty() {
        tracing::warn!(
            "the application runs as the same user and can read {}: set `worker_user`",
            listed(&open)
        );
    }
    if !locked.is_empty() {
        tracing::warn!(
            "{} cannot be read any more as {}: what is renewed there is noticed at the next start only",
            listed(&locked),
            current_user(settings)
        );
    }
    if !was_root && let Some(sentence) = unprivileged(settings) {
        tracing::info!("{sentence}");
    }
}

fn current_user(settings: &Settings) -> String {
    let uid = rustix::process::geteuid().as_raw();
    settings.user.clone().map_or_else(|| format!("user {uid}"), |user| format!("{user} (user {uid})"))
}

fn listed(paths: &[&PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Files and folders with keys.
fn secrets(settings: &Settings) -> Vec<PathBuf> {
    let files = settings.certificate_files().into_iter().map(|files| match files {
        CertificateFiles::Tree(folder) => folder,
        CertificateFiles::Pair { key, .. } => key,
    });
    let mut paths: Vec<PathBuf> = files.collect();
    if keeps_secrets(settings) {
        paths.push(settings.state_dir.clone());
    }
    paths
}

/// What a start without root could and could not do; `None`: it asked for nothing that root is needed for.
pub fn unprivileged(settings: &Settings) -> Option<String> {
    let low = settings.bind.iter().filter(|bind| is_low(bind)).map(ToString::to_string);
    let low = low.collect::<Vec<_>>().join(", ");
    let passed = settings.bind.iter().any(|bind| matches!(bind, Bind::Fd(_) | Bind::Systemd));
    let bound = match (low.is_empty(), passed) {
        (true, false) if workers_are_apart() => {
            return Some(format!(
                "runs as user {}, and workers as user {}",
                rustix::process::geteuid().as_raw(),
                rustix::process::getuid().as_raw()
            ));
        }
        (true, false) => return None,
        (true, true) => "sockets came from who started it".to_owned(),
        (false, _) if may_bind_low() => format!("{low} by the capability CAP_NET_BIND_SERVICE"),
        (false, _) => format!("{low} by sockets that were handed down"),
    };
    let workers = match (workers_are_apart(), secrets(settings).is_empty()) {
        (true, _) => "workers are another user",
        (false, true) => "workers are the same user",
        (false, false) => "workers are the same user, and can read its keys",
    };
    let uid = rustix::process::geteuid().as_raw();
    Some(format!("runs as user {uid}, not root: {bound}; {workers}"))
}

/// Whether `bind` is a port that only root and `CAP_NET_BIND_SERVICE` may bind.
pub fn is_low(bind: &Bind) -> bool {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first = first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    matches!(bind, Bind::Tcp { port, .. } if (1..first).contains(port))
}

fn may_bind_low() -> bool {
    let sets = rustix::thread::capabilities(None);
    sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_BIND_SERVICE))
}

/// The first place that others can reach: any address but those of the loopback. Networks at home and in offices are others too.
pub(super) fn reached_by_others(mut places: impl Iterator<Item = Location>) -> Option<String> {
    places.find_map(|place| match place {
        Location::Tcp(Some(address)) if !address.ip().to_canonical().is_loopback() => {
            Some(address.to_string())
        }
        _ => None,
    })
}

/// Why a project with `DEBUG = True` is not served; `reached`: an address that others can reach.
///
/// # Errors
/// A sentence; the generation must not serve.
pub(super) fn debug_is_private(state: &State, mode: Mode, reached: Option<&str>) -> Result<(), String> {
    let django = state.project.as_ref().and_then(|project| project.said.django.as_ref());
    let debug = django.is_some_and(|django| django.debug);
    judge(debug && !state.settings.allow_debug, mode, reached)
}

fn judge(debug: bool, mode: Mode, reached: Option<&str>) -> Result<(), String> {
    match reached.filter(|_| debug) {
        None => Ok(()),
        Some(address) if mode == Mode::Dev => {
            tracing::warn!(
                "DEBUG is on and others can reach {address}: error pages show them settings and code of the project"
            );
            Ok(())
        }
        Some(address) => Err(format!(
            "DEBUG is True and others can reach {address}: error pages would show them settings and code of the \
             project. Set DEBUG = False, listen on 127.0.0.1, or set allow_debug"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row 98.
    #[test]
    fn what_others_can_reach() {
        for (address, wanted) in [
            ("127.0.0.1:8000", false),
            ("127.9.9.9:8000", false),
            ("[::1]:443", false),
            ("[::ffff:127.0.0.1]:80", false),
            ("0.0.0.0:8000", true),
            ("[::]:443", true),
            ("192.168.1.5:8000", true),
            ("10.0.0.1:80", true),
            ("203.0.113.9:443", true),
        ] {
            let places = [Location::Unix(None), Location::Tcp(Some(address.parse().unwrap()))];
            assert_eq!(reached_by_others(places.into_iter()).is_some(), wanted, "{address}");
        }
    }

    /// Row 98.
    #[test]
    fn debug_is_served_to_nobody_else() {
        let public = Some("0.0.0.0:8000");
        for (mode, debug, reached, wanted) in [
            (Mode::Serve, true, public, false),
            (Mode::Serve, true, None, true),
            (Mode::Serve, false, public, true),
            (Mode::Dev, true, public, true),
        ] {
            assert_eq!(judge(debug, mode, reached).is_ok(), wanted, "{mode:?} {debug} {reached:?}");
        }
    }

    #[test]
    fn a_folder_is_given_away_once_and_no_link_is_followed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let root = std::env::temp_dir().join(format!("bandstand-rights-{}", std::process::id()));
        let (folder, outside) = (root.join("state"), root.join("outside"));
        fs::create_dir_all(folder.join("keys")).unwrap();
        fs::write(folder.join("keys/a.key"), "").unwrap();
        fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();
        own(&folder, 4242, 4243).unwrap();
        let uid = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        assert_eq!((uid(&folder), uid(&folder.join("keys/a.key")), uid(&outside)), (4242, 4242, 0));
        fs::write(folder.join("late"), "").unwrap();
        own(&folder, 4242, 4243).unwrap();
        assert_eq!(uid(&folder.join("late")), 0, "what is the user's already is left alone");
        fs::remove_dir_all(&root).unwrap();
    }
}
