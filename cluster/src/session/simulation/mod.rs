//! A deterministic simulation of sessions over shards: one 64-bit seed gives every choice.
//!
//! Clients talk through edges to replicated shards while connections are cut, nodes crash and come back
//! with a snapshot and a stretch of log, leaders change, proposals are lost or committed twice, owners
//! are paused and woken. The raft library itself is abstracted to one log per shard whose entries
//! replicas apply late. After a healing phase the histories that the clients saw are judged by
//! [`oracle`]; a [`mutant::Mutant`] breaks the system on purpose to prove that the judge can see.

mod client;
mod edge;
mod mutant;
mod oracle;
mod shards;
mod world;

use mutant::Mutant;
use world::World;

/// Seeds that every run of the tests covers.
const SEEDS: u64 = 1_000;

fn verdict(seed: u64, mutant: Mutant) -> Result<u64, String> {
    let mut world = World::new(seed, mutant);
    world.run()?;
    Ok(world.trace())
}

#[test]
fn every_invariant_holds_for_every_seed() {
    for seed in 0..SEEDS {
        if let Err(what) = verdict(seed, Mutant::None) {
            panic!("seed {seed}: {what}");
        }
    }
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    for seed in 0..20 {
        assert_eq!(verdict(seed, Mutant::None), verdict(seed, Mutant::None));
    }
}

#[test]
fn each_broken_build_is_caught() {
    for mutant in Mutant::BROKEN {
        let caught = (0..10_000).find_map(|seed| Some((seed, verdict(seed, mutant).err()?)));
        let Some((seed, what)) = caught else {
            panic!("{mutant:?} was not caught");
        };
        println!("{mutant:?}: seed {seed}: {what}");
    }
}
