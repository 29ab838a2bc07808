//! Who answers: bandstand itself, the disk, or the app?
//!
//! Owns bandstand's own pages. They are answered whatever the Host and however long the queue: a load balancer that asks
//! whether we live must not wait behind users (`SURFACE.md`).

use std::time::SystemTime;

use bytes::Bytes;

use crate::exchange::{Answer, AnswerBody, Exchange};
use crate::observe::logging::rfc3339;
use crate::pipeline::Step;
use crate::shared::{Phase, Shared, State};

pub(crate) fn run(shared: &Shared, state: &State, exchange: &Exchange) -> Step {
    let path = exchange.raw_path();
    let is = |wanted: &Option<String>| wanted.as_ref().is_some_and(|wanted| wanted.as_bytes() == path);
    if is(&state.settings.health_path) {
        return Step::Answer(own(200, "{\"live\":true}\n".to_owned()));
    }
    if is(&state.settings.ready_path) {
        return Step::Answer(readiness(shared));
    }
    if path == b"*" {
        return Step::Answer(server_options());
    }
    Step::Next
}

/// `OPTIONS *` asks about the server, not about a page of the app (RFC 9110 §9.3.7).
fn server_options() -> Answer {
    let mut answer = Answer::new(204);
    answer.fields.push(b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    answer.length = None;
    answer
}

fn readiness(shared: &Shared) -> Answer {
    let workers = shared.pool.ready_workers();
    let phase = *shared.phase.borrow();
    let missing = match (phase, workers) {
        (Phase::Draining, _) => "the server is stopping",
        (_, 0) if shared.outage.is_on() => return faltering(shared),
        (_, 0) => "no worker is ready",
        _ => return own(200, format!("{{\"ready\":true,\"workers\":{workers}}}\n")),
    };
    own(503, format!("{{\"ready\":false,\"workers\":{workers},\"missing\":[\"{missing}\"]}}\n"))
}

/// Since when, for whoever is woken by it.
fn faltering(shared: &Shared) -> Answer {
    let since = rfc3339(shared.outage.since().unwrap_or_else(SystemTime::now));
    own(
        503,
        format!(
            "{{\"ready\":false,\"workers\":0,\"missing\":[\"the application does not start\"],\"since\":\"{since}\"}}\n"
        ),
    )
}

fn own(status: u16, body: String) -> Answer {
    let mut answer = Answer::new(status);
    answer.fields.push(b"Content-Type", b"application/json");
    answer.fields.push(b"Cache-Control", b"no-store");
    answer.length = Some(body.len() as u64);
    answer.body = AnswerBody::Memory(Bytes::from(body));
    answer
}
