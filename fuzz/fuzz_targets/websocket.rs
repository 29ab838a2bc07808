//! `checks/websocket.rs`, guided by coverage.

#![no_main]

#[path = "../checks/websocket.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check(data));
