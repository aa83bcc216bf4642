//! A deterministic simulation of who belongs to a group and who votes in it: one 64-bit seed gives every choice.
//!
//! Nodes join, are cut off, die for good, come back with their disk or with an empty one in the same seat, are told to
//! stop, and are given up by an operator, while clients write. What they decide is decided by the code of real nodes:
//! who is there ([`super::roll`], [`super::seen`]), who should vote ([`super::placement`]), which step is next
//! ([`super::step`]), what is known of a group ([`super::known`]), who leads next ([`super::failover::choice`]) and who
//! is refused ([`crate::link::hello`]). The raft library is abstracted to a log for each replica, to votes and to
//! majorities, as [`replica`] and [`group`] have them. What sessions promise is not looked at here, but in
//! [`crate::session`]'s own simulation. A [`mutant::Mutant`] breaks the system on purpose to prove that the judge can see.
//! 3,000 seeds take a few seconds on one core in the dev profile.
//!
//! The invariants are those of [`crate::rules::members`].
//!
//! Runs in which two processes claim one seat may end without a verdict: if the groups can do without neither, or if
//! one of them is told to start anew by a node that knows only the other.

mod dice;
mod events;
mod group;
mod heal;
mod judge;
mod mutant;
mod node;
mod replica;
mod verdict;
mod world;

use mutant::Mutant;
use world::{Sums, World};

/// Seeds that every run of the tests covers.
const SEEDS: std::ops::Range<u64> = 0..3_000;

fn verdict(seed: u64, mutant: Mutant) -> Result<World, String> {
    let mut world = World::new(seed, mutant);
    world.run()?;
    Ok(world)
}

/// A run in which little happens proves little: the sums say that it did happen.
#[test]
fn every_invariant_holds_for_every_seed() {
    let mut sum = Sums::default();
    let seeds = crate::seeds::asked_or(SEEDS);
    let all = seeds == SEEDS;
    for seed in seeds {
        match verdict(seed, Mutant::None) {
            Ok(world) => sum.add(&world.sums),
            Err(what) => panic!("seed {seed}: {what}"),
        }
    }
    println!("{sum:?}");
    let often = [sum.elections, sum.changes, sum.promoted, sum.joined];
    let less = [sum.reborn, sum.drained, sum.stopped];
    assert!(!all || often.iter().all(|count| *count > 15_000), "{sum:?}");
    assert!(!all || less.iter().all(|count| *count > 3_000), "{sum:?}");
    // A removal counts only if shard 0 could be asked.
    let seldom = [sum.removed, sum.told];
    assert!(!all || seldom.iter().all(|count| *count > 300), "{sum:?}");
    assert!(!all || sum.undecided < 300, "{sum:?}");
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    for seed in 0..20 {
        let trace = || verdict(seed, Mutant::None).map(|world| world.dice.trace());
        assert_eq!(trace(), trace());
    }
}

/// What a broken build does may be seen by several invariants, and by one that only follows from another first.
#[test]
fn each_broken_build_is_caught_by_the_invariant_that_it_breaks() {
    for (mutant, invariants) in Mutant::BROKEN {
        let named = |what: &String| {
            let mut names = invariants.iter();
            names.any(|invariant| what.contains(&format!("({invariant})")))
        };
        let caught = |seed| {
            let what = verdict(seed, mutant).err().filter(named)?;
            Some((seed, what))
        };
        let Some((seed, what)) = (0..3_000).find_map(caught) else {
            panic!("{mutant:?} was not caught by {invariants:?}");
        };
        println!("{mutant:?}: seed {seed}: {what}");
    }
}
