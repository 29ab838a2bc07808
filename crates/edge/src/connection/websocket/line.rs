//! The bytes under a WebSocket: a connection of its own, or one stream of many (RFC 8441).
//!
//! Owns what differs between the two: where bytes come from and go to, how the end is said, who tells that the server stops.
//! A plain enum, as `connection::Incoming` is: HTTP/1 pays nothing for it. Invariant: the window of a stream opens as bytes are
//! read and not before, so that a client waits for the app as it does over HTTP/1.1; at most a window of bytes is held here.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::connection::multiplexed::{Carrier, Code, Gone};
use crate::connection::registry::Place;
use crate::connection::stream::Stream;
use crate::connection::timer::Timer;
use crate::shared::{Phase, Shared};

/// Bytes given to a stream at once, so that others have their turn.
const PIECE: usize = 64 * 1024;

/// One of the two.
pub(super) enum Line<'c> {
    Connection { stream: &'c mut Stream, place: &'c Place },
    Stream(Substream<'c>),
}

/// One stream of many.
pub(super) struct Substream<'c> {
    carrier: &'c mut dyn Carrier,
    /// Ready when the server stops.
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    stops: bool,
    /// Bytes that have come while nobody read; their window is still closed.
    held: Vec<u8>,
    /// The client has ended its side.
    is_over: bool,
}

impl<'c> Line<'c> {
    /// One request's stream.
    pub(super) fn of(carrier: &'c mut dyn Carrier, shared: &Shared) -> Self {
        let mut phase = shared.phase.subscribe();
        let stop = Box::pin(async move {
            // The phases end with the server.
            let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
        });
        Self::Stream(Substream { carrier, stop, stops: false, held: Vec::new(), is_over: false })
    }

    /// Whether the server stops, or wants the connection back. Registers for being told.
    pub(super) fn poll_stop(&mut self, shared: &Shared, context: &mut Context<'_>) -> bool {
        match self {
            Self::Connection { place, .. } => place.handle.poll_closed(context) || shared.is_draining(),
            Self::Stream(stream) => {
                stream.stops = stream.stops || stream.stop.as_mut().poll(context).is_ready();
                stream.stops
            }
        }
    }

    /// Whether the client has left, as far as that shows while it is not read. Registers for being told. What comes meanwhile in a
    /// stream is taken out of its frames: each costs the crate more than a few bytes, and it ends connections on which many wait.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> bool {
        match self {
            Self::Connection { .. } => false,
            Self::Stream(stream) => match stream.poll_hold(context) {
                Poll::Ready(Err(Gone)) => true,
                // Whoever has ended its side may still reset the other.
                Poll::Ready(Ok(())) => stream.carrier.poll_gone(context).is_ready(),
                Poll::Pending => false,
            },
        }
    }

    /// Reads some bytes into `buffer`, with room for `room` of a connection's; `Ok(0)` at the end.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        let stream = match self {
            Self::Connection { stream, .. } => return stream.poll_read(context, buffer, room),
            Self::Stream(stream) => stream,
        };
        let held = stream.poll_hold(context);
        if stream.held.is_empty() {
            ready!(held).map_err(|Gone| io::Error::from(io::ErrorKind::ConnectionReset))?;
            return Poll::Ready(Ok(0));
        }
        let read = stream.held.len();
        buffer.append(&mut stream.held);
        stream.carrier.release(read);
        Poll::Ready(Ok(read))
    }

    /// Writes some of `bytes`, of which there are some. After `Pending` it has to be called with the same again; more may follow.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let carrier = match self {
            Self::Connection { stream, .. } => return stream.poll_write(context, &[IoSlice::new(bytes)]),
            Self::Stream(stream) => &mut stream.carrier,
        };
        let wanted = bytes.len().min(PIECE);
        let broken = |Gone| io::Error::from(io::ErrorKind::BrokenPipe);
        let room = ready!(carrier.poll_room(wanted, context)).map_err(broken)?.min(wanted);
        carrier.send_data(Bytes::copy_from_slice(&bytes[..room]), false).map_err(broken)?;
        Poll::Ready(Ok(room))
    }
}

impl Substream<'_> {
    /// Takes in all that has come; ready at the end, or when the client is gone.
    fn poll_hold(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.is_over {
            match ready!(self.carrier.poll_data(context)) {
                Some(Ok(bytes)) => self.held.extend_from_slice(&bytes),
                Some(Err(Gone)) => return Poll::Ready(Err(Gone)),
                None => self.is_over = true,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The end of a stream whose WebSocket is over (RFC 8441 §5): the end of our data where it came to a good one, else a reset.
pub(super) async fn end(carrier: &mut dyn Carrier, timer: &mut Timer, within: Duration, is_good: bool) {
    if !is_good || say_end(carrier, timer, Instant::now() + within).await.is_err() {
        carrier.reset(Code::Cancelled);
    }
}

async fn say_end(carrier: &mut dyn Carrier, timer: &mut Timer, deadline: Instant) -> Result<(), Gone> {
    std::future::poll_fn(|context| match carrier.poll_room(0, context) {
        Poll::Ready(room) => Poll::Ready(room.map(|_| ())),
        Poll::Pending => timer.poll(context, deadline).map(|()| Err(Gone)),
    })
    .await?;
    carrier.send_data(Bytes::new(), true)?;
    std::future::poll_fn(|context| match carrier.poll_sent(context) {
        Poll::Ready(sent) => Poll::Ready(sent),
        Poll::Pending => timer.poll(context, deadline).map(|()| Err(Gone)),
    })
    .await
}
