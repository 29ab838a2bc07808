//! `checks/chunked.rs`, guided by coverage.

#![no_main]

#[path = "../checks/chunked.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check(data));
