//! Addresses to sockets, and sockets that accept.
//!
//! Owns binding (or taking over) of listeners, and accepting; what comes in is `arrival`'s. A listener that has no descriptor left waits a moment and asks
//! connections at rest to make room; it never spins and never ends by itself.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bandstand_config::{Bind, Settings};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::arrival::{self, Entrance};
use crate::handed_down::HandedDown;
use crate::shared::Shared;

/// Connections the kernel holds for us while we are busy; it takes less if `net.core.somaxconn` says so.
const BACKLOG: i32 = 4096;

/// A bound socket.
pub(crate) enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, Option<PathBuf>),
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    Tcp(Option<SocketAddr>),
    Unix(Option<PathBuf>),
}

impl Location {
    /// As a person would type it: `http://127.0.0.1:8000`, `https://shop.example`, `unix:/run/shop.sock`. An address that stands
    /// for all of the machine's is called by the first of `domains`.
    pub(crate) fn url(&self, bind: &Bind, settings: &Settings) -> String {
        let address = match self {
            Self::Tcp(Some(address)) => address,
            Self::Tcp(None) => return "http://?".to_owned(),
            Self::Unix(Some(path)) => return format!("unix:{}", path.display()),
            Self::Unix(None) => return "unix:?".to_owned(),
        };
        let (scheme, own) =
            if speaks_tls(settings, bind, address.port()) { ("https", 443) } else { ("http", 80) };
        let domain = settings.domains.iter().find(|domain| !domain.starts_with('*'));
        match domain.filter(|_| address.ip().is_unspecified()) {
            Some(domain) if address.port() == own => format!("{scheme}://{domain}"),
            Some(domain) => format!("{scheme}://{domain}:{}", address.port()),
            None => format!("{scheme}://{address}"),
        }
    }
}

/// Whether TLS is spoken at this address, which has this port.
pub(crate) fn speaks_tls(settings: &Settings, bind: &Bind, port: u16) -> bool {
    match bind {
        Bind::Fd(_) | Bind::Systemd => settings.speaks_tls_on(port),
        _ => settings.speaks_tls(bind),
    }
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub(crate) struct BindError {
    address: String,
    /// The one that was asked for; none for 0, which means any.
    port: Option<u16>,
    cause: io::Error,
}

impl BindError {
    /// The same address more than once.
    pub(crate) fn twice(bind: &Bind) -> Self {
        let cause = io::Error::new(io::ErrorKind::InvalidInput, "it is written twice");
        Self { address: bind.to_string(), port: None, cause }
    }

    /// The UDP socket beside a TCP listener.
    pub(crate) fn of_udp(address: SocketAddr, cause: io::Error) -> Self {
        Self { address: format!("udp {address}"), port: None, cause }
    }

    /// As it was asked for.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The TCP port that somebody else has.
    pub(crate) fn taken_port(&self) -> Option<u16> {
        self.port.filter(|_| self.cause.kind() == io::ErrorKind::AddrInUse)
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, cause, .. } = self;
        match cause.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: the address is in use by another program; stop it, or choose another with --bind"
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "cannot listen on {address}: permission denied; ports below 1024 want root, a socket from systemd, or \
                 CAP_NET_BIND_SERVICE"
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "cannot listen on {address}: this machine has no such address")
            }
            _ => write!(f, "cannot listen on {address}: {cause}"),
        }
    }
}

/// Opens the listeners of one address: a name may stand for several. What was handed down for it is taken over.
///
/// # Errors
/// It cannot be bound.
pub(crate) fn bind(bind: &Bind, handed_down: &mut HandedDown) -> Result<Vec<Listener>, BindError> {
    let port = match bind {
        Bind::Tcp { port, .. } if *port != 0 => Some(*port),
        _ => None,
    };
    let failed = |cause| BindError { address: bind.to_string(), port, cause };
    let taken = handed_down.claim(&bind.to_string());
    if !taken.is_empty() {
        let adopted = taken.into_iter().map(|socket| match (adopt(socket)?, bind) {
            (Listener::Unix(socket, _), Bind::Unix(path)) => Ok(Listener::Unix(socket, Some(path.clone()))),
            (listener, _) => Ok(listener),
        });
        return adopted.collect::<io::Result<_>>().map_err(failed);
    }
    match bind {
        Bind::Tcp { host, port, .. } => tcp(host, *port).map_err(failed),
        Bind::Unix(path) => Ok(vec![unix(path).map_err(failed)?]),
        Bind::Fd(number) => {
            let socket = bandstand_supervisor::inherited_socket(*number).map_err(failed)?;
            Ok(vec![adopt(socket).map_err(failed)?])
        }
        Bind::Systemd => {
            let units = handed_down.claim_units();
            if units.is_empty() {
                let none =
                    io::Error::new(io::ErrorKind::NotFound, "systemd has passed no socket (LISTEN_FDS)");
                return Err(failed(none));
            }
            units.into_iter().map(adopt).collect::<io::Result<_>>().map_err(failed)
        }
    }
}

fn tcp(host: &str, port: u16) -> io::Result<Vec<Listener>> {
    if host.is_empty() {
        // One socket for both families where the machine has IPv6.
        let both = listen_tcp(SocketAddr::new(IpAddr::from([0; 16]), port), false);
        let any = || listen_tcp(SocketAddr::new(IpAddr::from([0; 4]), port), true);
        return Ok(vec![both.or_else(|error| if is_family(&error) { any() } else { Err(error) })?]);
    }
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    addresses.sort();
    addresses.dedup();
    // `localhost` and port 0: the second family gets the port that the first was given.
    let mut listeners = Vec::new();
    let mut chosen = port;
    for mut address in addresses {
        address.set_port(chosen);
        match listen_tcp(address, true) {
            Ok(Listener::Tcp(socket)) => {
                chosen = socket.local_addr()?.port();
                listeners.push(Listener::Tcp(socket));
            }
            Ok(other) => listeners.push(other),
            Err(error) if is_family(&error) && !listeners.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    if listeners.is_empty() {
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address"));
    }
    Ok(listeners)
}

fn is_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn listen_tcp(address: SocketAddr, only_v6: bool) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it: no system call a connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(Listener::Tcp(socket.into()))
}

fn unix(path: &Path) -> io::Result<Listener> {
    // A socket file outlives its program; if nobody listens behind it, it is in the way.
    if path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket()) {
        let caller = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        caller.set_nonblocking(true)?; // somebody who listens may be too busy to answer
        match caller.connect(&SockAddr::unix(path)?) {
            Ok(()) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(_) => {}
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(Listener::Unix(OwnedFd::from(socket).into(), Some(path.to_owned())))
}

/// A socket that somebody else has bound.
fn adopt(socket: OwnedFd) -> io::Result<Listener> {
    let socket = Socket::from(socket);
    socket.set_nonblocking(true)?;
    let listens = rustix::net::sockopt::socket_acceptconn(&socket)?;
    if !listens {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the descriptor is no listening socket"));
    }
    match socket.domain()? {
        Domain::UNIX => Ok(Listener::Unix(OwnedFd::from(socket).into(), None)),
        _ => {
            socket.set_tcp_nodelay(true)?;
            Ok(Listener::Tcp(socket.into()))
        }
    }
}

impl Listener {
    /// Where it is.
    pub(crate) fn location(&self) -> Location {
        match self {
            Self::Tcp(socket) => Location::Tcp(socket.local_addr().ok()),
            Self::Unix(socket, path) => {
                let bound =
                    socket.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
                Location::Unix(path.clone().or(bound))
            }
        }
    }

    /// Of TCP.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok().map(|address| address.port()),
            Self::Unix(..) => None,
        }
    }

    /// Another descriptor of the same socket, for the program that takes over.
    ///
    /// # Errors
    /// None is left.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(socket) => socket.as_fd().try_clone_to_owned(),
            Self::Unix(socket, _) => socket.as_fd().try_clone_to_owned(),
        }
    }

    /// The file of a Unix socket that was made here.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(_, path) => path.as_deref(),
        }
    }

    /// Accepts for ever. Dropped, it accepts no more, and connections that are open stay.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    pub(crate) async fn accept(self, shared: Arc<Shared>, entrance: Entrance) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => accept_tcp(&TcpListener::from_std(socket)?, &shared, &entrance).await,
            Self::Unix(socket, _) => accept_unix(&UnixListener::from_std(socket)?, &shared, &entrance).await,
        }
        Ok(())
    }
}

async fn accept_tcp(socket: &TcpListener, shared: &Arc<Shared>, entrance: &Entrance) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => arrival::tcp(shared, entrance, stream, peer),
            Err(error) => cannot_accept(shared, &error).await,
        }
    }
}

async fn accept_unix(socket: &UnixListener, shared: &Arc<Shared>, entrance: &Entrance) {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => arrival::unix(shared, entrance, stream),
            Err(error) => cannot_accept(shared, &error).await,
        }
    }
}

/// The client may be gone already (that is its business), or we are out of descriptors or memory.
async fn cannot_accept(shared: &Arc<Shared>, error: &io::Error) {
    const PAUSE: Duration = Duration::from_millis(50);
    let exhausted = matches!(
        rustix::io::Errno::from_io_error(error),
        Some(
            rustix::io::Errno::MFILE
                | rustix::io::Errno::NFILE
                | rustix::io::Errno::NOBUFS
                | rustix::io::Errno::NOMEM
        )
    );
    if exhausted {
        tracing::error!(%error, "no connection can be accepted; those at rest are closed. See `ulimit -n`");
        shared.connections.close_resting();
        tokio::time::sleep(PAUSE).await;
    } else if error.kind() != io::ErrorKind::ConnectionAborted {
        // It may come again at once.
        tokio::time::sleep(PAUSE).await;
    }
}
