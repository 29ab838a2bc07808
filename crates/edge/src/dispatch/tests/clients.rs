//! Stories of clients: the pace at which they take an answer, and when they leave.

use super::*;

// Credit.

#[tokio::test]
async fn credit_comes_as_the_answer_is_consumed() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(1).await;
    let ticket = house.get("x");
    let got = worker.begin().await;
    worker.say(Kind::Response, Flags::NONE, &got, &head(0, b"abc"));
    worker.say(Kind::Chunk, Flags::NONE, &got, &[7; 1000]);
    assert!(matches!(event(&ticket).await, Event::Head(_)));
    assert!(matches!(event(&ticket).await, Event::Chunk(bytes) if bytes.len() == 1000));
    assert!(worker.glance().await.is_none(), "nothing was consumed");
    ticket.consumed(3);
    assert_eq!(worker.frame().await.granted(), 3);
    ticket.consumed(400);
    ticket.consumed(600);
    assert_eq!((worker.frame().await.granted(), worker.frame().await.granted()), (400, 600));
    worker.end(&got);
    assert!(matches!(event(&ticket).await, Event::End { broken: false, service_us: 7 }));
    ticket.consumed(5);
    assert!(worker.glance().await.is_none(), "nothing about an answer that is over");
}

// Clients that leave.

#[tokio::test]
async fn a_client_that_leaves_the_queue_is_never_sent() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(1).await;
    let _first = house.get("first");
    let got = worker.begin().await;
    let gone = house.get("gone");
    let third = house.get("third");
    drop(gone);
    worker.answer(&got, 1000);
    let next = worker.begin().await;
    assert_eq!(next.name(), "third");
    worker.answer(&next, 1000);
    whole(&third).await;
    assert!(worker.glance().await.is_none());
}

#[tokio::test]
async fn a_client_that_leaves_a_begun_request_cancels_it() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(1).await;
    let ticket = house.get("x");
    let got = worker.begin().await;
    worker.say(Kind::Response, Flags::NONE, &got, &head(0, b""));
    event(&ticket).await;
    assert!(!worker.is_cancelled(&got));
    drop(ticket);
    assert!(worker.is_cancelled(&got));
    // A thread that waits for credit is woken to see it.
    assert_eq!(worker.frame().await.header.kind, Kind::Grant);
    worker.say(Kind::Chunk, Flags::NONE, &got, b"late");
    worker.finish(&got);
    worker.end(&got);
    let next = house.get("next");
    let got = worker.begin().await;
    worker.answer(&got, 1);
    assert_eq!(whole(&next).await, "next");
    assert!(house.pool.is_quiet());
}

#[tokio::test]
async fn a_client_that_leaves_before_its_request_is_begun_costs_no_run() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(1).await;
    let gone = house.get("gone");
    let lies = worker.frame().await;
    drop(gone);
    assert!(!worker.take(&lies));
    assert!(house.pool.is_quiet());
    let next = house.get("next");
    let got = worker.begin().await;
    worker.answer(&got, 1);
    assert_eq!(whole(&next).await, "next");
}
