//! Gives root away, for good, once sockets are bound and keys are read.
//!
//! Owns the order of the steps; the calls are in `sys`. Invariant: success means that the process, every thread of it,
//! runs as the user and cannot become root again. As a side effect the kernel marks the process as not dumpable, so
//! workers of the same user cannot read the edge's memory; that is wanted. Source: credentials(7), initgroups(3).

use std::ffi::CString;
use std::{fmt, io};

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
            Self::NotForGood => f.write_str("root could be had back after the change of user"),
            Self::System { what, cause } => write!(f, "cannot {what}: {cause}"),
        }
    }
}

impl std::error::Error for PrivilegeError {}

/// Changes to `user` (name or number) and `group` (name or number; without it the user's own), with the user's
/// further groups. Does nothing when both are `None`, or when the process is that user and group already.
/// To be called before the fleet starts: workers inherit it.
///
/// # Errors
/// See [`PrivilegeError`]; after an error the process must end, as part of the change may have happened.
pub fn drop_privileges(user: Option<&str>, group: Option<&str>) -> Result<(), PrivilegeError> {
    let account = user.map(find_user).transpose()?;
    let gid = match (group, &account) {
        (Some(group), _) => find_group(group)?,
        (None, Some(account)) => account.gid,
        (None, None) => return Ok(()),
    };
    let uid = account.as_ref().map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
    if rustix::process::geteuid().as_raw() != 0 {
        let same = uid == rustix::process::geteuid().as_raw() && gid == rustix::process::getegid().as_raw();
        return if same { Ok(()) } else { Err(PrivilegeError::NotRoot) };
    }
    let name = account.as_ref().map(|account| account.name.as_c_str()).filter(|name| !name.is_empty());
    sys::become_group(gid, name).map_err(|cause| PrivilegeError::System { what: "change group", cause })?;
    sys::become_user(uid).map_err(|cause| PrivilegeError::System { what: "change user", cause })?;
    if uid != 0 && sys::become_user(0).is_ok() {
        return Err(PrivilegeError::NotForGood);
    }
    Ok(())
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
