//! Is the body here, so that a slow client never holds a worker?
//!
//! Owns the way of a body from the connection into memory and, past `body_buffer`, into an unlinked file whose descriptor
//! the worker gets. Enforces `max_body` (of the path, as `admit` found it) on what comes, whatever was announced.

use crate::body::spool::Spool;
use crate::connection::{BodyError, Incoming};
use crate::exchange::{Body, Exchange};
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::State;
use bandstand_wire::limits::INLINE_BODY_MAX;

pub(crate) async fn run(state: &State, exchange: &mut Exchange, incoming: &mut Incoming<'_>) -> Step {
    match receive(state, incoming, exchange.max_body).await {
        Ok(body) => {
            exchange.body = body;
            Step::Next
        }
        Err(refusal) => Step::Refuse(refusal),
    }
}

async fn receive(state: &State, incoming: &mut Incoming<'_>, most: u64) -> Result<Body, Refusal> {
    let in_memory = usize::try_from(state.settings.body_buffer).unwrap_or(usize::MAX).min(INLINE_BODY_MAX);
    let mut memory = Vec::new();
    while incoming.read(&mut memory).await.map_err(body_error)? {
        if incoming.received() > most {
            return Err(Refusal::BodyTooLarge);
        }
        if memory.len() > in_memory {
            return spool(state, incoming, memory, most).await;
        }
    }
    Ok(if memory.is_empty() { Body::None } else { Body::Memory(memory) })
}

async fn spool(
    state: &State,
    incoming: &mut Incoming<'_>,
    first: Vec<u8>,
    most: u64,
) -> Result<Body, Refusal> {
    let mut spool = Spool::create(&state.settings.spool_dir).await.map_err(spool_error)?;
    let mut pieces = first;
    loop {
        let more = incoming.read(&mut pieces).await.map_err(body_error)?;
        if incoming.received() > most {
            return Err(Refusal::BodyTooLarge);
        }
        // Fewer, larger writes: each is a trip to the blocking pool.
        if !more || pieces.len() >= INLINE_BODY_MAX {
            spool = spool.append(std::mem::take(&mut pieces)).await.map_err(spool_error)?;
        }
        if !more {
            let (file, length) = spool.into_file();
            return Ok(Body::Spooled { file, length });
        }
    }
}

pub(crate) fn body_error(error: BodyError) -> Refusal {
    match error {
        BodyError::Malformed => Refusal::BadChunk,
        BodyError::CutShort => Refusal::BodyCutShort,
        BodyError::TooSlow => Refusal::BodyTimeout,
    }
}

fn spool_error(error: std::io::Error) -> Refusal {
    tracing::error!(%error, "a request body could not be stored; see the setting spool_dir");
    Refusal::SpoolFull
}
