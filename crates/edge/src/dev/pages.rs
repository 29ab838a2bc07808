//! Bandstand's own answers in `dev`: the script that loads pages again, and the wait for the next change.
//!
//! Owns the count of changes that pages compare. It begins anew with each start, at a number that no earlier start has had,
//! so that a page from before a restart loads again. Invariant: a wait ends with the next change, after `HELD`, or when the
//! server stops, whichever is first.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::watch;

use super::Dev;
use crate::exchange::{Answer, AnswerBody, Exchange};
use crate::pipeline::Step;
use crate::shared::{Phase, Shared};

/// How long a wait is held. Proxies and browsers give up after 30 s or more.
const HELD: Duration = Duration::from_secs(25);

const SCRIPT: &str = include_str!("reload.js");

/// What pages have seen, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Changes of any kind.
    count: u64,
    /// The count at the last change that needs the whole page.
    page: u64,
}

impl Seen {
    /// The first, of this start.
    pub(crate) fn first() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Milliseconds: below 2^53, so that scripts keep it exact.
        let count = u64::try_from(now.as_millis()).unwrap_or(1);
        Self { count, page: count }
    }

    /// One more.
    pub(crate) fn next(&mut self, whole_page: bool) {
        self.count += 1;
        if whole_page {
            self.page = self.count;
        }
    }

    /// What a page is told that has seen `since`.
    fn json(self, since: Option<u64>) -> String {
        // A number from before `page`, or one of another start, or none: the page is old.
        let reload = since.is_none_or(|since| since < self.page || since > self.count);
        format!("{{\"since\":\"{}\",\"reload\":{reload}}}\n", self.count)
    }
}

/// The stage: answers what is asked below `/-/dev/`.
pub(crate) async fn own(shared: &Shared, exchange: &mut Exchange) -> Step {
    let Some(dev) = &shared.dev else { return Step::Next };
    let answer = match exchange.raw_path() {
        b"/-/dev/reload.js" => {
            let count = dev.seen.borrow().count.to_string();
            answer("text/javascript; charset=utf-8", SCRIPT.replace("SINCE", &count))
        }
        b"/-/dev/wait" => {
            let since = since(exchange.query());
            answer("application/json", wait(dev, &shared.phase, since).await)
        }
        _ => return Step::Next,
    };
    exchange.is_noise = true;
    Step::Answer(answer)
}

fn since(query: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(query).ok()?;
    text.split('&').find_map(|pair| pair.strip_prefix("since="))?.parse().ok()
}

async fn wait(dev: &Dev, phase: &watch::Sender<Phase>, since: Option<u64>) -> String {
    let (mut seen, mut phase) = (dev.seen.subscribe(), phase.subscribe());
    tokio::select! {
        _ = seen.wait_for(|seen| Some(seen.count) != since) => {}
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => {}
        () = tokio::time::sleep(HELD) => {}
    }
    let seen = *dev.seen.borrow();
    seen.json(since)
}

fn answer(media_type: &str, body: String) -> Answer {
    let mut answer = Answer::new(200);
    answer.fields.push(b"Content-Type", media_type.as_bytes());
    answer.fields.push(b"Cache-Control", b"no-store");
    answer.length = Some(body.len() as u64);
    answer.body = AnswerBody::Memory(Bytes::from(body));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pages_are_told() {
        let mut seen = Seen { count: 100, page: 100 };
        seen.next(false);
        seen.next(true);
        seen.next(false);
        for (since, reload) in [
            (Some(103), false),
            (Some(102), false),
            (Some(101), true),
            (Some(100), true),
            (Some(7), true),
            (Some(1000), true),
            (None, true),
        ] {
            assert_eq!(seen.json(since), format!("{{\"since\":\"103\",\"reload\":{reload}}}\n"), "{since:?}");
        }
    }

    #[test]
    fn queries() {
        for (query, wanted) in [
            ("since=12", Some(12)),
            ("a=1&since=5", Some(5)),
            ("", None),
            ("since=", None),
            ("since=-1", None),
            ("since=99999999999999999999999", None),
        ] {
            assert_eq!(since(query.as_bytes()), wanted, "{query}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends() {
        let dev = Dev::for_tests();
        let phase = watch::Sender::new(Phase::Open);
        let now = Some(dev.seen.borrow().count);
        // Nothing happens: it ends by itself, and the page is as it should be.
        assert!(wait(&dev, &phase, now).await.ends_with("\"reload\":false}\n"));
        // A change.
        let (told, ()) = tokio::join!(wait(&dev, &phase, now), async { dev.changed(true) });
        assert!(told.ends_with("\"reload\":true}\n"));
        // An old page is told at once, and all are when the server stops.
        let started = tokio::time::Instant::now();
        wait(&dev, &phase, now).await;
        phase.send_replace(Phase::Draining);
        wait(&dev, &phase, Some(dev.seen.borrow().count)).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
