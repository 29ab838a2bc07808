//! System calls; the only unsafe of the crate.
//!
//! Owns the shared memory of a board, what a child does between fork and exec (who it is, too), the signal that dumps stacks, the look
//! at zombies, and the C library's accounts. Every function is a thin, safe door; decisions are made elsewhere.
//! Invariant: a mapped board is never shorter than `BOARD_BYTES` (sealed) and is unmapped only when dropped.

use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::{fmt, io, mem, ptr};

use bandstand_wire::board::{BOARD_BYTES, STRIDE_WORDS};
use bandstand_wire::limits::PLACES;
use rustix::fs::{Gid, MemfdFlags, Mode, SealFlags, Uid};
use rustix::io::FdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::{Pid, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The words that the edge shares with one worker; `wire::board` tells what they mean.
pub struct Board {
    words: NonNull<AtomicU64>,
}

impl Board {
    /// A new board of zeros, and the descriptor that the worker maps.
    ///
    /// # Errors
    /// The system's, when there is no memory or no descriptor left.
    pub fn create() -> io::Result<(Board, OwnedFd)> {
        let memory =
            rustix::fs::memfd_create("bandstand-board", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&memory, BOARD_BYTES as u64)?;
        // Without the seals a worker could shorten the file, and the edge would die of SIGBUS at its next look.
        rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // SAFETY: a new mapping at an address of the kernel's choice takes nothing from anybody.
        let address = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(ptr::null_mut(), BOARD_BYTES, protection, MapFlags::SHARED, &memory, 0)?
        };
        let words = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok((Board { words }, memory))
    }

    /// The word of a place, `0 ≤ place < limits::PLACES`.
    ///
    /// # Panics
    /// Past the last place; places are the edge's own numbers and never come over the channel unchecked.
    pub fn word(&self, place: u16) -> &AtomicU64 {
        assert!(usize::from(place) < PLACES, "place {place} is past the board's {PLACES}");
        // SAFETY: the index is inside the mapping (asserted; BOARD_BYTES is PLACES * STRIDE_WORDS words), which is
        // page-aligned, sealed against shrinking, zeroed, and lives as long as self. The other process may write at
        // any time; both sides use atomics only.
        unsafe { self.words.add(usize::from(place) * STRIDE_WORDS).as_ref() }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: mapped by create() with this length; no reference outlives self. A failure leaks the mapping.
        let _ = unsafe { rustix::mm::munmap(self.words.as_ptr().cast(), BOARD_BYTES) };
    }
}

// SAFETY: the memory is reached through atomics only, and belongs to no thread.
unsafe impl Send for Board {}
// SAFETY: as above.
unsafe impl Sync for Board {}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Board")
    }
}

/// Takes over a descriptor that this program was started with, closed on exec from now on. To be called once a number.
///
/// # Errors
/// No such descriptor is open, or it is one of the three standard streams.
pub fn inherited_socket(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "descriptors 0 to 2 are the standard streams",
        ));
    }
    // SAFETY: only looked at: a number that is not open gives EBADF.
    rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, it came from whoever started us, and the caller takes it over once, before anything else is opened.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(number) })
}

/// Sets what the child does between fork and exec. `keep` stays open in it under the same numbers.
///
/// The parent-death signal follows the *thread* that forks: the caller's thread must live as long as the child may.
pub(crate) fn prepare_child(command: &mut Command, keep: Vec<RawFd>, umask: Option<u32>) {
    let parent = rustix::process::getpid();
    let ids = Ids::real();
    command.process_group(0); // Ctrl-C at the terminal reaches the edge alone, which then stops its workers in order
    // SAFETY: after fork in a program with threads only async-signal-safe calls are allowed: in_child makes bare
    // system calls on values copied into it, allocates nothing and takes no lock.
    unsafe { command.pre_exec(move || in_child(parent, ids, &keep, umask)) };
}

/// Has the command run with all ids as this process's effective ones.
pub(crate) fn run_as_self(command: &mut Command) {
    let ids = Ids { uid: rustix::process::geteuid(), gid: rustix::process::getegid() };
    // SAFETY: after fork only async-signal-safe calls are allowed: these are two bare system calls on copied values.
    unsafe { command.pre_exec(move || ids.take()) };
}

/// What a child is to be, in each of its ids.
#[derive(Clone, Copy)]
struct Ids {
    uid: Uid,
    gid: Gid,
}

impl Ids {
    /// This process's real ids, which are the workers' (`privileges`).
    fn real() -> Self {
        Self { uid: rustix::process::getuid(), gid: rustix::process::getgid() }
    }

    /// To be called in a process of one thread. Nobody needs a right for it: an id is exchanged for another that the process has.
    fn take(self) -> io::Result<()> {
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
        Ok(rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)?)
    }
}

fn in_child(parent: Pid, ids: Ids, keep: &[RawFd], umask: Option<u32>) -> io::Result<()> {
    // First, as a change of ids takes the parent-death signal back.
    ids.take()?;
    // What the app executes gains no rights by that, and neither does who breaks into it.
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(parent) {
        return Err(io::ErrorKind::BrokenPipe.into()); // the parent died before the line above
    }
    reset_signals();
    if let Some(mask) = umask {
        rustix::process::umask(Mode::from_raw_mode(mask));
    }
    // Whatever the edge inherited or a library opened without CLOEXEC (sockets, keys) is not the worker's. An error
    // means a kernel before 5.11 or a sandbox: then CLOEXEC, which everything here is opened with, must do.
    // SAFETY: a flag on this process's own descriptors; only exec, which follows, looks at it. Called by number, as
    // the C library has the function since glibc 2.34 only.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    for &descriptor in keep {
        // SAFETY: prepare_child's caller holds the descriptors until the child has been started.
        rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(descriptor) }, FdFlags::empty())?;
    }
    Ok(())
}

/// Ignored signals (nohup, background jobs) and blocked ones survive exec; Python expects neither.
fn reset_signals() {
    for number in 1..=64 {
        // SAFETY: the default disposition is valid for every signal; the C library refuses its own and KILL, STOP.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialised by sigemptyset before it is read.
    unsafe {
        let mut none = mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

/// SIGRTMIN+1: a worker's faulthandler writes all stacks when it arrives.
pub(crate) fn dump_signal() -> Signal {
    // SAFETY: the C library keeps only the signals below its SIGRTMIN for itself.
    unsafe { Signal::from_raw_unchecked(libc::SIGRTMIN() + 1) }
}

/// A descriptor that the runtime watches for reading: a process descriptor is readable once the process has ended.
/// Needs a runtime with I/O.
pub(crate) fn watch_readable(descriptor: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the AsyncFd owns a share of the descriptor, which therefore stays open and the same until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// A worker's channel or lane that the runtime watches, both ways. Needs a runtime with I/O.
///
/// # Errors
/// The system's, when the descriptor cannot be watched.
pub fn watch_channel(channel: UnixStream) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: the AsyncFd owns the stream, whose descriptor stays open and the same until it is dropped.
    Ok(unsafe { AsyncFd::register(channel) }?)
}

/// A child that has ended and was not reaped yet; it stays so.
pub(crate) fn next_zombie() -> Option<Pid> {
    // SAFETY: siginfo_t is plain data; waitid fills it, or leaves the zeros when nothing has ended.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        match libc::waitid(libc::P_ALL, 0, &mut info, options) {
            0 => Pid::from_raw(info.si_pid()),
            _ => None,
        }
    }
}

/// A user of this machine.
pub(crate) struct Account {
    pub(crate) name: CString,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Bytes for the strings of one account or group entry: groups with thousands of members fit.
const ENTRY_BYTES: usize = 256 * 1024;

/// The account of that name, if there is one.
pub(crate) fn account_by_name(name: &CStr) -> io::Result<Option<Account>> {
    // SAFETY: getpwnam_r gets valid pointers, and the buffer's true length.
    account(|entry, buffer, found| unsafe {
        libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), found)
    })
}

/// The account of that number, if there is one.
pub(crate) fn account_by_number(uid: u32) -> io::Result<Option<Account>> {
    // SAFETY: as above.
    account(|entry, buffer, found| unsafe {
        libc::getpwuid_r(uid, entry, buffer.as_mut_ptr(), buffer.len(), found)
    })
}

fn account(
    look_up: impl FnOnce(&mut libc::passwd, &mut [libc::c_char], &mut *mut libc::passwd) -> i32,
) -> io::Result<Option<Account>> {
    // SAFETY: passwd is plain data, for which zeros are valid.
    let mut entry: libc::passwd = unsafe { mem::zeroed() };
    let (mut buffer, mut found) = (vec![0; ENTRY_BYTES], ptr::null_mut());
    match look_up(&mut entry, &mut buffer, &mut found) {
        0 if found.is_null() => Ok(None),
        // SAFETY: on success pw_name points to a C string in buffer, which is still alive.
        0 => Ok(Some(Account {
            name: unsafe { CStr::from_ptr(entry.pw_name) }.to_owned(),
            uid: entry.pw_uid,
            gid: entry.pw_gid,
        })),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// The number of the group of that name, if there is one.
pub(crate) fn group_by_name(name: &CStr) -> io::Result<Option<u32>> {
    // SAFETY: group is plain data; getgrnam_r gets valid pointers and the buffer's true length.
    unsafe {
        let mut entry: libc::group = mem::zeroed();
        let (mut buffer, mut found) = (vec![0; ENTRY_BYTES], ptr::null_mut());
        match libc::getgrnam_r(name.as_ptr(), &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found) {
            0 => Ok((!found.is_null()).then_some(entry.gr_gid)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Gives this process, all its threads, the groups of `account` (`real` alone without one), then `real` as its real group
/// and `gid` as its effective and saved one.
pub(crate) fn become_group(real: u32, gid: u32, account: Option<&CStr>) -> io::Result<()> {
    // SAFETY: the pointers are valid for the calls. The C library's calls reach all threads, bare ones only this.
    unsafe {
        check(match account {
            Some(name) => libc::initgroups(name.as_ptr(), real),
            None => libc::setgroups(1, &real),
        })?;
        check(libc::setresgid(real, gid, gid))
    }
}

/// Gives this process, all its threads, `real` as its real user and `uid` as its effective and saved one.
pub(crate) fn become_user(real: u32, uid: u32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::setresuid(real, uid, uid) })
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_board_is_shared_and_cannot_be_shortened() {
        let (board, memory) = Board::create().unwrap();
        let last = PLACES as u16 - 1;
        board.word(last).store(7, Ordering::Release);
        assert_eq!(board.word(0).load(Ordering::Acquire), 0);
        let mut bytes = [0; 8];
        let at = (PLACES - 1) * STRIDE_WORDS * 8;
        rustix::io::pread(&memory, &mut bytes, at as u64).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), 7);
        for length in [0, BOARD_BYTES as u64 * 2] {
            assert_eq!(rustix::fs::ftruncate(&memory, length), Err(rustix::io::Errno::PERM), "{length}");
        }
    }

    #[test]
    #[should_panic(expected = "past the board")]
    fn a_place_past_the_board_is_refused() {
        Board::create().unwrap().0.word(PLACES as u16);
    }
}
