//! One HTTP/2 connection: its streams, its limits, its end.
//!
//! Owns the settings that the client is told (RFC 9113 §6.5), how many streams are worked on at once, when the connection
//! closes and how the client is told. Frames are the h2 crate's, requests `multiplexed`'s, floods `budget`'s. All streams live
//! in the connection's task (`tasks`): a request costs no task and, on a connection that is awake, no waking.
//!
//! ```text
//!   Preface ──► Open ──stop, address closed──► Leaving (GOAWAY, streams go on) ──no stream──► Closed
//!      │ header_timeout │ idle_timeout, room wanted: GOAWAY                                     ▲
//!      ▼                └──flood (ENHANCE_YOUR_CALM), client silent or takes nothing────────────┘
//!    Closed
//! ```

mod budget;
mod carrier;
mod due;
mod tasks;
#[cfg(test)]
mod tests;
mod wire;

use std::future::Future;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bandstand_semantics::Version;
use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{PingPong, Reason, RecvStream};
use http::Request;

use super::multiplexed::{self, Carrier, Code, Origin};
use super::registry::Place;
use super::stream::Stream;
use super::timer::Timer;
use crate::dispatch::reply::Reply;
use crate::exchange::Ends;
use crate::shared::{Shared, State};
use crate::tls::TlsFacts;
use tasks::{Board, Tasks, Turn};
use wire::{Handle, Wire, lock};

/// Streams of one client at once. Browsers are content with 100; fewer make pages of many pictures slow.
const STREAMS: u32 = 128;
/// Work that goes on for streams which their client has reset may take so many places more.
const STREAMS_AND_LEFT: usize = STREAMS as usize + 64;
/// Bytes of a body that may come before somebody takes them, of one stream and of all.
const WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that the crate holds for a stream.
const SEND_BUFFER: usize = 128 * 1024;
/// Streams that were reset before we had seen them (RFC 9113 §10.5, `CHECKLIST.md` part 2 row 34), and by us (row 35).
const RESET_EARLY: usize = 20;
const RESET_BY_US: usize = 200;
/// Time for the last frames.
const CLOSING: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 512 * 1024;
/// Rounds before other connections have their turn.
const ROUNDS: usize = 16;

/// A client's connection, before its preface.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    origin: Origin,
    place: Place,
    wire: Arc<Mutex<Wire>>,
}

type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

impl Connection {
    /// A connection on which HTTP/2 was agreed on, or is known of.
    pub(crate) fn new(
        shared: Arc<Shared>,
        stream: Stream,
        ends: Ends,
        tls: Option<Arc<TlsFacts>>,
        place: Place,
    ) -> Self {
        Self::after(Vec::new(), shared, stream, ends, tls, place)
    }

    /// The same, of which these bytes were read already.
    pub(crate) fn after(
        early: Vec<u8>,
        shared: Arc<Shared>,
        stream: Stream,
        ends: Ends,
        tls: Option<Arc<TlsFacts>>,
        place: Place,
    ) -> Self {
        let wire = Wire::new(stream, early);
        Self { shared, origin: Origin::new(ends, Version::Http2, tls), place, wire }
    }

    /// Serves it until it closes.
    pub(crate) async fn run(self) {
        let Self { shared, origin, place, wire } = self;
        place.busy();
        let state = shared.state();
        let within = state.settings.header_timeout;
        let preface = builder(&state).handshake::<_, Bytes>(Handle(wire.clone()));
        let Ok(Ok(mut h2)) = tokio::time::timeout(within, preface).await else { return };
        let board = Arc::new(Board::default());
        let (serving, served) = (shared.clone(), wire.clone());
        let serve = move |(request, respond): Accepted, state: Arc<State>| {
            serve(serving.clone(), state, origin.clone(), request, (respond, served.clone()))
        };
        let mut open = Open {
            ping: h2.ping_pong(),
            turn: Turn::new(&board, 0),
            tasks: Tasks::new(board.clone()),
            h2,
            shared,
            state,
            place,
            wire,
            board,
            serve,
            timer: Timer::default(),
            left: Vec::new(),
            phase: Phase::Open,
            rests: None,
            silent: None,
            is_asked: false,
        };
        open.turn.ask();
        // The runtime's own turns would stop us in the middle of a round: rounds are bounded here.
        tokio::task::unconstrained(std::future::poll_fn(|context| open.poll(context))).await;
        let Open { h2, tasks, wire, place, .. } = open;
        // Nobody waits for the answers any more, and the workers are told so at once.
        drop((h2, tasks));
        linger(&wire).await;
        drop(place);
    }
}

fn builder(state: &State) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(multiplexed::head::decoded_most(multiplexed::limits(state)))
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_EARLY)
        .max_local_error_reset_streams(Some(RESET_BY_US))
        // WebSockets (RFC 8441). Whether the project takes any may change with a reload; the offer holds for the connection.
        .enable_connect_protocol();
    builder
}

/// One request; what is given back is alive while a worker is still at it for nobody.
async fn serve(
    shared: Arc<Shared>,
    state: Arc<State>,
    origin: Origin,
    request: Request<RecvStream>,
    (respond, wire): (SendResponse<Bytes>, Arc<Mutex<Wire>>),
) -> Option<Weak<Reply>> {
    let (mut parts, body) = request.into_parts();
    if let Some(protocol) = parts.extensions.remove::<h2::ext::Protocol>() {
        let is_websocket = protocol.as_str().eq_ignore_ascii_case("websocket");
        let protocol =
            if is_websocket { multiplexed::Protocol::WebSocket } else { multiplexed::Protocol::Other };
        parts.extensions.insert(protocol);
    }
    let is_over = body.is_end_stream();
    let mut stream = carrier::Stream::new(body, respond, wire);
    multiplexed::serve(&shared, &state, &origin, &mut stream, parts, is_over).await
}

/// Whether new requests are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client was told to go elsewhere with new requests.
    Leaving,
    /// The last frames are on their way, until then.
    Closing(Instant),
}

/// A connection at work.
struct Open<F, S> {
    h2: h2::server::Connection<Handle, Bytes>,
    ping: Option<PingPong>,
    /// Of the crate's connection.
    turn: Turn,
    tasks: Tasks<F>,
    board: Arc<Board>,
    serve: S,
    shared: Arc<Shared>,
    /// As it was when the last request began.
    state: Arc<State>,
    place: Place,
    wire: Arc<Mutex<Wire>>,
    timer: Timer,
    /// What workers still do for streams whose client has left.
    left: Vec<Weak<Reply>>,
    phase: Phase,
    /// Since when no stream is open.
    rests: Option<Instant>,
    /// Since when nothing has come.
    silent: Option<Instant>,
    /// The client was asked for a sign of life.
    is_asked: bool,
}

/// The connection is over.
struct Over;

impl<F, S> Open<F, S>
where
    F: Future<Output = Option<Weak<Reply>>>,
    S: Fn(Accepted, Arc<State>) -> F,
{
    /// Does all that can be done now.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.poll_rounds(context) {
            Ok(poll) => poll,
            Err(Over) => Poll::Ready(()),
        }
    }

    fn poll_rounds(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, Over> {
        for _ in 0..ROUNDS {
            self.round()?;
            // Whatever is still to be said leaves with what is written already.
            if self.board.len() == 0 {
                self.send()?;
                self.on_time(context)?;
                if self.board.sleep(context) {
                    return Ok(Poll::Pending);
                }
            }
        }
        self.send()?;
        self.on_time(context)?;
        context.waker().wake_by_ref();
        Ok(Poll::Pending)
    }

    /// Polls whoever wants to be, streams before their connection, so that what they have to say leaves together.
    fn round(&mut self) -> Result<(), Over> {
        let mut is_wanted = false;
        for _ in 0..self.board.len() {
            match self.board.next() {
                Some(0) => is_wanted = true,
                Some(index) => self.left.extend(self.tasks.poll(index).flatten()),
                None => break,
            }
        }
        if is_wanted {
            self.drive()?;
        }
        lock(&self.wire).let_in();
        Ok(())
    }

    /// Writes what waits.
    fn send(&mut self) -> Result<(), Over> {
        let mut wire = lock(&self.wire);
        match wire.poll_send(&mut self.turn.context()) {
            Poll::Ready(Err(_)) => return Err(Over),
            Poll::Ready(Ok(())) => wire.let_in(),
            Poll::Pending => {}
        }
        Ok(())
    }

    /// Lets the crate read and write, and takes new requests.
    fn drive(&mut self) -> Result<(), Over> {
        let mut context = self.turn.begin();
        lock(&self.wire).begin();
        loop {
            match self.h2.poll_accept(&mut context) {
                Poll::Ready(Some(Ok(accepted))) => {
                    if self.phase != Phase::Open && self.phase != Phase::Leaving {
                        continue; // dropped: its stream is reset
                    }
                    let admitted = Self::admit(&mut self.left, self.tasks.len(), accepted, &self.wire);
                    if let Some(accepted) = admitted {
                        let state = take_state(&self.shared, &mut self.state);
                        self.tasks.add((self.serve)(accepted, state));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "an HTTP/2 connection has failed");
                    // What the crate has written of it still leaves, if the socket takes it at once.
                    let _ = lock(&self.wire).poll_send(&mut context);
                    return Err(Over);
                }
                Poll::Ready(None) => {
                    let _ = lock(&self.wire).poll_send(&mut context);
                    return Err(Over);
                }
                Poll::Pending => break,
            }
        }
        if lock(&self.wire).budget.is_over && !matches!(self.phase, Phase::Closing(_)) {
            tracing::debug!("an HTTP/2 client was told to calm down");
            self.close(Reason::ENHANCE_YOUR_CALM);
        }
        Ok(())
    }

    /// A stream whose client has left holds its place as long as a worker is at it: who resets and asks again gets no more
    /// work done than others (row 34).
    fn admit(
        left: &mut Vec<Weak<Reply>>,
        open: usize,
        accepted: Accepted,
        wire: &Arc<Mutex<Wire>>,
    ) -> Option<Accepted> {
        if open + left.len() >= STREAMS_AND_LEFT {
            left.retain(|reply| reply.strong_count() > 0);
        }
        if open + left.len() < STREAMS_AND_LEFT {
            return Some(accepted);
        }
        let (request, respond) = accepted;
        carrier::Stream::new(request.into_body(), respond, wire.clone()).reset(Code::Refused);
        None
    }
}

/// Reads and throws away what still comes, for a moment: a client whose data meet a closed socket would not read why.
async fn linger(wire: &Mutex<Wire>) {
    let read = async {
        let mut thrown = 0;
        while thrown < LINGER_BYTES {
            match std::future::poll_fn(|context| lock(wire).poll_throw_away(context)).await {
                Ok(read @ 1..) => thrown += read,
                _ => return,
            }
        }
    };
    // When it is over the client has had its time.
    let _ = tokio::time::timeout(CLOSING, read).await;
}

/// The state for the next request: that of the last one, but for a reload in between.
fn take_state(shared: &Shared, state: &mut Arc<State>) -> Arc<State> {
    let current = shared.current.load();
    if !Arc::ptr_eq(&current, state) {
        *state = Arc::clone(&current);
    }
    state.clone()
}
