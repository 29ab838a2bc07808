//! How much memory a process takes, as Linux tells it.
//!
//! Owns the two files and their parsing. Anything that cannot be read is absent: the process may be gone, and other systems
//! have no `/proc`. Source: proc_pid_statm(5), proc_pid_smaps(5).

use std::fs;

use super::status::Memory;

/// Of a process; the proportional size, which makes the kernel walk its pages, only with `pss`. Blocks for as long as that takes.
pub(crate) fn of(pid: u32, pss: bool) -> Memory {
    // 0 is what we are told of a process that is gone.
    if pid == 0 {
        return Memory::default();
    }
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    Memory {
        rss: read("statm").and_then(|text| resident(&text, rustix::param::page_size() as u64)),
        pss: pss.then(|| read("smaps_rollup")).flatten().and_then(|text| proportional(&text)),
    }
}

/// The second number of `statm`, in pages.
fn resident(statm: &str, page_bytes: u64) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(page_bytes)
}

/// The line `Pss:` of `smaps_rollup`, in kB.
fn proportional(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_files_say() {
        assert_eq!(resident("31530 6842 2211 1 0 9000 0\n", 4096), Some(6842 * 4096));
        let rollup = "00400000-7ffd3000 ---p 00000000 00:00 0    [rollup]\nRss:   26172 kB\nPss:   14021 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(proportional(rollup), Some(14021 * 1024));
        for text in ["", "7", "a b", "1 18446744073709551615"] {
            assert_eq!(resident(text, 4096), None, "{text}");
        }
        for text in ["", "Pss: x kB", "Rss: 7 kB", "Pss: 7"] {
            assert_eq!(proportional(text), None, "{text}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn of_this_process() {
        let memory = of(std::process::id(), true);
        assert!(memory.rss.is_some_and(|bytes| bytes > 100_000), "{memory:?}");
        assert_eq!(of(std::process::id(), false).pss, None);
        assert_eq!(of(0, true), Memory::default());
    }
}
