//! Listening sockets that were open before this program was: from the program that it replaces, or from systemd's store.
//!
//! Owns finding them in the environment and giving each to the address it was bound for, so that no client is refused while
//! programs change. Leaves binding to `listener`, the way back (handing down to the next program) to `server/upgrade.rs`.
//! Invariant: a descriptor is taken once, and one that nobody claims is closed. Sources: sd_listen_fds(3),
//! sd_pid_notify_with_fds(3) (`FDSTORE`), nginx's and gunicorn's USR2.

use std::os::fd::{OwnedFd, RawFd};

use serde::{Deserialize, Serialize};

/// Variable with an [`Estate`] as JSON. Not `BANDSTAND_…`: it is no setting, and no user's.
pub(crate) const ESTATE_ENV: &str = "HEIR_OF_BANDSTAND";
/// First descriptor that systemd passes (`sd_listen_fds(3)`).
const SYSTEMD_FIRST: RawFd = 3;
/// How the names of what we gave to systemd's store begin; sockets of socket units have names of their own.
const STORED: &str = "bandstand-";
/// Longest name that systemd takes.
const NAME_MOST: usize = 255;

/// What one program leaves to the next: numbers of descriptors that are open in it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Estate {
    /// `(address as it is written in the settings, descriptor)`; an address may have several.
    pub(crate) listeners: Vec<(String, RawFd)>,
    /// The control socket, listening.
    pub(crate) control: Option<(String, RawFd)>,
    /// A pipe to write a line to once the heir serves.
    pub(crate) ready: Option<RawFd>,
}

/// Sockets to be claimed.
#[derive(Debug, Default)]
pub(crate) struct HandedDown {
    listeners: Vec<(String, OwnedFd)>,
    /// The control socket's path and the socket.
    pub(crate) control: Option<(String, OwnedFd)>,
    /// Where the program before this one waits for a word.
    pub(crate) ready: Option<OwnedFd>,
    /// Sockets of systemd's socket units.
    units: Vec<OwnedFd>,
}

impl HandedDown {
    /// Takes what the environment names. To be called once, before anything is opened.
    pub(crate) fn take() -> Self {
        let mut taken = Self::default();
        if let Some(estate) = std::env::var(ESTATE_ENV).ok().and_then(|text| serde_json::from_str(&text).ok())
        {
            taken.inherit(estate);
        }
        for (number, name) in systemd_sockets() {
            let Some(socket) = adopt(number) else { continue };
            match address_of(&name) {
                Some(address) => taken.listeners.push((address, socket)),
                None => taken.units.push(socket),
            }
        }
        taken
    }

    fn inherit(&mut self, estate: Estate) {
        let listeners = estate.listeners.into_iter();
        self.listeners.extend(listeners.filter_map(|(address, number)| Some((address, adopt(number)?))));
        self.control = estate.control.and_then(|(path, number)| Some((path, adopt(number)?)));
        self.ready = estate.ready.and_then(adopt);
    }

    /// The sockets that were bound for this address, as it is written in the settings.
    pub(crate) fn claim(&mut self, address: &str) -> Vec<OwnedFd> {
        let (claimed, others) =
            std::mem::take(&mut self.listeners).into_iter().partition(|(of, _)| of == address);
        self.listeners = others;
        let claimed: Vec<(String, OwnedFd)> = claimed;
        claimed.into_iter().map(|(_, socket)| socket).collect()
    }

    /// Whether there is a socket for this address.
    pub(crate) fn has(&self, address: &str) -> bool {
        self.listeners.iter().any(|(of, _)| of == address)
    }

    /// The addresses that nobody has claimed.
    pub(crate) fn unclaimed(&self) -> Vec<String> {
        self.listeners.iter().map(|(address, _)| address.clone()).collect()
    }

    /// One socket, for tests.
    #[cfg(test)]
    pub(crate) fn of(address: &str, socket: OwnedFd) -> Self {
        Self { listeners: vec![(address.to_owned(), socket)], ..Self::default() }
    }

    /// The sockets of systemd's socket units.
    pub(crate) fn claim_units(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.units)
    }
}

/// A number that is not an open descriptor is not worth failing a start: the address is then bound anew.
fn adopt(number: RawFd) -> Option<OwnedFd> {
    bandstand_supervisor::inherited_socket(number).ok()
}

/// `(descriptor, name)` of what systemd has passed to this process.
fn systemd_sockets() -> Vec<(RawFd, String)> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let ours = variable("LISTEN_PID").parse() == Ok(std::process::id());
    let count = if ours { variable("LISTEN_FDS").parse().unwrap_or(0) } else { 0 };
    name_sockets(count, &variable("LISTEN_FDNAMES"))
}

fn name_sockets(count: u16, names: &str) -> Vec<(RawFd, String)> {
    let mut names = names.split(':');
    (0..RawFd::from(count))
        .map(|at| (SYSTEMD_FIRST + at, names.next().unwrap_or_default().to_owned()))
        .collect()
}

/// The name under which systemd stores the socket of an address; `None` if it would not take it. Colons separate names.
pub(crate) fn stored_name(address: &str) -> Option<String> {
    let plain = address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'|');
    let name = format!("{STORED}{}", address.replace(':', "|"));
    (plain && name.len() <= NAME_MOST).then_some(name)
}

fn address_of(name: &str) -> Option<String> {
    name.strip_prefix(STORED).map(|address| address.replace('|', ":"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn socket() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").unwrap().into()
    }

    #[test]
    fn addresses_survive_the_store() {
        for address in ["127.0.0.1:8000", ":443", "[::1]:80", "unix:/run/shop.sock", "localhost:0"] {
            let name = stored_name(address).unwrap();
            assert!(!name.contains(':'), "{name}");
            assert_eq!(address_of(&name).as_deref(), Some(address));
        }
        for address in ["unix:/run/a shop.sock", "unix:/run/a|b", &format!("unix:/{}", "x".repeat(260))] {
            assert_eq!(stored_name(address), None, "{address}");
        }
        assert_eq!(address_of("shop.socket"), None, "a socket unit's own name");
    }

    #[test]
    fn names_and_numbers_of_what_systemd_passes() {
        assert_eq!(name_sockets(0, "a:b"), []);
        let rows = [("", ["", ""]), ("web", ["web", ""]), ("bandstand-|80:web", ["bandstand-|80", "web"])];
        for (names, wanted) in rows {
            let wanted = [(3, wanted[0].to_owned()), (4, wanted[1].to_owned())];
            assert_eq!(name_sockets(2, names), wanted, "{names}");
        }
    }

    #[test]
    fn a_socket_is_claimed_once_and_by_its_address_only() {
        let listeners = [":80", ":80", ":81"].map(|address| (address.to_owned(), socket())).into();
        let mut given = HandedDown { listeners, units: vec![socket()], ..HandedDown::default() };
        assert!(given.claim(":8").is_empty());
        assert_eq!(given.claim(":80").len(), 2);
        assert!(given.claim(":80").is_empty());
        assert_eq!(given.claim(":81").len(), 1);
        assert_eq!((given.claim_units().len(), given.claim_units().len()), (1, 0));
    }

    #[test]
    fn an_estate_is_read_as_it_was_written() {
        let estate = Estate {
            listeners: vec![("127.0.0.1:0".into(), 5)],
            control: Some(("/run/x.sock".into(), 6)),
            ready: Some(7),
        };
        let read: Estate = serde_json::from_str(&serde_json::to_string(&estate).unwrap()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{estate:?}"));
    }
}
