//! When a worker has served long enough.
//!
//! Owns the rule for one worker: so many requests, so old, so large, so long idle. Replacing it, a successor first and one at
//! a time, is the supervisor's. Chance spreads those that began together, so that they do not leave together.
//! Sources: gunicorn's `max_requests` and `max_requests_jitter`; what uWSGI calls `reload-on-rss`.

use std::time::Duration;

use bandstand_config::Settings;

/// What one worker may come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    requests: Option<u64>,
    age: Option<Duration>,
    idle: Option<Duration>,
    memory_bytes: Option<u64>,
}

/// What it has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Worn {
    pub(super) served: u64,
    pub(super) age: Duration,
    /// How long it has had nothing to do; `None`: it has something.
    pub(super) idle: Option<Duration>,
    /// `None`: it was not looked at.
    pub(super) memory_bytes: Option<u64>,
}

/// Whether any worker is ever recycled.
pub(super) fn is_on(settings: &Settings) -> bool {
    settings.max_requests.is_some()
        || settings.max_age.is_some()
        || settings.max_idle.is_some()
        || settings.max_memory.is_some()
}

impl Bounds {
    /// Those of one worker; `chance` is any number, drawn for this worker alone. It adds up to `max_requests_jitter` to
    /// `max_requests`, and up to a tenth to `max_age`.
    pub(super) fn draw(settings: &Settings, chance: u64) -> Self {
        let more = settings.max_requests_jitter.checked_add(1).map_or(chance, |range| chance % range);
        let share = (chance >> 32) as f64 / f64::from(u32::MAX);
        Self {
            requests: settings.max_requests.map(|most| most.get().saturating_add(more)),
            age: settings.max_age.map(|age| age.mul_f64(1.0 + share / 10.0)),
            idle: settings.max_idle,
            memory_bytes: settings.max_memory,
        }
    }

    /// Why it is to be replaced, as the end of "worker 3 is recycled: …"; `None`: it is not.
    pub(super) fn exceeded(&self, worn: &Worn) -> Option<String> {
        let over = |most: Option<Duration>, is: Duration| most.is_some_and(|most| is >= most);
        if self.requests.is_some_and(|most| worn.served >= most) {
            return Some(format!("it has served {} requests", worn.served));
        }
        if over(self.age, worn.age) {
            return Some(format!("it is {} s old", worn.age.as_secs()));
        }
        if let (Some(most), Some(is)) = (self.memory_bytes, worn.memory_bytes)
            && is > most
        {
            const MIB: u64 = 1 << 20;
            return Some(format!("it takes {} MiB of memory, {} MiB are allowed", is / MIB, most / MIB));
        }
        match worn.idle {
            // One that has done nothing since it was made is as good as its successor.
            Some(idle) if worn.served > 0 && over(self.idle, idle) => {
                Some(format!("it has had nothing to do for {} s", idle.as_secs()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::shared;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn what_is_too_much() {
        let bounds = Bounds {
            requests: Some(1000),
            age: Some(HOUR),
            idle: Some(Duration::from_secs(60)),
            memory_bytes: Some(512 << 20),
        };
        let fine = Worn { served: 999, age: HOUR / 2, idle: None, memory_bytes: Some(512 << 20) };
        let idle = |seconds| Some(Duration::from_secs(seconds));
        for (worn, why) in [
            (fine, None),
            (Worn { served: 1000, ..fine }, Some("it has served 1000 requests")),
            (Worn { age: HOUR, ..fine }, Some("it is 3600 s old")),
            (
                Worn { memory_bytes: Some(600 << 20), ..fine },
                Some("it takes 600 MiB of memory, 512 MiB are allowed"),
            ),
            (Worn { memory_bytes: None, ..fine }, None),
            (Worn { idle: idle(59), ..fine }, None),
            (Worn { idle: idle(60), ..fine }, Some("it has had nothing to do for 60 s")),
            (Worn { idle: idle(60), served: 0, ..fine }, None),
        ] {
            assert_eq!(bounds.exceeded(&worn).as_deref(), why, "{worn:?}");
            assert_eq!(Bounds::default().exceeded(&worn), None);
        }
    }

    #[test]
    fn each_draws_its_own() {
        let settings = |requests: u64, jitter: u64| {
            let shared = shared(|settings| {
                settings.max_requests = requests.try_into().ok();
                settings.max_requests_jitter = jitter;
                settings.max_age = Some(HOUR);
            });
            shared.state().settings.clone()
        };
        assert!(is_on(&settings(10, 0)));
        for (requests, jitter, chance, wanted) in [
            (1000, 0, u64::MAX, 1000),
            (1000, 50, 0, 1000),
            (1000, 50, 50, 1050),
            (1000, 50, 51, 1000),
            (1000, u64::MAX, 7, 1007),
            (u64::MAX, 50, 50, u64::MAX),
        ] {
            let bounds = Bounds::draw(&settings(requests, jitter), chance);
            assert_eq!(bounds.requests, Some(wanted), "{requests} {jitter} {chance}");
        }
        let age = |chance| Bounds::draw(&settings(1, 0), chance).age.unwrap();
        assert_eq!(age(0), HOUR);
        assert!(age(u64::MAX) > HOUR && age(u64::MAX) <= HOUR.mul_f64(1.1001));
        assert!(!is_on(&crate::connection::h1::tests::shared(|_| {}).state().settings));
    }
}
