//! `checks/wire_frames.rs`, guided by coverage.

#![no_main]

#[path = "../checks/wire_frames.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check(data));
