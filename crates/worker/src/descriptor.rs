//! Descriptors that come as plain numbers: inherited ones, and those of Python's files.
//!
//! Owns the two places where a number becomes a typed descriptor; what is done with it is the caller's.
//! Invariant: a number is adopted once, and a number that Python owns is only duplicated, never adopted.

use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, FdFlags};

/// Takes over a descriptor that this process inherited, and keeps it from processes that the app starts.
///
/// # Errors
/// `BADF` when the number is not an open descriptor.
pub(crate) fn adopt(number: RawFd) -> Result<OwnedFd, Errno> {
    if number < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the edge hands each inherited number to one worker for this one use (`worker.py` takes it out of the
    // environment), so nothing else in the process closes it. The call below fails if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: as above; it is open, and from here on owned by the value returned.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A second descriptor of a file that a Python object owns, so that the object may be closed at any time.
///
/// # Errors
/// `BADF` when the number is not an open descriptor; `MFILE` when the process has too many.
pub(crate) fn duplicate(number: RawFd) -> Result<OwnedFd, Errno> {
    if number < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the borrow ends with this call, which copies the descriptor or fails; the interpreter is attached, so
    // the object that told the number is not closed meanwhile by well-behaved code. A wrong number reads a wrong file,
    // which is Python's own hazard, never memory.
    rustix::io::fcntl_dupfd_cloexec(unsafe { BorrowedFd::borrow_raw(number) }, 3)
}
