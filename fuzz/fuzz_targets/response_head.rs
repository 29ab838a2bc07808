//! `checks/response_head.rs`, guided by coverage.

#![no_main]

#[path = "../checks/response_head.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check(data));
