//! `checks/cookie.rs`, guided by coverage.

#![no_main]

#[path = "../checks/cookie.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check(data));
