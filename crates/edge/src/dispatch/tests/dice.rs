//! Everything at once over real sockets, by chance that is the same in every run; `explore.rs` does it in order.

use super::*;

// Everything at once.

/// Chance that is the same in every run (xorshift64*).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % sides
    }
}

/// How often each request was begun.
type Begun = Arc<Mutex<HashMap<String, u32>>>;

/// Takes what comes over both lanes and does one thing or another with it, until it dies.
async fn live(mut worker: Worker, mut dice: Dice, begun: Begun) {
    loop {
        let got = tokio::select! {
            got = worker.channel.next() => got,
            got = worker.lane.next(), if !worker.lane.ended => match got {
                Some(got) => Some(got),
                None => continue,
            },
        };
        let Some(got) = got else { return };
        if got.header.kind != Kind::Request || !worker.take(&got) {
            continue;
        }
        *begun.lock().unwrap().entry(got.name().to_owned()).or_default() += 1;
        let lives = if got.header.flags.has(Flags::WEBSOCKET) {
            talk(&worker, &got, &mut dice)
        } else {
            work(&worker, &got, &mut dice).await
        };
        if !lives {
            return;
        }
    }
}

/// A WebSocket: refused, or accepted, and a few messages. False when the worker dies of it.
fn talk(worker: &Worker, got: &Got, dice: &mut Dice) -> bool {
    if dice.below(4) == 0 {
        worker.answer(got, 1);
        return true;
    }
    worker.say(Kind::Accept, Flags::NONE, got, &head_of(101));
    for _ in 0..dice.below(4) {
        worker.say(Kind::Send, Flags::WHOLE, got, b"message");
    }
    if dice.below(8) == 0 {
        return false;
    }
    worker.finish(got);
    worker.close(got, 1000);
    true
}

/// A request, on whichever lane. False when the worker dies of it.
async fn work(worker: &Worker, got: &Got, dice: &mut Dice) -> bool {
    if !got.on_loop && dice.below(4) == 0 {
        worker.say(Kind::Moved, Flags::NONE, got, b"");
    }
    match dice.below(20) {
        0 => return false,
        1 => worker.finish(got),
        2..5 => {
            worker.say(Kind::Response, Flags::NONE, got, &head(0, b"first"));
            for _ in 0..dice.below(4) {
                worker.say(Kind::Chunk, Flags::NONE, got, b"more");
                tokio::task::yield_now().await;
            }
            if dice.below(6) == 0 {
                return false;
            }
            worker.end(got);
            worker.finish(got);
            return true;
        }
        5 => {
            // `close()` takes longer than the answer.
            worker.say(Kind::Response, Flags::WHOLE, got, &head(1, b""));
            tokio::time::sleep(Duration::from_millis(dice.below(4))).await;
            worker.finish(got);
            return true;
        }
        6 => tokio::time::sleep(Duration::from_millis(dice.below(5))).await,
        _ => {}
    }
    if dice.below(40) == 0 {
        return false;
    }
    worker.answer(got, 1);
    true
}

/// Exactly one outcome, and nothing after it.
async fn outcome(ticket: Ticket, is_socket: bool) {
    let mut head = false;
    loop {
        match event(&ticket).await {
            Event::Head(frame) => {
                assert!(!head, "one head");
                head = true;
                if frame.whole {
                    break;
                }
                ticket.consumed(5);
            }
            Event::Chunk(bytes) => {
                assert!(head, "a head before the body");
                ticket.consumed(bytes.len());
            }
            Event::End { .. } => {
                assert!(head, "a head before the end");
                break;
            }
            Event::Failed(failure) => {
                assert!((!head || is_socket) && failure == Failure::WorkerDied, "{failure:?}");
                break;
            }
            Event::Accept(_) => {
                assert!(!head, "accepted once");
                head = true;
                ticket.send_message(true, true, b"hello");
            }
            Event::Message { bytes, .. } => {
                assert!(head, "accepted before the first message");
                ticket.consumed(bytes.len());
            }
            Event::Close { code, .. } => {
                assert!(head && code == 1000);
                ticket.send_closed(code, "");
                break;
            }
            Event::Restart => assert!(head, "only of a WebSocket that is open"),
            Event::Interim(_) | Event::Trailers(_) | Event::Credit(_) => panic!("nobody sent one"),
        }
    }
    assert!(is_silent(&ticket).await, "something came after the end");
}

async fn one_interleaving(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut house = House::new(PATIENT);
    let begun = Begun::default();
    let mut lives = JoinSet::new();
    let mut hire = |house: &mut House, dice: &mut Dice| {
        let worker = house.apprentice();
        worker.hello(1 + dice.below(3) as u16, 1 + dice.below(3) as u16);
        lives.spawn(live(worker, Dice(dice.below(u64::MAX) | 1), begun.clone()));
    };
    for _ in 0..1 + dice.below(3) {
        hire(&mut house, &mut dice);
    }
    let mut outcomes = JoinSet::new();
    let requests = 20 + dice.below(40);
    for n in 0..requests {
        let kind = dice.below(5);
        let ticket = match kind {
            0 => house.get(&format!("get {n}")),
            1 => house.post(&format!("post {n}")),
            2 => house.on_loop(&format!("get {n}"), true),
            3 => house.on_loop(&format!("post {n}"), false),
            _ => house.socket(&format!("socket {n}")),
        };
        if dice.below(8) == 0 {
            let patience = dice.below(10);
            outcomes.spawn(async move {
                for _ in 0..patience {
                    tokio::task::yield_now().await;
                }
                drop(ticket);
            });
        } else {
            outcomes.spawn(outcome(ticket, kind == 4));
        }
        for _ in 0..dice.below(4) {
            tokio::task::yield_now().await;
        }
        if dice.below(30) == 0 && house.pool.ready_workers() > 1 {
            house.pool.retire(1 + dice.below(u64::from(house.hired)) as u32, None);
        }
    }
    let all = async {
        loop {
            tokio::select! {
                done = outcomes.join_next() => match done {
                    Some(result) => result.unwrap(),
                    None if house.pool.is_quiet() => break,
                    None => tokio::task::yield_now().await,
                },
                Some(notice) = house.notices.recv() => match notice {
                    Notice::Lost { error: None, .. } => hire(&mut house, &mut dice),
                    Notice::Hello { .. } => {}
                    other => panic!("seed {seed}: {other:?}"),
                },
            }
        }
    };
    soon(&format!("every outcome of seed {seed}"), all).await;
    for (name, times) in begun.lock().unwrap().iter() {
        let most = if name.starts_with("get") { 2 } else { 1 };
        assert!(*times <= most, "seed {seed}: {name} was begun {times} times");
    }
}

#[tokio::test]
async fn every_request_has_exactly_one_outcome() {
    for seed in 0..200 {
        one_interleaving(seed).await;
    }
}
