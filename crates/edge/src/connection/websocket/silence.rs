//! How long a client has said nothing.
//!
//! Owns pings and the wait for their pongs. Whatever comes from a client is a sign of life: one that is in the middle of a
//! long frame cannot answer before its end. Leaves sending and closing to the socket.

use std::time::{Duration, Instant};

pub(super) struct Silence {
    /// When the client was last heard, or could not be.
    since: Instant,
    /// Until when it must be heard again, since it was sent a ping.
    pong_deadline: Option<Instant>,
    pings: u32,
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// It is to be sent a ping with these bytes.
    Ping([u8; 4]),
    /// It had its time.
    TooLong,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, pong_deadline: None, pings: 0 }
    }

    /// It was heard, or could not be until now, or has still to take what it was sent.
    pub(super) fn broken(&mut self, now: Instant) {
        self.since = now;
        self.pong_deadline = None;
    }

    /// When to look again, if it is pinged after so long a silence.
    pub(super) fn deadline(&self, ping: Option<Duration>) -> Option<Instant> {
        self.pong_deadline.or_else(|| Some(self.since + ping?))
    }

    /// The time is `now`; a pong is waited for `timeout`.
    pub(super) fn look(&mut self, now: Instant, ping: Option<Duration>, timeout: Duration) -> Due {
        if self.deadline(ping).is_none_or(|deadline| now < deadline) {
            return Due::Nothing;
        }
        if self.pong_deadline.is_some() {
            return Due::TooLong;
        }
        self.pong_deadline = Some(now + timeout);
        self.pings = self.pings.wrapping_add(1);
        Due::Ping(self.pings.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_after_silence_and_an_end_without_a_pong() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (ping, timeout) = (Some(Duration::from_secs(20)), Duration::from_secs(10));
        let mut silence = Silence::new(start);
        assert_eq!((silence.deadline(ping), silence.deadline(None)), (Some(at(20)), None));
        silence.broken(at(5));
        for (now, due, next) in [
            (20, Due::Nothing, 25),
            (25, Due::Ping([0, 0, 0, 1]), 35),
            (34, Due::Nothing, 35),
            (35, Due::TooLong, 35),
        ] {
            assert_eq!(silence.look(at(now), ping, timeout), due);
            assert_eq!(silence.deadline(ping), Some(at(next)));
        }
        silence.broken(at(35));
        assert_eq!(silence.look(at(55), ping, timeout), Due::Ping([0, 0, 0, 2]), "in other words");
        assert_eq!(silence.look(at(1000), None, timeout), Due::TooLong, "a ping that was sent is waited for");
    }
}
