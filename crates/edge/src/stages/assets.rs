//! Is it a file we hold?
//!
//! Owns only the way to `crate::assets` and back; what may be served, and how, is decided there.

use std::time::SystemTime;

use crate::assets::{FileBody, Outcome};
use crate::exchange::{Answer, AnswerBody, Exchange};
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::State;

pub(crate) fn run(state: &State, exchange: &Exchange) -> Step {
    // The pipeline has waited for the project.
    let Some(project) = &state.project else { return Step::Next };
    let outcome =
        project.assets.respond(exchange.method(), exchange.raw_path(), &exchange.fields, SystemTime::now());
    let Outcome::Answer(file) = outcome else { return Step::Next };
    match file.status {
        404 => return Step::Refuse(Refusal::NotFound),
        405 => return Step::Refuse(Refusal::MethodNotAllowed),
        503 => return Step::Refuse(Refusal::FilesExhausted),
        _ => {}
    }
    let mut answer = Answer::new(file.status);
    answer.shared_fields = Some(file.fields);
    answer.length = file.content_length;
    answer.body = match file.body {
        FileBody::Empty => AnswerBody::Empty,
        FileBody::Memory(bytes) => AnswerBody::Memory(bytes),
        FileBody::File { file, offset, len } => AnswerBody::File { file, offset, length: len },
        FileBody::Parts(parts) => AnswerBody::Parts(parts),
    };
    Step::Answer(answer)
}
