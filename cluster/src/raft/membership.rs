//! Brings the members of each group in line with the nodes that there are.
//!
//! Three nodes vote in each group ([`super::placement`]); others have no replica of it, except where there are fewer
//! than three. A seat whose disk was emptied comes back under a new node id, which takes the place of the old one. Each
//! group's leader takes one step at a time: it adds a learner, waits until it has the log, changes the voters in a
//! single joint change, and lets go who votes no more. The next step follows from what the group's membership is now
//! and who is there, so that a new leader takes over wherever the last one stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use tokio::time;

use super::failover::{Failover, lag};
use super::groups::Groups;
use super::known::Members;
use super::placement::{self, State, View};
use super::replica::ShardReplica;
use super::retirement::Retirement;
use super::roll::{Present, Roll};
use super::seen::Seen;
use super::step::{Step, next_step};
use super::types::{RaftId, Seat};
use super::zones::Zones;
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
        let (mut seen, mut retirement) = (Seen::default(), Retirement::default());
        loop {
            clock::beat(LOOK).await;
            // A step takes its time. What was seen before it says nothing about the next one: who was to vote next
            // may be dead by then, and a change that needs its vote could be neither finished nor taken back.
            let mut next = 0;
            while let Some(turn) = self.look((&mut seen, &mut retirement), next).await {
                next = turn + 1;
            }
        }
    }

    /// Looks once, and takes the first step that is due in the groups from `first` on. Returns in which.
    async fn look(
        &self,
        (seen, retirement): (&mut Seen, &mut Retirement),
        first: usize,
    ) -> Option<usize> {
        // Before the members: nobody is taken for one that has left who has become a member since.
        let retired: Vec<_> = self.groups.all().iter().map(|g| g.retired()).collect();
        let memberships: Vec<Members> = self.groups.all().iter().map(|g| observe(g)).collect();
        acquaint(&memberships, &self.links);
        let present = present(&self.config, &self.groups, &self.links);
        seen.meet(&present, &memberships);
        let stopping = self.failover.stopping();
        let decided = Retirement::decided(&retired);
        let now = clock::timer();
        let seats = seen.seats();
        let states = self.roll.states(seats, &present, &stopping, &decided, now);
        let gone = self.dismiss(seen, &states, &present, &memberships);
        let orders = retirement.orders(gone, &present, &memberships, &retired);
        self.roll.order(orders);
        for node in Retirement::refused(&memberships, &retired) {
            self.refuse(node).await;
        }
        if decided.contains(&self.groups.node().0) {
            // The others are about to say so, and this process ends then.
            self.failover.step_back().await;
        }
        let view = View::of(&memberships, &states, zones(seen, &self.links))?;
        let targets = placement::targets(&view);
        self.roll.note(seen.seats(), &states, &targets);
        let all = self.groups.all().iter().zip(&memberships).zip(&targets);
        for (turn, ((group, now), target)) in all.enumerate().skip(first) {
            let step = next_step(now, target, &states, &present);
            let Some(step) = step.filter(|_| group.leadership().mine) else {
                continue;
            };
            let Some(change) = step.change(&present).filter(|_| is_ready(group, &step)) else {
                continue;
            };
            announce(group, now, &present, &step);
            let taken = time::timeout(STEP, take(group, &step, change)).await;
            if let Err(problem) = taken.unwrap_or_else(|_| Err(String::from("it takes too long"))) {
                tracing::warn!("shard {}: {step}: {problem}", group.shard);
            }
            return Some(turn);
        }
        None
    }

    /// Forgets nodes that have left. Returns those that should not come back, as their seats are not wanted or are filled
    /// by others.
    fn dismiss(
        &self,
        seen: &mut Seen,
        states: &BTreeMap<RaftId, State>,
        present: &Present,
        memberships: &[Members],
    ) -> Vec<NodeId> {
        let hears_of = |group: &Arc<ShardReplica>| {
            let leader = group.leadership().leader;
            leader.is_some_and(|leader| self.links.is_up(leader))
        };
        let current = self.groups.all().iter().all(hears_of);
        let gone = seen.forget(states, memberships, current);
        for seat in self.links.seats().keys() {
            let is_filled = seen.has(*seat) || present.contains_key(seat);
            if self.config.address(*seat).is_none() && !is_filled {
                self.links.dismiss(*seat);
            }
        }
        gone
    }

    /// Refuses a node from now on, and for ever. If it is connected it is told so when it greets again.
    async fn refuse(&self, node: NodeId) {
        if node == self.groups.node() || self.identity.is_retired(node) {
            return;
        }
        tracing::info!("node {node} is no longer a member, and is refused from now on");
        let identity = self.identity.clone();
        let written = tokio::task::spawn_blocking(move || identity.retire(node)).await;
        if let Ok(Err(error)) = written {
            // The groups remember it, and it is written with the next look.
            tracing::error!("cannot write the identity: {error}");
        }
        self.links.send_away(node);
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
    let mut all = groups.all().iter();
    heir && all.any(|group| placement::is_needed(me.0, &group.electorates(), stays))
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

fn zones(seen: &Seen, links: &Links) -> Zones {
    let zones = links.zones();
    let seats = seen.seats().iter();
    let zone = |(node, seat): (&RaftId, &u64)| Some((*node, zones.get(seat)?.clone()));
    seats.filter_map(zone).collect()
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

fn is_ready(group: &ShardReplica, step: &Step) -> bool {
    step.is_ready(|node| match node == group.metrics().id {
        true => Some(0),
        false => lag(group, NodeId(node)),
    })
}

fn announce(group: &ShardReplica, now: &Members, present: &Present, step: &Step) {
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
}

async fn take(
    group: &ShardReplica,
    step: &Step,
    change: ChangeMembers<RaftId, Seat>,
) -> Result<(), String> {
    // Who votes no more goes on learning until it is let go.
    let done = group.raft.change_membership(change, true).await;
    if let Some(moved) = step.counted().filter(|_| done.is_ok()) {
        group.counters.moves.inc(moved);
    }
    done.map(drop).map_err(|error| error.to_string())
}
