//! What a guard answers: the stack of an exchange that is over its time, or all stacks, for whoever asked.
//!
//! Owns the questions, and the line of the log that says where a request was. Answers are JSON, text from outside: they
//! are read as such, and what goes into the log is bounded. An answer that nobody waits for is passed over.

use std::time::Instant;

use bandstand_wire::{Header, Kind, WireError, board};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::dispatch::pool::Pool;

/// Questions for all stacks of a worker that may be open at once.
const QUESTIONS_MOST: usize = 8;
/// Bytes of a stack that go into the log.
const LOGGED_MOST: usize = 64 * 1024;

impl Pool {
    /// The stacks of all threads and tasks of a worker, as JSON (`Stack` in `0006-generations.md`). `None` when there is
    /// no such worker, it has no guard, or too many ask; the receiver fails when the guard line ends without an answer.
    /// A worker whose interpreter is held does not answer: whoever asks waits with a limit.
    pub(crate) fn stacks(&self, number: u32) -> Option<oneshot::Receiver<String>> {
        let mut inner = self.lock();
        let link = inner.link(number).filter(|link| link.guard.is_open)?;
        let guard = &mut link.guard;
        guard.questions.retain(|(_, asker)| !asker.is_closed());
        if guard.questions.len() >= QUESTIONS_MOST {
            return None;
        }
        guard.asked += 1;
        let question = board::ID_MAX + guard.asked; // no exchange has it
        let (answer, answered) = oneshot::channel();
        guard.questions.push((question, answer));
        link.tell_guard(Kind::Stacks, 0, question);
        Some(answered)
    }

    pub(super) fn guard_opened(&self, number: u32) {
        if let Some(link) = self.lock().link(number) {
            link.guard.is_open = true;
        }
    }

    /// Nothing more is said over the guard line, either way.
    pub(super) fn guard_closed(&self, number: u32) {
        if let Some(link) = self.lock().link(number) {
            link.guard.is_open = false;
            link.guard.questions.clear();
        }
    }

    /// The guard has answered, at `now`.
    ///
    /// # Errors
    /// The answer is not text, or not of its form. One that nobody waits for any more is none.
    pub(in crate::dispatch) fn on_stack(
        &self,
        number: u32,
        header: Header,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), WireError> {
        let text = std::str::from_utf8(payload).map_err(|_| WireError::Malformed("a stack not in UTF-8"))?;
        if header.id > board::ID_MAX {
            self.answer(number, header.id, text, now);
            return Ok(());
        }
        let told: Value =
            serde_json::from_str(text).map_err(|_| WireError::Malformed("a stack not in JSON"))?;
        if !told.is_object() {
            return Err(WireError::Malformed("a stack that is no object"));
        }
        self.tell_stack(number, header, &told, now);
        Ok(())
    }

    fn answer(&self, number: u32, question: u64, text: &str, now: Instant) {
        let mut inner = self.lock();
        let Some(link) = inner.link(number) else { return };
        link.guard.heard = Some(now);
        let questions = &mut link.guard.questions;
        if let Some(at) = questions.iter().position(|(id, _)| *id == question) {
            // Whoever asked may have stopped waiting.
            let _ = questions.swap_remove(at).1.send(text.to_owned());
        }
    }

    /// The one line of the log that says where a request was.
    fn tell_stack(&self, number: u32, header: Header, told: &Value, now: Instant) {
        let mut inner = self.lock();
        let Some(link) = inner.link(number) else { return };
        link.guard.heard = Some(now);
        let (place, id) = (header.place, header.id);
        let late = link.guard.late.iter_mut().find(|late| (late.place, late.id) == (place, id));
        let Some(late) = late.filter(|late| late.told.is_none()) else { return };
        late.told = Some(now);
        let (name, title, ran) = (late.name.clone(), late.title.clone(), late.ran);
        if std::mem::take(&mut late.cancel) {
            link.cancel_task(place, id);
        }
        drop(inner);
        let field = |name: &str| told.get(name).and_then(Value::as_str);
        let stack = field("stack").unwrap_or_default();
        let stack = &stack[..stack.floor_char_boundary(LOGGED_MOST)];
        let what = match (stack.is_empty(), told.get("interrupted").and_then(Value::as_bool)) {
            (true, _) => "and was over before its stack was told",
            (_, Some(true)) => "and was interrupted; it was here:\n",
            _ => "and could not be interrupted; it was here:\n",
        };
        tracing::error!(
            request_id = name.as_str(),
            worker = number,
            method = title.method,
            path = title.target,
            route = field("route"),
            seconds = ran.as_secs_f64(),
            "a request ran over its time limit {what}{}",
            stack.trim_end()
        );
    }
}
