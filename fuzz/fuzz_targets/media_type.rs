//! `checks/media_type.rs`, guided by coverage.

#![no_main]

#[path = "../checks/media_type.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check(data));
