//! What all exchanges together have been since the start: counts by class of status, bytes, and how long they took.
//!
//! Owns the numbers, their buckets and what is computed from them; who shows them is `control`. Everything is cumulative and only
//! grows, so that whoever asks twice has what happened in between, and no two readers disturb each other.
//! Invariant: recording takes no lock, allocates nothing and cannot fail; a reader sees each number whole, though not
//! all of the same instant. Buckets are log-linear, as in HdrHistogram: exact below 16 µs, then 16 to each power of two.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets to each power of two: a bucket is at most 1/16 of its value wide, so its middle is at most 3.2 % wrong.
const STEPS: usize = 1 << STEP_BITS;
const STEP_BITS: u32 = 4;
/// Longest time that is told from longer ones: 2³² µs, which is 71 minutes.
const MOST_US: u64 = u32::MAX as u64;
/// The 16 exact ones, then 16 for each power of two from 2⁴ to 2³¹.
const BUCKETS: usize = STEPS * (32 - STEP_BITS as usize + 1);
/// Classes of status, 1xx to 5xx; 0 is what ended without one, because the client had left.
const CLASSES: usize = 6;

/// The numbers, as exchanges add to them.
pub(crate) struct Counters {
    classes: [AtomicU64; CLASSES],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    total: Histogram,
    queue: Histogram,
    app: Histogram,
}

/// One exchange, when it is over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// 0: none was sent.
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// From the first byte of the request to the last of the answer.
    pub(crate) total: Duration,
    /// Until a worker was found for it; `None`: no worker was asked.
    pub(crate) queue: Option<Duration>,
    /// Microseconds in the app; `None`: it did not answer.
    pub(crate) app_us: Option<u32>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            classes: array::from_fn(|_| AtomicU64::new(0)),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            total: Histogram::new(),
            queue: Histogram::new(),
            app: Histogram::new(),
        }
    }

    /// Adds one exchange. A WebSocket (101) lasts as long as its client likes: it counts, and has no time.
    pub(crate) fn record(&self, outcome: &Outcome) {
        let class = usize::from(outcome.status / 100);
        self.classes[if class < CLASSES { class } else { 0 }].fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(outcome.bytes_in, Relaxed);
        self.bytes_out.fetch_add(outcome.bytes_out, Relaxed);
        if outcome.status == 101 {
            return;
        }
        self.total.add(micros(outcome.total));
        if let Some(queue) = outcome.queue {
            self.queue.add(micros(queue));
        }
        if let Some(app_us) = outcome.app_us {
            self.app.add(app_us.into());
        }
    }

    /// The numbers as they are.
    pub(crate) fn snapshot(&self) -> Counts {
        let classes: [u64; CLASSES] = array::from_fn(|class| self.classes[class].load(Relaxed));
        Counts {
            requests: classes.iter().sum(),
            none: classes[0],
            informational: classes[1],
            success: classes[2],
            redirection: classes[3],
            client_error: classes[4],
            server_error: classes[5],
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            total: self.total.snapshot(),
            queue: self.queue.snapshot(),
            app: self.app.snapshot(),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(MOST_US)
}

/// How often each time was seen.
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Histogram {
    fn new() -> Self {
        Self { buckets: array::from_fn(|_| AtomicU64::new(0)), sum_us: AtomicU64::new(0) }
    }

    fn add(&self, us: u64) {
        self.buckets[bucket(us)].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    fn snapshot(&self) -> Times {
        let all = self.buckets.iter().enumerate().map(|(at, count)| (least(at), count.load(Relaxed)));
        let buckets: Vec<(u64, u64)> = all.filter(|(_, count)| *count > 0).collect();
        Times {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum_us: self.sum_us.load(Relaxed),
            buckets,
        }
    }
}

/// The bucket of a time.
fn bucket(us: u64) -> usize {
    let us = us.min(MOST_US);
    match us.checked_ilog2() {
        Some(power) if power >= STEP_BITS => {
            let step = (us >> (power - STEP_BITS)) as usize & (STEPS - 1);
            (power - STEP_BITS + 1) as usize * STEPS + step
        }
        _ => us as usize,
    }
}

/// The least time of a bucket, µs.
fn least(bucket: usize) -> u64 {
    match bucket / STEPS {
        0 => bucket as u64,
        row => ((STEPS + bucket % STEPS) as u64) << (row - 1),
    }
}

/// The numbers at one moment, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All exchanges that are over.
    pub requests: u64,
    /// Those that got no answer: the client had left, or sent no whole request.
    pub none: u64,
    /// 1xx: WebSockets that are over.
    pub informational: u64,
    /// 2xx.
    pub success: u64,
    /// 3xx.
    pub redirection: u64,
    /// 4xx.
    pub client_error: u64,
    /// 5xx.
    pub server_error: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of answers.
    pub bytes_out: u64,
    /// From the first byte of the request to the last of the answer; WebSockets left out.
    pub total: Times,
    /// Until a worker was found, of what the app was asked.
    pub queue: Times,
    /// In the app.
    pub app: Times,
}

/// How long something took, how often.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// All together, µs.
    pub sum_us: u64,
    /// `[least time of the bucket in µs, how many]`, ascending, empty buckets left out.
    pub buckets: Vec<(u64, u64)>,
}

impl Times {
    /// What has come since `before`, an earlier look at the same numbers.
    pub fn since(&self, before: &Times) -> Times {
        let known = |least: u64| {
            before
                .buckets
                .binary_search_by_key(&least, |bucket| bucket.0)
                .map_or(0, |at| before.buckets[at].1)
        };
        let grown = self.buckets.iter().map(|&(least, count)| (least, count.saturating_sub(known(least))));
        let buckets: Vec<(u64, u64)> = grown.filter(|(_, count)| *count > 0).collect();
        Times {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum_us: self.sum_us.saturating_sub(before.sum_us),
            buckets,
        }
    }

    /// The time that a share of all stay within, 0 ≤ `share` ≤ 1: the middle of its bucket. `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let (least, _) = self.buckets.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        })?;
        let width = self::least(bucket(*least) + 1).saturating_sub(*least);
        Some(Duration::from_micros(least + width / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn buckets_cover_every_time_once() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for at in 0..BUCKETS {
            assert_eq!(bucket(least(at)), at, "bucket {at} begins at {}", least(at));
            let last = least(at + 1) - 1;
            assert_eq!(bucket(last), at, "bucket {at} ends at {last}");
        }
    }

    #[test]
    fn a_quantile_is_near_what_was_recorded() {
        for us in [0, 1, 15, 16, 17, 100, 999, 12_345, 1_000_000, 59_999_999, 60_000_000, 600_000_000] {
            let histogram = Histogram::new();
            histogram.add(us);
            let said = histogram.snapshot().quantile(0.5).unwrap().as_micros() as f64;
            assert!((said - us as f64).abs() <= 0.032 * us as f64, "{us} µs are said to be {said}");
        }
    }

    #[test]
    fn quantiles_of_many() {
        let histogram = Histogram::new();
        (1..=1000).for_each(|ms| histogram.add(ms * 1000));
        let times = histogram.snapshot();
        for (share, ms) in [(0.0, 1.0), (0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let said = times.quantile(share).unwrap().as_secs_f64() * 1e3;
            assert!((said - ms).abs() <= 0.04 * ms, "{share}: {said} for {ms}");
        }
        assert_eq!((times.count, times.sum_us), (1000, 500_500_000));
        assert_eq!(Times::default().quantile(0.5), None);
    }

    #[test]
    fn what_happened_in_between() {
        let histogram = Histogram::new();
        histogram.add(100);
        histogram.add(5_000);
        let before = histogram.snapshot();
        histogram.add(5_000);
        histogram.add(9);
        let between = histogram.snapshot().since(&before);
        assert_eq!((between.count, between.sum_us), (2, 5_009));
        assert_eq!(between.buckets, [(9, 1), (least(bucket(5_000)), 1)]);
        assert_eq!(before.since(&before), Times::default());
    }

    #[test]
    fn exchanges_are_counted_by_class() {
        let counters = Counters::new();
        let ms = Duration::from_millis(1);
        for (status, app) in
            [(200, true), (204, true), (301, false), (404, true), (503, false), (0, false), (101, true)]
        {
            counters.record(&Outcome {
                status,
                bytes_in: 1,
                bytes_out: 10,
                total: ms,
                queue: app.then_some(ms),
                app_us: app.then_some(7),
            });
        }
        let counts = counters.snapshot();
        let classes = [
            counts.none,
            counts.informational,
            counts.success,
            counts.redirection,
            counts.client_error,
            counts.server_error,
        ];
        assert_eq!(classes, [1, 1, 2, 1, 1, 1]);
        assert_eq!((counts.requests, counts.bytes_in, counts.bytes_out), (7, 7, 70));
        assert_eq!(
            (counts.total.count, counts.queue.count, counts.app.count),
            (6, 3, 3),
            "a WebSocket has no time"
        );
    }

    #[test]
    fn a_status_of_no_class_does_no_harm() {
        let counters = Counters::new();
        counters.record(&Outcome { status: u16::MAX, ..Outcome::default() });
        assert_eq!(counters.snapshot().none, 1);
    }

    /// Prints what one record costs; `cargo test --release -- --nocapture the_price`.
    #[test]
    fn the_price_of_a_record_is_printed() {
        let counters = Counters::new();
        let times = if cfg!(debug_assertions) { 100_000 } else { 10_000_000 };
        let started = Instant::now();
        for at in 0..times {
            counters.record(&Outcome {
                status: 200,
                bytes_in: 0,
                bytes_out: 512,
                total: Duration::from_micros(at % 50_000),
                queue: Some(Duration::from_micros(at % 70)),
                app_us: Some((at % 3_000) as u32),
            });
        }
        let each = started.elapsed().as_nanos() as f64 / times as f64;
        eprintln!("a record costs {each:.1} ns");
        assert_eq!(counters.snapshot().requests, times);
    }
}
