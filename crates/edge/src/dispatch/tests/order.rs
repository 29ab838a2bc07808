//! Stories of the order of service: who gets a request, and what the queue refuses.

use super::*;

// Who gets a request.

#[tokio::test]
async fn one_each_and_the_first_among_equals() {
    let mut house = House::without_clock(PATIENT);
    let mut one = house.hire(1).await;
    let mut two = house.hire(1).await;
    for _ in 0..3 {
        let a = house.get("a");
        let b = house.get("b");
        let (at_one, at_two) = (one.begin().await, two.begin().await);
        assert_eq!((at_one.name(), at_two.name()), ("a", "b"));
        two.answer(&at_two, 1000);
        one.answer(&at_one, 1000);
        assert_eq!((whole(&a).await, whole(&b).await), ("a".into(), "b".into()));
    }
    assert!(house.pool.is_quiet());
}

#[tokio::test]
async fn nobody_waits_behind_a_busy_worker_while_another_is_idle() {
    let mut house = House::without_clock(PATIENT);
    let mut busy = house.hire(1).await;
    let mut idle = house.hire(1).await;
    let long = house.get("long");
    let at_busy = busy.begin().await;
    for n in 0..20 {
        let name = format!("n{n}");
        let ticket = house.get(&name);
        let got = idle.begin().await;
        assert_eq!(got.name(), name);
        idle.answer(&got, 100_000);
        assert_eq!(whole(&ticket).await, name);
    }
    assert!(busy.glance().await.is_none());
    busy.answer(&at_busy, 9);
    assert_eq!(whole(&long).await, "long");
}

#[tokio::test]
async fn threads_of_a_worker_fill_before_anything_waits() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(3).await;
    let tickets: Vec<_> = (0..4).map(|n| house.get(&n.to_string())).collect();
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(worker.begin().await);
    }
    assert!(worker.glance().await.is_none(), "the fourth waits in the queue: nothing is known of its speed");
    worker.answer(&begun[1], 1000);
    let fourth = worker.begin().await;
    assert_eq!(fourth.name(), "3");
    for got in [&begun[0], &begun[2], &fourth] {
        worker.answer(got, 1000);
    }
    for (n, ticket) in tickets.iter().enumerate() {
        assert_eq!(whole(ticket).await, n.to_string());
    }
}

#[tokio::test]
async fn nothing_is_sent_ahead_of_slow_requests() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(1).await;
    for _ in 0..80 {
        let ticket = house.get("slow");
        let got = worker.begin().await;
        worker.answer(&got, 5000);
        whole(&ticket).await;
    }
    let _first = house.get("first");
    let _second = house.get("second");
    let got = worker.begin().await;
    assert!(worker.glance().await.is_none());
    worker.answer(&got, 5000);
    assert_eq!(worker.begin().await.name(), "second");
}

#[tokio::test]
async fn quick_requests_are_sent_ahead() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(1).await;
    warm_up(&house, &mut worker).await;
    let tickets: Vec<_> = (0..10).map(|n| house.get(&n.to_string())).collect();
    let mut got = Vec::new();
    for _ in 0..10 {
        got.push(worker.frame().await);
    }
    for (n, got) in got.iter().enumerate() {
        assert!(worker.take(got));
        assert_eq!(got.name(), n.to_string());
        worker.answer(got, 1);
        assert_eq!(whole(&tickets[n]).await, n.to_string());
    }
}

#[tokio::test]
async fn what_lies_ahead_of_a_thread_that_hangs_goes_to_another() {
    let mut house = House::new(PATIENT);
    let mut hangs = house.hire(1).await;
    warm_up(&house, &mut hangs).await;
    let hanging = house.get("hangs");
    let begun = hangs.begin().await;
    let ahead: Vec<_> = (0..5).map(|n| house.get(&n.to_string())).collect();
    let mut lies = Vec::new();
    for _ in 0..5 {
        lies.push(hangs.frame().await);
    }
    for got in &lies {
        hangs.sees_taken_back(got).await;
    }
    let mut other = house.hire(1).await;
    for (n, ticket) in ahead.iter().enumerate() {
        let got = other.begin().await;
        assert_eq!(got.name(), n.to_string(), "in the order in which they came");
        other.answer(&got, 50_000);
        assert_eq!(whole(ticket).await, n.to_string());
    }
    assert!(lies.iter().all(|got| !hangs.take(got)), "the worker that hung never begins them");
    hangs.answer(&begun, 1_000_000);
    assert_eq!(whole(&hanging).await, "hangs");
    assert!(house.pool.is_quiet());
}

#[tokio::test]
async fn what_was_taken_back_waits_for_whoever_is_free_first() {
    let mut house = House::new(PATIENT);
    let mut only = house.hire(1).await;
    warm_up(&house, &mut only).await;
    let slow = house.get("slow");
    let begun = only.begin().await;
    let next = house.get("next");
    let lies = only.frame().await;
    only.sees_taken_back(&lies).await;
    assert!(!only.take(&lies));
    only.answer(&begun, 1);
    let again = only.begin().await;
    assert_eq!(again.name(), "next");
    only.answer(&again, 1);
    assert_eq!((whole(&slow).await, whole(&next).await), ("slow".into(), "next".into()));
}

#[tokio::test]
async fn an_idle_worker_takes_over_what_lies_ahead_of_a_busy_one() {
    let mut house = House::without_clock(PATIENT);
    let mut busy = house.hire(1).await;
    warm_up(&house, &mut busy).await;
    let _begun = house.get("begun");
    let held = busy.begin().await;
    let ahead = house.get("ahead");
    let lies = busy.frame().await;
    // The newcomer's first move is its hello.
    let mut idle = house.hire(1).await;
    let got = idle.begin().await;
    assert_eq!(got.name(), "ahead");
    assert!(!busy.take(&lies));
    idle.answer(&got, 1);
    assert_eq!(whole(&ahead).await, "ahead");
    busy.answer(&held, 1);
}

#[tokio::test]
async fn a_thread_in_close_is_busy_until_the_board_says_otherwise() {
    let mut house = House::new(PATIENT);
    let mut worker = house.hire(1).await;
    warm_up(&house, &mut worker).await;
    let first = house.get("first");
    let closing = worker.begin().await;
    worker.say(Kind::Response, Flags::WHOLE, &closing, &head(1, b"x"));
    assert_eq!(whole(&first).await, "x");
    // Sent ahead of `close()`, and taken back because it takes its time.
    let second = house.get("second");
    let lies = worker.frame().await;
    worker.sees_taken_back(&lies).await;
    assert!(!worker.take(&lies));
    worker.finish(&closing);
    let again = worker.begin().await;
    assert_eq!(again.name(), "second");
    worker.answer(&again, 1);
    assert_eq!(whole(&second).await, "second");
}

// The queue's bounds.

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let mut house = House::without_clock(Limits { queue: 2, ..PATIENT });
    let mut worker = house.hire(1).await;
    let tickets: Vec<_> = (0..4).map(|n| house.get(&n.to_string())).collect();
    assert_eq!(failure(&tickets[3]).await, Failure::QueueFull);
    for ticket in &tickets[..3] {
        let got = worker.begin().await;
        worker.answer(&got, 1000);
        assert_eq!(whole(ticket).await, got.name());
    }
}

#[tokio::test]
async fn a_wait_in_the_queue_ends_and_the_pool_goes_on() {
    let mut house = House::new(Limits { queue_timeout: Duration::from_millis(1), ..PATIENT });
    let mut worker = house.hire(1).await;
    let first = house.get("first");
    let got = worker.begin().await;
    let second = house.get("second");
    assert_eq!(failure(&second).await, Failure::QueueTimeout);
    worker.answer(&got, 1000);
    assert_eq!(whole(&first).await, "first");
    let third = house.get("third");
    let got = worker.begin().await;
    worker.answer(&got, 1000);
    assert_eq!(whole(&third).await, "third");
}

#[tokio::test]
async fn without_workers_requests_wait_for_the_first() {
    let mut house = House::without_clock(PATIENT);
    let ticket = house.get("early");
    let mut worker = house.apprentice();
    settle().await;
    assert!(worker.glance().await.is_none(), "nothing before the hello");
    worker.hello(1, 0);
    let got = worker.begin().await;
    worker.answer(&got, 1);
    assert_eq!(whole(&ticket).await, "early");
}

#[tokio::test]
async fn a_stopping_pool_takes_nothing() {
    let mut house = House::without_clock(PATIENT);
    let _worker = house.hire(1).await;
    house.pool.stop();
    assert_eq!(failure(&house.get("late")).await, Failure::Stopping);
}
