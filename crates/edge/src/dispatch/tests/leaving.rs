//! Stories of workers that leave, at once or gently, and of generations that take over.

use super::*;

// Leaving.

#[tokio::test]
async fn a_retired_worker_leaves_when_it_holds_nothing() {
    let mut house = House::without_clock(PATIENT);
    let mut leaves = house.hire(2).await;
    let a = house.get("a");
    let b = house.get("b");
    let (at_a, lies) = (leaves.begin().await, leaves.frame().await);
    house.pool.retire(1, None);
    assert_eq!(house.pool.ready_workers(), 0);
    assert!(!leaves.take(&lies), "what it has not begun goes to others");
    let mut other = house.hire(1).await;
    let got = other.begin().await;
    assert_eq!(got.name(), "b");
    other.answer(&got, 1);
    whole(&b).await;
    assert!(leaves.glance().await.is_none());
    assert!(!leaves.channel.ended, "it still holds one");
    leaves.answer(&at_a, 1);
    assert_eq!(whole(&a).await, "a");
    assert!(leaves.next().await.is_none(), "the end of the stream tells it to leave");
    drop(leaves);
    assert_eq!(house.lost(1).await, "");
}

#[tokio::test]
async fn a_worker_retired_before_its_hello_is_given_nothing() {
    let mut house = House::without_clock(PATIENT);
    let mut early = house.apprentice();
    house.pool.retire(early.number, None);
    early.hello(1, 0);
    house.notice().await;
    let ticket = house.get("x");
    assert!(early.next().await.is_none(), "it is to leave");
    assert_eq!(house.pool.ready_workers(), 0);
    drop(early);
    house.lost(1).await;
    let mut other = house.hire(1).await;
    let got = other.begin().await;
    other.answer(&got, 1);
    assert_eq!(whole(&ticket).await, "x");
}

/// It writes but reads no more: what it was given must not wait until it dies.
#[tokio::test]
async fn a_worker_that_stops_reading_is_given_nothing() {
    let mut house = House::without_clock(PATIENT);
    let deaf = house.hire(1).await;
    rustix::net::shutdown(deaf.channel.socket.get_ref(), Shutdown::Read).unwrap();
    let ticket = house.get("x");
    let mut other = house.hire(1).await;
    let got = other.begin().await;
    other.answer(&got, 1);
    assert_eq!(whole(&ticket).await, "x");
    drop(deaf);
}
