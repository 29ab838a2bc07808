//! Stories of workers that are lost: by their own death, or because they broke the protocol.

use super::*;

// Death.

#[tokio::test]
async fn what_a_dead_worker_had_not_begun_goes_to_another() {
    let mut house = House::without_clock(PATIENT);
    let mut dies = house.hire(2).await;
    let get = house.get("get");
    let post = house.post("post");
    dies.frame().await;
    dies.frame().await;
    let number = dies.number;
    drop(dies);
    assert_eq!(house.lost(number).await, "");
    let mut heir = house.hire(2).await;
    for ticket in [&get, &post] {
        let got = heir.begin().await;
        heir.answer(&got, 1);
        assert_eq!(whole(ticket).await, got.name());
    }
}

/// A process that the app has forked may hold a worker's sockets for ever. What the worker had said itself still counts.
#[tokio::test]
async fn a_worker_whose_process_is_gone_is_lost_whoever_holds_its_sockets() {
    let mut house = House::without_clock(PATIENT);
    let mut dies = house.hire(3).await;
    let (answered, get, post) = (house.get("answered"), house.get("get"), house.post("post"));
    let got = dies.begin().await;
    dies.begin().await;
    dies.begin().await;
    // The news and the last answer are there at once, before the edge has looked at either.
    dies.answer(&got, 1);
    house.gone.notify_one();
    assert_eq!(house.lost(dies.number).await, "");
    assert_eq!(whole(&answered).await, "answered");
    assert_eq!(failure(&post).await, Failure::WorkerDied);
    let mut heir = house.hire(1).await;
    let got = heir.begin().await;
    heir.answer(&got, 1);
    assert_eq!(whole(&get).await, got.name());
    assert!(dies.next().await.is_none(), "who still holds the other ends is told");
}

/// Several workers may be killed at once, and one be given what another lost before its own death is known.
#[tokio::test]
async fn what_nobody_had_begun_has_not_had_its_second_chance() {
    let mut house = House::without_clock(PATIENT);
    let get = house.get("get");
    let post = house.post("post");
    for number in 1..=3 {
        let mut dies = house.hire(2).await;
        dies.frame().await;
        dies.frame().await;
        drop(dies);
        assert_eq!(house.lost(number).await, "");
    }
    let mut begins = house.hire(2).await;
    begins.begin().await;
    begins.begin().await;
    drop(begins);
    house.lost(4).await;
    assert_eq!(failure(&post).await, Failure::WorkerDied);
    let mut heir = house.hire(2).await;
    let got = heir.begin().await;
    heir.answer(&got, 1);
    assert_eq!(whole(&get).await, "get");
}

#[tokio::test]
async fn a_begun_get_is_given_once_more_and_a_begun_post_is_not() {
    let mut house = House::without_clock(PATIENT);
    let mut first = house.hire(2).await;
    let get = house.get("get");
    let post = house.post("post");
    first.begin().await;
    first.begin().await;
    drop(first);
    house.lost(1).await;
    assert_eq!(failure(&post).await, Failure::WorkerDied);
    let mut second = house.hire(2).await;
    assert_eq!(second.begin().await.name(), "get");
    drop(second);
    house.lost(2).await;
    assert_eq!(failure(&get).await, Failure::WorkerDied);
    assert_eq!(get.reply().trace().attempts, 2);
    assert!(house.pool.is_quiet());
}

/// Its frame had not left the worker yet, but the app has run: a second run would be a second order.
#[tokio::test]
async fn a_post_that_was_finished_but_not_answered_is_not_repeated() {
    let mut house = House::without_clock(PATIENT);
    let mut dies = house.hire(1).await;
    let post = house.post("post");
    let got = dies.begin().await;
    dies.finish(&got);
    drop(dies);
    house.lost(1).await;
    assert_eq!(failure(&post).await, Failure::WorkerDied);
}

#[tokio::test]
async fn a_stream_whose_worker_dies_is_broken() {
    let mut house = House::without_clock(PATIENT);
    let mut dies = house.hire(1).await;
    let ticket = house.get("x");
    let got = dies.begin().await;
    dies.say(Kind::Response, Flags::NONE, &got, &head(0, b"abc"));
    assert!(matches!(event(&ticket).await, Event::Head(HeadFrame { whole: false, .. })));
    dies.say(Kind::Chunk, Flags::NONE, &got, b"def");
    drop(dies);
    assert!(matches!(event(&ticket).await, Event::Chunk(bytes) if bytes == b"def"));
    assert!(matches!(event(&ticket).await, Event::End { broken: true, .. }));
    house.lost(1).await;
}

// Wrong words.

#[tokio::test]
async fn a_worker_that_breaks_the_protocol_loses_its_channel_and_others_go_on() {
    type Wrong = fn(&Worker, &Got);
    let stories: [(&str, Wrong); 11] = [
        ("unknown frame kind 0x00", |worker, _| worker.raw(&[0; 64])),
        ("unknown frame kind 0x7f", |worker, _| {
            worker.raw(&[0, 0, 0, 0, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }),
        ("over the limit", |worker, _| worker.raw(&[0xff; 64])),
        ("does not hold", |worker, got| {
            let wrong =
                Header { kind: Kind::Response, flags: Flags::WHOLE, place: got.header.place, id: 999 };
            worker.write(wrong, &head(0, b""));
        }),
        ("does not hold", |worker, got| {
            worker.answer(got, 1);
            worker.say(Kind::Response, Flags::WHOLE, got, &head(0, b""));
        }),
        ("within the answer's body", |worker, got| {
            worker.say(Kind::Response, Flags::NONE, got, &head(0, b""));
            worker.say(Kind::Response, Flags::NONE, got, &head(0, b""));
        }),
        ("before the answer's head", |worker, got| worker.say(Kind::Chunk, Flags::NONE, got, b"x")),
        ("before the answer's head", |worker, got| worker.say(Kind::Request, Flags::WHOLE, got, b"x")),
        ("descriptor did not come", |worker, got| {
            worker.say(Kind::Response, Flags::DESCRIPTOR, got, &head(0, b""));
        }),
        ("length points past", |worker, got| worker.say(Kind::Response, Flags::WHOLE, got, &[200, 0])),
        ("not of three digits", |worker, got| worker.say(Kind::Response, Flags::WHOLE, got, &[7, 0])),
    ];
    let mut house = House::without_clock(PATIENT);
    let mut honest = house.hire(1).await;
    for (error, wrong) in stories {
        let keeps_honest_busy = house.get("busy");
        let busy = honest.begin().await;
        let mut liar = house.hire(1).await;
        let post = house.post("post");
        let got = liar.begin().await;
        wrong(&liar, &got);
        let said = house.lost(liar.number).await;
        assert!(said.contains(error), "expected {error:?}: {said:?}");
        // What it had said before stands; else the request failed with it.
        match event(&post).await {
            Event::Failed(failure) => assert_eq!(failure, Failure::WorkerDied, "{error}"),
            Event::Head(_) => {}
            other => panic!("{error}: {other:?}"),
        }
        assert!(liar.next().await.is_none(), "its channel is closed");
        honest.answer(&busy, 1000);
        assert_eq!(whole(&keeps_honest_busy).await, "busy");
    }
}

#[tokio::test]
async fn only_a_hello_or_a_failure_comes_first() {
    let mut house = House::without_clock(PATIENT);
    let fails = house.apprentice();
    let header = Header { kind: Kind::Failed, flags: Flags::NONE, place: 0, id: 0 };
    fails.write(header, b"Traceback");
    let notice = house.notice().await;
    assert!(
        matches!(&notice, Notice::Failed { number: 1, traceback } if traceback == "Traceback"),
        "{notice:?}"
    );
    drop(fails);
    assert_eq!(house.lost(1).await, "");
    for (header, payload, error) in [
        (Header { kind: Kind::Idle, ..header }, &b""[..], "before the hello"),
        (Header { kind: Kind::Hello, ..header }, &[9, 0, 1, 0, 0, 0], "speaks channel protocol 9"),
    ] {
        let rude = house.apprentice();
        rude.write(header, payload);
        let said = house.lost(rude.number).await;
        assert!(said.contains(error), "{said}");
    }
    assert_eq!(house.pool.ready_workers(), 0);
}

#[tokio::test]
async fn more_than_the_credit_ends_the_channel() {
    let mut house = House::without_clock(PATIENT);
    let mut greedy = house.hire(1).await;
    let ticket = house.get("x");
    let got = greedy.begin().await;
    greedy.say(Kind::Response, Flags::NONE, &got, &head(0, b""));
    let chunk = vec![0; limits::CHUNK_MAX];
    let mut sent = 0;
    let mut bytes = Vec::new();
    Header { kind: Kind::Chunk, flags: Flags::NONE, ..got.header }.write(&chunk, &mut bytes);
    // Nobody consumes; what is held stays bounded.
    'story: while sent < 64 {
        let mut at = 0;
        while at < bytes.len() {
            match rustix::net::send(
                greedy.channel.socket.get_ref(),
                &bytes[at..],
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(n) => at += n,
                Err(Errno::AGAIN) => settle().await,
                Err(_) => break 'story,
            }
        }
        sent += 1;
    }
    assert!(house.lost(1).await.contains("credit"));
    let mut held = 0;
    loop {
        match event(&ticket).await {
            Event::Chunk(bytes) => held += bytes.len(),
            Event::End { broken: true, .. } => break,
            _ => {}
        }
    }
    assert!(held <= 2 * limits::WINDOW + limits::CHUNK_MAX, "{held}");
}
