//! Brings the members of each group in line with the nodes that there are.
//!
//! Three nodes vote in each group ([`super::placement`]); others have no replica of it, except where there are fewer
//! than three. A seat whose disk was emptied comes back under a new node id, which takes the place of the old one. Each
//! group's leader takes one step at a time: it adds a learner, waits until it has the log, changes the voters in a
//! single joint change, and lets go who votes no more. The next step follows from what the group's membership is now
//! and who is there, so that a new leader takes over wherever the last one stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use openraft::ChangeMembers;
use tokio::time;

use super::failover::{Failover, lag};
use super::groups::Groups;
use super::known::Members;
use super::placement::{self, State, View};
use super::replica::ShardReplica;
use super::roll::{Present, Roll};
use super::types::{RaftId, Seat};
use crate::config::Config;
use crate::identity::Identity;
use crate::link::Links;
use crate::metrics::MoveStep;
use crate::{NodeId, clock};

/// How often memberships are checked.
const LOOK: Duration = Duration::from_millis(250);
/// How long one step may take before the situation is judged again.
const STEP: Duration = Duration::from_secs(30);
/// A learner that lacks fewer entries than this may become a voter.
const CAUGHT_UP: u64 = 100;

/// A step that brings a membership closer to what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Add this node as a learner, so that it gets the log.
    Learn(RaftId),
    /// Make exactly these the voters; the second list are those that are new.
    Replace(BTreeSet<RaftId>, Vec<RaftId>),
    /// Remove these from the members.
    Forget(BTreeSet<RaftId>),
    /// Note where this node is reached now.
    Move(RaftId),
}

impl Step {
    /// What it counts as, if a replica moves by it.
    fn counted(&self) -> Option<MoveStep> {
        match self {
            Self::Learn(_) => Some(MoveStep::Join),
            Self::Replace(..) => Some(MoveStep::Vote),
            Self::Forget(_) => Some(MoveStep::Leave),
            Self::Move(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |nodes: &mut dyn Iterator<Item = &RaftId>| {
            let names: Vec<String> = nodes.map(|node| NodeId(*node).to_string()).collect();
            names.join(", ")
        };
        match self {
            Self::Learn(node) => write!(f, "node {} is to get the log", NodeId(*node)),
            Self::Replace(voters, _) => {
                write!(f, "nodes {} are to vote", names(&mut voters.iter()))
            }
            Self::Forget(nodes) => write!(f, "nodes {} are to leave", names(&mut nodes.iter())),
            Self::Move(node) => write!(f, "node {} is elsewhere now", NodeId(*node)),
        }
    }
}

/// Decides the next step of a group whose voters should be `target`.
fn next_step(
    now: &Members,
    target: &BTreeSet<RaftId>,
    states: &BTreeMap<RaftId, State>,
    present: &Present,
) -> Option<Step> {
    let known = |node: &RaftId| now.nodes.get(node);
    // Where fewer than three vote, the others have the log at least.
    let all = target.len() < placement::VOTERS;
    let wanted = |node: &RaftId| all || target.contains(node);
    let lacks = |(node, _): &&(RaftId, String)| wanted(node) && known(node).is_none();
    if let Some((node, _)) = present.values().find(lacks) {
        return Some(Step::Learn(*node));
    }
    let whole = target.iter().all(|node| known(node).is_some());
    if whole && !target.is_empty() && now.configs.iter().any(|config| config != target) {
        let is_new = |node: &RaftId| now.configs.iter().any(|config| !config.contains(node));
        let fresh = target.iter().copied().filter(is_new).collect();
        return Some(Step::Replace(target.clone(), fresh));
    }
    let left = |node: &RaftId| {
        let state = states.get(node);
        // A learner that was away for long would only hold the log back.
        let leaves = matches!(state, Some(State::Gone | State::Overdue)) || !wanted(node);
        leaves && !now.configs.iter().any(|config| config.contains(node))
    };
    let left: BTreeSet<RaftId> = now.nodes.keys().copied().filter(left).collect();
    if !left.is_empty() {
        return Some(Step::Forget(left));
    }
    let moved = |(node, address): &&(RaftId, String)| {
        known(node).is_some_and(|seat| !address.is_empty() && seat.address != *address)
    };
    present
        .values()
        .find(moved)
        .map(|(node, _)| Step::Move(*node))
}

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
        let mut seen = BTreeMap::new();
        loop {
            time::sleep(LOOK).await;
            self.look(&mut seen).await;
        }
    }

    /// Looks once; `seen` are the nodes that were ever met or members, and their seats.
    async fn look(&self, seen: &mut BTreeMap<RaftId, u64>) {
        let memberships: Vec<Members> = self.groups.all().iter().map(|g| observe(g)).collect();
        acquaint(&memberships, &self.links);
        let present = present(&self.config, &self.groups, &self.links);
        seen.extend(present.iter().map(|(seat, (node, _))| (*node, *seat)));
        let members = memberships.iter().flat_map(|members| &members.nodes);
        seen.extend(members.map(|(node, seat)| (*node, seat.seat)));
        let stopping = self.failover.stopping();
        let states = self.roll.states(seen, &present, &stopping, clock::timer());
        self.dismiss(seen, &states, &memberships).await;
        // Whoever does not know of all groups cannot tell who has room.
        if memberships.iter().any(|members| members.at == 0) {
            return;
        }
        let view = View {
            voters: memberships.iter().map(Members::voters).collect(),
            nodes: states.clone(),
        };
        let targets = placement::targets(&view);
        self.roll.note(seen, &states, &targets);
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
        seen: &mut BTreeMap<RaftId, u64>,
        states: &BTreeMap<RaftId, State>,
        memberships: &[Members],
    ) {
        let is_member = |node: &RaftId| memberships.iter().any(|now| now.nodes.contains_key(node));
        // Of a group that this node knows nothing of anybody may be a member.
        let all_known = memberships.iter().all(|now| now.at > 0);
        let mut gone = Vec::new();
        seen.retain(|node, _| match states.get(node) {
            Some(State::Active | State::Draining | State::Away) | None => true,
            Some(state) => {
                let stays = is_member(node) || !all_known;
                if !stays && *state == State::Gone {
                    gone.push(NodeId(*node));
                }
                stays
            }
        });
        for node in gone {
            let identity = self.identity.clone();
            let written = tokio::task::spawn_blocking(move || identity.retire(node)).await;
            if let Ok(Err(error)) = written {
                // The identity guards against mistakes of operators: old disks are not used again.
                tracing::error!("cannot write the identity: {error}");
            }
        }
        for seat in self.links.seats().keys() {
            if self.config.address(*seat).is_none() && !seen.values().any(|of| of == seat) {
                self.links.dismiss(*seat);
            }
        }
    }
}

/// Whether a shard would be left without a majority if this node, which drains, stopped now.
pub fn is_needed(groups: &Groups, links: &Links, failover: &Failover) -> bool {
    let me = groups.node();
    let stopping = failover.stopping();
    let stays = |node: &NodeId| *node != me && links.is_up(*node) && !stopping.contains(&node.0);
    // If all stop, nobody could take over.
    let mut others = links.up().into_iter();
    let heir = others.any(|process| !stopping.contains(&process.node.0));
    heir && groups.all().iter().any(|group| {
        let voters = group.voters();
        let left = voters.values().filter(|node| stays(node)).count();
        voters.values().any(|node| *node == me) && left * 2 <= voters.len()
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
    let raft = &group.raft;
    let place = |node: &RaftId| {
        let (seat, (_, address)) = present.iter().find(|(_, (here, _))| here == node)?;
        Some(Seat {
            seat: *seat,
            address: address.clone(),
        })
    };
    let done = match step {
        Step::Learn(node) => {
            let Some(seat) = place(node) else {
                return Ok(());
            };
            let name = NodeId(*node);
            tracing::info!(
                "shard {}: node {name} joins for seat {}",
                group.shard,
                seat.seat
            );
            raft.add_learner(*node, seat, false).await
        }
        Step::Replace(voters, fresh) => {
            let ready = |node: &RaftId| {
                *node == group.metrics().id
                    || lag(group, NodeId(*node)).is_some_and(|lag| lag < CAUGHT_UP)
            };
            if !fresh.iter().all(ready) {
                return Ok(());
            }
            let seats = voters.iter().filter_map(|node| now.nodes.get(node));
            let seats: Vec<_> = seats.map(|seat| seat.seat.to_string()).collect();
            let (shard, seats) = (group.shard, seats.join(", "));
            tracing::info!("shard {shard}: the voters are those of seats {seats}");
            // Who votes no more goes on learning until it is let go.
            raft.change_membership(voters.clone(), true).await
        }
        Step::Forget(nodes) => {
            tracing::info!("shard {}: {step}", group.shard);
            raft.change_membership(ChangeMembers::RemoveNodes(nodes.clone()), true)
                .await
        }
        Step::Move(node) => {
            let Some(seat) = place(node) else {
                return Ok(());
            };
            let moved = BTreeMap::from([(*node, seat)]);
            raft.change_membership(ChangeMembers::SetNodes(moved), true)
                .await
        }
    };
    let counted = step.counted().filter(|_| done.is_ok());
    counted
        .into_iter()
        .for_each(|step| group.counters.moves.inc(step));
    done.map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<const N: usize>(nodes: [u64; N]) -> BTreeSet<u64> {
        BTreeSet::from(nodes)
    }

    fn seat(node: u64) -> Seat {
        Seat {
            seat: node / 10,
            address: format!("node{}:1", node / 10),
        }
    }

    fn membership(configs: &[BTreeSet<u64>], nodes: &[u64]) -> Members {
        Members {
            at: 1,
            configs: configs.to_vec(),
            nodes: nodes.iter().map(|node| (*node, seat(*node))).collect(),
        }
    }

    fn present(nodes: &[u64]) -> Present {
        let seats = nodes.iter().map(|node| (*node, seat(*node)));
        seats
            .map(|(node, seat)| (seat.seat, (node, seat.address)))
            .collect()
    }

    /// Node 11 fills seat 1, node 12 is its second incarnation, and so on.
    #[track_caller]
    fn check(configs: &[BTreeSet<u64>], nodes: &[u64], here: &[u64], expect: Option<Step>) {
        let (now, here) = (membership(configs, nodes), present(here));
        let mut members: BTreeMap<u64, u64> = nodes.iter().map(|node| (*node, node / 10)).collect();
        members.extend(here.iter().map(|(seat, (node, _))| (*node, *seat)));
        let nobody = BTreeSet::new();
        let states = Roll::default().states(&members, &here, &nobody, clock::timer());
        let view = View {
            voters: vec![configs[configs.len() - 1].clone()],
            nodes: states.clone(),
        };
        let target = &placement::targets(&view)[0];
        assert_eq!(next_step(&now, target, &states, &here), expect);
    }

    #[test]
    fn a_membership_of_those_present_is_left_alone_and_so_is_one_of_the_absent() {
        let whole = [set([11, 21, 31])];
        check(&whole, &[11, 21, 31], &[11, 21, 31], None);
        check(&whole, &[11, 21, 31], &[11], None);
    }

    #[test]
    fn t_69_a_new_incarnation_learns_and_then_replaces_the_old_one() {
        let whole = [set([11, 21, 31])];
        check(&whole, &[11, 21, 31], &[11, 21, 32], Some(Step::Learn(32)));
        let replace = Step::Replace(set([11, 21, 32]), vec![32]);
        check(
            &whole,
            &[11, 21, 31, 32],
            &[11, 21, 32],
            Some(replace.clone()),
        );
        let joint = [set([11, 21, 31]), set([11, 21, 32])];
        check(&joint, &[11, 21, 31, 32], &[11, 21, 32], Some(replace));
        let forget = Step::Forget(set([31]));
        check(
            &[set([11, 21, 32])],
            &[11, 21, 31, 32],
            &[11, 21, 32],
            Some(forget),
        );
    }

    #[test]
    fn a_node_has_no_replica_where_three_others_vote() {
        let whole = [set([11, 21, 31])];
        let all = [11, 21, 31, 41];
        check(&whole, &[11, 21, 31], &all, None);
        let forget = Step::Forget(set([41]));
        check(&whole, &all, &all, Some(forget));
    }

    #[test]
    fn where_fewer_than_three_vote_every_node_gets_the_log() {
        check(&[set([11])], &[11], &[11, 21], Some(Step::Learn(21)));
        check(&[set([11])], &[11, 21], &[11, 21], None);
        let all = Step::Replace(set([11, 21, 31]), vec![21, 31]);
        check(&[set([11])], &[11, 21, 31], &[11, 21, 31], Some(all));
    }

    #[test]
    fn a_node_that_moves_is_noted() {
        let (now, mut here) = (membership(&[set([11])], &[11]), present(&[11]));
        here.insert(1, (11, String::from("elsewhere:1")));
        let states = BTreeMap::from([(11, State::Active)]);
        let step = next_step(&now, &set([11]), &states, &here);
        assert_eq!(step, Some(Step::Move(11)));
    }
}
