//! Who answers: bandstand itself, the disk, or the app?
//!
//! Owns bandstand's own pages. They are answered whatever the Host and however long the queue: a load balancer that asks
//! whether we live must not wait behind users (`SURFACE.md`).

use bytes::Bytes;

use crate::exchange::{Answer, AnswerBody, Exchange};
use crate::pipeline::Step;
use crate::shared::{Phase, Shared};

pub(crate) fn run(shared: &Shared, exchange: &Exchange) -> Step {
    let path = exchange.raw_path();
    let is = |wanted: &Option<String>| wanted.as_ref().is_some_and(|wanted| wanted.as_bytes() == path);
    if is(&shared.settings.health_path) {
        return Step::Answer(own(200, "{\"live\":true}\n".to_owned()));
    }
    if is(&shared.settings.ready_path) {
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
        (_, 0) => "no worker is ready",
        _ => return own(200, format!("{{\"ready\":true,\"workers\":{workers}}}\n")),
    };
    own(503, format!("{{\"ready\":false,\"workers\":{workers},\"missing\":[\"{missing}\"]}}\n"))
}

fn own(status: u16, body: String) -> Answer {
    let mut answer = Answer::new(status);
    answer.fields.push(b"Content-Type", b"application/json");
    answer.fields.push(b"Cache-Control", b"no-store");
    answer.length = Some(body.len() as u64);
    answer.body = AnswerBody::Memory(Bytes::from(body));
    answer
}
