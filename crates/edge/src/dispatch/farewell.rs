//! How a worker that leaves sends away what would stay for ever: WebSockets and event streams.
//!
//! Owns their moments. Until half of the time to the deadline has passed they stay; in the next four tenths of it each is
//! ended at a random moment, so that thousands do not come back at once: WebSockets with 1012, event streams with a plain
//! end, after which an `EventSource` comes again by itself (HTML, 9.2.3). Any other answer is left to finish until the
//! worker is killed. The clock looks for who is due; there is no timer for each.
//! `docs/decisions/0006-generations.md`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;
use std::time::{Duration, Instant};

use bandstand_wire::Flags;
use bandstand_wire::sequence::Answer;

use super::link::Link;
use super::places::Held;
use super::reply::{Event, Location};

/// The moments of one worker that leaves gently.
pub(crate) struct Farewell {
    from: Instant,
    within: Duration,
    seed: u64,
    due: BinaryHeap<Reverse<(Instant, u16, u64)>>,
}

impl Farewell {
    /// For a worker that will be killed at the deadline.
    pub(crate) fn new(now: Instant, deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(now);
        let mut seed = [0; 8];
        // Without randomness they go in the same order everywhere, and still one by one.
        let _ = getrandom::fill(&mut seed);
        Self {
            from: now + left / 2,
            within: left * 2 / 5,
            seed: u64::from_ne_bytes(seed),
            due: BinaryHeap::new(),
        }
    }

    fn add(&mut self, place: u16, id: u64) {
        let moment = self.from + self.within.mul_f64(fraction(self.seed ^ id));
        self.due.push(Reverse((moment, place, id)));
    }

    fn next_due(&mut self, now: Instant) -> Option<(u16, u64)> {
        let &Reverse((moment, place, id)) = self.due.peek()?;
        if moment > now {
            return None;
        }
        self.due.pop();
        Some((place, id))
    }
}

/// A number spread over 0 ≤ x < 1, the same for the same seed (splitmix64's last steps).
fn fraction(seed: u64) -> f64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 11) as f64 / (1u64 << 53) as f64
}

impl Held {
    /// Whether it stays for as long as both sides are there.
    pub(super) fn stays(&self) -> bool {
        let endless = match self.answer {
            Answer::Connected => true,
            Answer::Streaming => self.is_events,
            _ => false,
        };
        endless && !self.abandoned
    }
}

impl Link {
    /// The worker leaves: what would stay has its moment from now on, or is told to go at once.
    pub(super) fn send_away(&mut self, wakers: &mut Vec<Waker>) {
        let stay = self.places.iter().filter(|(_, held)| held.stays());
        let stay: Vec<(u16, u64)> = stay.map(|(place, held)| (place, held.id)).collect();
        for (place, id) in stay {
            self.say_farewell(place, id, wakers);
        }
    }

    /// The same for one, which may have begun since.
    pub(super) fn say_farewell(&mut self, place: u16, id: u64, wakers: &mut Vec<Waker>) {
        match &mut self.farewell {
            Some(farewell) => farewell.add(place, id),
            // A worker that is to leave at once finishes its streams until it is killed.
            None => self.restart(place, id, wakers),
        }
    }

    /// Ends those whose moment has come.
    pub(super) fn part(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        while let Some((place, id)) = self.farewell.as_mut().and_then(|farewell| farewell.next_due(now)) {
            self.restart(place, id, wakers);
            self.end_events(place, id, now, wakers);
        }
    }

    fn restart(&mut self, place: u16, id: u64, wakers: &mut Vec<Waker>) {
        if let Some(held) = self.places.named(place, id)
            && held.answer == Answer::Connected
            && !held.abandoned
        {
            wakers.extend(held.job.reply.push(Event::Restart));
        }
    }

    /// What was sent before the end still leaves; whether it can end cleanly is for the answer's framing to say.
    fn end_events(&mut self, place: u16, id: u64, now: Instant, wakers: &mut Vec<Waker>) {
        let Some(held) = self.places.named(place, id) else { return };
        if !held.is_events || !held.stays() {
            return;
        }
        held.abandoned = true;
        held.job.reply.set_location(Location::Nowhere);
        let since = held.job.reply.trace().assigned.unwrap_or(now);
        let service_us = u32::try_from(now.saturating_duration_since(since).as_micros()).unwrap_or(u32::MAX);
        wakers.extend(held.job.reply.push(Event::End { broken: false, service_us }));
        self.cancel(place, id, Flags::BROKEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_lie_between_a_half_and_nine_tenths_and_are_spread() {
        let now = Instant::now();
        let mut farewell = Farewell::new(now, now + Duration::from_secs(100));
        for id in 0..4000 {
            farewell.add(0, id);
        }
        assert_eq!(farewell.next_due(now + Duration::from_secs(49)), None);
        let mut tenths = [0; 4];
        for (at, count) in tenths.iter_mut().enumerate() {
            let until = now + Duration::from_secs(60 + 10 * at as u64);
            *count = std::iter::from_fn(|| farewell.next_due(until)).count();
        }
        assert!(farewell.due.is_empty());
        assert!(tenths.iter().all(|count| (800..1200).contains(count)), "{tenths:?}");
    }

    #[test]
    fn a_deadline_that_has_passed_leaves_no_time() {
        let now = Instant::now();
        let mut farewell = Farewell::new(now, now.checked_sub(Duration::from_secs(1)).unwrap_or(now));
        farewell.add(3, 4);
        assert_eq!(farewell.next_due(now), Some((3, 4)));
    }
}
