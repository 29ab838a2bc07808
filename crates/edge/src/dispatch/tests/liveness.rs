//! Stories of workers whose threads look idle and are not, or the other way round.

use super::*;

// Liveness.

/// One thread holds the interpreter: the others are idle on paper and begin nothing.
#[tokio::test]
async fn a_worker_whose_idle_threads_do_not_begin_is_passed_over() {
    let mut house = House::new(PATIENT);
    let mut stuck = house.hire(4).await;
    let _held = house.get("held");
    stuck.begin().await;
    let ticket = house.get("x");
    let lies = stuck.frame().await;
    let mut other = house.hire(1).await;
    let got = other.begin().await;
    assert_eq!(got.name(), "x");
    other.answer(&got, 1);
    assert_eq!(whole(&ticket).await, "x");
    assert!(!stuck.take(&lies));
}

/// What was taken back finds its worker in `close()`, which nobody was asked to tell the end of.
#[tokio::test]
async fn the_queue_moves_when_a_thread_comes_back_without_a_frame() {
    let mut house = House::new(PATIENT);
    let mut closes = house.hire(1).await;
    let first = house.get("first");
    let closing = closes.begin().await;
    closes.say(Kind::Response, Flags::WHOLE, &closing, &head(20_000, b""));
    whole(&first).await;
    let mut dies = house.hire(1).await;
    let second = house.get("second");
    dies.begin().await;
    drop(dies);
    house.lost(2).await;
    board::finish(closes.board.word(closing.header.place));
    let got = closes.begin().await;
    assert_eq!(got.name(), "second");
    closes.answer(&got, 1);
    assert_eq!(whole(&second).await, "second");
}
