//! The short run of the fuzz targets of this crate: seeds and mutations of them, in a few seconds (`fuzz/README.md`).

#![allow(clippy::unwrap_used)] // a test fails by panicking

#[path = "../../../fuzz/replay.rs"]
mod replay;

#[path = "../../../fuzz/checks/request_head.rs"]
mod request_head;
#[path = "../../../fuzz/checks/response_head.rs"]
mod response_head;
#[path = "../../../fuzz/checks/wire_frames.rs"]
mod wire_frames;

#[test]
fn request_head_holds_for_seeds_and_mutations() {
    replay::replay("request_head", 10_000, request_head::check);
}

#[test]
fn response_head_holds_for_seeds_and_mutations() {
    replay::replay("response_head", 10_000, response_head::check);
}

#[test]
fn wire_frames_holds_for_seeds_and_mutations() {
    replay::replay("wire_frames", 10_000, wire_frames::check);
}
