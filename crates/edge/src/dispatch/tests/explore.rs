//! The pool through the interleavings of everything that can happen to it.
//!
//! The real pool and real boards; `world` scripts workers, clients and the clock around them, one step at a time, and
//! checks the named invariants after each step and once all has come to rest. From a few scenes every sequence of steps is
//! tried, up to a depth, without going on twice from a state that looks the same (times left out); beyond that a large
//! sample of long walks, by chance that is the same in every run. A failure names the steps that lead to it.

#![allow(clippy::print_stdout, reason = "how many states there were is part of the result")]

mod world;

use std::collections::HashSet;

use super::dice::Dice;
use world::{Cast, Step, World};

/// Where a search begins: its cast, and the steps before it.
struct Scene {
    name: &'static str,
    cast: Cast,
    prologue: &'static [Step],
    depth: usize,
}

const SCENES: [Scene; 4] = {
    use world::Kind::{Get, Post, Socket, Task};
    const CAST: Cast = Cast { requests: 2, workers: 2, kinds: &[Get, Post], quick: false };
    [
        Scene {
            name: "a generation beside the current one",
            cast: Cast { workers: 3, ..CAST },
            prologue: &[Step::Hello(0), Step::Open(1), Step::Submit(Get), Step::Take(0, 0)],
            depth: 5,
        },
        Scene {
            name: "requests sent ahead",
            cast: Cast { requests: 4, quick: true, ..CAST },
            prologue: &[Step::Hello(0), Step::Submit(Post), Step::Submit(Get), Step::Submit(Get)],
            depth: 5,
        },
        Scene {
            name: "a loop with a task and a WebSocket",
            cast: Cast { requests: 3, kinds: &[Task, Socket], ..CAST },
            prologue: &[Step::Hello(0), Step::Submit(Socket), Step::Take(0, 1), Step::Begin(0, 0)],
            depth: 5,
        },
        Scene {
            name: "nobody yet",
            cast: Cast { requests: 3, kinds: &[Get, Socket], ..CAST },
            prologue: &[Step::Hold, Step::Submit(Get)],
            depth: 6,
        },
    ]
};

/// Every step from every state of a scene: how many states there were.
fn explore(scene: &Scene) -> usize {
    let mut seen = HashSet::new();
    let mut frontier = vec![scene.prologue.to_vec()];
    for _ in 0..scene.depth {
        let mut next = Vec::new();
        for path in &frontier {
            for step in World::played(&scene.cast, path).possible() {
                let mut world = World::played(&scene.cast, path);
                world.play(step);
                if seen.insert(world.fingerprint()) {
                    next.push([path.as_slice(), &[step]].concat());
                    world.come_to_rest();
                }
            }
        }
        frontier = next;
    }
    seen.len()
}

#[test]
fn every_interleaving_up_to_a_depth_keeps_the_invariants() {
    let states: usize = std::thread::scope(|scope| {
        let searches = SCENES.each_ref().map(|scene| (scene, scope.spawn(|| explore(scene))));
        let found = searches.map(|(scene, search)| {
            let found = search.join().expect("the panic names the steps");
            println!("{}: {found} states, {} steps deep", scene.name, scene.depth);
            found
        });
        found.iter().sum()
    });
    println!("{states} states in all");
    assert!(states > 50_000, "{states}");
}

#[test]
fn long_walks_keep_the_invariants() {
    let mut seen = HashSet::new();
    for seed in 0..2500u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let kinds = &[world::Kind::Get, world::Kind::Post, world::Kind::Task, world::Kind::Socket];
        let cast = Cast { requests: 12, workers: 6, kinds, quick: dice.below(2) == 0 };
        let mut world = World::played(&cast, &[]);
        for _ in 0..60 {
            let possible = world.possible();
            world.play(possible[dice.below(possible.len() as u64) as usize]);
            seen.insert(world.fingerprint());
        }
        world.come_to_rest();
    }
    println!("{} states", seen.len());
    assert!(seen.len() > 50_000, "{}", seen.len());
}
