//! `checks/xaccel.rs`, guided by coverage.

#![no_main]

#[path = "../checks/xaccel.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check(data));
