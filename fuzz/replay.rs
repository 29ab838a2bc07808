//! The short run of a fuzz target, without a fuzzer: every seed, then a fixed number of mutations of them, the same at each run.
//!
//! Owns the mutations and the naming of an input that fails. It knows nothing of coverage: that is `scripts/fuzz`. Tests of the crates
//! include this file, so that it costs no build of its own. Invariant: the same seeds give the same inputs, on every machine.

use std::path::Path;

/// Longest input, as for the long run.
const LONGEST: usize = 4096;

/// Hands the seeds of `target` and so many mutations of them to `check`, which panics where something is wrong.
pub(crate) fn replay(target: &str, mutations: usize, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(seeds.len() >= 3, "{} has too few seeds", folder.display());
    seeds.iter().for_each(|seed| named(target, check, seed));
    named(target, check, b"");
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for _ in 0..mutations {
        let mut input = seeds[chance.below(seeds.len())].clone();
        for _ in 0..=chance.below(4) {
            mutate(&mut input, &seeds, &mut chance);
        }
        input.truncate(LONGEST);
        named(target, check, &input);
    }
}

fn named(target: &str, check: fn(&[u8]), input: &[u8]) {
    struct Say<'a>(&'a str, &'a [u8]);
    impl Drop for Say<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input of {} that failed: b\"{}\"", self.0, self.1.escape_ascii());
            }
        }
    }
    let _say = Say(target, input);
    check(input);
}

/// Bytes that mean something to most of what is read here.
const TELLING: &[u8] = b"\0\t\n\r \"%,-./0:;=?@[\\]{}~\x7f\x80\xc0\xff";

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(input.len() + 1);
    let to = at + chance.below(input.len() - at + 1).min(16);
    match chance.below(8) {
        0 if at < input.len() => input[at] ^= 1 << chance.below(8),
        1 if at < input.len() => input[at] = TELLING[chance.below(TELLING.len())],
        2 => input.insert(at, TELLING[chance.below(TELLING.len())]),
        3 => input.insert(at, chance.below(256) as u8),
        4 => drop(input.drain(at..to)),
        5 => {
            let copy = input[at..to].to_vec();
            input.splice(at..at, copy);
        }
        6 => input.truncate(at),
        _ => {
            let other = &seeds[chance.below(seeds.len())];
            let from = chance.below(other.len() + 1);
            let end = from + chance.below(other.len() - from + 1);
            input.splice(at..to, other[from..end].iter().copied());
        }
    }
}

/// xorshift64*: no randomness is wanted here, only variety.
struct Chance(u64);

impl Chance {
    /// 0 ≤ result < `end`; `end` > 0.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }
}
