//! Bodies: those that are larger than memory should hold, and those that are compressed on their way.

pub(crate) mod backlog;
pub(crate) mod encode;
pub(crate) mod pace;
pub(crate) mod spool;
