//! The addresses that are served: opened, taken away, handed on.
//!
//! Owns which listeners there are and the tasks that accept; how an address becomes sockets is `listener`'s. A reload opens
//! what is new before anything changes, and closes what is gone after everything has.
//! Invariant: an address that is in both the old and the new settings is never closed, not for a moment.

use std::fs::{self, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bandstand_config::{Bind, Settings};
use tokio::task::JoinHandle;

use crate::arrival;
use crate::connection::registry::Door;
use crate::handed_down::HandedDown;
use crate::listener::{self, BindError, Listener, Location};
use crate::server::quic::{self, Quic};
use crate::shared::Shared;

/// What is bound and does not accept yet.
#[derive(Default)]
pub(super) struct Bound {
    listeners: Vec<(Bind, Listener)>,
    /// Files of Unix sockets that were bound here: those of sockets that were handed down may serve another program.
    files: Vec<PathBuf>,
    /// The UDP sockets beside them.
    quic: quic::Ready,
}

/// All addresses that are served.
#[derive(Default)]
pub(super) struct Doors {
    open: Vec<Entrance>,
    quic: Quic,
}

/// One socket that accepts.
struct Entrance {
    bind: Bind,
    location: Location,
    port: Option<u16>,
    /// The same socket, to be handed on; `None`: the system had no descriptor left.
    socket: Option<OwnedFd>,
    file: Option<PathBuf>,
    door: Arc<Door>,
    accepting: JoinHandle<()>,
}

impl Bound {
    /// Binds all of `binds`.
    ///
    /// # Errors
    /// The first that cannot be bound; those before it are closed again.
    pub(super) fn all(binds: &[Bind], handed_down: &mut HandedDown) -> Result<Self, BindError> {
        let mut bound = Bound::default();
        // Two sockets at port 0 are two ports; other addresses are refused by the system the second time.
        let given = binds.iter().filter(|bind| matches!(bind, Bind::Fd(_) | Bind::Systemd));
        let mut again =
            given.clone().enumerate().filter(|(at, bind)| given.clone().take(*at).any(|b| b == *bind));
        if let Some((_, bind)) = again.next() {
            return Err(BindError::twice(bind));
        }
        for bind in binds {
            let inherited = handed_down.has(&bind.to_string());
            for listener in listener::bind(bind, handed_down)? {
                bound.files.extend(listener.file().filter(|_| !inherited).map(Path::to_owned));
                bound.listeners.push((bind.clone(), listener));
            }
        }
        Ok(bound)
    }
}

impl Bound {
    /// Binds the UDP sockets beside them, as far as HTTP/3 is to be spoken there.
    ///
    /// # Errors
    /// The first that cannot be bound.
    pub(super) fn add_udp(
        &mut self,
        settings: &Settings,
        handed_down: &mut HandedDown,
    ) -> Result<(), BindError> {
        let listeners = self.listeners.iter().filter_map(|(bind, listener)| match listener {
            Listener::Tcp(socket) => Some(quic::Listener { bind, socket: socket.as_fd() }),
            Listener::Unix(..) => None,
        });
        self.quic = quic::bind(listeners, settings, handed_down)?;
        Ok(())
    }

    /// Unix sockets are for everybody whom their folder lets in, as those of nginx and gunicorn are: a proxy is another user.
    /// `umask` takes bits away. `owner`: user and group whose they are to be.
    pub(super) fn let_in(&self, umask: Option<u32>, owner: Option<(u32, u32)>) {
        let mode = Permissions::from_mode(0o666 & !umask.unwrap_or(0));
        for file in &self.files {
            let given = owner.map_or(Ok(()), |(uid, gid)| lchown(file, Some(uid), Some(gid)));
            if let Err(error) = given.and_then(|()| fs::set_permissions(file, mode.clone())) {
                tracing::warn!(%error, socket = %file.display(), "other users may not be able to connect");
            }
        }
    }

    /// Where they are.
    pub(super) fn locations(&self) -> Vec<Location> {
        self.listeners.iter().map(|(_, listener)| listener.location()).collect()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.files.iter().for_each(|file| remove(file));
    }
}

impl Doors {
    /// As they are written in the settings.
    pub(super) fn binds(&self) -> Vec<Bind> {
        self.open.iter().map(|entrance| entrance.bind.clone()).collect()
    }

    /// Begins to accept.
    pub(super) fn open(&mut self, mut bound: Bound, shared: &Arc<Shared>) {
        bound.files.clear();
        self.quic.take(std::mem::take(&mut bound.quic));
        for (bind, listener) in std::mem::take(&mut bound.listeners) {
            let door = Arc::new(Door::default());
            let (location, port) = (listener.location(), listener.port());
            let file = listener.file().map(Path::to_owned);
            let socket = listener.duplicate().ok();
            let shared = shared.clone();
            let through =
                arrival::Entrance { bind: bind.clone(), port: port.unwrap_or(0), door: door.clone() };
            let accepting = tokio::spawn(async move {
                if let Err(error) = listener.accept(shared, through).await {
                    tracing::error!(%error, "a listener failed");
                }
            });
            self.open.push(Entrance { bind, location, port, socket, file, door, accepting });
        }
    }

    /// Speaks HTTP/3 where it is to be spoken, as the settings are now, and tells of it.
    pub(super) fn follow_quic(&mut self, shared: &Arc<Shared>) {
        let listeners = self.open.iter().filter(|entrance| entrance.port.is_some()).filter_map(|entrance| {
            Some(quic::Listener { bind: &entrance.bind, socket: entrance.socket.as_ref()?.as_fd() })
        });
        self.quic.follow(listeners, shared);
    }

    /// Where redirects to HTTPS go: the first port that speaks TLS, as the settings are now.
    pub(super) fn tell_https_port(&self, shared: &Shared) {
        let state = shared.state();
        let speaks_tls = |entrance: &&Entrance| {
            let port = entrance.port.unwrap_or(0);
            port != 0 && listener::speaks_tls(&state.settings, &entrance.bind, port)
        };
        let port = self.open.iter().filter(speaks_tls).find_map(|entrance| entrance.port);
        shared.https_port.store(port.unwrap_or(0), Ordering::Relaxed);
    }

    /// Closes all but `binds`; their connections close as they come to rest. The addresses that are gone.
    pub(super) fn keep_only(&mut self, binds: &[Bind], shared: &Shared) -> Vec<String> {
        let (kept, gone) = std::mem::take(&mut self.open)
            .into_iter()
            .partition::<Vec<_>, _>(|entrance| binds.contains(&entrance.bind));
        self.open = kept;
        let addresses = gone.iter().map(|entrance| entrance.bind.to_string()).collect();
        if !gone.is_empty() {
            gone.into_iter().for_each(|entrance| entrance.close(true));
            shared.connections.wake_all();
        }
        addresses
    }

    /// Accepts no more. `files`: those of Unix sockets are removed, nobody else needs them.
    pub(super) fn close_all(&mut self, files: bool) {
        self.quic.close_all();
        std::mem::take(&mut self.open).into_iter().for_each(|entrance| entrance.close(files));
    }

    /// Those of TCP with the port of their socket, which is not always the one that was written.
    pub(super) fn ports(&self) -> Vec<(Bind, u16)> {
        let ports = self.open.iter().map(|entrance| (entrance.bind.clone(), entrance.port));
        ports.filter_map(|(bind, port)| Some((bind, port?))).collect()
    }

    /// Where those of `binds` are.
    pub(super) fn locations(&self, binds: &[Bind]) -> Vec<Location> {
        let kept = self.open.iter().filter(|entrance| binds.contains(&entrance.bind));
        kept.map(|entrance| entrance.location.clone()).collect()
    }

    /// As a person would type them.
    pub(super) fn urls(&self, settings: &Settings) -> Vec<String> {
        self.open.iter().map(|entrance| entrance.location.url(&entrance.bind, settings)).collect()
    }

    /// `(address as it is written in the settings, socket)`, for a program that takes over.
    pub(super) fn sockets(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let sockets = self.open.iter().filter_map(|entrance| {
            entrance.socket.as_ref().map(|socket| (entrance.bind.to_string(), socket.as_fd()))
        });
        sockets.chain(self.quic.sockets()).collect()
    }
}

impl Entrance {
    fn close(self, file: bool) {
        self.accepting.abort();
        self.door.close();
        if let Some(path) = self.file.as_deref().filter(|_| file) {
            remove(path);
        }
    }
}

/// The file of a socket that nobody listens on any more; gone already is fine.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::shared;

    fn binds(texts: &[&str]) -> Vec<Bind> {
        texts.iter().map(|text| Bind::parse(text).unwrap()).collect()
    }

    /// A descriptor that is closed twice may be somebody else's the second time.
    #[test]
    fn a_descriptor_is_written_once() {
        let mut given = HandedDown::default();
        let refused = Bound::all(&binds(&["127.0.0.1:0", "systemd", "systemd"]), &mut given).err().unwrap();
        assert!(refused.to_string().ends_with("it is written twice"), "{refused}");
        assert_eq!(
            Bound::all(&binds(&["127.0.0.1:0", "127.0.0.1:0"]), &mut given).unwrap().listeners.len(),
            2
        );
    }

    /// A reload keeps, adds and takes away: what stays has the same socket.
    #[tokio::test]
    async fn an_address_that_stays_is_never_closed() {
        let folder = std::env::temp_dir().join(format!("bandstand-doors-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [stays, goes] = ["stays", "goes"].map(|name| folder.join(name));
        let bind = |path: &Path| Bind::Unix(path.to_owned());
        let shared = shared(|_| {});
        let mut doors = Doors::default();
        let first = [bind(&stays), bind(&goes)];
        doors.open(Bound::all(&first, &mut HandedDown::default()).unwrap(), &shared);
        let waiting = std::os::unix::net::UnixStream::connect(&stays).unwrap();
        let mut second = binds(&["127.0.0.1:0"]);
        second.push(bind(&stays));
        assert_eq!(doors.binds(), first);
        let new = binds(&["127.0.0.1:0"]);
        doors.open(Bound::all(&new, &mut HandedDown::default()).unwrap(), &shared);
        assert_eq!(doors.keep_only(&second, &shared), [bind(&goes).to_string()]);
        assert_eq!(doors.urls(&shared.state().settings).len(), 2);
        assert!(!goes.exists() && stays.exists());
        assert!(waiting.peer_addr().is_ok());
        assert!(std::os::unix::net::UnixStream::connect(&stays).is_ok());
        doors.close_all(true);
        assert!(!stays.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// A program that takes over and cannot leaves the file to the one that serves.
    #[test]
    fn what_was_handed_down_in_vain_stays() {
        let folder = std::env::temp_dir().join(format!("bandstand-heir-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let bind = Bind::Unix(folder.join("socket"));
        let served = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
        let mut handed_down = HandedDown::of(&bind.to_string(), served.try_clone().unwrap().into());
        drop(Bound::all(std::slice::from_ref(&bind), &mut handed_down).unwrap());
        assert!(std::os::unix::net::UnixStream::connect(folder.join("socket")).is_ok());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// What was bound for a reload that failed leaves nothing behind.
    #[test]
    fn what_was_bound_in_vain_is_gone() {
        let folder = std::env::temp_dir().join(format!("bandstand-vain-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        let both = [Bind::Unix(path.clone()), Bind::Unix(folder.join("no/such/folder"))];
        assert!(Bound::all(&both, &mut HandedDown::default()).is_err());
        assert!(!path.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
