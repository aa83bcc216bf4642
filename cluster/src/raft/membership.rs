//! Brings the members of each group in line with the nodes that there are.
//!
//! Three nodes vote in each group ([`super::placement`]); others have no replica of it, except where there are fewer
//! than three. A seat whose disk was emptied comes back under a new node id, which takes the place of the old one. Each
//! group's leader takes one step at a time: it adds a learner, waits until it has the log, changes the voters in a
//! single joint change, and lets go who votes no more. The next step follows from what the group's membership is now
//! and who is there, so that a new leader takes over wherever the last one stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time;

use super::failover::{Failover, lag};
use super::groups::Groups;
use super::known::Members;
use super::placement::{self, State, View};
use super::replica::ShardReplica;
use super::roll::{Present, Roll};
use super::seen::Seen;
use super::step::{Step, next_step};
use super::types::RaftId;
use crate::config::Config;
use crate::identity::Identity;
use crate::link::Links;
use crate::{NodeId, clock};

/// How often memberships are checked.
const LOOK: Duration = Duration::from_millis(250);
/// How long one step may take before the situation is judged again.
const STEP: Duration = Duration::from_secs(30);

/// What the steps are taken with.
pub struct Reconciler {
    /// The configuration.
    pub config: Config,
    /// Who this node is, and which nodes are no longer members.
    pub identity: Identity,
    /// The groups.
    pub groups: Groups,
    /// The links to other nodes.
    pub links: Links,
    /// What is known of nodes that are about to stop.
    pub failover: Failover,
    /// What is known of nodes that are away.
    pub roll: Roll,
}

impl Reconciler {
    /// Takes steps for the groups that this node leads, one at a time, for as long as the node runs.
    pub async fn run(self) {
        let mut seen = Seen::default();
        loop {
            time::sleep(LOOK).await;
            self.look(&mut seen).await;
        }
    }

    /// Looks once.
    async fn look(&self, seen: &mut Seen) {
        let memberships: Vec<Members> = self.groups.all().iter().map(|g| observe(g)).collect();
        acquaint(&memberships, &self.links);
        let present = present(&self.config, &self.groups, &self.links);
        seen.meet(&present, &memberships);
        let stopping = self.failover.stopping();
        let states = self
            .roll
            .states(seen.seats(), &present, &stopping, clock::timer());
        self.dismiss(seen, &states, &memberships).await;
        let Some(view) = View::of(&memberships, &states) else {
            return;
        };
        let targets = placement::targets(&view);
        self.roll.note(seen.seats(), &states, &targets);
        for ((group, now), target) in self.groups.all().iter().zip(&memberships).zip(&targets) {
            if !group.leadership().mine {
                continue;
            }
            let Some(step) = next_step(now, target, &states, &present) else {
                continue;
            };
            let taken = time::timeout(STEP, take(group, now, &present, &step)).await;
            if let Err(problem) = taken.unwrap_or_else(|_| Err(String::from("it takes too long"))) {
                tracing::warn!("shard {}: {step}: {problem}", group.shard);
            }
        }
    }

    /// Forgets nodes that have left. One whose seat was given up, or is filled by another, may not come back.
    async fn dismiss(
        &self,
        seen: &mut Seen,
        states: &BTreeMap<RaftId, State>,
        memberships: &[Members],
    ) {
        let gone = seen.forget(states, memberships);
        for node in gone {
            let identity = self.identity.clone();
            let written = tokio::task::spawn_blocking(move || identity.retire(node)).await;
            if let Ok(Err(error)) = written {
                // The identity guards against mistakes of operators: old disks are not used again.
                tracing::error!("cannot write the identity: {error}");
            }
        }
        for seat in self.links.seats().keys() {
            if self.config.address(*seat).is_none() && !seen.has(*seat) {
                self.links.dismiss(*seat);
            }
        }
    }
}

/// Whether a shard would be left without a majority if this node, which drains, stopped now.
pub fn is_needed(groups: &Groups, links: &Links, failover: &Failover) -> bool {
    let me = groups.node();
    let stopping = failover.stopping();
    let stays =
        |node: RaftId| node != me.0 && links.is_up(NodeId(node)) && !stopping.contains(&node);
    // If all stop, nobody could take over.
    let mut others = links.up().into_iter();
    let heir = others.any(|process| !stopping.contains(&process.node.0));
    heir && groups.all().iter().any(|group| {
        let voters = group.voters().into_values().map(|node| node.0).collect();
        placement::is_needed(me.0, &voters, stays)
    })
}

/// The members of a group: for one that this node leads as its log has them, else as they were committed.
fn observe(group: &ShardReplica) -> Members {
    match group.leadership().mine {
        true => group.newest(),
        false => group.members(),
    }
}

fn present(config: &Config, groups: &Groups, links: &Links) -> Present {
    let addresses = links.seats();
    let peers = links.up().into_iter().map(|process| {
        let address = addresses.get(&process.seat).cloned().unwrap_or_default();
        (process.seat, (process.node.0, address))
    });
    let me = (config.seat, (groups.node().0, config.advertise.clone()));
    peers.chain([me]).collect()
}

/// Keeps connections with all members, whoever told of them.
fn acquaint(memberships: &[Members], links: &Links) {
    for seat in memberships
        .iter()
        .flat_map(|membership| membership.nodes.values())
    {
        links.introduce(seat.seat, &seat.address);
    }
}

async fn take(
    group: &ShardReplica,
    now: &Members,
    present: &Present,
    step: &Step,
) -> Result<(), String> {
    let lag = |node| match node == group.metrics().id {
        true => Some(0),
        false => lag(group, NodeId(node)),
    };
    let Some(change) = step.change(present).filter(|_| step.is_ready(lag)) else {
        return Ok(());
    };
    let shard = group.shard;
    match step {
        Step::Learn(node) => {
            let seat = present.iter().find(|(_, (here, _))| here == node);
            let (name, seat) = (NodeId(*node), seat.map_or(0, |(seat, _)| *seat));
            tracing::info!("shard {shard}: node {name} joins for seat {seat}");
        }
        Step::Replace(voters, _) => {
            let seats = voters.iter().filter_map(|node| now.nodes.get(node));
            let seats: Vec<_> = seats.map(|seat| seat.seat.to_string()).collect();
            let seats = seats.join(", ");
            tracing::info!("shard {shard}: the voters are those of seats {seats}");
        }
        Step::Forget(_) => tracing::info!("shard {shard}: {step}"),
        Step::Move(_) => {}
    }
    // Who votes no more goes on learning until it is let go.
    let done = group.raft.change_membership(change, true).await;
    let counted = step.counted().filter(|_| done.is_ok());
    counted
        .into_iter()
        .for_each(|step| group.counters.moves.inc(step));
    done.map(drop).map_err(|error| error.to_string())
}
