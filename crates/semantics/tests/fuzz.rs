//! The short run of the fuzz targets of this crate: seeds and mutations of them, in a few seconds (`fuzz/README.md`).

#![allow(clippy::unwrap_used)] // a test fails by panicking

#[path = "../../../fuzz/replay.rs"]
mod replay;

#[path = "../../../fuzz/checks/chunked.rs"]
mod chunked;
#[path = "../../../fuzz/checks/conditional.rs"]
mod conditional;
#[path = "../../../fuzz/checks/cookie.rs"]
mod cookie;
#[path = "../../../fuzz/checks/forwarded.rs"]
mod forwarded;
#[path = "../../../fuzz/checks/media_type.rs"]
mod media_type;
#[path = "../../../fuzz/checks/negotiation.rs"]
mod negotiation;
#[path = "../../../fuzz/checks/path.rs"]
mod path;
#[path = "../../../fuzz/checks/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "../../../fuzz/checks/range.rs"]
mod range;
#[path = "../../../fuzz/checks/websocket.rs"]
mod websocket;
#[path = "../../../fuzz/checks/xaccel.rs"]
mod xaccel;

#[test]
fn chunked_holds_for_seeds_and_mutations() {
    replay::replay("chunked", 10_000, chunked::check);
}

#[test]
fn conditional_holds_for_seeds_and_mutations() {
    replay::replay("conditional", 10_000, conditional::check);
}

#[test]
fn cookie_holds_for_seeds_and_mutations() {
    replay::replay("cookie", 10_000, cookie::check);
}

#[test]
fn forwarded_holds_for_seeds_and_mutations() {
    replay::replay("forwarded", 10_000, forwarded::check);
}

#[test]
fn media_type_holds_for_seeds_and_mutations() {
    replay::replay("media_type", 10_000, media_type::check);
}

#[test]
fn negotiation_holds_for_seeds_and_mutations() {
    replay::replay("negotiation", 10_000, negotiation::check);
}

#[test]
fn path_holds_for_seeds_and_mutations() {
    replay::replay("path", 10_000, path::check);
}

#[test]
fn proxy_protocol_holds_for_seeds_and_mutations() {
    replay::replay("proxy_protocol", 10_000, proxy_protocol::check);
}

#[test]
fn range_holds_for_seeds_and_mutations() {
    replay::replay("range", 10_000, range::check);
}

#[test]
fn websocket_holds_for_seeds_and_mutations() {
    replay::replay("websocket", 2_000, websocket::check);
}

#[test]
fn xaccel_holds_for_seeds_and_mutations() {
    replay::replay("xaccel", 10_000, xaccel::check);
}
