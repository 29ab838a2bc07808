//! What every answer must not have, whoever made it.
//!
//! Owns the end of fields that are meant for a proxy and not for a client: `X-Accel-*` and `X-Sendfile` name paths of this
//! machine (`CHECKLIST.md` part 2 row 48), and `X-Request-ID` is written once, by the connection.

use crate::exchange::Answer;

pub(crate) fn apply(answer: &mut Answer) {
    answer.fields.retain(|name, _| {
        let first = name.first().map(u8::to_ascii_lowercase);
        if first != Some(b'x') {
            return true;
        }
        let starts =
            |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        !(starts(b"x-accel-") || starts(b"x-sendfile") || name.eq_ignore_ascii_case(b"x-request-id"))
    });
}
