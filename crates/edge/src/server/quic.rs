//! The UDP sockets beside TCP listeners that speak TLS, where `http3` is on.
//!
//! Owns which there are, the tasks that accept by them, and that answers tell of them. At a start they are bound before
//! rights are given away, and one that cannot be is an error; a reload that turns `http3` on binds what it may, and says what
//! it may not. Leaves what comes in to `connection::h3`.
//! Invariant: there is one for an address exactly as long as a TCP listener there speaks TLS and `http3` is on.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Weak};

use bandstand_config::{Bind, Settings};
use socket2::SockRef;
use tokio::task::JoinHandle;

use crate::connection::h3::{Endpoint, OpenEndpoint};
use crate::connection::registry::Door;
use crate::handed_down::HandedDown;
use crate::listener::{self, BindError};
use crate::shared::Shared;

/// Bound, and read by nobody yet.
pub(super) type Ready = Vec<(SocketAddr, Endpoint)>;

/// All that are served.
#[derive(Default)]
pub(super) struct Quic {
    ready: Ready,
    open: Vec<Beside>,
    /// Closed, while a connection holds the socket still: nobody else can bind the address meanwhile.
    closed: Vec<(SocketAddr, Weak<OpenEndpoint>)>,
}

struct Beside {
    bind: Bind,
    address: SocketAddr,
    endpoint: Arc<OpenEndpoint>,
    door: Arc<Door>,
    accepting: JoinHandle<()>,
}

/// A TCP listener beside which there may be one.
pub(super) struct Listener<'l> {
    pub(super) bind: &'l Bind,
    pub(super) socket: BorrowedFd<'l>,
}

/// Binds what these settings want, before anything is served.
///
/// # Errors
/// The first that cannot be bound.
pub(super) fn bind<'l>(
    listeners: impl Iterator<Item = Listener<'l>>,
    settings: &Settings,
    handed_down: &mut HandedDown,
) -> Result<Ready, BindError> {
    let mut ready = Ready::new();
    let mut taken: Ready = Vec::new();
    for listener in listeners {
        let Some(address) = wanted(&listener, settings) else { continue };
        let adopted = handed_down.claim(&name(listener.bind)).into_iter().filter_map(|socket| {
            let address = SockRef::from(&socket).local_addr().ok()?.as_socket()?;
            Some((address, Endpoint::adopt(socket).ok()?))
        });
        taken.extend(adopted);
        let endpoint = match taken.iter().position(|(of, _)| *of == address) {
            Some(at) => taken.swap_remove(at).1,
            None => Endpoint::beside(&listener.socket).map_err(|cause| BindError::of_udp(address, cause))?,
        };
        ready.push((address, endpoint));
    }
    Ok(ready)
}

/// The address that it has, if HTTP/3 is to be spoken beside it.
fn wanted(listener: &Listener<'_>, settings: &Settings) -> Option<SocketAddr> {
    if !settings.http3 {
        return None;
    }
    let address = SockRef::from(&listener.socket).local_addr().ok()?.as_socket()?;
    listener::speaks_tls(settings, listener.bind, address.port()).then_some(address)
}

/// How the socket is called when it is handed on.
fn name(bind: &Bind) -> String {
    format!("udp {bind}")
}

impl Quic {
    /// These were bound for what is opened next.
    pub(super) fn take(&mut self, ready: Ready) {
        self.ready.extend(ready);
    }

    /// Opens and closes, until it is as the listeners and the settings are now.
    pub(super) fn follow<'l>(&mut self, listeners: impl Iterator<Item = Listener<'l>>, shared: &Arc<Shared>) {
        let state = shared.state();
        let wanted: Vec<_> =
            listeners.filter_map(|listener| Some((wanted(&listener, &state.settings)?, listener))).collect();
        let (kept, gone) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|beside: &Beside| wanted.iter().any(|(address, _)| *address == beside.address));
        self.open = kept;
        let gone: Vec<Beside> = gone;
        let was_any = !gone.is_empty();
        self.closed.retain(|(_, endpoint)| endpoint.strong_count() > 0);
        self.closed.extend(gone.into_iter().map(Beside::close));
        if was_any {
            shared.connections.wake_all();
        }
        for (address, listener) in wanted {
            if self.open.iter().all(|beside| beside.address != address) {
                self.open_one(address, &listener, shared);
            }
        }
        self.ready.clear();
        shared.alt_svc.tell(self.open.iter().map(|beside| beside.address.port()));
    }

    fn open_one(&mut self, address: SocketAddr, listener: &Listener<'_>, shared: &Arc<Shared>) {
        let held = self.closed.iter().find(|(of, _)| *of == address);
        let opened = match held.and_then(|(_, endpoint)| endpoint.upgrade()) {
            Some(endpoint) => Ok(endpoint),
            None => self.bound(address, listener).and_then(Endpoint::open).map(Arc::new),
        };
        let endpoint = match opened {
            Ok(endpoint) => endpoint,
            Err(cause) => {
                let error = BindError::of_udp(address, cause);
                return tracing::error!(%error, "HTTP/3 is not served at this address");
            }
        };
        let door = Arc::new(Door::default());
        let accepting = tokio::spawn(endpoint.accept(shared.clone(), door.clone()));
        self.open.push(Beside { bind: listener.bind.clone(), address, endpoint, door, accepting });
    }

    fn bound(&mut self, address: SocketAddr, listener: &Listener<'_>) -> io::Result<Endpoint> {
        match self.ready.iter().position(|(of, _)| *of == address) {
            Some(at) => Ok(self.ready.swap_remove(at).1),
            None => Endpoint::beside(&listener.socket),
        }
    }

    /// Accepts no more.
    pub(super) fn close_all(&mut self) {
        std::mem::take(&mut self.open).into_iter().for_each(|beside| drop(beside.close()));
    }

    /// `(name, socket)`, for a program that takes over. Until this one has drained, both read the same socket: what one gets
    /// that is the other's is lost, and sent again by the client.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        let sockets = self.open.iter();
        sockets.filter_map(|beside| Some((name(&beside.bind), beside.endpoint.socket()?)))
    }
}

impl Beside {
    /// Lets nobody else in. What is given can be opened again as long as connections hold the socket.
    fn close(self) -> (SocketAddr, Weak<OpenEndpoint>) {
        self.accepting.abort();
        self.endpoint.refuse();
        self.door.close();
        let held = Arc::downgrade(&self.endpoint);
        tokio::spawn(async move { self.endpoint.wait_idle().await });
        (self.address, held)
    }
}
