//! Stories of time limits, without a guard: `guard.rs` has those with one.

use super::*;

// Time.

const QUICK_TIMEOUT: Limits = Limits { timeout: Some(Duration::from_millis(500)), ..PATIENT };

#[tokio::test]
async fn a_silent_app_runs_out_of_time() {
    let mut house = House::new(QUICK_TIMEOUT);
    let mut other = house.hire(1).await;
    let held = house.get("held");
    let busy = other.begin().await;
    let mut silent = house.hire(1).await;
    let ticket = house.get("x");
    let got = silent.begin().await;
    other.answer(&busy, 1);
    whole(&held).await;
    assert_eq!(failure(&ticket).await, Failure::TimedOut);
    house.blames(silent.number).await;
    assert!(silent.is_cancelled(&got));
    // Its answer comes too late and harms nobody.
    silent.answer(&got, 1);
    assert!(is_silent(&ticket).await);
    assert!(house.pool.is_quiet());
}

#[tokio::test]
async fn a_stream_that_stops_within_the_body_is_broken() {
    let mut house = House::new(QUICK_TIMEOUT);
    let mut worker = house.hire(1).await;
    let ticket = house.get("x");
    let got = worker.begin().await;
    worker.say(Kind::Response, Flags::NONE, &got, &head(0, b"abc"));
    assert!(matches!(event(&ticket).await, Event::Head(_)));
    assert!(matches!(event(&ticket).await, Event::End { broken: true, .. }));
    house.blames(1).await;
}

/// The word is free, so nothing runs, and yet there is no answer: the client must not wait for ever.
#[tokio::test]
async fn an_answer_that_was_lost_runs_out_of_time() {
    let mut house = House::new(QUICK_TIMEOUT);
    let mut worker = house.hire(1).await;
    let ticket = house.get("x");
    let got = worker.begin().await;
    worker.finish(&got);
    assert_eq!(failure(&ticket).await, Failure::TimedOut);
}

#[tokio::test]
async fn progress_and_slow_clients_do_not_run_out_of_time() {
    let mut house = House::new(Limits { timeout: Some(SECOND), ..PATIENT });
    let mut streams = house.hire(1).await;
    let alive = house.get("alive");
    let at_streams = streams.begin().await;
    let mut waits = house.hire(1).await;
    let slow = house.get("slow");
    let at_waits = waits.begin().await;
    streams.say(Kind::Response, Flags::NONE, &at_streams, &head(0, b""));
    waits.say(Kind::Response, Flags::NONE, &at_waits, &head(0, b""));
    for _ in 0..limits::WINDOW / limits::CHUNK_MAX {
        waits.say(Kind::Chunk, Flags::NONE, &at_waits, &[0; limits::CHUNK_MAX]);
        assert!(matches!(event(&slow).await, Event::Head(_) | Event::Chunk(_)));
    }
    assert!(matches!(event(&slow).await, Event::Chunk(_)));
    assert!(matches!(event(&alive).await, Event::Head(_)));
    // A whole timeout and more, in steps that another silent request measures.
    for _ in 0..2 {
        let mut silent = house.hire(1).await;
        let measure = house.get("measure");
        silent.begin().await;
        let mut over = false;
        while !over {
            streams.say(Kind::Chunk, Flags::NONE, &at_streams, b"tick");
            assert!(matches!(event(&alive).await, Event::Chunk(_)));
            over = tokio::time::timeout(Duration::from_millis(50), event(&measure)).await.is_ok();
        }
        house.blames(silent.number).await;
        drop(silent);
        house.notice().await;
    }
    assert!(is_silent(&slow).await && is_silent(&alive).await);
    assert!(house.verdicts.try_recv().is_err());
}
