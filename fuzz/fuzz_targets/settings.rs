//! `checks/settings.rs`, guided by coverage.

#![no_main]

#[path = "../checks/settings.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check(data));
