//! How many workers there should be, when their number follows the queue.
//!
//! Owns the rule: one more while requests wait longer than anybody should, one fewer when that would have been enough for a
//! while, never past the bounds, never past the memory. It is slow to go down and looks at what has been, not at what
//! may come. Off unless `workers_min` and `workers_max` say otherwise. Source of the memory's limit: cgroups(7), `memory.max`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A wait for a worker that is worth another one.
const LONG_WAIT: Duration = Duration::from_millis(50);
/// So many of the last looks have to see it: one slow moment is none.
const LOOKS: usize = 3;
const LOOKS_WITH_WAITS: usize = 2;
/// So long one worker fewer has to have been enough.
const SPARE: Duration = Duration::from_secs(30);
/// Of the control group's memory; the rest is for the edge and for what comes suddenly.
const SHARE: f64 = 0.9;

/// The fleet at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// How long requests have waited lately: the oldest that waits, or most of those that have begun.
    pub(super) wait: Duration,
    /// Workers that there should be.
    pub(super) wanted: usize,
    /// Workers that are ready.
    pub(super) ready: usize,
    /// The share of all seats that is taken, 0 to 1.
    pub(super) busy: f64,
    pub(super) memory: Memory,
}

/// What all workers take, and may take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// All workers together; shared pages count once.
    pub(super) all_bytes: u64,
    /// One more would take about so much.
    pub(super) one_bytes: u64,
    /// `None`: as much as they like.
    pub(super) budget_bytes: Option<u64>,
}

/// What has been seen.
#[derive(Debug, Default)]
pub(super) struct Scaler {
    waits: [bool; LOOKS],
    spare_since: Option<Instant>,
}

impl Scaler {
    /// One look. The number of workers that there should be from now on, if it is another.
    pub(super) fn look(&mut self, now: Instant, look: &Look, bounds: (usize, usize)) -> Option<usize> {
        let (least, most) = bounds;
        self.waits.rotate_left(1);
        self.waits[LOOKS - 1] = look.wait > LONG_WAIT;
        let within = look.wanted.clamp(least, most);
        if within != look.wanted {
            return self.go(within);
        }
        if self.waits.iter().filter(|long| **long).count() >= LOOKS_WITH_WAITS {
            self.spare_since = None;
            let more = look.ready >= look.wanted && look.wanted < most && look.memory.has_room();
            return more.then(|| self.go(look.wanted + 1)).flatten();
        }
        if !is_spare(look) {
            self.spare_since = None;
            return None;
        }
        let since = *self.spare_since.get_or_insert(now);
        let fewer = now >= since + SPARE && look.wanted > least;
        fewer.then(|| self.go(look.wanted - 1)).flatten()
    }

    /// What was seen of another number of workers says little about this one.
    fn go(&mut self, wanted: usize) -> Option<usize> {
        *self = Self::default();
        Some(wanted)
    }
}

/// One fewer would do: nobody waits, and the others have seats for all that runs.
fn is_spare(look: &Look) -> bool {
    let others = look.ready.saturating_sub(1) as f64;
    look.wait <= LONG_WAIT && look.ready >= look.wanted && look.busy * look.ready as f64 <= others * 0.8
}

impl Memory {
    fn has_room(&self) -> bool {
        self.budget_bytes.is_none_or(|budget| self.all_bytes.saturating_add(self.one_bytes) <= budget)
    }
}

/// What workers may take when nobody has said: most of what the control group may.
pub(super) fn budget_of_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let least = least_limit(Path::new("/sys/fs/cgroup"), group(&groups)?)?;
    Some((least as f64 * SHARE) as u64)
}

/// The line of version 2 in `/proc/self/cgroup`, without its `/`.
fn group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The least `memory.max` of the group and of all above it.
fn least_limit(root: &Path, group: &str) -> Option<u64> {
    let folder = root.join(group);
    let groups = folder.ancestors().take_while(|above| above.starts_with(root));
    let limits = groups.filter_map(|group| fs::read_to_string(group.join("memory.max")).ok());
    limits.filter_map(|text| text.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: Look = Look {
        wait: Duration::ZERO,
        wanted: 2,
        ready: 2,
        busy: 0.1,
        memory: Memory { all_bytes: 0, one_bytes: 0, budget_bytes: None },
    };
    const WAITING: Look = Look { wait: Duration::from_millis(51), busy: 1.0, ..LOW };

    /// The answers to one look a second.
    fn story(looks: &[Look], bounds: (usize, usize)) -> Vec<Option<usize>> {
        let start = Instant::now();
        let mut scaler = Scaler::default();
        let seconds = looks.iter().enumerate();
        seconds
            .map(|(second, look)| scaler.look(start + Duration::from_secs(second as u64), look, bounds))
            .collect()
    }

    #[test]
    fn up_when_two_of_three_looks_see_waits() {
        let high = Look { busy: 1.0, ..LOW };
        for (looks, wanted) in [
            (vec![WAITING, WAITING], vec![None, Some(3)]),
            (vec![WAITING, high, WAITING], vec![None, None, Some(3)]),
            (vec![WAITING, high, high, WAITING], vec![None, None, None, None]),
            (vec![high, high, high], vec![None, None, None]),
            // It starts anew after each step.
            (vec![WAITING, WAITING, WAITING, WAITING], vec![None, Some(3), None, Some(3)]),
            // The last one is still starting.
            (vec![Look { ready: 1, ..WAITING }; 3], vec![None, None, None]),
        ] {
            assert_eq!(story(&looks, (1, 4)), wanted, "{looks:?}");
        }
        assert_eq!(story(&[WAITING, WAITING], (1, 2)), [None, None], "there are as many as may be");
    }

    #[test]
    fn never_past_the_memory() {
        let memory = |all_bytes, budget_bytes| Memory { all_bytes, one_bytes: 100, budget_bytes };
        for (memory, wanted) in [
            (memory(900, Some(1000)), Some(3)),
            (memory(901, Some(1000)), None),
            (memory(901, None), Some(3)),
            (memory(u64::MAX, Some(1000)), None),
        ] {
            let look = Look { memory, ..WAITING };
            assert_eq!(story(&[look, look], (1, 4))[1], wanted, "{memory:?}");
        }
    }

    #[test]
    fn down_when_one_fewer_was_enough_for_long() {
        let busy = Look { busy: 0.5, ..LOW };
        let after = |looks: Vec<Look>| story(&looks, (1, 4)).into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(after(vec![LOW; 30]), [0; 0]);
        assert_eq!(after(vec![LOW; 31]), [1]);
        assert_eq!(after(vec![busy; 60]), [0; 0], "two half busy are one busy");
        let mut broken = vec![LOW; 25];
        broken.push(WAITING);
        broken.extend([LOW; 25]);
        assert_eq!(after(broken), [0; 0], "the time begins anew");
        assert_eq!(
            story(&vec![LOW; 40], (2, 4)).into_iter().flatten().count(),
            0,
            "there are as few as may be"
        );
    }

    #[test]
    fn what_somebody_else_has_set_comes_back_within_bounds() {
        assert_eq!(story(&[Look { wanted: 9, ..LOW }], (1, 4)), [Some(4)]);
        assert_eq!(story(&[Look { wanted: 1, ..LOW }], (2, 4)), [Some(2)]);
    }

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let root = std::env::temp_dir().join(format!("bandstand-cgroup-{}", std::process::id()));
        let group = "system.slice/shop.service";
        fs::create_dir_all(root.join(group)).unwrap();
        assert_eq!(least_limit(&root, group), None);
        fs::write(root.join(group).join("memory.max"), "max\n").unwrap();
        assert_eq!(least_limit(&root, group), None);
        fs::write(root.join("system.slice/memory.max"), "1000\n").unwrap();
        assert_eq!(least_limit(&root, group), Some(1000));
        fs::write(root.join(group).join("memory.max"), "5000\n").unwrap();
        assert_eq!(least_limit(&root, group), Some(1000));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(super::group("1:cpu:/x\n0::/system.slice/a\n"), Some("system.slice/a"));
        assert_eq!(super::group("1:cpu:/x\n"), None);
    }
}
