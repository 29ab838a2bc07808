//! `bandstand version`.

use crate::report::{self, Failure};

/// Prints `bandstand 0.1.0`.
pub(crate) fn run() -> Result<(), Failure> {
    report::print(concat!("bandstand ", env!("CARGO_PKG_VERSION"), "\n"))
}
