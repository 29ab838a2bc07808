//! Workers, clients and a clock around one pool, moved one step at a time, and what must be true after each.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bandstand_supervisor::Board;
use bandstand_wire::sequence::Answer;
use bandstand_wire::{Decoder, Flags, Frame, Header, Kind as FrameKind, board};

use super::super::{PATIENT, head, head_of, request};
use crate::dispatch::link::Link;
use crate::dispatch::outlet::{Line, Outbox};
use crate::dispatch::queue::{Inner, Work};
use crate::dispatch::reply::{Location, Reply};
use crate::dispatch::{Event, HeadFrame, Lane, Limits, Pool, Request, Ticket, Verdict};

/// Who and what there may be.
pub(super) struct Cast {
    pub(super) requests: usize,
    /// Worker processes over time; the first is there from the start.
    pub(super) workers: usize,
    pub(super) kinds: &'static [Kind],
    /// Workers are known to be quick, so that requests are sent ahead of them.
    pub(super) quick: bool,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// May be given once more.
    Get,
    /// May not.
    Post,
    /// For the loop.
    Task,
    /// A WebSocket.
    Socket,
}

/// One thing that happens. Numbers are workers, places in what a worker has begun, or clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Submit(Kind),
    /// A request for this worker alone.
    Probe(usize),
    /// A worker takes the next request of its channel (0) or its lane (1).
    Take(usize, usize),
    /// It answers, and is done with it.
    Answer(usize, usize),
    /// It answers, and its thread goes on.
    Linger(usize, usize),
    /// That thread is done.
    Finish(usize, usize),
    /// It begins to answer, or accepts.
    Begin(usize, usize),
    /// It hands a request to its loop.
    Move(usize, usize),
    /// A worker is started: of the current generation (0), or of the one after it (1).
    Open(u32),
    Hello(usize),
    /// The newest generation becomes current.
    Switch,
    Retire(usize),
    RetireGently(usize),
    /// A worker dies, or leaves.
    Lose(usize),
    Hold,
    Resume,
    /// A client leaves.
    Leave(usize),
    /// Time passes: what lies ahead is looked at.
    Patience,
    /// All limits in time have passed.
    TimeOut,
    Stop,
}

/// A request that a worker has begun.
struct Begun {
    header: Header,
    client: usize,
    on_loop: bool,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    Answering,
    Lingering,
}

struct Hand {
    number: u32,
    generation: u32,
    board: Arc<Board>,
    greeted: bool,
    alive: bool,
    told_to_leave: bool,
    decoders: [Decoder; 2],
    inbox: [VecDeque<(Header, usize)>; 2],
    begun: Vec<Begun>,
}

struct Client {
    kind: Kind,
    /// The worker that it is for, and no other.
    probes: Option<u32>,
    ticket: Option<Ticket>,
    reply: Arc<Reply>,
    /// Events that end it.
    finals: usize,
    /// How often a worker has begun it.
    begun: usize,
}

pub(super) struct World<'c> {
    cast: &'c Cast,
    pool: Arc<Pool>,
    hands: Vec<Hand>,
    clients: Vec<Client>,
    now: Instant,
    verdicts: HashSet<(u32, bool)>,
    steps: Vec<Step>,
}

thread_local! {
    /// A board is a megabyte of address space: they are used again.
    static BOARDS: RefCell<Vec<Arc<Board>>> = const { RefCell::new(Vec::new()) };
}

const LIMITS: Limits = Limits { queue: 3, timeout: Some(Duration::from_secs(60)), ..PATIENT };

impl<'c> World<'c> {
    /// After these steps, with one worker from the start that has not said hello.
    pub(super) fn played(cast: &'c Cast, steps: &[Step]) -> Self {
        let mut world = Self {
            cast,
            pool: Pool::new(LIMITS),
            hands: Vec::new(),
            clients: Vec::new(),
            now: Instant::now(),
            verdicts: HashSet::new(),
            steps: Vec::new(),
        };
        world.open(1);
        for &step in steps {
            world.play(step);
        }
        world
    }

    /// What can happen next.
    pub(super) fn possible(&self) -> Vec<Step> {
        let mut steps = vec![Step::Patience, Step::TimeOut];
        let (current, on_hold, stopping) = {
            let inner = self.pool.lock();
            (inner.current, inner.on_hold, inner.stopping)
        };
        if self.clients.len() < self.cast.requests {
            steps.extend(self.cast.kinds.iter().map(|&kind| Step::Submit(kind)));
        }
        if self.hands.len() < self.cast.workers {
            steps.extend([Step::Open(0), Step::Open(1)]);
        }
        if self.hands.iter().any(|hand| hand.generation > current) {
            steps.push(Step::Switch);
        }
        steps.push(if on_hold { Step::Resume } else { Step::Hold });
        if !stopping {
            steps.push(Step::Stop);
        }
        for (at, hand) in self.hands.iter().enumerate().filter(|(_, hand)| hand.alive) {
            steps.extend(self.possible_for(at, hand));
        }
        let staying = self.clients.iter().enumerate().filter(|(_, client)| client.ticket.is_some());
        steps.extend(staying.map(|(at, _)| Step::Leave(at)));
        steps
    }

    fn possible_for(&self, at: usize, hand: &Hand) -> Vec<Step> {
        let mut steps = vec![Step::Lose(at), Step::Retire(at), Step::RetireGently(at)];
        if !hand.greeted {
            steps.push(Step::Hello(at));
        } else if self.clients.len() < self.cast.requests {
            steps.push(Step::Probe(at));
        }
        let busy = hand.begun.iter().any(|begun| !begun.on_loop);
        if !hand.inbox[0].is_empty() && !busy {
            steps.push(Step::Take(at, 0));
        }
        if !hand.inbox[1].is_empty() {
            steps.push(Step::Take(at, 1));
        }
        for (n, begun) in hand.begun.iter().enumerate() {
            if begun.phase == Phase::Lingering {
                steps.push(Step::Finish(at, n));
                continue;
            }
            steps.extend([Step::Answer(at, n), Step::Linger(at, n)]);
            if begun.phase == Phase::Fresh {
                steps.push(Step::Begin(at, n));
            }
            if !begun.on_loop {
                steps.push(Step::Move(at, n));
            }
        }
        steps
    }

    /// Does a step, and checks what must be true after it.
    pub(super) fn play(&mut self, step: Step) {
        self.steps.push(step);
        let before = self.given();
        match step {
            Step::Submit(kind) => self.submit(kind, None),
            Step::Probe(at) => self.submit(Kind::Get, Some(at)),
            Step::Take(at, lane) => self.take(at, lane),
            Step::Answer(at, n) => self.answer(at, n, true),
            Step::Linger(at, n) => self.answer(at, n, false),
            Step::Finish(at, n) => self.finish(at, n),
            Step::Begin(at, n) => self.begin(at, n),
            Step::Move(at, n) => {
                self.say(at, n, FrameKind::Moved, Flags::NONE, &[]);
                self.hands[at].begun[n].on_loop = true;
            }
            Step::Open(later) => {
                let current = self.pool.lock().current;
                self.open(current + later);
            }
            Step::Hello(at) => {
                self.hands[at].greeted = true;
                self.pool.opened(self.hands[at].number, 1, 2);
                if self.cast.quick {
                    self.pool.lock().link(self.hands[at].number).unwrap().assume_quick();
                }
            }
            Step::Switch => {
                let newest = self.hands.iter().map(|hand| hand.generation).max();
                self.pool.switch(newest.unwrap());
            }
            Step::Retire(at) => self.pool.retire(self.hands[at].number, None),
            Step::RetireGently(at) => {
                self.pool.retire(self.hands[at].number, Some(self.now + Duration::from_secs(30)));
            }
            Step::Lose(at) => {
                self.pool.remove(self.hands[at].number);
                let hand = &mut self.hands[at];
                hand.alive = false;
                hand.begun.clear();
                hand.inbox.iter_mut().for_each(VecDeque::clear);
            }
            Step::Hold => self.pool.hold(true),
            Step::Resume => self.pool.hold(false),
            Step::Leave(at) => self.clients[at].ticket = None,
            Step::Patience => {
                self.now += Duration::from_secs(1);
                self.pool.unstick(self.now);
            }
            Step::TimeOut => self.time_out(),
            Step::Stop => self.pool.stop(),
        }
        self.deliver();
        self.hear();
        self.check(&before);
    }

    fn open(&mut self, generation: u32) {
        let number = self.hands.len() as u32 + 1;
        let reused = BOARDS.with_borrow_mut(Vec::pop);
        let board = reused.unwrap_or_else(|| Arc::new(Board::create().unwrap().0));
        self.pool.add(number, generation, board.clone(), Default::default());
        self.hands.push(Hand {
            number,
            generation,
            board,
            greeted: false,
            alive: true,
            told_to_leave: false,
            decoders: Default::default(),
            inbox: Default::default(),
            begun: Vec::new(),
        });
    }

    fn submit(&mut self, kind: Kind, probed: Option<usize>) {
        let request = request(&self.clients.len().to_string(), None, kind == Kind::Get);
        let request = match kind {
            Kind::Get | Kind::Post => request,
            Kind::Task => Request { lane: Lane::Loop, ..request },
            Kind::Socket => {
                Request { lane: Lane::Loop, flags: request.flags.with(Flags::WEBSOCKET), ..request }
            }
        };
        let ticket = match probed {
            None => self.pool.submit(request),
            Some(at) => match self.pool.probe(self.hands[at].number, request) {
                Some(ticket) => ticket,
                None => return,
            },
        };
        let reply = ticket.share_reply();
        let client = Client {
            kind,
            probes: probed.map(|at| self.hands[at].number),
            ticket: Some(ticket),
            reply,
            finals: 0,
            begun: 0,
        };
        self.clients.push(client);
    }

    fn take(&mut self, at: usize, lane: usize) {
        let hand = &mut self.hands[at];
        let Some((header, client)) = hand.inbox[lane].pop_front() else { return };
        if board::take(hand.board.word(header.place), header.id) {
            hand.begun.push(Begun { header, client, on_loop: lane == 1, phase: Phase::Fresh });
            self.clients[client].begun += 1;
        }
    }

    fn begin(&mut self, at: usize, n: usize) {
        match self.clients[self.hands[at].begun[n].client].kind {
            Kind::Socket => self.say(at, n, FrameKind::Accept, Flags::NONE, &head_of(101)),
            _ => self.say(at, n, FrameKind::Response, Flags::NONE, &head(0, b"")),
        }
        self.hands[at].begun[n].phase = Phase::Answering;
    }

    fn answer(&mut self, at: usize, n: usize, finish: bool) {
        let begun = &self.hands[at].begun[n];
        let (header, client, phase) = (begun.header, begun.client, begun.phase);
        // As workers do: the word is free before the last frame, so that no request waits for a look at it.
        let idle = finish && board::finish(self.hands[at].board.word(header.place));
        match (self.clients[client].kind, phase) {
            (Kind::Socket, Phase::Answering) => {
                self.say(at, n, FrameKind::Close, Flags::NONE, &1000u16.to_le_bytes());
            }
            (_, Phase::Answering) => self.say(at, n, FrameKind::End, Flags::NONE, &[1, 0, 0, 0]),
            _ => self.say(at, n, FrameKind::Response, Flags::WHOLE, &head(1, b"")),
        }
        if idle {
            self.say(at, n, FrameKind::Idle, Flags::NONE, &[]);
        }
        if finish {
            self.hands[at].begun.remove(n);
        } else {
            self.hands[at].begun[n].phase = Phase::Lingering;
        }
    }

    fn finish(&mut self, at: usize, n: usize) {
        if board::finish(self.hands[at].board.word(self.hands[at].begun[n].header.place)) {
            self.say(at, n, FrameKind::Idle, Flags::NONE, &[]);
        }
        self.hands[at].begun.remove(n);
    }

    fn say(&self, at: usize, n: usize, kind: FrameKind, flags: Flags, payload: &[u8]) {
        let header = Header { kind, flags, ..self.hands[at].begun[n].header };
        let mut frame = Some(Frame { header, payload });
        let mut wakers = Vec::new();
        let result = self.pool.on_frames(
            self.hands[at].number,
            |take| match frame.take() {
                Some(frame) => take(frame).map(|()| true),
                None => Ok(false),
            },
            &mut VecDeque::new(),
            &mut wakers,
        );
        assert_eq!(result, Ok(()), "{:?}", self.steps);
    }

    fn time_out(&mut self) {
        self.now += Duration::from_secs(3600);
        for verdict in self.pool.expire(self.now) {
            let once = match verdict {
                Verdict::Dump { .. } => continue,
                Verdict::Replace { worker, .. } => (worker, false),
                Verdict::Kill { worker } => (worker, true),
            };
            assert!(self.verdicts.insert(once), "{once:?} twice: {:?}", self.steps);
            assert!(!once.1 || self.verdicts.contains(&(once.0, false)), "killed unasked: {:?}", self.steps);
        }
    }

    /// What the pool has written comes to the workers.
    fn deliver(&mut self) {
        for hand in self.hands.iter_mut().filter(|hand| hand.alive) {
            for (line, into) in [(Line::Channel, 0), (Line::Lane, 1)] {
                let mut outbox = Outbox::default();
                hand.told_to_leave |= self.pool.take_outbox(hand.number, line, &mut outbox);
                let mut bytes = outbox.bytes.as_slice();
                while !bytes.is_empty() {
                    let space = hand.decoders[into].space();
                    let n = space.len().min(bytes.len());
                    space[..n].copy_from_slice(&bytes[..n]);
                    hand.decoders[into].advance(n);
                    bytes = &bytes[n..];
                    while let Some(frame) = hand.decoders[into].next().unwrap() {
                        if frame.header.kind == FrameKind::Request {
                            let client = std::str::from_utf8(frame.payload).unwrap().parse().unwrap();
                            hand.inbox[into].push_back((frame.header, client));
                        }
                    }
                }
            }
        }
    }

    /// What the pool has said comes to the clients.
    fn hear(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for client in &mut self.clients {
            let Some(ticket) = &client.ticket else { continue };
            while let Poll::Ready(event) = ticket.reply().poll_next(&mut context) {
                assert_eq!(client.finals, 0, "none_answered_twice: {event:?} {:?}", self.steps);
                let is_final = match event {
                    Event::Head(HeadFrame { whole, .. }) => whole,
                    Event::End { .. } | Event::Failed(_) | Event::Close { .. } => true,
                    _ => false,
                };
                client.finals += usize::from(is_final);
            }
        }
    }

    /// What the workers have been given: `(worker, id)` of what is held.
    fn given(&self) -> HashSet<(u32, u64)> {
        let inner = self.pool.lock();
        let held =
            inner.links.iter().flat_map(|link| link.places.iter().map(|(_, held)| (link.number, held.id)));
        held.collect()
    }

    fn check(&self, before: &HashSet<(u32, u64)>) {
        let inner = self.pool.lock();
        self.no_place_leaked(&inner);
        self.no_request_lost(&inner);
        self.given_as_it_may_be(&inner, before);
        self.queue_order_kept(&inner);
        for client in &self.clients {
            let most = if client.kind == Kind::Get && client.probes.is_none() { 2 } else { 1 };
            assert!(client.begun <= most, "at_most_one_retry: {:?}", self.steps);
        }
    }

    fn no_place_leaked(&self, inner: &Inner) {
        for link in &inner.links {
            let (table, held, free, closing) = link.places.books();
            assert_eq!(table, held + free + closing, "no_place_leaked: {:?}", self.steps);
            for work in Work::ALL {
                let holding = link.places.iter().filter(|(_, held)| held.work == work).count();
                assert_eq!(link.load(work), holding, "no_place_leaked, {work:?}: {:?}", self.steps);
            }
        }
    }

    /// Every request is over, or waits in one place, which its reply names.
    fn no_request_lost(&self, inner: &Inner) {
        for client in &self.clients {
            let is_its = |reply: &Arc<Reply>| Arc::ptr_eq(reply, &client.reply);
            let queued = inner.queues.iter().flatten().filter(|job| is_its(&job.reply)).count();
            let live = |link: &Link| {
                link.places.iter().filter(|(_, held)| is_its(&held.job.reply) && !held.abandoned).count()
            };
            let held: usize = inner.links.iter().map(live).sum();
            if let Some(number) = client.probes {
                let has = |link: &Link| link.number != number && live(link) > 0;
                let elsewhere = queued > 0 || inner.links.iter().any(has);
                assert!(!elsewhere, "never_to_another_than_it_is_for: {:?}", self.steps);
            }
            let waits = usize::from(client.finals == 0 && client.ticket.is_some());
            assert_eq!(queued + held, waits, "no_request_lost: {:?}", self.steps);
            let named = match client.reply.location() {
                Location::Queued => (1, 0),
                Location::Held { .. } => (0, 1),
                Location::Nowhere => (0, 0),
            };
            assert_eq!((queued, held), named, "no_request_lost, by its reply: {:?}", self.steps);
        }
    }

    fn given_as_it_may_be(&self, inner: &Inner, before: &HashSet<(u32, u64)>) {
        for link in &inner.links {
            let hand = &self.hands[link.number as usize - 1];
            for (place, held) in link.places.iter().filter(|(_, held)| !held.job.bound) {
                let is_new = !before.contains(&(link.number, held.id));
                let word = hand.board.word(place).load(Ordering::Relaxed);
                let is_offered = word >> 8 == held.id && !board::is_running(hand.board.word(place), held.id);
                if !is_new && !is_offered {
                    continue;
                }
                assert_eq!(
                    (link.generation, link.is_accepting()),
                    (inner.current, true),
                    "never_to_a_generation_that_is_not_current: {:?}",
                    self.steps
                );
                assert!(!inner.on_hold, "never_while_held: {:?}", self.steps);
                let mut waiting = inner.queues[held.job.work as usize].iter();
                assert!(
                    !is_new || waiting.all(|job| job.arrival > held.job.arrival),
                    "queue_order_kept, passed over: {:?}",
                    self.steps
                );
            }
        }
    }

    fn queue_order_kept(&self, inner: &Inner) {
        for queue in &inner.queues {
            assert!(queue.iter().is_sorted_by_key(|job| job.arrival), "queue_order_kept: {:?}", self.steps);
        }
    }

    /// Lets everything that was begun end, and what waits be served: then nothing may be left.
    pub(super) fn come_to_rest(mut self) {
        self.play(Step::Resume);
        let current = self.pool.lock().current;
        if self.pool.ready_workers() == 0 {
            self.open(current);
            self.play(Step::Hello(self.hands.len() - 1));
        }
        for _ in 0..50 {
            for at in 0..self.hands.len() {
                while let Some(n) = self.hands[at].begun.len().checked_sub(1) {
                    let lingers = self.hands[at].begun[n].phase == Phase::Lingering;
                    self.play(if lingers { Step::Finish(at, n) } else { Step::Answer(at, n) });
                }
                for lane in 0..2 {
                    if !self.hands[at].inbox[lane].is_empty() {
                        self.play(Step::Take(at, lane));
                    }
                }
            }
            let busy =
                |hand: &Hand| !hand.begun.is_empty() || hand.inbox.iter().any(|inbox| !inbox.is_empty());
            if self.pool.is_quiet() && !self.hands.iter().any(busy) {
                break;
            }
            self.play(Step::Patience);
        }
        assert!(self.pool.is_quiet(), "it does not come to rest: {:?}", self.steps);
        for client in self.clients.iter().filter(|client| client.ticket.is_some()) {
            assert_eq!(client.finals, 1, "no_request_lost, at rest: {:?}", self.steps);
        }
        let inner = self.pool.lock();
        for link in &inner.links {
            let (table, held, free, closing) = link.places.books();
            assert_eq!((held, free + closing), (0, table), "no_place_leaked, at rest: {:?}", self.steps);
            let hand = &self.hands[link.number as usize - 1];
            assert_eq!(hand.told_to_leave, link.is_leaving(), "told to leave: {:?}", self.steps);
        }
    }

    /// The state, times left out.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        let inner = self.pool.lock();
        let by_reply: HashMap<*const Reply, u8> =
            self.clients.iter().zip(0..).map(|(client, n)| (Arc::as_ptr(&client.reply), n)).collect();
        let mut print = vec![inner.current as u8, u8::from(inner.on_hold), u8::from(inner.stopping)];
        for client in &self.clients {
            let flags = [client.probes.is_some(), client.ticket.is_some()].map(u8::from);
            print.extend([client.kind as u8, flags[0], flags[1], client.finals as u8, client.begun as u8]);
        }
        for queue in &inner.queues {
            print.push(0xf0);
            for job in queue {
                print.extend([by_reply[&Arc::as_ptr(&job.reply)], u8::from(job.retried)]);
            }
        }
        for hand in &self.hands {
            print.extend([0xf1, hand.generation as u8, u8::from(hand.alive), u8::from(hand.greeted)]);
            for (header, client) in hand.inbox.iter().flatten() {
                let word = hand.board.word(header.place).load(Ordering::Relaxed);
                print.extend([*client as u8, u8::from(word >> 8 == header.id)]);
            }
            for begun in &hand.begun {
                print.extend([0xf2, begun.client as u8, u8::from(begun.on_loop), begun.phase as u8]);
            }
        }
        for link in &inner.links {
            let flags = [link.stalled.is_some(), link.guard.is_awaited(), link.farewell.is_some()];
            print.extend([0xf3, link.number as u8, link.standing as u8]);
            print.extend(flags.map(u8::from));
            for (_, held) in link.places.iter() {
                let flags = [held.abandoned, held.expired, held.closed, held.job.retried].map(u8::from);
                print.extend([
                    by_reply.get(&Arc::as_ptr(&held.job.reply)).copied().unwrap_or(0xff),
                    held.work as u8,
                    u8::from(held.answer == Answer::Waiting),
                ]);
                print.extend(flags);
            }
        }
        print
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        self.clients.clear();
        for hand in self.hands.drain(..) {
            for place in 0..32 {
                hand.board.word(place).store(0, Ordering::Relaxed);
            }
            BOARDS.with_borrow_mut(|boards| boards.push(hand.board));
        }
    }
}
