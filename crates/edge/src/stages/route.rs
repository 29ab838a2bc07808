//! Who answers: bandstand itself, the disk, or the app?
//!
//! Owns bandstand's own pages. They are answered whatever the Host and however long the queue: a load balancer that asks
//! whether we live must not wait behind users (`SURFACE.md`). Reports of the Content-Security-Policy are taken in a second step,
//! once it is known that the client may come.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::access::rates::{Quota, Standing};
use crate::connection::Incoming;
use crate::exchange::{Answer, AnswerBody, Exchange};
use crate::observe::logging::rfc3339;
use crate::observe::violations;
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::{Phase, Shared, State};
use crate::stages::receive::body_error;

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
    if let Some(token) = path.strip_prefix(CHALLENGES) {
        return challenge(shared, state, exchange, token);
    }
    Step::Next
}

/// Where an authority looks for the proof that a name is served here (RFC 8555 §8.3).
const CHALLENGES: &[u8] = b"/.well-known/acme-challenge/";

/// Tokens that we wait for are answered, whatever the Host. Any other is nobody's where certificates are ours to obtain, and needs no
/// redirect; else it may be of a client that the application or a folder of files answers.
fn challenge(shared: &Shared, state: &State, exchange: &Exchange, token: &[u8]) -> Step {
    let proof = str::from_utf8(token).ok().and_then(|token| shared.tls.challenges.http(token));
    match proof {
        Some(proof) => {
            let mut answer = Answer::new(200);
            answer.fields.push(b"Content-Type", b"application/octet-stream");
            answer.fields.push(b"Cache-Control", b"no-store");
            answer.length = Some(proof.len() as u64);
            answer.body = AnswerBody::Memory(Bytes::from(proof));
            Step::Answer(answer)
        }
        None if state.settings.uses_acme() && !exchange.https => Step::Refuse(Refusal::NotFound),
        None => Step::Next,
    }
}

/// Reports that one address may send: a page that violates its policy sends one for each violation.
const REPORTS: Quota = Quota { rule: u64::MAX, requests: 60, per: Duration::from_secs(60), burst: 60 };

/// A report of a violation, if this is one (`csp_reports`).
pub(crate) async fn take_report(
    shared: &Shared,
    state: &State,
    exchange: &mut Exchange,
    incoming: &mut Incoming<'_>,
) -> Step {
    let here = state.settings.csp_reports.as_ref();
    if here.is_none_or(|path| path.as_bytes() != exchange.raw_path()) {
        return Step::Next;
    }
    match Box::pin(read_report(shared, exchange, incoming)).await {
        Ok(()) => {
            let mut answer = Answer::new(204);
            answer.length = None;
            Step::Answer(answer)
        }
        Err(refusal) => Step::Refuse(refusal),
    }
}

async fn read_report(
    shared: &Shared,
    exchange: &mut Exchange,
    incoming: &mut Incoming<'_>,
) -> Result<(), Refusal> {
    if exchange.method() != b"POST" {
        return Err(Refusal::ReportsArePosted);
    }
    let media_type = exchange.fields.first("content-type").unwrap_or_default();
    let bare = media_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    if ![&b"application/csp-report"[..], b"application/reports+json"]
        .iter()
        .any(|known| bare.eq_ignore_ascii_case(known))
    {
        return Err(Refusal::UnsupportedMediaType);
    }
    let now = Instant::now();
    let verdict = shared.rates.take(&REPORTS, exchange.client, now);
    if !verdict.allowed {
        exchange.standing = Some(Box::new(Standing { quota: REPORTS, verdict }));
        return Err(Refusal::TooManyRequests);
    }
    let mut body = Vec::new();
    loop {
        let more = incoming.read(&mut body).await.map_err(body_error)?;
        if body.len() > violations::LONGEST {
            return Err(Refusal::BodyTooLarge);
        }
        if !more {
            break;
        }
    }
    if shared.violations.take(&body, now) { Ok(()) } else { Err(Refusal::BadReport) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::{request, shared};

    #[test]
    fn row_66_known_tokens_are_answered_and_no_others() {
        for (domains, https, target, known, expected) in [
            (true, false, "abc", true, Some(200)),
            (true, true, "abc", true, Some(200)),
            (false, false, "abc", true, Some(200)),
            (true, false, "other", false, Some(404)),
            (true, false, "", false, Some(404)),
            (true, false, "abc/..", false, Some(404)),
            (true, true, "other", false, None),
            (false, false, "other", false, None),
        ] {
            let shared = shared(|settings| {
                settings.domains = if domains { vec!["shop.example".into()] } else { Vec::new() };
            });
            shared.tls.challenges.put_http("abc", "abc.thumbprint");
            let line = format!("GET /.well-known/acme-challenge/{target}");
            let mut exchange = request(&line, "unknown.example", 80);
            exchange.https = https;
            let found = match run(&shared, &shared.state(), &exchange) {
                Step::Answer(answer) => {
                    assert!(known && answer.length == Some(14));
                    Some(answer.status)
                }
                Step::Refuse(refusal) => Some(refusal.row().status),
                Step::Next => None,
            };
            assert_eq!(found, expected, "{domains} {https} {target}");
        }
    }
}
