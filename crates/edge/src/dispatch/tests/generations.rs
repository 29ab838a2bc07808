//! Stories of generations: one beside another, the switch, requests on hold, probes, and workers that leave gently.

use std::time::Instant;

use super::*;
use crate::dispatch::Work;

/// The head of a streamed answer of this kind.
fn stream_head(kind: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    ResponseHead { status: 200, reason: b"", service_us: 0, body_length: None, file_offset: 0 }
        .encode([(&b"Content-Type"[..], kind)].into_iter(), &mut payload);
    payload
}

// The switch.

#[tokio::test]
async fn a_generation_beside_the_current_one_is_given_nothing_before_the_switch() {
    let mut house = House::without_clock(PATIENT);
    let mut old = house.hire_of(1, 1, 0).await;
    let begun = house.get("begun");
    let at_begun = old.begin().await;
    let mut new = house.hire_of(2, 1, 0).await;
    let waits = house.get("waits");
    assert!(new.glance().await.is_none());
    assert_eq!(house.pool.ready_workers(), 1);
    house.pool.switch(2);
    let got = new.begin().await;
    assert_eq!(got.name(), "waits");
    assert_eq!(house.pool.ready_workers(), 1);
    old.answer(&at_begun, 1);
    assert_eq!(whole(&begun).await, "begun", "what it has begun it finishes");
    let next = house.get("next");
    assert!(old.glance().await.is_none(), "and is given nothing more");
    new.answer(&got, 1);
    let got = new.begin().await;
    new.answer(&got, 1);
    assert_eq!((whole(&waits).await, whole(&next).await), ("waits".into(), "next".into()));
    assert_eq!(next.reply().trace().generation, Some(2));
}

#[tokio::test]
async fn what_was_not_begun_at_the_switch_goes_over_in_order() {
    let mut house = House::without_clock(PATIENT);
    let mut old = [house.hire_of(1, 2, 0).await, house.hire_of(1, 2, 0).await];
    let tickets: Vec<_> = (0..6).map(|n| house.get(&n.to_string())).collect();
    let mut lies = Vec::new();
    for worker in &mut old {
        lies.push((worker.number, [worker.frame().await, worker.frame().await]));
    }
    let mut new = house.hire_of(2, 1, 0).await;
    house.pool.switch(2);
    for (worker, (_, gots)) in old.iter().zip(&lies) {
        assert!(gots.iter().all(|got| !worker.take(got)), "taken back");
    }
    for (n, ticket) in tickets.iter().enumerate() {
        let got = new.begin().await;
        assert_eq!(got.name(), n.to_string());
        new.answer(&got, 50_000);
        assert_eq!(whole(ticket).await, n.to_string());
    }
}

/// A switch before the first hello of the new generation: requests wait, they do not go back.
#[tokio::test]
async fn a_worker_that_says_hello_after_the_switch_is_current_or_not_by_its_generation() {
    let mut house = House::without_clock(PATIENT);
    let ticket = house.get("x");
    house.pool.switch(2);
    let mut old = house.hire_of(1, 1, 0).await;
    assert!(old.glance().await.is_none());
    let mut new = house.hire_of(2, 1, 0).await;
    let got = new.begin().await;
    new.answer(&got, 1);
    assert_eq!(whole(&ticket).await, "x");
}

// On hold.

#[tokio::test]
async fn on_hold_requests_wait_within_the_bounds_of_the_queue() {
    let mut house = House::without_clock(Limits { queue: 2, ..PATIENT });
    let mut worker = house.hire_both(2, 2).await;
    let begun = house.get("begun");
    let at_begun = worker.begin().await;
    let offered = house.get("offered");
    let lies = worker.frame().await;
    house.pool.hold(true);
    assert!(!worker.take(&lies), "what was not begun waits as well");
    let task = house.on_loop("task", true);
    assert_eq!(failure(&house.get("too many")).await, Failure::QueueFull);
    worker.answer(&at_begun, 1);
    assert_eq!(whole(&begun).await, "begun");
    assert!(worker.glance().await.is_none() && worker.lane.glance().await.is_none());
    assert_eq!(house.pool.snapshot().queued, 2);
    house.pool.hold(false);
    for (ticket, got) in [(&offered, worker.begin().await), (&task, worker.begin_task().await)] {
        worker.answer(&got, 1);
        assert_eq!(whole(ticket).await, got.name());
    }
}

#[tokio::test]
async fn a_stop_ends_the_hold() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(1).await;
    house.pool.hold(true);
    let ticket = house.get("x");
    assert!(worker.glance().await.is_none());
    house.pool.stop();
    let got = worker.begin().await;
    worker.answer(&got, 1);
    assert_eq!(whole(&ticket).await, "x");
}

#[tokio::test]
async fn limits_that_are_set_hold_for_what_waits() {
    let house = House::without_clock(PATIENT);
    let waits = house.get("waits");
    house.pool.set_limits(Limits { queue: 1, queue_timeout: Duration::from_millis(1), timeout: None });
    assert_eq!(failure(&house.get("too many")).await, Failure::QueueFull);
    house.pool.expire(Instant::now() + SECOND);
    assert_eq!(failure(&waits).await, Failure::QueueTimeout);
}

// Probes.

#[tokio::test]
async fn a_probe_goes_to_its_worker_and_to_no_other() {
    let mut house = House::without_clock(PATIENT);
    let mut old = house.hire_of(1, 1, 1).await;
    let booting = house.apprentice_of(2, false).0;
    let mut new = house.hire_of(2, 1, 1).await;
    house.pool.hold(true);
    for number in [booting.number, 99] {
        assert!(house.pool.probe(number, request("x", None, true)).is_none(), "it is not ready");
    }
    let probe = house.pool.probe(new.number, request("probe", None, true)).unwrap();
    let got = new.begin().await;
    new.answer(&got, 1);
    assert_eq!(whole(&probe).await, "probe");
    // One that is not begun stays where it is, whatever happens; it fails with its worker.
    let probe = house.pool.probe(new.number, request("probe", None, true)).unwrap();
    new.frame().await;
    house.pool.switch(2);
    house.pool.switch(1);
    house.pool.retire(new.number, None);
    assert!(is_silent(&probe).await);
    assert!(house.pool.probe(new.number, request("x", None, true)).is_none(), "it leaves");
    let number = new.number;
    drop(new);
    house.lost(number).await;
    assert_eq!(failure(&probe).await, Failure::WorkerDied);
    assert!(old.glance().await.is_none());
}

// Leaving gently.

#[tokio::test]
async fn a_worker_that_leaves_gently_keeps_what_stays_until_half_of_its_time() {
    let mut house = House::without_clock(PATIENT);
    let mut leaves = house.hire_both(3, 10).await;
    let socket = house.socket("socket");
    let at_socket = leaves.begin_task().await;
    leaves.say(Kind::Accept, Flags::NONE, &at_socket, &head_of(101));
    assert!(matches!(event(&socket).await, Event::Accept(_)));
    let handshake = house.socket("handshake");
    let at_handshake = leaves.begin_task().await;
    let streams = [house.on_loop("events", true), house.get("events"), house.get("download")];
    let mut at = vec![leaves.begin_task().await, leaves.begin().await, leaves.begin().await];
    for (ticket, (got, kind)) in streams.iter().zip(at.iter().zip([
        &b"text/event-stream; charset=utf-8"[..],
        b"text/event-stream",
        b"x/y",
    ])) {
        leaves.say(Kind::Response, Flags::NONE, got, &stream_head(kind));
        assert!(matches!(event(ticket).await, Event::Head(_)));
    }
    let (now, time) = (Instant::now(), Duration::from_secs(100));
    house.pool.retire(leaves.number, Some(now + time));
    // Accepted after that.
    leaves.say(Kind::Accept, Flags::NONE, &at_handshake, &head_of(101));
    assert!(matches!(event(&handshake).await, Event::Accept(_)));
    house.pool.expire(now + time * 49 / 100);
    for ticket in streams.iter().chain([&socket, &handshake]) {
        assert!(is_silent(ticket).await, "until half of the time all stay");
    }
    house.pool.expire(now + time * 91 / 100);
    assert!(matches!(event(&socket).await, Event::Restart));
    assert!(matches!(event(&handshake).await, Event::Restart));
    for ticket in &streams[..2] {
        assert!(matches!(event(ticket).await, Event::End { broken: false, .. }));
    }
    assert!(is_silent(&streams[2]).await, "a download is left to finish");
    let told = leaves.lane.frame().await;
    assert_eq!((told.header.kind, told.header.id), (Kind::Cancel, at[0].header.id));
    assert!(leaves.is_cancelled(&at[0]) && leaves.is_cancelled(&at[1]) && !leaves.is_cancelled(&at[2]));
    for got in at.drain(..) {
        leaves.finish(&got);
        leaves.end(&got);
    }
    assert!(matches!(event(&streams[2]).await, Event::End { broken: false, .. }));
    for (ticket, got) in [(socket, at_socket), (handshake, at_handshake)] {
        ticket.send_closed(1012, "");
        leaves.finish(&got);
        leaves.close(&got, 1012);
    }
    while leaves.lane.next().await.is_some() {}
    assert!(leaves.channel.next().await.is_some(), "a grant for the thread that was cancelled");
    assert!(leaves.channel.next().await.is_none(), "it leaves");
}

#[tokio::test]
async fn a_gentle_leave_may_be_cut_short() {
    let mut house = House::without_clock(PATIENT);
    let mut leaves = house.hire_both(1, 10).await;
    let socket = house.socket("socket");
    let got = leaves.begin_task().await;
    leaves.say(Kind::Accept, Flags::NONE, &got, &head_of(101));
    assert!(matches!(event(&socket).await, Event::Accept(_)));
    house.pool.retire(leaves.number, Some(Instant::now() + 100 * SECOND));
    house.pool.retire(leaves.number, Some(Instant::now()));
    house.pool.expire(Instant::now() + 40 * SECOND);
    assert!(is_silent(&socket).await, "the first word counts");
    house.pool.retire(leaves.number, None);
    assert!(matches!(event(&socket).await, Event::Restart));
}

// The picture.

#[tokio::test]
async fn a_snapshot_shows_what_waits_and_what_runs() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 5).await;
    let idle = house.pool.snapshot();
    assert_eq!((idle.queued, idle.oldest), (0, Duration::ZERO));
    assert!(idle.links[0].idle_since.is_some());
    let answered = house.get("answered");
    let got = worker.begin().await;
    worker.answer(&got, 1);
    whole(&answered).await;
    let post = house
        .pool
        .submit(Request { payload: super::guard::asked("POST", "/orders"), ..request("", None, false) });
    worker.begin().await;
    let events = house.pool.submit(Request {
        payload: super::guard::asked("GET", "/events"),
        lane: Lane::Loop,
        ..request("", None, true)
    });
    let at_events = worker.begin_task().await;
    worker.say(Kind::Response, Flags::NONE, &at_events, &head(0, b""));
    assert!(matches!(event(&events).await, Event::Head(_)));
    let (_socket, _waits) = (house.socket("socket"), house.get("waits"));
    worker.begin_task().await;
    let seen = house.pool.snapshot();
    let link = &seen.links[0];
    assert_eq!((seen.queued, link.served, link.load), (1, 1, [1, 1, 1]));
    assert!(link.accepting && link.idle_since.is_none());
    let held: Vec<_> = link.held.iter().map(|held| (held.method.as_str(), held.target.as_str())).collect();
    assert_eq!(held, [("POST", "/orders"), ("GET", "/events")], "the oldest first, WebSockets only counted");
    assert_eq!(link.held.iter().map(|held| held.work).collect::<Vec<_>>(), [Work::Thread, Work::Task]);
    assert!(link.held.iter().all(|held| held.since < 10 * SECOND && held.id > 0));
    drop((post, events));
}
