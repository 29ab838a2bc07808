//! THE LIST: what happens to a request, in order. Stages decide; each may answer or refuse, and then the rest is skipped.
//! Filters shape every answer, whoever made it. Only this file states the order; `order_is_as_documented` asserts it.

use crate::connection::Incoming;
use crate::exchange::{Answer, Exchange};
use crate::refusal::Refusal;
use crate::shared::{Shared, State};
use crate::stages;
use crate::{dev, filters, protected};

/// What a stage says.
pub(crate) enum Step {
    /// The next stage decides.
    Next,
    /// This is the answer.
    Answer(Answer),
    /// Bandstand answers by itself, and this is why.
    Refuse(Refusal),
}

/// From a request to its answer.
pub(crate) async fn run(
    shared: &Shared,
    state: &State,
    exchange: &mut Exchange,
    incoming: &mut Incoming<'_>,
) -> Answer {
    let settings = &state.settings;
    let decided = match decide(shared, state, exchange, incoming).await {
        Decided::Late(outcome) => outcome,
        Decided::Early(outcome) => {
            incoming.drain().await;
            outcome
        }
    };
    let mut answer = match decided.and_then(|answer| protected::apply(settings, exchange, answer)) {
        Ok(mut answer) => match filters::compress::gather(settings, exchange, &mut answer).await {
            Ok(()) => answer,
            Err(refusal) => refusal.answer(exchange),
        },
        Err(refusal) => refusal.answer(exchange),
    };
    exchange.bytes_in = incoming.received();
    // What a client has sent before it was refused its WebSocket may be frames; nobody must read them as a request.
    answer.close |= exchange.websocket.is_some() && incoming.is_followed();
    exchange.note = dev::take_note(shared, &mut answer);
    filters::hop::apply(&mut answer);
    filters::headers::apply(&mut answer, exchange);
    // Of the state as it is now: the one that the request began with may be that of before the first hello.
    let is_of_app = exchange.submitted.is_some() && answer.refusal.is_none();
    shared.current.load().security.apply(exchange.https, is_of_app, &mut answer);
    shared.alt_svc.apply(exchange, &mut answer);
    filters::compress::apply(settings, exchange, &mut answer).await;
    answer
}

/// Who has decided.
enum Decided {
    /// A stage; what is left of a small body is read away.
    Early(Result<Answer, Refusal>),
    /// The queue, or the app.
    Late(Result<Answer, Refusal>),
}

/// One stage a line. What few requests wait for is boxed where it waits: the size of this future is copied for each of them.
async fn decide(
    shared: &Shared,
    mut state: &State,
    exchange: &mut Exchange,
    incoming: &mut Incoming<'_>,
) -> Decided {
    macro_rules! stage {
        ($step:expr) => {
            match $step {
                Step::Next => {}
                Step::Answer(answer) => return Decided::Early(Ok(answer)),
                Step::Refuse(refusal) => return Decided::Early(Err(refusal)),
            }
        };
    }
    stage!(stages::identify::run(shared, state, exchange));
    stage!(stages::route::run(shared, state, exchange));
    stage!(stages::redirect::run(shared, state, exchange).await);
    stage!(stages::access::run(shared, state, exchange).await);
    stage!(stages::route::take_report(shared, state, exchange, incoming).await);
    // What was waited for may have brought another state.
    let newest;
    if shared.dev.is_some() {
        stage!(Box::pin(dev::pages::own(shared, exchange)).await);
        stage!(Box::pin(dev::wait(shared, exchange, state.settings.queue_timeout)).await);
        newest = shared.state();
        state = &newest;
    }
    // While the app boots for the first time nothing is known of it: what follows needs the state that it brings.
    let booted;
    if state.project.is_none() {
        booted = match Box::pin(stages::admit::wait(shared, state)).await {
            Ok(state) => state,
            Err(refusal) => return Decided::Late(Err(refusal)),
        };
        state = &booted;
    }
    stages::identify::suit(state, exchange);
    stage!(stages::admit::run(state, exchange));
    stage!(stages::upgrade::run(state, exchange));
    // A WebSocket is no file, and its handshake has no body.
    if exchange.websocket.is_none() {
        stage!(stages::assets::run(state, exchange));
        stage!(stages::receive::run(state, exchange, incoming).await);
    }
    match stages::queue::run(shared, state, exchange) {
        Ok(ticket) => Decided::Late(stages::dispatch::run(shared, state, ticket, exchange, incoming).await),
        Err(refusal) => Decided::Late(Err(refusal)),
    }
}

#[cfg(test)]
mod tests {
    /// The order that `ARCHITECTURE.md` shows is the order above.
    #[test]
    fn order_is_as_documented() {
        let code = include_str!("pipeline.rs");
        let document = include_str!("../../../ARCHITECTURE.md");
        let stages = [
            "identify", "route", "redirect", "access", "admit", "upgrade", "assets", "receive", "queue",
            "dispatch",
        ];
        let places: Vec<_> = stages.iter().map(|stage| code.find(&format!("stages::{stage}::run"))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
        let places: Vec<_> =
            stages.iter().map(|stage| document.find(&format!("`stages/{stage}.rs`"))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
    }
}
