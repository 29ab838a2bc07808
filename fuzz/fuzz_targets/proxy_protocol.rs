//! `checks/proxy_protocol.rs`, guided by coverage.

#![no_main]

#[path = "../checks/proxy_protocol.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check(data));
