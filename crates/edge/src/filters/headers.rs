//! What every answer must not have, whoever made it, and what a rule of the path says beside it.
//!
//! Owns the end of fields that are meant for a proxy and not for a client: `X-Accel-*` and `X-Sendfile` name paths of this
//! machine (`CHECKLIST.md` part 2 row 48), and `X-Request-ID` is written once, by the connection. And `RateLimit`: how a client stands
//! with the rule of its path (draft-ietf-httpapi-ratelimit-headers-10), with `Retry-After` where it was refused.

use std::time::Duration;

use crate::access::rates::{Quota, Standing};
use crate::exchange::{Answer, Exchange};

pub(crate) fn apply(answer: &mut Answer, exchange: &Exchange) {
    answer.fields.retain(|name, _| {
        let first = name.first().map(u8::to_ascii_lowercase);
        if first != Some(b'x') {
            return true;
        }
        let starts =
            |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        !(starts(b"x-accel-") || starts(b"x-sendfile") || name.eq_ignore_ascii_case(b"x-request-id"))
    });
    if let Some(standing) = &exchange.standing {
        tell_standing(answer, standing);
    }
}

/// An app that counts by itself has its own word on it.
fn tell_standing(answer: &mut Answer, Standing { quota, verdict }: &Standing) {
    if !verdict.allowed {
        let seconds = whole_seconds(verdict.retry).max(1);
        answer.fields.set("Retry-After", itoa::Buffer::new().format(seconds).as_bytes());
    }
    if answer.fields.contains("ratelimit") || answer.fields.contains("ratelimit-policy") {
        return;
    }
    let until = if verdict.remaining == 0 { verdict.retry } else { verdict.whole };
    let (requests, window) = policy(quota);
    answer.fields.push(b"RateLimit-Policy", format!("\"default\";q={requests};w={window}").as_bytes());
    answer.fields.push(
        b"RateLimit",
        format!("\"default\";r={};t={}", verdict.remaining, whole_seconds(until)).as_bytes(),
    );
}

/// Requests in a window of whole seconds.
fn policy(quota: &Quota) -> (u32, u64) {
    (quota.requests, whole_seconds(quota.per).max(1))
}

/// Never less than it is: who comes back then is let in.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::rates::Verdict;

    #[test]
    fn how_a_client_stands() {
        let quota = Quota { rule: 0, requests: 10, per: Duration::from_secs(60), burst: 10 };
        for (remaining, retry, whole, policy, limit, retry_after) in [
            (9, 0, 6000, "\"default\";q=10;w=60", "\"default\";r=9;t=6", None),
            (0, 5001, 60_000, "\"default\";q=10;w=60", "\"default\";r=0;t=6", Some("6")),
            (0, 1, 60_000, "\"default\";q=10;w=60", "\"default\";r=0;t=1", Some("1")),
        ] {
            let ms = Duration::from_millis;
            let verdict =
                Verdict { allowed: retry_after.is_none(), remaining, retry: ms(retry), whole: ms(whole) };
            let mut answer = Answer::new(if verdict.allowed { 200 } else { 429 });
            tell_standing(&mut answer, &Standing { quota, verdict });
            let field = |name| answer.fields.first(name).map(|value| str::from_utf8(value).unwrap());
            assert_eq!(field("ratelimit-policy"), Some(policy));
            assert_eq!(field("ratelimit"), Some(limit));
            assert_eq!(field("retry-after"), retry_after);
        }
    }

    #[test]
    fn an_app_that_counts_has_the_word() {
        let quota = Quota { rule: 0, requests: 10, per: Duration::from_secs(1), burst: 10 };
        let verdict = Verdict { allowed: true, remaining: 1, retry: Duration::ZERO, whole: Duration::ZERO };
        let mut answer = Answer::new(200);
        answer.fields.push(b"RateLimit", b"\"mine\";r=1;t=1");
        tell_standing(&mut answer, &Standing { quota, verdict });
        assert_eq!(answer.fields.len(), 1);
    }
}
