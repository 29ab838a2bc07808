//! Stories of requests that run over their time in a worker with a guard: who is told, what is logged, who is replaced.
//!
//! The clock is the story's own: `expire` is asked at moments that have not come yet.

use std::io;
use std::time::Instant;

use bandstand_wire::{RequestHead, Version};
use tracing::subscriber::DefaultGuard;

use super::*;

const LIMITED: Limits = Limits { timeout: Some(Duration::from_secs(30)), ..PATIENT };
const STACK: &str = r#"{"found":true,"kind":"thread","name":"worker-1","stack":"File \"views.py\", line 7","route":"orders/<int:pk>/","interrupted":true}"#;

/// A request's payload, as the edge makes it.
pub(super) fn asked(method: &str, path: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    let head = RequestHead {
        version: Version::Http11,
        https: false,
        method: method.as_bytes(),
        raw_path: path.as_bytes(),
        query: b"",
        path: path.as_bytes(),
        root_path: b"",
        client_address: b"",
        client_port: 0,
        server_name: b"",
        server_port: 0,
        body_length: None,
        tls: None,
    };
    head.encode([].into_iter(), &mut payload);
    payload
}

/// What this test logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn keep() -> (Self, DefaultGuard) {
        super::listen();
        let log = Self::default();
        let into = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || into.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// What was logged since this was last asked.
    fn taken(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ear {
    fn write(&self, header: Header, payload: &[u8]) {
        let mut bytes = Vec::new();
        header.write(payload, &mut bytes);
        self.socket.get_ref().write_all(&bytes).unwrap();
    }

    /// The guard tells a stack.
    pub(super) fn tell(&self, asked: &Got, stack: &str) {
        self.write(Header { kind: Kind::Stack, ..asked.header }, stack.as_bytes());
    }
}

impl Worker {
    /// The loop is told to cancel this.
    async fn sees_cancel(&mut self, got: &Got) {
        let told = self.lane.frame().await;
        assert_eq!((told.header.kind, told.header.id), (Kind::Cancel, got.header.id));
        assert!(told.header.flags.has(Flags::BROKEN));
        assert!(self.is_cancelled(got));
    }
}

/// A request that its worker has begun and that is over its time; what the guard was told, and when that was.
async fn overdue(house: &House, worker: &mut Worker, guard: &mut Ear, path: &str) -> (Got, Got, Instant) {
    let payload = asked("GET", path);
    let ticket = house.pool.submit(Request { payload, ..request("", None, true) });
    let got = worker.begin().await;
    let now = Instant::now() + 31 * SECOND;
    assert_eq!(house.pool.expire(now), []);
    assert_eq!(failure(&ticket).await, Failure::TimedOut);
    assert!(worker.is_cancelled(&got));
    assert_eq!(
        worker.frame().await.header.kind,
        Kind::Grant,
        "a thread that waits for credit is woken to see it"
    );
    let told = guard.frame().await;
    assert_eq!(
        (told.header.kind, told.header.place, told.header.id),
        (Kind::Interrupt, got.header.place, got.header.id)
    );
    (got, told, now)
}

#[tokio::test]
async fn a_request_over_its_time_is_interrupted_and_its_stack_logged_once() {
    let (log, _guard) = Log::keep();
    let mut house = House::without_clock(LIMITED);
    let (mut worker, mut guard) = house.hire_guarded(1, 0).await;
    let (got, told, now) = overdue(&house, &mut worker, &mut guard, "/orders/7/").await;
    guard.tell(&told, STACK);
    guard.tell(&told, STACK);
    worker.answer(&got, 1);
    settle().await;
    let said = log.taken();
    for part in ["ERROR", "worker=1", "GET", "/orders/7/", "orders/<int:pk>/", "views.py", "seconds=3"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(said.matches("over its time limit").count(), 1, "{said}");
    assert_eq!(house.pool.expire(now + 3 * SECOND), [], "it is over, and the worker goes on");
    assert!(guard.glance().await.is_none());
    let next = house.get("next");
    let got = worker.begin().await;
    worker.answer(&got, 1);
    assert_eq!(whole(&next).await, "next");
    assert_eq!(log.taken(), "");
}

#[tokio::test]
async fn a_worker_whose_guard_is_silent_is_dumped_replaced_and_killed_when_nothing_else_is_left() {
    let (log, _guard) = Log::keep();
    let mut house = House::without_clock(LIMITED);
    let (mut worker, mut guard) = house.hire_guarded(2, 0).await;
    let (_, told, now) = overdue(&house, &mut worker, &mut guard, "/stuck").await;
    // A neighbour whose time does not run out in this story.
    house.pool.set_limits(Limits { timeout: Some(500 * SECOND), ..LIMITED });
    let neighbour = house.get("neighbour");
    let at_neighbour = worker.begin().await;
    let number = worker.number;
    assert_eq!(house.pool.expire(now + SECOND / 2), []);
    let verdicts = house.pool.expire(now + SECOND);
    assert_eq!(verdicts[0], Verdict::Dump { worker: number });
    assert!(matches!(verdicts[1..], [Verdict::Replace { worker: 1, .. }]), "{verdicts:?}");
    assert!(log.taken().contains("holds the interpreter"));
    house.pool.retire(number, Some(now + 60 * SECOND));
    assert_eq!(house.pool.expire(now + 2 * SECOND), []);
    guard.tell(&told, STACK);
    settle().await;
    assert!(log.taken().contains("views.py"), "better late than never");
    worker.answer(&at_neighbour, 1);
    assert_eq!(whole(&neighbour).await, "neighbour");
    assert_eq!(house.pool.expire(now + 3 * SECOND), [Verdict::Kill { worker: number }]);
    assert_eq!(house.pool.expire(now + 4 * SECOND), [], "once");
}

#[tokio::test]
async fn what_goes_on_after_the_interrupt_costs_its_worker_once() {
    let mut house = House::without_clock(LIMITED);
    let (mut worker, mut guard) = house.hire_guarded(2, 0).await;
    let (_, told, _) = overdue(&house, &mut worker, &mut guard, "/one").await;
    guard.tell(&told, STACK);
    let (_, told, now) = overdue(&house, &mut worker, &mut guard, "/two").await;
    guard.tell(&told, STACK);
    settle().await;
    assert_eq!(house.pool.expire(now + SECOND), []);
    let verdicts = house.pool.expire(now + 2 * SECOND);
    assert!(matches!(verdicts[..], [Verdict::Replace { worker: 1, .. }]), "{verdicts:?}");
    house.pool.retire(1, None);
    assert_eq!(house.pool.expire(now + 3 * SECOND), [Verdict::Kill { worker: 1 }]);
}

/// It does not count as ended while its thread is still at it, answered or not.
#[tokio::test]
async fn an_answer_that_comes_while_its_thread_goes_on_is_no_end() {
    let mut house = House::without_clock(LIMITED);
    let (mut worker, mut guard) = house.hire_guarded(2, 0).await;
    let (got, told, now) = overdue(&house, &mut worker, &mut guard, "/close").await;
    guard.tell(&told, STACK);
    worker.say(Kind::Response, Flags::WHOLE, &got, &head(1, b""));
    settle().await;
    let verdicts = house.pool.expire(now + 2 * SECOND);
    assert!(matches!(verdicts[..], [Verdict::Replace { worker: 1, .. }]), "{verdicts:?}");
    house.pool.retire(1, None);
    assert_eq!(house.pool.expire(now + 3 * SECOND), [Verdict::Kill { worker: 1 }]);
}

#[tokio::test]
async fn one_that_is_over_before_its_stack_is_told_costs_nothing() {
    let (log, _guard) = Log::keep();
    let mut house = House::without_clock(LIMITED);
    let (mut worker, mut guard) = house.hire_guarded(1, 0).await;
    let (got, _, now) = overdue(&house, &mut worker, &mut guard, "/quick").await;
    worker.answer(&got, 1);
    settle().await;
    assert_eq!(house.pool.expire(now + SECOND / 2), []);
    assert_eq!(log.taken(), "");
    assert_eq!(house.pool.expire(now + SECOND), []);
    let said = log.taken();
    assert!(said.contains("/quick") && said.contains("before its stack"), "{said}");
    assert_eq!(house.pool.expire(now + 5 * SECOND), []);
    assert_eq!(log.taken(), "");
}

#[tokio::test]
async fn what_goes_on_for_a_client_that_left_is_interrupted_too() {
    let mut house = House::without_clock(LIMITED);
    let (mut worker, mut guard) = house.hire_guarded(1, 0).await;
    let ticket = house.get("left");
    let got = worker.begin().await;
    drop(ticket);
    let now = Instant::now();
    assert_eq!(house.pool.expire(now + 20 * SECOND), []);
    assert!(guard.glance().await.is_none());
    assert_eq!(house.pool.expire(now + 31 * SECOND), []);
    let told = guard.frame().await;
    assert_eq!((told.header.kind, told.header.id), (Kind::Interrupt, got.header.id));
    guard.tell(&told, STACK);
    settle().await;
    assert_eq!(house.pool.expire(now + 32 * SECOND), []);
    assert!(guard.glance().await.is_none(), "once");
}

/// The thread was told; the loop learns of it when the exchange comes to it.
#[tokio::test]
async fn one_that_moves_to_the_loop_after_its_time_is_cancelled_there() {
    let mut house = House::without_clock(LIMITED);
    let (mut worker, mut guard) = house.hire_guarded(1, 5).await;
    let (got, asked, _) = overdue(&house, &mut worker, &mut guard, "/moves").await;
    worker.say(Kind::Moved, Flags::NONE, &got, b"");
    assert!(worker.lane.glance().await.is_none(), "its stack first");
    guard.tell(&asked, STACK);
    worker.sees_cancel(&got).await;
}

/// An app that does not answer a handshake waits for nothing that a word about the connection would end.
#[tokio::test]
async fn the_task_of_a_handshake_over_its_time_is_cancelled() {
    for guarded in [true, false] {
        let mut house = House::without_clock(LIMITED);
        let (mut worker, mut guard) = house.apprentice_of(1, guarded);
        house.welcome(&worker, 0, 5).await;
        let ticket = house.socket("chat");
        let got = worker.begin_task().await;
        let now = Instant::now() + 31 * SECOND;
        house.pool.expire(now);
        assert_eq!(failure(&ticket).await, Failure::TimedOut);
        drop(ticket);
        if let Some(guard) = &mut guard {
            assert!(worker.lane.glance().await.is_none(), "its stack first");
            let asked = guard.frame().await;
            guard.tell(&asked, STACK);
        }
        worker.sees_cancel(&got).await;
        assert!(worker.lane.glance().await.is_none(), "once");
        worker.finish(&got);
        worker.say(Kind::Response, Flags::WHOLE, &got, &head_of(500));
        settle().await;
        assert_eq!(house.pool.expire(now + 5 * SECOND), []);
        assert!(house.pool.is_quiet());
    }
}

/// It works off its questions one after the other, and each may take it a moment.
#[tokio::test]
async fn a_guard_that_still_answers_others_is_waited_for() {
    let mut house = House::without_clock(LIMITED);
    let (mut worker, mut guard) = house.hire_guarded(3, 0).await;
    let (first, asked, _) = overdue(&house, &mut worker, &mut guard, "/first").await;
    let (second, also_asked, now) = overdue(&house, &mut worker, &mut guard, "/second").await;
    let tell = |asked: &Got, now| {
        let header = Header { kind: Kind::Stack, ..asked.header };
        house.pool.on_stack(1, header, STACK.as_bytes(), now).unwrap();
    };
    tell(&asked, now + SECOND * 9 / 10);
    worker.answer(&first, 1);
    settle().await;
    assert_eq!(house.pool.expire(now + SECOND * 18 / 10), [], "it was heard of a moment ago");
    let told = now + SECOND * 185 / 100;
    tell(&also_asked, told);
    assert_eq!(house.pool.expire(told + SECOND * 19 / 10), [], "it was interrupted only now");
    worker.answer(&second, 1);
    settle().await;
    assert_eq!(house.pool.expire(told + 5 * SECOND), []);
    // Silence counts from the last word.
    overdue(&house, &mut worker, &mut guard, "/third").await;
    assert_eq!(house.pool.expire(told + SECOND)[0], Verdict::Dump { worker: 1 });
}

/// Answered is not finished: what the app does behind its answer is a neighbour too.
#[tokio::test]
async fn what_the_loop_does_behind_an_answer_is_not_killed() {
    let mut house = House::without_clock(LIMITED);
    let (mut worker, mut guard) = house.hire_guarded(0, 5).await;
    let stuck = house.on_loop("stuck", true);
    worker.begin_task().await;
    let now = Instant::now() + 31 * SECOND;
    house.pool.expire(now);
    assert_eq!(failure(&stuck).await, Failure::TimedOut);
    let asked = guard.frame().await;
    guard.tell(&asked, STACK);
    settle().await;
    let neighbour = house.on_loop("neighbour", true);
    assert_eq!(worker.lane.frame().await.header.kind, Kind::Cancel);
    let at_neighbour = worker.begin_task().await;
    worker.say(Kind::Response, Flags::WHOLE, &at_neighbour, &head(1, b"neighbour"));
    assert_eq!(whole(&neighbour).await, "neighbour");
    house.pool.set_limits(Limits { timeout: Some(500 * SECOND), ..LIMITED });
    let verdicts = house.pool.expire(now + 2 * SECOND);
    assert!(matches!(verdicts[..], [Verdict::Replace { worker: 1, .. }]), "{verdicts:?}");
    house.pool.retire(1, Some(now + 60 * SECOND));
    assert_eq!(house.pool.expire(now + 3 * SECOND), []);
    worker.finish(&at_neighbour);
    assert_eq!(house.pool.expire(now + 4 * SECOND), [Verdict::Kill { worker: 1 }]);
}

#[tokio::test]
async fn a_worker_that_does_not_begin_a_request_in_time_is_held_up() {
    let (log, _guard) = Log::keep();
    let mut house = House::without_clock(LIMITED);
    let (mut worker, mut guard) = house.hire_guarded(1, 0).await;
    let ticket = house.get("x");
    let lies = worker.frame().await;
    let verdicts = house.pool.expire(Instant::now() + 31 * SECOND);
    assert!(matches!(verdicts[..], [Verdict::Dump { worker: 1 }, Verdict::Replace { worker: 1, .. }]));
    assert_eq!(failure(&ticket).await, Failure::TimedOut);
    assert!(!worker.take(&lies));
    assert!(log.taken().contains("did not begin"));
    assert!(guard.glance().await.is_none(), "there is nothing to interrupt");
}

/// The log names each of them, but one dump shows all.
#[tokio::test]
async fn many_that_are_not_begun_cost_one_dump() {
    let mut house = House::without_clock(LIMITED);
    let (_worker, _guard) = house.hire_guarded(0, 50).await;
    let _tickets: Vec<_> = (0..20).map(|n| house.on_loop(&n.to_string(), true)).collect();
    let verdicts = house.pool.expire(Instant::now() + 31 * SECOND);
    assert!(matches!(verdicts[..], [Verdict::Dump { worker: 1 }, Verdict::Replace { worker: 1, .. }]));
}

// Stacks that somebody asks for.

#[tokio::test]
async fn all_stacks_come_to_whoever_asked() {
    let mut house = House::without_clock(LIMITED);
    let (worker, mut guard) = house.hire_guarded(1, 0).await;
    assert!(house.pool.stacks(99).is_none());
    let mut asked: Vec<_> = (0..8).map(|_| house.pool.stacks(worker.number).unwrap()).collect();
    assert!(house.pool.stacks(worker.number).is_none(), "too many at once");
    let mut questions = Vec::new();
    for _ in 0..8 {
        let got = guard.frame().await;
        assert_eq!((got.header.kind, got.header.place), (Kind::Stacks, 0));
        questions.push(got);
    }
    for n in [3, 0] {
        guard.tell(&questions[n], &format!("{{\"threads\":[{n}]}}"));
    }
    assert_eq!(soon("stacks", &mut asked[0]).await.unwrap(), r#"{"threads":[0]}"#);
    assert_eq!(soon("stacks", &mut asked[3]).await.unwrap(), r#"{"threads":[3]}"#);
    asked.truncate(2);
    assert!(house.pool.stacks(worker.number).is_some(), "those who stopped waiting make room");
    drop(guard);
    assert!(soon("the end", asked.pop().unwrap()).await.is_err());
    assert!(house.pool.stacks(worker.number).is_none());
}

// Wrong words.

#[tokio::test]
async fn garbage_ends_the_guard_line_and_nothing_else() {
    let header = Header { kind: Kind::Stack, flags: Flags::NONE, place: 0, id: 1 };
    let frame = |header: Header, payload: &[u8]| {
        let mut bytes = Vec::new();
        header.write(payload, &mut bytes);
        bytes
    };
    let (log, _guard) = Log::keep();
    for (what, bytes) in [
        ("unknown frame kind", vec![0; 64]),
        ("over the limit", vec![0xff; 64]),
        ("on the guard line", frame(Header { kind: Kind::Hello, ..header }, b"")),
        ("on the guard line", frame(Header { kind: Kind::Interrupt, ..header }, b"")),
        ("UTF-8", frame(header, b"\xff")),
        ("JSON", frame(header, b"{")),
        ("JSON", frame(header, &b"[".repeat(100_000))),
        ("no object", frame(header, b"[1]")),
    ] {
        let mut house = House::without_clock(LIMITED);
        let (mut worker, mut guard) = house.hire_guarded(1, 0).await;
        let ticket = house.get("x");
        let got = worker.begin().await;
        // The other side may be gone before all is written.
        let _ = guard.socket.get_ref().write_all(&bytes);
        assert!(!matches!(guard.next_or_reset().await, Some(true)), "{what}: it is closed");
        let said = log.taken();
        assert!(said.contains("guard line was closed") && said.contains(what), "{what}: {said}");
        assert!(house.pool.stacks(worker.number).is_none());
        worker.answer(&got, 1);
        assert_eq!(whole(&ticket).await, "x", "{what}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_passed_over() {
    let (log, _guard) = Log::keep();
    let mut house = House::without_clock(LIMITED);
    let (mut worker, mut guard) = house.hire_guarded(1, 0).await;
    let ticket = house.get("x");
    let got = worker.begin().await;
    guard.tell(&got, STACK);
    for id in [0, board::ID_MAX + 1, u64::MAX] {
        guard.write(Header { kind: Kind::Stack, flags: Flags::NONE, place: 0, id }, STACK.as_bytes());
    }
    assert!(guard.glance().await.is_none() && !guard.ended);
    assert_eq!(log.taken(), "");
    worker.answer(&got, 1);
    assert_eq!(whole(&ticket).await, "x");
}

impl Ear {
    /// Whether a frame comes; `None` when the other side has closed with our bytes unread.
    async fn next_or_reset(&mut self) -> Option<bool> {
        let mut ready = soon("the end", self.socket.readable()).await.unwrap();
        ready.clear_ready();
        let mut byte = [0];
        match rustix::net::recv(self.socket.get_ref(), &mut byte[..], RecvFlags::DONTWAIT) {
            Ok((read, _)) => Some(read > 0),
            Err(Errno::CONNRESET) => None,
            Err(error) => panic!("{error}"),
        }
    }
}
