//! The control socket itself: made so that it was never open to others, taken over when its server is gone, removed at the end.
//!
//! Owns the descriptor and the file. Where it is to be is `place.rs`'s, who is let in and what is said `serve.rs`'s.
//! Invariant: of two servers that start at once no two have one path (a lock on the folder), and a server removes no file
//! but its own. Source: unix(7), flock(2).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use tokio::sync::watch;

use super::place::{Place, fits};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 32;
/// How often, and how often at most, the folder's lock is tried: another server holds it for a millisecond.
const LOCK_TRIES: (u32, Duration) = (100, Duration::from_millis(20));

/// A control socket that listens. Removed on drop, unless it was handed over.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file: what is found under the path later may be another's.
    file: (u64, u64),
    holder: watch::Sender<Holder>,
}

/// Which program answers at the socket, of those that have it: at an upgrade in place two do for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// The one before this one.
    Former,
    /// This one.
    Us,
    /// The one after this one.
    Heir,
}

/// Makes the control socket, to be called before root is given away.
///
/// # Errors
/// The setting `control` names a path where a server answers or where no socket can be made; without it, no folder will
/// do. The sentence is for people.
pub fn open(place: &Place) -> io::Result<Control> {
    let owner = place.owner()?;
    if let Some(path) = place.chosen() {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let _lock = path.parent().map(lock).transpose().map_err(named)?;
        return match state(path).map_err(named)? {
            State::Alive => Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("another bandstand answers at {}: give each a `control` of its own", path.display()),
            )),
            State::Free => make(path, owner).map_err(named),
        };
    }
    let folder = place.folder()?;
    let _lock = lock(&folder)?;
    for path in place.candidates(&folder) {
        // A file that is no socket, or another user's: the next name will do.
        if matches!(state(&path), Ok(State::Free)) {
            return make(&path, owner);
        }
    }
    Err(io::Error::other(format!("every name in {} is taken", folder.display())))
}

impl Control {
    /// A socket of the program before this one, which goes on answering until `take_over`.
    ///
    /// # Errors
    /// The path is gone.
    pub fn inherited(socket: OwnedFd, path: PathBuf) -> io::Result<Self> {
        let file = identity(&path)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        let holder = watch::Sender::new(Holder::Former);
        Ok(Self { listener: UnixListener::from(socket), path, file, holder })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program before this one is done: from now on we let clients in, and remove the file at the end. Does nothing for
    /// a socket of our own.
    pub fn take_over(&self) {
        // Said again, so that clients are told our process id (unix(7), SO_PEERCRED); without it they are told another.
        let _ = listen(&self.listener, BACKLOG);
        self.holder.send_if_modified(|holder| {
            let waits = *holder == Holder::Former;
            if waits {
                *holder = Holder::Us;
            }
            waits
        });
    }

    /// It belongs to another program from now on: this one lets no more clients in, and the file stays at the end.
    pub fn hand_over(&self) {
        self.holder.send_replace(Holder::Heir);
    }

    /// Until this program is the one to answer.
    pub(super) async fn ours(&self) {
        // The sender is `self`: it does not end while we wait.
        let _ = self.holder.subscribe().wait_for(|holder| *holder != Holder::Former).await;
    }

    /// Until another program is.
    pub(super) async fn handed_over(&self) {
        let _ = self.holder.subscribe().wait_for(|holder| *holder == Holder::Heir).await;
    }

    /// What a task of the runtime accepts from.
    pub(crate) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if *self.holder.borrow() == Holder::Us && identity(&self.path).is_ok_and(|file| file == self.file) {
            // Where it cannot be, the next server of this project takes it over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Nothing, or a socket that nobody listens to.
    Free,
    /// A server that answers.
    Alive,
}

/// # Errors
/// Something is there that is not to be taken away: no socket, or one that we may not ask.
fn state(path: &Path) -> io::Result<State> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Free),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("there is a file of that name, and it is no socket"));
        }
        Ok(_) => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&probe, &SocketAddrUnix::new(path)?) {
        // A full queue has a server behind it too.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Ok(State::Alive),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(State::Free),
        Err(error) => Err(error.into()),
    }
}

/// Nobody can connect before `listen`, and by then the mode is right.
fn make(path: &Path, owner: Option<(u32, u32)>) -> io::Result<Control> {
    if !fits(path) {
        return Err(io::Error::other("too long a path for a socket"));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mode = Mode::RUSR | Mode::WUSR;
    // Linux gives the file the mode of the socket, whatever else happens to the path. Others do not know this.
    let chosen = fchmod(&socket, mode).is_ok();
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    if !chosen {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    }
    let file = identity(path)?;
    listen(&socket, BACKLOG)?;
    Ok(Control {
        listener: UnixListener::from(socket),
        path: path.to_owned(),
        file,
        holder: watch::Sender::new(Holder::Us),
    })
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Keeps other servers out of the folder until it is dropped.
fn lock(folder: &Path) -> io::Result<File> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let file = File::open(folder)?;
    for _ in 0..LOCK_TRIES.0 {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_TRIES.1),
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(file),
        }
    }
    Err(io::Error::other(format!("{} is locked by another process", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::Folder;

    fn at(folder: &Folder) -> Place {
        Place::at(folder.path().join("shop.sock"))
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_may_connect() {
        let folder = Folder::new();
        let control = open(&at(&folder)).unwrap();
        assert_eq!(mode(control.path()), 0o600);
        std::os::unix::net::UnixStream::connect(control.path()).unwrap();
    }

    #[test]
    fn a_socket_without_a_server_is_taken_over_and_one_with_is_not() {
        let folder = Folder::new();
        let place = at(&folder);
        drop(UnixListener::bind(place.chosen().unwrap()).unwrap());
        let control = open(&place).unwrap();
        let error = open(&place).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("another bandstand answers at"), "{error}");
        assert_eq!(state(control.path()).unwrap(), State::Alive);
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let folder = Folder::new();
        let place = at(&folder);
        fs::write(place.chosen().unwrap(), "precious").unwrap();
        let error = open(&place).unwrap_err();
        assert!(error.to_string().contains("no socket"), "{error}");
        assert_eq!(fs::read_to_string(place.chosen().unwrap()).unwrap(), "precious");
    }

    #[test]
    fn it_is_removed_at_the_end_and_only_by_its_own() {
        let folder = Folder::new();
        let place = at(&folder);
        let path = place.chosen().unwrap().to_owned();
        drop(open(&place).unwrap());
        assert!(!path.exists());
        let first = open(&place).unwrap();
        // As an operator who tidies up would: the next server makes another file of that name.
        fs::remove_file(&path).unwrap();
        let second = open(&place).unwrap();
        drop(first);
        assert!(path.exists(), "the file of the second");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_was_handed_over_stays() {
        let folder = Folder::new();
        let place = at(&folder);
        let old = open(&place).unwrap();
        let socket = old.as_fd().try_clone_to_owned().unwrap();
        let new = Control::inherited(socket, old.path().to_owned()).unwrap();
        drop(Control::inherited(old.as_fd().try_clone_to_owned().unwrap(), old.path().to_owned()).unwrap());
        assert!(old.path().exists(), "an heir that never got ready has taken nothing");
        new.take_over();
        old.hand_over();
        drop(old);
        std::os::unix::net::UnixStream::connect(new.path()).unwrap();
        let path = new.path().to_owned();
        drop(new);
        assert!(!path.exists());
    }

    #[test]
    fn a_second_instance_has_the_next_name() {
        let folder = Folder::new();
        let place = Place::within(
            crate::control::place::Surroundings {
                uid: rustix::process::geteuid().as_raw(),
                run: folder.path().join("none"),
                xdg: None,
                tmp: folder.path().to_owned(),
            },
            None,
        );
        let first = open(&place).unwrap();
        let second = open(&place).unwrap();
        assert!(second.path().to_str().unwrap().ends_with("-2.sock"));
        assert_eq!(place.sockets(), [first.path(), second.path()]);
        drop(first);
        let third = open(&place).unwrap();
        assert!(!third.path().to_str().unwrap().ends_with("-3.sock"), "the name that became free");
    }
}
