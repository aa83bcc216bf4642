//! A deterministic simulation of sessions over shards: one 64-bit seed gives every choice.
//!
//! Clients talk to replicated shards through connections that are carried as a node carries them: what is decided at
//! the edge is decided by the machines of [`crate::connection`]. Meanwhile connections are cut, nodes crash and come back
//! with a snapshot and a stretch of log, leaders change, proposals are lost or committed twice, owners
//! are paused and woken. The raft library itself is abstracted to one log per shard whose entries
//! replicas apply late. After a healing phase the histories that the clients saw are judged by
//! [`oracle`] and [`presence`]; a [`mutant::Mutant`] breaks the system on purpose to prove that the judge can see.
//! 5,000 seeds take about half a minute on one core in the dev profile.

mod client;
mod conn;
mod mutant;
mod oracle;
mod presence;
mod shards;
mod stanzas;
mod world;

use mutant::Mutant;
use world::World;

/// Seeds that every run of the tests covers.
const SEEDS: std::ops::Range<u64> = 0..5_000;

fn verdict(seed: u64, mutant: Mutant) -> Result<World, String> {
    let mut world = World::new(seed, mutant);
    world.run()?;
    Ok(world)
}

/// A run in which little happens proves little: the sums say that it did happen.
#[test]
fn every_invariant_holds_for_every_seed() {
    let (mut received, mut resumes, mut sessions) = (0, 0, 0);
    let seeds = crate::seeds::asked_or(SEEDS);
    let all = seeds == SEEDS;
    for seed in seeds {
        match verdict(seed, Mutant::None) {
            Ok(world) => {
                let sum = world.coverage();
                received += sum.0;
                resumes += sum.1;
                sessions += sum.2;
            }
            Err(what) => panic!("seed {seed}: {what}"),
        }
    }
    println!("{received} messages received, {resumes} sessions resumed, {sessions} begun");
    assert!(!all || (received > 100_000 && resumes > 20_000 && sessions > 50_000));
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    for seed in 0..20 {
        let trace = || verdict(seed, Mutant::None).map(|world| world.trace());
        assert_eq!(trace(), trace());
    }
}

#[test]
fn each_broken_build_is_caught_by_the_invariant_that_it_breaks() {
    for (mutant, invariants) in Mutant::BROKEN {
        let caught = (0..10_000).find_map(|seed| Some((seed, verdict(seed, mutant).err()?)));
        let Some((seed, what)) = caught else {
            panic!("{mutant:?} was not caught");
        };
        println!("{mutant:?}: seed {seed}: {what}");
        let named = |invariant: &&str| what.contains(&format!("({invariant})"));
        assert!(
            invariants.iter().any(named),
            "{mutant:?} was caught by {what}"
        );
    }
}
