//! Files that the app decides about and bandstand sends: X-Accel-Redirect and X-Sendfile.
//!
//! Owns the way from the app's answer to that of the file: `named.rs` finds the file a field names, `dress.rs` which of the
//! app's fields stay and what its companions (`X-Accel-Expires`, `-Charset`, `-Limit-Rate`, `-Buffering`) mean. Leaves the
//! opening, ranges and conditions to `assets`, and that no such field leaves to `filters::headers`.
//! Invariant: nothing is sent that is not a regular file beneath a folder of the setting `protected`; whatever else an app names
//! is a 500 and a line in the log (`CHECKLIST.md` part 2 row 48).

mod dress;
mod named;

use std::time::SystemTime;

use bandstand_config::Settings;

use crate::assets::{self, FileBody, Missing};
use crate::exchange::{Answer, AnswerBody, Exchange};
use crate::refusal::Refusal;

/// The answer with the file that the app names, where it names one; else the answer as it is.
///
/// # Errors
/// There is no such file (404), it may not be sent (500), or the machine cannot open it now (503).
pub(crate) fn apply(settings: &Settings, exchange: &Exchange, mut answer: Answer) -> Result<Answer, Refusal> {
    // What accepts a WebSocket is no answer with a body.
    if answer.status < 200 || !answer.fields.iter().any(|(name, _)| is_for_us(name)) {
        return Ok(answer);
    }
    dress::companions(&mut answer);
    let file = match named::file(&settings.protected, &answer.fields) {
        Ok(None) => return Ok(answer),
        Ok(Some(file)) => file,
        Err(reason) => {
            let id = exchange.request_id.as_str();
            let path = String::from_utf8_lossy(exchange.raw_path());
            tracing::error!(request_id = id, %path, "{reason}");
            return Err(Refusal::BadFileAnswer);
        }
    };
    // Only the answer to a question can be a part, or none, of the file: whatever else the app says is said whole.
    let nothing = bandstand_semantics::Fields::new();
    let (method, asked) = match (exchange.method(), answer.status) {
        (method @ (b"GET" | b"HEAD"), 200) => (method, &exchange.fields),
        (b"HEAD", _) => (&b"HEAD"[..], &nothing),
        _ => (&b"GET"[..], &nothing),
    };
    let said = dress::said(&answer);
    let sent = assets::send_file(file.root, &file.relative, &said, method, asked, SystemTime::now());
    let sent = match sent {
        Ok(sent) => sent,
        Err(Missing::NotFound) => {
            let name = String::from_utf8_lossy(&file.relative);
            tracing::warn!(root = %file.root.display(), %name, "the app names a file that is not there");
            return Err(Refusal::NotFound);
        }
        Err(Missing::Unavailable) => return Err(Refusal::FilesExhausted),
    };
    if sent.status != 200 {
        answer.status = sent.status;
        answer.reason = Vec::new();
    }
    answer.fields = dress::merged(&answer, &sent.fields);
    answer.length = sent.content_length;
    // What the app gave as a body is dropped, and an app that still gives is told that nobody listens.
    answer.body = match sent.body {
        FileBody::Empty => AnswerBody::Empty,
        FileBody::Memory(bytes) => AnswerBody::Memory(bytes),
        FileBody::File { file, offset, len } => AnswerBody::File { file, offset, length: len },
        FileBody::Parts(parts) => AnswerBody::Parts(parts),
    };
    Ok(answer)
}

/// Whether a field is one that a server behind the app acts on.
fn is_for_us(name: &[u8]) -> bool {
    let starts =
        |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    matches!(name.first(), Some(b'x' | b'X'))
        && (starts(b"x-accel-") || name.eq_ignore_ascii_case(b"x-sendfile"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::{request, shared};

    fn applied(status: u16, name: &str, value: &str) -> Result<u16, u16> {
        let shared = shared(|_| {});
        let mut answer = Answer::new(status);
        answer.fields.push(name.as_bytes(), value.as_bytes());
        let answer = apply(&shared.state().settings, &request("GET /", "a", 80), answer);
        answer.map(|answer| answer.status).map_err(|refusal| refusal.row().status)
    }

    #[test]
    fn row_48_no_folder_no_file() {
        for (status, name, value, expected) in [
            (200, "X-Accel-Redirect", "/etc/passwd", Err(500)),
            (404, "x-sendfile", "/etc/passwd", Err(500)),
            (200, "X-Sendfile", "", Err(500)),
            (200, "X-Accel-Expires", "60", Ok(200)),
            (200, "X-Accelerated", "/etc/passwd", Ok(200)),
            (101, "X-Accel-Redirect", "/etc/passwd", Ok(101)),
        ] {
            assert_eq!(applied(status, name, value), expected, "{status} {name}");
        }
    }
}
