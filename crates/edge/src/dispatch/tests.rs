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
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::{
    Event, Failure, HeadFrame, Lane, Limits, Notice, Pool, Request, Sockets, Ticket, Verdict, Writers,
    run_channel,
};
use crate::observe::request_id::RequestId;

mod clients;
mod descriptors;
mod dice;
mod explore;
mod generations;
mod guard;
mod leaving;
mod liveness;
mod loops;
mod loss;
mod order;
mod time;

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
    verdicts: mpsc::UnboundedReceiver<Verdict>,
    hired: u32,
    /// For the worker hired last: its process is gone.
    gone: Arc<Notify>,
}

/// Somebody listens on every thread. A place that logs remembers whether anybody does: one that is met first while another test
/// begins to keep its thread's log would remember that nobody does, and that test would find nothing.
fn listen() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let nowhere = || tracing_subscriber::fmt().with_writer(std::io::sink).finish();
    ONCE.call_once(|| tracing::subscriber::set_global_default(nowhere()).unwrap_or_default());
}

impl House {
    /// With its clock running.
    fn new(limits: Limits) -> Self {
        let mut house = Self::without_clock(limits);
        let (fleet, verdicts) = mpsc::unbounded_channel();
        house.verdicts = verdicts;
        let pool = house.pool.clone();
        tokio::spawn(
            async move { pool.watch_clock(|verdict| fleet.send(verdict).unwrap_or_default()).await },
        );
        house
    }

    /// Nothing is taken back or runs out of time.
    fn without_clock(limits: Limits) -> Self {
        listen();
        let (sender, notices) = mpsc::unbounded_channel();
        let (_, verdicts) = mpsc::unbounded_channel();
        Self { pool: Pool::new(limits), sender, notices, verdicts, hired: 0, gone: Arc::default() }
    }

    /// A worker that has said nothing yet.
    fn apprentice(&mut self) -> Worker {
        self.apprentice_of(1, false).0
    }

    /// A worker of this generation that has said nothing yet, and its end of the guard line, if it has one.
    fn apprentice_of(&mut self, generation: u32, guarded: bool) -> (Worker, Option<Ear>) {
        self.hired += 1;
        let (channel, their_channel) = UnixStream::pair().unwrap();
        let (lane, their_lane) = UnixStream::pair().unwrap();
        let (guard, their_guard) = UnixStream::pair().unwrap();
        let board = Arc::new(Board::create().unwrap().0);
        let writers = Writers::default();
        self.pool.add(self.hired, generation, board.clone(), writers.clone());
        self.gone = Arc::default();
        let sockets = Sockets { channel, lane, guard: guarded.then_some(guard), gone: self.gone.clone() };
        tokio::spawn(run_channel(self.pool.clone(), self.hired, sockets, writers, self.sender.clone()));
        let (channel, lane) = (Ear::new(their_channel, false), Ear::new(their_lane, true));
        let guard = guarded.then(|| Ear::new(their_guard, false));
        (Worker { number: self.hired, board, channel, lane }, guard)
    }

    /// A worker of this generation that is ready.
    async fn hire_of(&mut self, generation: u32, threads: u16, tasks: u16) -> Worker {
        let worker = self.apprentice_of(generation, false).0;
        self.welcome(&worker, threads, tasks).await;
        worker
    }

    /// A worker that is ready, with its end of the guard line.
    async fn hire_guarded(&mut self, threads: u16, tasks: u16) -> (Worker, Ear) {
        let (worker, guard) = self.apprentice_of(1, true);
        self.welcome(&worker, threads, tasks).await;
        (worker, guard.unwrap())
    }

    async fn welcome(&mut self, worker: &Worker, threads: u16, tasks: u16) {
        worker.hello(threads, tasks);
        let notice = self.notice().await;
        assert!(matches!(notice, Notice::Hello { number, .. } if number == worker.number), "{notice:?}");
    }

    /// A worker that is ready, with threads only.
    async fn hire(&mut self, threads: u16) -> Worker {
        self.hire_both(threads, 0).await
    }

    /// A worker that is ready.
    async fn hire_both(&mut self, threads: u16, tasks: u16) -> Worker {
        self.hire_of(1, threads, tasks).await
    }

    async fn verdict(&mut self) -> Verdict {
        soon("a verdict", self.verdicts.recv()).await.unwrap()
    }

    /// A worker without a guard is dumped and replaced as soon as a request is over its time.
    async fn blames(&mut self, worker: u32) {
        assert_eq!(self.verdict().await, Verdict::Dump { worker });
        assert!(
            matches!(self.verdict().await, Verdict::Replace { worker: replaced, .. } if replaced == worker)
        );
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
