//! Gives root away, for good, once sockets are bound and keys are read.
//!
//! Owns the order of the steps; the calls are in `sys`. Where workers are to be another user, the process's real ids are
//! theirs from then on and its effective and saved ids its own: so it can make such processes and send them signals without
//! any capability, and files are opened as itself. The price: a worker may send this process signals too, as it may where both are one
//! user. Invariant: success means that the process, every thread of it, runs as the user and cannot become root again.
//! Sources: credentials(7), initgroups(3), kill(2), setresuid(2), prctl(2).

use std::ffi::CString;
use std::process::Command;
use std::{fmt, io};

use rustix::process::{DumpableBehavior, Uid, getegid, geteuid, getgid, getuid};
use rustix::thread::CapabilitySet;

use crate::sys::{self, Account};

/// Why the program still runs as who it was; the operator's settings or rights are at fault.
#[derive(Debug)]
pub enum PrivilegeError {
    /// No such user on this machine.
    UnknownUser(String),
    /// No such group on this machine.
    UnknownGroup(String),
    /// Only root may change user or group.
    NotRoot,
    /// Only root, or who has the capabilities for it, may have workers of another user.
    NotForWorkers,
    /// Workers as root, while the program itself is not.
    WorkersAsRoot,
    /// The change seemed to work, but root could be had back.
    NotForGood,
    /// The system refused.
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

impl fmt::Display for PrivilegeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUser(name) => write!(f, "there is no user `{name}` on this machine"),
            Self::UnknownGroup(name) => write!(f, "there is no group `{name}` on this machine"),
            Self::NotRoot => f.write_str(
                "only root can change user or group: start bandstand as root, or take `user` and `group` out",
            ),
            Self::NotForWorkers => f.write_str(
                "only root can have workers of another user: start bandstand as root, or with the capabilities \
                 CAP_SETUID and CAP_SETGID, or take `worker_user` out",
            ),
            Self::WorkersAsRoot => f.write_str("`worker_user` is root, and `user` is not: name another one"),
            Self::NotForGood => f.write_str("root could be had back after the change of user"),
            Self::System { what, cause } => write!(f, "cannot {what}: {cause}"),
        }
    }
}

impl std::error::Error for PrivilegeError {}

/// Who the processes of this program are to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Users<'a> {
    /// Of this process, by name or number; `None`: as it is.
    pub user: Option<&'a str>,
    /// The same of its group; without it the user's own.
    pub group: Option<&'a str>,
    /// Of the workers; `None`: as this process.
    pub worker_user: Option<&'a str>,
}

/// Changes to the user and group with the user's further groups; with `worker_user` it has those of that user, so that workers
/// have nothing of this process's. Does nothing when nothing is named, or when it is so already. To be called before the
/// fleet starts: workers inherit it; and without root before any other thread is started.
///
/// # Errors
/// See [`PrivilegeError`]; after an error the process must end, as part of the change may have happened.
pub fn drop_privileges(users: Users<'_>) -> Result<(), PrivilegeError> {
    let account = users.user.map(find_user).transpose()?;
    let workers = users.worker_user.map(find_user).transpose()?;
    let gid = match (users.group, &account) {
        (Some(group), _) => find_group(group)?,
        (None, Some(account)) => account.gid,
        (None, None) => getegid().as_raw(),
    };
    let uid = account.as_ref().map_or_else(|| geteuid().as_raw(), |account| account.uid);
    let real = workers.as_ref().map_or((uid, gid), |workers| (workers.uid, workers.gid));
    // As they are for an heir of this program, or one that was started as all of them.
    let is_so = (uid, gid) == (geteuid().as_raw(), getegid().as_raw())
        && real == (getuid().as_raw(), getgid().as_raw());
    if is_so {
        return Ok(());
    }
    if real.0 == 0 && uid != 0 {
        return Err(PrivilegeError::WorkersAsRoot);
    }
    if !geteuid().is_root() && (uid, gid) != (geteuid().as_raw(), getegid().as_raw()) {
        return Err(PrivilegeError::NotRoot);
    }
    let groups_of = workers.as_ref().or(account.as_ref());
    let name = groups_of.map(|account| account.name.as_c_str()).filter(|name| !name.is_empty());
    let failed = |what| {
        move |cause: io::Error| match cause.kind() {
            io::ErrorKind::PermissionDenied if users.worker_user.is_some() => PrivilegeError::NotForWorkers,
            _ => PrivilegeError::System { what, cause },
        }
    };
    sys::become_group(real.1, gid, name).map_err(failed("change group"))?;
    sys::become_user(real.0, uid).map_err(failed("change user"))?;
    if uid != 0 {
        give_up_ids().map_err(failed("give up the right to change user"))?;
        // In this thread alone: the C library ends a process whose threads do not agree.
        let root = Uid::ROOT;
        if rustix::thread::set_thread_res_uid(root, root, root).is_ok() {
            return Err(PrivilegeError::NotForGood);
        }
    }
    Ok(())
}

/// Who was started with the capability to change users has no more use for it, and could become root by it. Root has lost it
/// with the change of user. Capabilities are each thread's own: this one's, and those that it starts.
fn give_up_ids() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    let ids = CapabilitySet::SETUID | CapabilitySet::SETGID;
    if !sets.permitted.intersects(ids) {
        return Ok(());
    }
    sets.effective.remove(ids);
    sets.permitted.remove(ids);
    sets.inheritable.remove(ids);
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// From now on no process made by this thread, or by those that it starts, gains rights by executing a file (set-user-ID,
/// file capabilities), nor takes along the capabilities that this one was started with; and nobody but root reads this process's
/// memory, where keys are. To be called after `drop_privileges`, before threads are started.
///
/// # Errors
/// The system's, a kernel before 4.3 or a sandbox.
pub fn lock_down() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set()?;
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Has the command run as this process is when it opens files, and not as its workers. Shells would choose the workers'
/// user by themselves, where the two differ.
pub fn run_as_self(command: &mut Command) {
    sys::run_as_self(command);
}

/// Whether workers are another user than this process, and so read none of its files that are not for everybody.
pub fn workers_are_apart() -> bool {
    getuid() != geteuid()
}

/// User and group numbers of `user` (name or number), for what is to be given to it before the change.
///
/// # Errors
/// There is no such user, or the system cannot tell.
pub fn account_of(user: &str) -> Result<(u32, u32), PrivilegeError> {
    find_user(user).map(|account| (account.uid, account.gid))
}

fn find_user(user: &str) -> Result<Account, PrivilegeError> {
    let unknown = || PrivilegeError::UnknownUser(user.to_owned());
    let failed = |cause| PrivilegeError::System { what: "look up the user", cause };
    let name = CString::new(user).map_err(|_| unknown())?;
    if let Some(account) = sys::account_by_name(&name).map_err(failed)? {
        return Ok(account);
    }
    // A number without an account is common in containers; it has no further groups, and its own number as group.
    let uid = user.parse().map_err(|_| unknown())?;
    let account = sys::account_by_number(uid).map_err(failed)?;
    Ok(account.unwrap_or(Account { name: CString::default(), uid, gid: uid }))
}

fn find_group(group: &str) -> Result<u32, PrivilegeError> {
    let unknown = || PrivilegeError::UnknownGroup(group.to_owned());
    let name = CString::new(group).map_err(|_| unknown())?;
    let found = sys::group_by_name(&name)
        .map_err(|cause| PrivilegeError::System { what: "look up the group", cause })?;
    found.or_else(|| group.parse().ok()).ok_or_else(unknown)
}
