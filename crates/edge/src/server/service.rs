//! The service manager: what systemd is told, and that the program is alive.
//!
//! Owns the words of sd_notify(3): ready, reloading, stopping, status, the watchdog's sign of life, the sockets it is to keep
//! over a restart. Does nothing without `NOTIFY_SOCKET`. Invariant: telling never fails a run: a manager that does not
//! listen is its own concern. Sources: sd_notify(3), systemd.service(5) (`Type=notify-reload`), sd_watchdog_enabled(3).

use std::os::fd::BorrowedFd;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::handed_down::stored_name;

/// The server serves; `sentence` is what `systemctl status` shows.
pub(crate) fn ready(sentence: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(sentence)]);
}

/// A reload has begun; [`ready`] is its end, whatever came of it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of the reload"),
    }
}

/// The server finishes what runs.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing what runs")]);
}

/// What goes on, in one line.
pub(crate) fn status(sentence: &str) {
    tell(&[NotifyState::Status(sentence)]);
}

/// A start takes its time; it may take so much longer from now.
pub(crate) fn extend_start(by: Duration) {
    tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
}

/// Another process is the service from now on.
pub(crate) fn main_process(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// Gives listening sockets to the manager's store, so that a restart finds them open and no client is refused.
/// Only where the unit says `FileDescriptorStoreMax=`: systemd tells so in `FDSTORE` since version 254.
pub(crate) fn store(listeners: &[(String, BorrowedFd<'_>)]) {
    if !keeps_sockets() {
        return;
    }
    for (address, socket) in listeners {
        let Some(name) = stored_name(address) else { continue };
        let told =
            sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(&name)], &[*socket]);
        told.unwrap_or_else(
            |error| tracing::debug!(%error, address, "the service manager does not keep the socket"),
        );
    }
}

/// Takes the sockets of addresses that are served no more from the store: there they would go on to accept.
pub(crate) fn forget(addresses: &[String]) {
    if !keeps_sockets() {
        return;
    }
    for name in addresses.iter().filter_map(|address| stored_name(address)) {
        tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name)]);
    }
}

/// Whether sockets, and with them the files of Unix sockets, outlive this program.
pub(crate) fn keeps_sockets() -> bool {
    ["FDSTORE", "NOTIFY_SOCKET"].iter().all(|name| std::env::var_os(name).is_some())
}

/// Gives a sign of life twice in each period that the manager asks for (`WatchdogSec=`); returns at once where it asks for
/// none. It runs among everything else the edge does, so that a loop that stands still gives none.
pub(crate) async fn keep_alive() {
    let Some(period) = watchdog_period(
        std::env::var("WATCHDOG_USEC").ok().as_deref(),
        std::env::var("WATCHDOG_PID").ok().as_deref(),
        std::process::id(),
    ) else {
        return;
    };
    let mut beat = tokio::time::interval(period / 2);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// The period, if it is meant for this process (sd_watchdog_enabled(3)).
fn watchdog_period(microseconds: Option<&str>, pid: Option<&str>, ours: u32) -> Option<Duration> {
    let meant = pid.is_none_or(|pid| pid.parse() == Ok(ours));
    let microseconds: u64 = microseconds?.parse().ok()?;
    (meant && microseconds > 0).then(|| Duration::from_micros(microseconds))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_whom_the_watchdog_barks() {
        let minute = Some(Duration::from_secs(60));
        for (microseconds, pid, wanted) in [
            (None, None, None),
            (Some("60000000"), None, minute),
            (Some("60000000"), Some("7"), minute),
            (Some("60000000"), Some("8"), None),
            (Some("60000000"), Some("x"), None),
            (Some("0"), Some("7"), None),
            (Some("-1"), None, None),
        ] {
            assert_eq!(watchdog_period(microseconds, pid, 7), wanted, "{microseconds:?} {pid:?}");
        }
    }
}
