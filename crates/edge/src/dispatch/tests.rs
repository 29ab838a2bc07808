//! Stories of two peers: the pool and its channels on one side, a scripted worker on the other.
//!
//! The worker is a few lines over real socket pairs and a real board: it reads frames, begins what it likes, and writes
//! what the story wants, right or wrong. Nothing sleeps: a step waits for a frame, an event or a notice, with a deadline.
//! That nothing comes is seen after `settle`, which lets every task that can run do so.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::future::Future;
use std::io::{IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bandstand_supervisor::Board;
use bandstand_wire::{Decoder, Flags, Header, Hello, Kind, ResponseHead, board, limits};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::clock::Overdue;
use super::{
    Event, Failure, HeadFrame, Lane, Limits, Notice, Pool, Request, Sockets, Ticket, Writers, run_channel,
};
use crate::observe::request_id::RequestId;

mod loops;

const SECOND: Duration = Duration::from_secs(1);
const PATIENT: Limits = Limits { queue: 1000, queue_timeout: Duration::from_secs(60), timeout: None };

/// No step of a story takes this long.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(10 * SECOND, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Lets every task that can run do so.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

/// The edge's side.
struct House {
    pool: Arc<Pool>,
    sender: mpsc::UnboundedSender<Notice>,
    notices: mpsc::UnboundedReceiver<Notice>,
    overdue: mpsc::UnboundedReceiver<Overdue>,
    hired: u32,
}

impl House {
    /// With its clock running.
    fn new(limits: Limits) -> Self {
        let mut house = Self::without_clock(limits);
        let (late, overdue) = mpsc::unbounded_channel();
        house.overdue = overdue;
        let pool = house.pool.clone();
        tokio::spawn(async move { pool.watch_clock(|overdue| late.send(overdue).unwrap_or_default()).await });
        house
    }

    /// Nothing is taken back or runs out of time.
    fn without_clock(limits: Limits) -> Self {
        let (sender, notices) = mpsc::unbounded_channel();
        let (_, overdue) = mpsc::unbounded_channel();
        Self { pool: Pool::new(limits), sender, notices, overdue, hired: 0 }
    }

    /// A worker that has said nothing yet.
    fn apprentice(&mut self) -> Worker {
        self.hired += 1;
        let (channel, their_channel) = UnixStream::pair().unwrap();
        let (lane, their_lane) = UnixStream::pair().unwrap();
        let board = Arc::new(Board::create().unwrap().0);
        let writers = Writers::default();
        self.pool.add(self.hired, board.clone(), writers.clone());
        let sockets = Sockets { channel, lane };
        tokio::spawn(run_channel(self.pool.clone(), self.hired, sockets, writers, self.sender.clone()));
        let (channel, lane) = (Ear::new(their_channel, false), Ear::new(their_lane, true));
        Worker { number: self.hired, board, channel, lane }
    }

    /// A worker that is ready, with threads only.
    async fn hire(&mut self, threads: u16) -> Worker {
        self.hire_both(threads, 0).await
    }

    /// A worker that is ready.
    async fn hire_both(&mut self, threads: u16, tasks: u16) -> Worker {
        let worker = self.apprentice();
        worker.hello(threads, tasks);
        let notice = self.notice().await;
        assert!(matches!(notice, Notice::Hello { number, .. } if number == worker.number), "{notice:?}");
        worker
    }

    async fn notice(&mut self) -> Notice {
        soon("a notice", self.notices.recv()).await.unwrap()
    }

    /// The channel of this worker has ended; the error, or nothing.
    async fn lost(&mut self, worker: u32) -> String {
        match self.notice().await {
            Notice::Lost { number, error } if number == worker => error.unwrap_or_default(),
            other => panic!("expected the loss of worker {worker}: {other:?}"),
        }
    }

    fn get(&self, name: &str) -> Ticket {
        self.pool.submit(request(name, None, true))
    }

    fn post(&self, name: &str) -> Ticket {
        self.pool.submit(request(name, None, false))
    }

    /// A request for the loop.
    fn on_loop(&self, name: &str, repeatable: bool) -> Ticket {
        self.pool.submit(Request { lane: Lane::Loop, ..request(name, None, repeatable) })
    }

    /// A WebSocket's handshake.
    fn socket(&self, name: &str) -> Ticket {
        let request = request(name, None, false);
        self.pool.submit(Request { lane: Lane::Loop, flags: request.flags.with(Flags::WEBSOCKET), ..request })
    }
}

/// A request whose payload is its name.
fn request(name: &str, descriptor: Option<Arc<File>>, repeatable: bool) -> Request {
    let flags = if descriptor.is_some() { Flags::DESCRIPTOR } else { Flags::WHOLE };
    let payload = name.as_bytes().to_vec();
    Request { payload, flags, descriptor, repeatable, name: RequestId::new(), lane: Lane::Threads }
}

/// The scripted worker.
struct Worker {
    number: u32,
    board: Arc<Board>,
    channel: Ear,
    lane: Ear,
}

/// One of its sockets, as it reads it.
struct Ear {
    socket: AsyncFd<UnixStream>,
    decoder: Decoder,
    descriptors: VecDeque<OwnedFd>,
    ended: bool,
    is_lane: bool,
}

/// A frame as the worker got it.
#[derive(Debug)]
struct Got {
    header: Header,
    payload: Vec<u8>,
    descriptor: Option<OwnedFd>,
    /// Came over the lane.
    on_loop: bool,
}

impl Got {
    fn name(&self) -> &str {
        assert_eq!(self.header.kind, Kind::Request);
        std::str::from_utf8(&self.payload).unwrap()
    }

    fn closed(&self) -> (u16, String) {
        assert_eq!(self.header.kind, Kind::Closed);
        let frame = bandstand_wire::Frame { header: self.header, payload: &self.payload };
        let (code, reason) = frame.close().unwrap();
        (code, reason.to_owned())
    }

    fn granted(&self) -> u32 {
        assert_eq!(self.header.kind, Kind::Grant);
        u32::from_le_bytes(self.payload.as_slice().try_into().unwrap())
    }
}

impl Ear {
    fn new(stream: UnixStream, is_lane: bool) -> Self {
        Self {
            socket: bandstand_supervisor::watch_channel(stream).unwrap(),
            decoder: Decoder::default(),
            descriptors: VecDeque::new(),
            ended: false,
            is_lane,
        }
    }

    /// The next frame; none at the end of the stream.
    async fn next(&mut self) -> Option<Got> {
        soon("a frame for the worker", async {
            loop {
                if let Some(got) = self.decoded() {
                    return Some(got);
                }
                if self.ended {
                    return None;
                }
                let mut ready = self.socket.readable().await.unwrap();
                ready.clear_ready();
                drop(ready);
                self.read();
            }
        })
        .await
    }

    async fn frame(&mut self) -> Got {
        self.next().await.expect("the channel is open")
    }

    /// A frame that is there already.
    async fn glance(&mut self) -> Option<Got> {
        settle().await;
        self.read();
        self.decoded()
    }

    fn decoded(&mut self) -> Option<Got> {
        let frame = self.decoder.next().unwrap()?;
        let (header, payload) = (frame.header, frame.payload.to_vec());
        let descriptor =
            header.flags.has(Flags::DESCRIPTOR).then(|| self.descriptors.pop_front().expect("it came along"));
        Some(Got { header, payload, descriptor, on_loop: self.is_lane })
    }

    fn read(&mut self) {
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut room = [IoSliceMut::new(self.decoder.space())];
            match rustix::net::recvmsg(self.socket.get_ref(), &mut room, &mut control, RecvFlags::DONTWAIT) {
                Ok(message) => {
                    for piece in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(rights) = piece {
                            self.descriptors.extend(rights);
                        }
                    }
                    self.decoder.advance(message.bytes);
                    if message.bytes == 0 {
                        self.ended = true;
                        return;
                    }
                    // One frame at a time, so that the decoder's buffer is not moved past what was not taken.
                    if message.bytes < 16 * 1024 && self.descriptors.is_empty() {
                        return;
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Worker {
    fn hello(&self, threads: u16, tasks: u16) {
        let mut payload = Vec::new();
        Hello { threads, tasks, project: b"{}" }.encode(&mut payload);
        self.write(Header { kind: Kind::Hello, flags: Flags::NONE, place: 0, id: 0 }, &payload);
    }

    async fn next(&mut self) -> Option<Got> {
        self.channel.next().await
    }

    async fn frame(&mut self) -> Got {
        self.channel.frame().await
    }

    async fn glance(&mut self) -> Option<Got> {
        self.channel.glance().await
    }

    fn take(&self, got: &Got) -> bool {
        board::take(self.board.word(got.header.place), got.header.id)
    }

    /// The thread is free again; says so if it was asked to.
    fn finish(&self, got: &Got) {
        if board::finish(self.board.word(got.header.place)) {
            self.write(Header { kind: Kind::Idle, flags: Flags::NONE, ..got.header }, b"");
        }
    }

    /// Waits until a word is free: there is no event for it, so this looks.
    async fn sees_taken_back(&self, got: &Got) {
        soon("it is taken back", async {
            while self.board.word(got.header.place).load(Ordering::Acquire) != 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    fn is_cancelled(&self, got: &Got) -> bool {
        board::is_cancelled(self.board.word(got.header.place))
    }

    /// The next request of the loop, begun.
    async fn begin_task(&mut self) -> Got {
        let got = self.lane.frame().await;
        assert_eq!(got.header.kind, Kind::Request);
        assert!(self.take(&got));
        got
    }

    /// The next request, begun. One that was taken back is passed over, as workers do.
    async fn begin(&mut self) -> Got {
        loop {
            let got = self.frame().await;
            assert_eq!(got.header.kind, Kind::Request);
            if self.take(&got) {
                return got;
            }
        }
    }

    fn raw(&self, bytes: &[u8]) {
        self.channel.socket.get_ref().write_all(bytes).unwrap();
    }

    fn write(&self, header: Header, payload: &[u8]) {
        let mut bytes = Vec::new();
        header.write(payload, &mut bytes);
        self.raw(&bytes);
    }

    fn say(&self, kind: Kind, flags: Flags, got: &Got, payload: &[u8]) {
        self.write(Header { kind, flags, ..got.header }, payload);
    }

    /// All of an answer, and the thread is free.
    fn answer(&self, got: &Got, service_us: u32) {
        self.finish(got);
        self.say(Kind::Response, Flags::WHOLE, got, &head(service_us, &got.payload));
    }

    /// The app closes a WebSocket.
    fn close(&self, got: &Got, code: u16) {
        let mut bytes = Vec::new();
        Header { kind: Kind::Close, ..got.header }.write_close(code, "", &mut bytes);
        self.raw(&bytes);
    }

    fn end(&self, got: &Got) {
        self.say(Kind::End, Flags::NONE, got, &7u32.to_le_bytes());
    }

    fn write_with(&self, bytes: &[u8], descriptors: &[&File]) {
        let borrowed: Vec<_> = descriptors.iter().map(|file| file.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
        let sent = rustix::net::sendmsg(
            self.channel.socket.get_ref(),
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        assert_eq!(sent, Ok(bytes.len()));
    }
}

/// A head's payload, without a body.
fn head_of(status: u16) -> Vec<u8> {
    let mut payload = Vec::new();
    ResponseHead { status, reason: b"", service_us: 0, body_length: None, file_offset: 0 }
        .encode([].into_iter(), &mut payload);
    payload
}

/// A response's payload.
fn head(service_us: u32, body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    ResponseHead { status: 200, reason: b"", service_us, body_length: None, file_offset: 0 }
        .encode([].into_iter(), &mut payload);
    payload.extend_from_slice(body);
    payload
}

fn file(content: &str) -> File {
    let memory = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(memory);
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn content(descriptor: OwnedFd) -> String {
    let mut file = File::from(descriptor);
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

async fn event(ticket: &Ticket) -> Event {
    soon("an event", std::future::poll_fn(|context| ticket.reply().poll_next(context))).await
}

/// The body of an answer that came whole.
async fn whole(ticket: &Ticket) -> String {
    match event(ticket).await {
        Event::Head(HeadFrame { payload, whole: true, descriptor: None }) => {
            let (_, _, body) = ResponseHead::decode(&payload).unwrap();
            String::from_utf8(body.to_vec()).unwrap()
        }
        other => panic!("expected a whole answer: {other:?}"),
    }
}

async fn failure(ticket: &Ticket) -> Failure {
    match event(ticket).await {
        Event::Failed(failure) => failure,
        other => panic!("expected a failure: {other:?}"),
    }
}

/// Nothing has come.
async fn is_silent(ticket: &Ticket) -> bool {
    settle().await;
    let mut silent = true;
    std::future::poll_fn(|context| {
        silent = ticket.reply().poll_next(context).is_pending();
        std::task::Poll::Ready(())
    })
    .await;
    silent
}

/// The worker answers so many quick requests that the pool knows it as quick: much may be sent ahead.
async fn warm_up(house: &House, worker: &mut Worker) {
    for _ in 0..80 {
        let ticket = house.get("warm");
        let got = worker.begin().await;
        worker.answer(&got, 1);
        assert_eq!(whole(&ticket).await, "warm");
    }
}

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
    assert_eq!(soon("the overdue", house.overdue.recv()).await.unwrap().worker, silent.number);
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
    assert_eq!(soon("the overdue", house.overdue.recv()).await.unwrap().worker, 1);
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
        assert_eq!(soon("the overdue", house.overdue.recv()).await.unwrap().worker, silent.number);
        drop(silent);
        house.notice().await;
    }
    assert!(is_silent(&slow).await && is_silent(&alive).await);
    assert!(house.overdue.try_recv().is_err());
}

// Leaving.

#[tokio::test]
async fn a_retired_worker_leaves_when_it_holds_nothing() {
    let mut house = House::without_clock(PATIENT);
    let mut leaves = house.hire(2).await;
    let a = house.get("a");
    let b = house.get("b");
    let (at_a, lies) = (leaves.begin().await, leaves.frame().await);
    house.pool.retire(1);
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
    house.pool.retire(early.number);
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

// Descriptors.

#[tokio::test]
async fn a_spooled_body_comes_with_its_frame() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(8).await;
    let spooled = |name: &str| {
        let descriptor = Some(Arc::new(file(&format!("body of {name}"))));
        house.pool.submit(request(name, descriptor, false))
    };
    // All in one outbox: with and without, one after the other.
    let tickets = [house.get("a"), spooled("b"), house.get("c"), spooled("d"), spooled("e"), house.get("f")];
    for (name, ticket) in ["a", "b", "c", "d", "e", "f"].into_iter().zip(&tickets) {
        let got = worker.begin().await;
        assert_eq!(got.name(), name);
        worker.answer(&got, 1);
        assert_eq!(whole(ticket).await, name);
        let has_body = matches!(name, "b" | "d" | "e");
        assert_eq!(got.descriptor.is_some(), has_body, "{name}");
        if let Some(descriptor) = got.descriptor {
            assert_eq!(content(descriptor), format!("body of {name}"));
        }
    }
}

#[tokio::test]
async fn a_spooled_body_is_given_again_with_its_request() {
    let mut house = House::without_clock(PATIENT);
    let mut dies = house.hire(1).await;
    let descriptor = Some(Arc::new(file("body")));
    let ticket = house.pool.submit(request("x", descriptor, false));
    drop(dies.frame().await);
    drop(dies);
    house.lost(1).await;
    let mut heir = house.hire(1).await;
    let got = heir.begin().await;
    heir.answer(&got, 1);
    assert_eq!(content(got.descriptor.unwrap()), "body");
    assert_eq!(whole(&ticket).await, "x");
}

#[tokio::test]
async fn file_answers_come_with_their_descriptors() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(3).await;
    let tickets: Vec<_> = (0..3).map(|n| house.get(&n.to_string())).collect();
    let files: Vec<_> = (0..3).map(|n| file(&format!("file {n}"))).collect();
    for file in &files {
        let got = worker.begin().await;
        worker.finish(&got);
        let mut bytes = Vec::new();
        Header { kind: Kind::Response, flags: Flags::DESCRIPTOR, ..got.header }
            .write(&head(1, b""), &mut bytes);
        // The first byte carries it; the rest comes later.
        worker.write_with(&bytes[..5], &[file]);
        settle().await;
        worker.raw(&bytes[5..]);
    }
    for (n, ticket) in tickets.iter().enumerate() {
        match event(ticket).await {
            Event::Head(HeadFrame { whole: true, descriptor: Some(descriptor), .. }) => {
                assert_eq!(content(descriptor), format!("file {n}"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(house.pool.is_quiet());
}

/// More descriptors than there is room for: some are lost, and the rest would come with the wrong frames.
#[tokio::test]
async fn descriptors_that_were_cut_off_end_the_channel() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(1).await;
    let _ticket = house.get("x");
    let got = worker.begin().await;
    let one = file("x");
    let mut bytes = Vec::new();
    Header { kind: Kind::Response, flags: Flags::DESCRIPTOR, ..got.header }.write(&head(1, b""), &mut bytes);
    worker.write_with(&bytes, &[&one; 32]);
    assert!(house.lost(1).await.contains("descriptor"));
}

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

// Everything at once.

/// Chance that is the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
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
            house.pool.retire(1 + dice.below(u64::from(house.hired)) as u32);
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
