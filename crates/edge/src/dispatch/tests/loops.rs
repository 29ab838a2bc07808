//! Stories of the loop's lane: requests that are tasks, requests that move there, and WebSockets.

use super::*;

/// Accepts a WebSocket: its ticket and its request at the worker.
async fn open_socket(house: &House, worker: &mut Worker, name: &str) -> (Ticket, Got) {
    let ticket = house.socket(name);
    let got = worker.begin_task().await;
    assert_eq!(got.name(), name);
    worker.say(Kind::Accept, Flags::NONE, &got, &head_of(101));
    assert!(matches!(event(&ticket).await, Event::Accept(_)));
    (ticket, got)
}

fn want(worker: &Worker, got: &Got, bytes: u32) {
    worker.say(Kind::Want, Flags::NONE, got, &bytes.to_le_bytes());
}

// Who gets what.

#[tokio::test]
async fn each_lane_has_its_own_bounds() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 2).await;
    let on_threads = [house.get("a"), house.get("b")];
    let on_loop = ["c", "d", "e"].map(|name| house.on_loop(name, true));
    let a = worker.begin().await;
    let (c, d) = (worker.begin_task().await, worker.begin_task().await);
    assert_eq!((a.name(), c.name(), d.name()), ("a", "c", "d"));
    assert!(worker.glance().await.is_none(), "its thread is busy");
    assert!(worker.lane.glance().await.is_none(), "its loop has all it takes");
    worker.answer(&c, 1);
    let e = worker.begin_task().await;
    assert_eq!(e.name(), "e");
    worker.answer(&a, 1000);
    let b = worker.begin().await;
    for got in [&b, &d, &e] {
        worker.answer(got, 1);
    }
    for ticket in on_threads.iter().chain(&on_loop) {
        whole(ticket).await;
    }
    assert!(house.pool.is_quiet());
}

#[tokio::test]
async fn the_loop_with_the_least_to_do_is_next() {
    let mut house = House::without_clock(PATIENT);
    let mut one = house.hire_both(0, 10).await;
    let mut two = house.hire_both(0, 10).await;
    let tickets: Vec<_> = (0..6).map(|n| house.on_loop(&n.to_string(), true)).collect();
    let mut at_one = Vec::new();
    let mut at_two = Vec::new();
    for _ in 0..3 {
        at_one.push(one.begin_task().await);
        at_two.push(two.begin_task().await);
    }
    assert!(one.lane.glance().await.is_none() && two.lane.glance().await.is_none());
    for got in &at_two {
        two.answer(got, 1);
        whole(&tickets[got.name().parse::<usize>().unwrap()]).await;
    }
    // WebSockets are spread by their own number: tasks come and go, they stay.
    let sockets: Vec<_> = (0..4).map(|n| house.socket(&format!("s{n}"))).collect();
    for worker in [&mut one, &mut two] {
        let got = [worker.begin_task().await, worker.begin_task().await];
        assert!(got.iter().all(|got| got.header.flags.has(Flags::WEBSOCKET)));
        assert!(worker.lane.glance().await.is_none());
    }
    drop((sockets, tickets));
}

#[tokio::test]
async fn a_full_loop_queues_and_the_queue_is_one() {
    let mut house = House::without_clock(Limits { queue: 2, ..PATIENT });
    let mut worker = house.hire_both(1, 1).await;
    let first = [house.get("thread"), house.on_loop("task", true)];
    let waiting = [house.get("waits for the thread"), house.on_loop("waits for the loop", true)];
    assert_eq!(failure(&house.get("no")).await, Failure::QueueFull);
    assert_eq!(failure(&house.on_loop("no", true)).await, Failure::QueueFull);
    // A WebSocket takes a place, and there are places.
    let (socket, at_socket) = {
        let task = worker.begin_task().await;
        assert_eq!(task.name(), "task");
        let opened = open_socket(&house, &mut worker, "socket").await;
        worker.answer(&task, 1);
        opened
    };
    let next = worker.begin_task().await;
    assert_eq!(next.name(), "waits for the loop");
    worker.answer(&next, 1);
    for _ in 0..2 {
        let got = worker.begin().await;
        worker.answer(&got, 1000);
    }
    for ticket in first.iter().chain(&waiting) {
        whole(ticket).await;
    }
    drop(socket);
    assert_eq!(worker.lane.frame().await.closed(), (1006, String::new()));
    worker.finish(&at_socket);
    worker.close(&at_socket, 1000);
    settle().await;
    assert!(house.pool.is_quiet());
}

#[tokio::test]
async fn a_wait_for_the_loop_ends() {
    let mut house = House::new(Limits { queue_timeout: Duration::from_millis(1), ..PATIENT });
    let _only_threads = house.hire(1).await;
    assert_eq!(failure(&house.on_loop("x", true)).await, Failure::QueueTimeout);
    assert_eq!(failure(&house.socket("y")).await, Failure::QueueTimeout);
}

#[tokio::test]
async fn a_spooled_body_comes_over_the_lane() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 5).await;
    let request = request("x", Some(Arc::new(file("body of x"))), false);
    let ticket = house.pool.submit(Request { lane: Lane::Loop, ..request });
    let got = worker.begin_task().await;
    worker.answer(&got, 1);
    assert_eq!(content(got.descriptor.unwrap()), "body of x");
    whole(&ticket).await;
}

// Requests that move to the loop.

#[tokio::test]
async fn a_moved_request_frees_its_thread() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 5).await;
    let waits = house.get("waits");
    let moved = worker.begin().await;
    let next = house.get("next");
    assert!(worker.glance().await.is_none(), "the thread is busy");
    worker.say(Kind::Moved, Flags::NONE, &moved, b"");
    let got = worker.begin().await;
    assert_eq!(got.name(), "next");
    worker.answer(&got, 1000);
    whole(&next).await;
    // What concerns it comes over the lane from now on.
    worker.say(Kind::Response, Flags::NONE, &moved, &head(0, b"abc"));
    assert!(matches!(event(&waits).await, Event::Head(_)));
    waits.consumed(3);
    assert_eq!(worker.lane.frame().await.granted(), 3);
    worker.say(Kind::End, Flags::NONE, &moved, &7u32.to_le_bytes());
    assert!(matches!(event(&waits).await, Event::End { broken: false, .. }));
    // It is not finished, and yet the thread is free; its place is not.
    let third = house.get("third");
    let got = worker.begin().await;
    assert_ne!(got.header.place, moved.header.place);
    worker.answer(&got, 1000);
    whole(&third).await;
    worker.finish(&moved);
    assert!(house.pool.is_quiet());
}

/// Its time is time of waiting: taken for service, it would keep quick requests from being sent ahead.
#[tokio::test]
async fn a_moved_request_says_nothing_about_speed() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 1000).await;
    warm_up(&house, &mut worker).await;
    for _ in 0..80 {
        let ticket = house.get("slow");
        let got = worker.begin().await;
        worker.say(Kind::Moved, Flags::NONE, &got, b"");
        worker.answer(&got, 1_000_000);
        whole(&ticket).await;
    }
    let _tickets = [house.get("a"), house.get("b")];
    let begun = worker.begin().await;
    assert_eq!((begun.name(), worker.frame().await.name()), ("a", "b"));
}

#[tokio::test]
async fn only_what_a_thread_has_can_move() {
    type Wrong = fn(&Worker, &Got);
    let stories: [(&str, Wrong); 3] = [
        ("no thread had it", |worker, got| worker.say(Kind::Moved, Flags::NONE, got, b"")),
        ("it is none", |worker, got| worker.say(Kind::Accept, Flags::NONE, got, &head_of(101))),
        ("it is none", |worker, got| want(worker, got, 1)),
    ];
    let mut house = House::without_clock(PATIENT);
    for (error, wrong) in stories {
        let mut liar = house.hire_both(0, 1).await;
        let ticket = house.on_loop("x", false);
        let got = liar.begin_task().await;
        wrong(&liar, &got);
        let said = house.lost(liar.number).await;
        assert!(said.contains(error), "expected {error:?}: {said:?}");
        assert_eq!(failure(&ticket).await, Failure::WorkerDied);
    }
}

#[tokio::test]
async fn the_loop_is_told_that_a_client_has_left() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 2).await;
    let on_loop = house.on_loop("loop", true);
    let task = worker.begin_task().await;
    let on_thread = house.get("moves");
    let moved = worker.begin().await;
    worker.say(Kind::Moved, Flags::NONE, &moved, b"");
    worker.say(Kind::Interim, Flags::NONE, &moved, &head_of(103));
    assert!(matches!(event(&on_thread).await, Event::Interim(_)));
    drop((on_loop, on_thread));
    for got in [&task, &moved] {
        let told = worker.lane.frame().await;
        assert_eq!((told.header.kind, told.header.id), (Kind::Cancel, got.header.id));
        assert!(!told.header.flags.has(Flags::BROKEN), "what it does is its own choice");
        assert!(worker.is_cancelled(got));
        worker.answer(got, 1);
    }
    assert!(worker.glance().await.is_none() && worker.lane.glance().await.is_none());
    assert!(house.pool.is_quiet());
    // One that is not begun is taken back instead.
    let gone = house.on_loop("gone", true);
    let lies = worker.lane.frame().await;
    drop(gone);
    assert!(!worker.take(&lies));
    assert!(worker.lane.glance().await.is_none());
}

// Time.

#[tokio::test]
async fn on_the_loop_only_the_head_has_a_time_limit() {
    let mut house = House::new(Limits { timeout: Some(Duration::from_millis(300)), ..PATIENT });
    let (mut worker, mut guard) = house.hire_guarded(1, 5).await;
    let stream = house.on_loop("stream", true);
    let at_stream = worker.begin_task().await;
    worker.say(Kind::Response, Flags::NONE, &at_stream, &head(0, b"abc"));
    assert!(matches!(event(&stream).await, Event::Head(_)));
    let (socket, _) = open_socket(&house, &mut worker, "socket").await;
    let silent = house.on_loop("silent", true);
    let at_silent = worker.begin_task().await;
    let handshake = house.socket("handshake");
    let at_handshake = worker.begin_task().await;
    for ticket in [&silent, &handshake] {
        assert_eq!(failure(ticket).await, Failure::TimedOut);
    }
    for got in [&at_silent, &at_handshake] {
        // The stack is asked for first, or it would be that of its end.
        let asked = guard.frame().await;
        assert_eq!((asked.header.kind, asked.header.id), (Kind::Interrupt, got.header.id));
        guard.tell(&asked, "{}");
        let told = worker.lane.frame().await;
        assert_eq!((told.header.kind, told.header.id), (Kind::Cancel, got.header.id));
        assert!(told.header.flags.has(Flags::BROKEN), "its task is cancelled");
        assert!(worker.is_cancelled(got));
        worker.answer(got, 1);
    }
    // One whose client has left may go on for a while; it is cancelled once.
    let left = house.on_loop("left", true);
    let at_left = worker.begin_task().await;
    drop(left);
    for broken in [false, true] {
        if broken {
            let asked = guard.frame().await;
            assert_eq!(asked.header.id, at_left.header.id);
            guard.tell(&asked, "{}");
        }
        let told = worker.lane.frame().await;
        assert_eq!((told.header.kind, told.header.id), (Kind::Cancel, at_left.header.id));
        assert_eq!(told.header.flags.has(Flags::BROKEN), broken);
    }
    worker.answer(&at_left, 1);
    // A loop that does not begin what it is given is held up as a whole.
    let unheard = house.on_loop("unheard", true);
    assert_eq!(failure(&unheard).await, Failure::TimedOut);
    house.blames(worker.number).await;
    assert!(is_silent(&stream).await && is_silent(&socket).await);
}

// WebSockets.

#[tokio::test]
async fn messages_go_both_ways_and_cost_credit() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 1).await;
    let (ticket, got) = open_socket(&house, &mut worker, "chat").await;
    ticket.send_message(true, false, b"hel");
    ticket.send_message(true, true, b"lo");
    ticket.send_message(false, true, b"");
    for (flags, payload) in
        [(Flags::TEXT, &b"hel"[..]), (Flags::TEXT.with(Flags::WHOLE), b"lo"), (Flags::WHOLE, b"")]
    {
        let frame = worker.lane.frame().await;
        assert_eq!((frame.header.kind, frame.header.flags), (Kind::Message, flags));
        assert_eq!((frame.header.id, &frame.payload[..]), (got.header.id, payload));
    }
    want(&worker, &got, 3);
    want(&worker, &got, 2);
    want(&worker, &got, 0);
    worker.say(Kind::Send, Flags::TEXT, &got, b"hi ");
    worker.say(Kind::Send, Flags::TEXT.with(Flags::WHOLE), &got, b"there");
    worker.say(Kind::Send, Flags::WHOLE, &got, b"");
    let mut credit = 0;
    let mut messages = Vec::new();
    while messages.len() < 3 {
        match event(&ticket).await {
            Event::Credit(more) => credit += more,
            Event::Message { text, whole, bytes } => messages.push((text, whole, bytes)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(credit, 5);
    assert_eq!(
        messages,
        [(true, false, b"hi ".to_vec()), (true, true, b"there".to_vec()), (false, true, vec![])]
    );
    assert!(worker.lane.glance().await.is_none(), "nothing was consumed");
    ticket.consumed(8);
    assert_eq!(worker.lane.frame().await.granted(), 8);
    worker.finish(&got);
    let mut close = Vec::new();
    Header { kind: Kind::Close, ..got.header }.write_close(4001, "bye", &mut close);
    worker.raw(&close);
    assert!(matches!(event(&ticket).await, Event::Close { code: 4001, reason } if reason == "bye"));
    ticket.send_closed(4001, "bye");
    drop(ticket);
    assert!(worker.lane.glance().await.is_none(), "it is over");
    assert!(house.pool.is_quiet());
}

/// However many frames say it, what lies with the edge does not grow.
#[tokio::test]
async fn credit_adds_up_in_one_event() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 1).await;
    let (ticket, got) = open_socket(&house, &mut worker, "chat").await;
    for _ in 0..1000 {
        want(&worker, &got, 2);
        settle().await;
    }
    want(&worker, &got, u32::MAX);
    worker.say(Kind::Send, Flags::WHOLE, &got, b"x");
    settle().await;
    assert!(matches!(event(&ticket).await, Event::Credit(u32::MAX)));
    assert!(matches!(event(&ticket).await, Event::Message { .. }));
}

#[tokio::test]
async fn more_messages_than_the_credit_end_the_channel() {
    let mut house = House::without_clock(PATIENT);
    let mut greedy = house.hire_both(1, 1).await;
    let (ticket, got) = open_socket(&house, &mut greedy, "chat").await;
    let mut bytes = Vec::new();
    Header { kind: Kind::Send, flags: Flags::WHOLE, ..got.header }.write(&[0; limits::PIECE_MAX], &mut bytes);
    'story: for _ in 0..64 {
        let mut at = 0;
        while at < bytes.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(greedy.channel.socket.get_ref(), &bytes[at..], flags) {
                Ok(n) => at += n,
                Err(Errno::AGAIN) => settle().await,
                Err(_) => break 'story,
            }
        }
    }
    assert!(house.lost(1).await.contains("credit"));
    let mut held = 0;
    loop {
        match event(&ticket).await {
            Event::Message { bytes, .. } => held += bytes.len(),
            Event::Failed(Failure::WorkerDied) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(held <= 2 * limits::WINDOW + limits::PIECE_MAX, "{held}");
}

/// An empty message costs credit too, for what it costs to keep.
#[tokio::test]
async fn more_empty_messages_than_the_credit_end_the_channel() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 1).await;
    let (ticket, got) = open_socket(&house, &mut worker, "flood").await;
    let most = (2 * limits::WINDOW + limits::message_cost(limits::PIECE_MAX)) / limits::message_cost(0);
    for _ in 0..=most {
        worker.say(Kind::Send, Flags::WHOLE, &got, b"");
        tokio::task::yield_now().await;
    }
    assert!(house.lost(1).await.contains("credit"));
    for _ in 0..most {
        assert!(matches!(event(&ticket).await, Event::Message { .. }));
    }
    assert!(matches!(event(&ticket).await, Event::Failed(Failure::WorkerDied)));
}

#[tokio::test]
async fn a_refused_handshake_is_an_ordinary_answer() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 1).await;
    let ticket = house.socket("no");
    let got = worker.begin_task().await;
    worker.finish(&got);
    worker.say(Kind::Response, Flags::WHOLE, &got, &head_of(403));
    assert!(matches!(event(&ticket).await, Event::Head(HeadFrame { whole: true, .. })));
    assert!(house.pool.is_quiet());
}

#[tokio::test]
async fn a_client_that_is_gone_is_told_to_the_app_once_and_what_it_still_says_is_swallowed() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 1).await;
    for said in [None, Some((1001, "going"))] {
        let (ticket, got) = open_socket(&house, &mut worker, "chat").await;
        if let Some((code, reason)) = said {
            ticket.send_closed(code, reason);
            ticket.send_message(true, true, b"too late");
        }
        drop(ticket);
        let (code, reason) = said.unwrap_or((1006, ""));
        assert_eq!(worker.lane.frame().await.closed(), (code, reason.to_owned()));
        assert!(worker.lane.glance().await.is_none());
        for _ in 0..4 * limits::WINDOW / 8192 {
            worker.say(Kind::Send, Flags::WHOLE, &got, &[0; 8192]);
            settle().await;
        }
        assert!(!house.pool.is_quiet(), "the app may still be at it");
        worker.finish(&got);
        worker.close(&got, 1000);
        settle().await;
        assert!(house.pool.is_quiet());
    }
}

/// The app need not accept first to be able to end it.
#[tokio::test]
async fn a_client_that_left_during_the_handshake_is_ended_by_close_or_by_an_answer() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 1).await;
    for closes in [true, false] {
        let ticket = house.socket("chat");
        let got = worker.begin_task().await;
        drop(ticket);
        assert_eq!(worker.lane.frame().await.closed(), (1006, String::new()));
        worker.finish(&got);
        if closes {
            worker.close(&got, 1000);
        } else {
            worker.say(Kind::Response, Flags::WHOLE, &got, &head_of(403));
        }
        settle().await;
        assert!(house.pool.is_quiet());
    }
    assert!(house.notices.try_recv().is_err(), "the channel goes on");
}

#[tokio::test]
async fn what_a_dead_workers_loop_had() {
    let mut house = House::without_clock(PATIENT);
    let mut dies = house.hire_both(1, 10).await;
    let (open, _) = open_socket(&house, &mut dies, "open").await;
    let (gone, _) = open_socket(&house, &mut dies, "gone").await;
    drop(gone);
    let handshake = house.socket("begun");
    dies.lane.frame().await; // the word that "gone" is over
    dies.begin_task().await;
    let again = [house.on_loop("a get", true), house.socket("not begun"), house.on_loop("not begun", false)];
    dies.begin_task().await;
    drop(dies);
    house.lost(1).await;
    assert_eq!(failure(&open).await, Failure::WorkerDied);
    assert_eq!(failure(&handshake).await, Failure::WorkerDied);
    let mut heir = house.hire_both(1, 10).await;
    for _ in &again {
        let got = heir.begin_task().await;
        heir.answer(&got, 1);
    }
    for ticket in &again {
        whole(ticket).await;
    }
    assert!(house.pool.is_quiet());
}

/// The lane's end alone is no death: the worker may be in the middle of something on its threads.
#[tokio::test]
async fn a_loop_that_stops_reading_is_given_nothing() {
    let mut house = House::without_clock(PATIENT);
    let mut deaf = house.hire_both(1, 10).await;
    let works = house.get("works");
    let at_works = deaf.begin().await;
    rustix::net::shutdown(deaf.lane.socket.get_ref(), Shutdown::Read).unwrap();
    let ticket = house.on_loop("x", true);
    let mut other = house.hire_both(1, 10).await;
    let got = other.begin_task().await;
    assert_eq!(got.name(), "x");
    other.answer(&got, 1);
    whole(&ticket).await;
    deaf.answer(&at_works, 1);
    assert_eq!(whole(&works).await, "works");
}

#[tokio::test]
async fn a_retired_worker_sends_its_websockets_away_and_finishes_its_streams() {
    let mut house = House::without_clock(PATIENT);
    let mut leaves = house.hire_both(1, 10).await;
    let (open, at_open) = open_socket(&house, &mut leaves, "open").await;
    let handshake = house.socket("handshake");
    let at_handshake = leaves.begin_task().await;
    let stream = house.on_loop("stream", true);
    let at_stream = leaves.begin_task().await;
    leaves.say(Kind::Response, Flags::NONE, &at_stream, &head(0, b""));
    assert!(matches!(event(&stream).await, Event::Head(_)));
    let not_begun = house.on_loop("not begun", false);
    let lies = leaves.lane.frame().await;
    house.pool.retire(1, None);
    assert!(!leaves.take(&lies), "what it has not begun goes to others");
    assert!(matches!(event(&open).await, Event::Restart));
    assert!(is_silent(&handshake).await && is_silent(&stream).await);
    // Accepted by a worker that leaves.
    leaves.say(Kind::Accept, Flags::NONE, &at_handshake, &head_of(101));
    assert!(matches!(event(&handshake).await, Event::Accept(_)));
    assert!(matches!(event(&handshake).await, Event::Restart));
    for (ticket, got) in [(open, at_open), (handshake, at_handshake)] {
        ticket.send_closed(1012, "");
        assert_eq!(leaves.lane.frame().await.closed(), (1012, String::new()));
        leaves.finish(&got);
        leaves.close(&got, 1012);
        assert!(matches!(event(&ticket).await, Event::Close { .. }));
    }
    let mut other = house.hire_both(1, 10).await;
    let got = other.begin_task().await;
    other.answer(&got, 1);
    assert_eq!(whole(&not_begun).await, "not begun");
    assert!(leaves.glance().await.is_none() && !leaves.channel.ended, "it still streams");
    leaves.say(Kind::Chunk, Flags::NONE, &at_stream, b"more");
    assert!(matches!(event(&stream).await, Event::Chunk(_)));
    leaves.finish(&at_stream);
    leaves.end(&at_stream);
    assert!(leaves.next().await.is_none(), "the end of both streams tells it to leave");
    assert!(leaves.lane.next().await.is_none());
}

// Trailers.

#[tokio::test]
async fn trailers_come_before_the_end() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 1).await;
    let ticket = house.on_loop("x", true);
    let got = worker.begin_task().await;
    let mut fields = Vec::new();
    bandstand_wire::head::encode_trailers([(&b"digest"[..], &b"abc"[..])].into_iter(), &mut fields);
    worker.say(Kind::Response, Flags::NONE, &got, &head(0, b"abc"));
    worker.say(Kind::Trailers, Flags::NONE, &got, &fields);
    worker.end(&got);
    assert!(matches!(event(&ticket).await, Event::Head(_)));
    assert!(matches!(event(&ticket).await, Event::Trailers(payload) if payload == fields));
    assert!(matches!(event(&ticket).await, Event::End { broken: false, .. }));
}

// Places.

/// A worker's table is as large as the most it has held, and the lowest places come first.
#[tokio::test]
async fn low_places_are_used_again() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire_both(1, 300).await;
    for _ in 0..3 {
        let tickets: Vec<_> = (0..200).map(|n| house.on_loop(&n.to_string(), true)).collect();
        for ticket in &tickets {
            let got = worker.begin_task().await;
            // Answered first, finished later: its place is not free at once.
            worker.say(Kind::Response, Flags::WHOLE, &got, &head(1, b""));
            whole(ticket).await;
            assert!(got.header.place < 300, "{}", got.header.place);
            worker.finish(&got);
        }
    }
}
