//! The short run of the fuzz targets of this crate: seeds and mutations of them, in a few seconds (`fuzz/README.md`).

#![allow(clippy::unwrap_used)] // a test fails by panicking

#[path = "../../../fuzz/replay.rs"]
mod replay;

#[path = "../../../fuzz/checks/settings.rs"]
mod settings;

#[test]
fn settings_holds_for_seeds_and_mutations() {
    replay::replay("settings", 2_000, settings::check);
}
