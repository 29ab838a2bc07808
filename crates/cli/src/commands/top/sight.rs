//! What happened between two looks at the server: rates, times, and what is slow.
//!
//! Owns the differences. Pure. The clock is the server's own (`uptime`), so that a look that came late does not make a rate look low.
//! Invariant: looks at two different servers are never compared; then there are no rates.

use bandstand_edge::control::{Running, Status, Times};

/// Two looks, compared.
pub(super) struct Sight<'s> {
    /// The newer one.
    pub(super) now: &'s Status,
    /// Requests a second.
    pub(super) rate: f64,
    /// Class and requests a second.
    pub(super) classes: [(&'static str, f64); 5],
    /// Name and times, of what was over between the looks.
    pub(super) times: [(&'static str, Times); 3],
    /// Requests a second, for each worker.
    pub(super) served: Vec<f64>,
    /// What runs, the longest first.
    pub(super) running: Vec<&'s Running>,
}

impl<'s> Sight<'s> {
    pub(super) fn between(before: &Status, now: &'s Status) -> Self {
        // Another process has other counters: nothing is known of what it did between these looks.
        let before = if before.pid == now.pid { before } else { now };
        let seconds = now.uptime - before.uptime;
        let rate = |before: u64, now: u64| match seconds > 0.0 {
            true => now.saturating_sub(before) as f64 / seconds,
            false => 0.0,
        };
        let (old, new) = (&before.counters, &now.counters);
        let served = now.workers.iter().map(|worker| {
            let known = before.workers.iter().find(|old| old.number == worker.number);
            rate(known.map_or(0, |old| old.served), worker.served)
        });
        let mut running: Vec<&Running> = now.workers.iter().flat_map(|worker| &worker.running).collect();
        running.sort_by(|one, other| other.since.total_cmp(&one.since));
        Self {
            now,
            rate: rate(old.requests, new.requests),
            classes: [
                ("2xx", rate(old.success, new.success)),
                ("3xx", rate(old.redirection, new.redirection)),
                ("4xx", rate(old.client_error, new.client_error)),
                ("5xx", rate(old.server_error, new.server_error)),
                ("left", rate(old.none, new.none)),
            ],
            times: [
                ("time", new.total.since(&old.total)),
                ("in queue", new.queue.since(&old.queue)),
                ("in app", new.app.since(&old.app)),
            ],
            served: served.collect(),
            running,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bandstand_edge::control::{Counts, Worker};

    fn status(pid: u32, uptime: f64, requests: u64, served: &[(u32, u64)]) -> Status {
        let times = Times { count: requests, sum_us: requests * 1000, buckets: vec![(992, requests)] };
        Status {
            pid,
            uptime,
            counters: Counts { requests, success: requests, total: times, ..Counts::default() },
            workers: served
                .iter()
                .map(|&(number, served)| Worker { number, served, ..Worker::default() })
                .collect(),
            ..Status::default()
        }
    }

    #[test]
    fn rates_are_differences_by_the_servers_clock() {
        let before = status(1, 10.0, 100, &[(1, 60), (2, 40)]);
        let now = status(1, 12.0, 300, &[(2, 140), (3, 10)]);
        let sight = Sight::between(&before, &now);
        assert_eq!(sight.rate, 100.0);
        assert_eq!(sight.classes[0], ("2xx", 100.0));
        assert_eq!(sight.times[0].1.count, 200);
        assert_eq!(sight.served, [50.0, 5.0]);
    }

    #[test]
    fn another_process_is_not_compared() {
        let before = status(1, 500.0, 100, &[(1, 60)]);
        let now = status(2, 1.0, 300, &[(1, 140)]);
        let sight = Sight::between(&before, &now);
        assert_eq!((sight.rate, sight.times[0].1.count), (0.0, 0));
        assert_eq!(sight.served, [0.0]);
    }

    #[test]
    fn what_runs_the_longest_comes_first() {
        let worker = |number, since: &[f64]| Worker {
            number,
            running: since
                .iter()
                .map(|&since| Running { since, worker: number, ..Running::default() })
                .collect(),
            ..Worker::default()
        };
        let now = Status { workers: vec![worker(1, &[3.0, 0.1]), worker(2, &[9.0])], ..Status::default() };
        let order: Vec<f64> = Sight::between(&now, &now).running.iter().map(|one| one.since).collect();
        assert_eq!(order, [9.0, 3.0, 0.1]);
    }
}
