//! Keeps the voters of each group equal to the nodes that really exist.
//!
//! A seat whose disk was emptied comes back under a new node id. Each group's leader then adds the new
//! incarnation as a learner, waits until it has the log, and replaces the old one in a single joint
//! change. The next step follows from what the group's membership is now and who is connected, so that a
//! new leader takes over wherever the last one stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use openraft::ChangeMembers;
use tokio::time;

use super::failover::lag;
use super::groups::{Groups, ShardReplica, seat};
use super::types::{RaftId, Seat};
use crate::NodeId;
use crate::config::Config;
use crate::link::Links;

/// How often memberships are checked.
const LOOK: Duration = Duration::from_millis(250);
/// How long one step may take before the situation is judged again.
const STEP: Duration = Duration::from_secs(30);
/// A learner that lacks fewer entries than this may become a voter.
const CAUGHT_UP: u64 = 100;

/// A step that brings a membership closer to the nodes that exist.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Add this node as a learner, so that it gets the log.
    Learn(RaftId),
    /// Make exactly these the voters; the second list are those that are new.
    Replace(BTreeSet<RaftId>, Vec<RaftId>),
    /// Remove these from voters and learners.
    Forget(BTreeSet<RaftId>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: Vec<String>| nodes.join(", ");
        let name = |node: &RaftId| NodeId(*node).to_string();
        match self {
            Self::Learn(node) => write!(f, "node {} is to get the log", name(node)),
            Self::Replace(voters, _) => {
                write!(
                    f,
                    "nodes {} are to vote",
                    list(voters.iter().map(name).collect())
                )
            }
            Self::Forget(nodes) => {
                write!(
                    f,
                    "nodes {} are to leave",
                    list(nodes.iter().map(name).collect())
                )
            }
        }
    }
}

/// Decides the next step. `configs` and `nodes` are the present membership; `present` are the connected nodes, by seat.
fn next_step(
    configs: &[BTreeSet<RaftId>],
    nodes: &BTreeMap<RaftId, u64>,
    present: &BTreeMap<u64, RaftId>,
) -> Option<Step> {
    let newest = configs.last()?;
    let mut target = newest.clone();
    for (seat, node) in present {
        target.retain(|voter| voter == node || nodes.get(voter) != Some(seat));
        target.insert(*node);
    }
    if let Some(stranger) = target.iter().find(|voter| !nodes.contains_key(voter)) {
        return Some(Step::Learn(*stranger));
    }
    if configs.iter().any(|config| *config != target) {
        let fresh = target
            .iter()
            .copied()
            .filter(|voter| configs.iter().any(|config| !config.contains(voter)));
        return Some(Step::Replace(target.clone(), fresh.collect()));
    }
    let left: BTreeSet<RaftId> = nodes
        .keys()
        .copied()
        .filter(|node| !target.contains(node))
        .collect();
    (!left.is_empty()).then_some(Step::Forget(left))
}

/// Takes steps for the groups that this node leads, one at a time, for as long as the node runs.
pub async fn reconcile(config: Config, groups: Groups, links: Links) {
    loop {
        time::sleep(LOOK).await;
        let mut present: BTreeMap<u64, RaftId> = links
            .up()
            .into_iter()
            .map(|process| (process.seat, process.node.0))
            .collect();
        present.insert(config.seat, groups.node().0);
        for group in groups.all().iter().filter(|group| group.leadership().mine) {
            if let Some(step) = observe(group, &present) {
                let taken = time::timeout(STEP, take(group, &config, &present, &step)).await;
                if let Err(problem) =
                    taken.unwrap_or_else(|_| Err(String::from("it takes too long")))
                {
                    tracing::warn!("shard {}: {step}: {problem}", group.shard);
                }
                break;
            }
        }
    }
}

fn observe(group: &ShardReplica, present: &BTreeMap<u64, RaftId>) -> Option<Step> {
    let metrics = group.metrics();
    let membership = metrics.membership_config.membership();
    let nodes = membership
        .nodes()
        .map(|(node, seat)| (*node, seat.seat))
        .collect();
    next_step(membership.get_joint_config(), &nodes, present)
}

async fn take(
    group: &ShardReplica,
    config: &Config,
    present: &BTreeMap<u64, RaftId>,
    step: &Step,
) -> Result<(), String> {
    let raft = &group.raft;
    let done = match step {
        Step::Learn(node) => {
            let Some((number, _)) = present.iter().find(|(_, here)| *here == node) else {
                return Ok(());
            };
            let place: Seat = seat(config, *number);
            tracing::info!(
                "shard {}: node {} joins for seat {number}",
                group.shard,
                NodeId(*node)
            );
            raft.add_learner(*node, place, false).await
        }
        Step::Replace(voters, fresh) => {
            let ready = |node: &RaftId| {
                *node == group.metrics().id
                    || lag(group, NodeId(*node)).is_some_and(|lag| lag < CAUGHT_UP)
            };
            if !fresh.iter().all(ready) {
                return Ok(());
            }
            let metrics = group.metrics();
            let membership = metrics.membership_config.membership();
            let seats = voters.iter().filter_map(|node| membership.get_node(node));
            let seats: Vec<_> = seats.map(|seat| seat.seat.to_string()).collect();
            let (shard, seats) = (group.shard, seats.join(", "));
            tracing::info!("shard {shard}: the voters are those of seats {seats}");
            raft.change_membership(voters.clone(), false).await
        }
        Step::Forget(nodes) => {
            raft.change_membership(ChangeMembers::RemoveNodes(nodes.clone()), false)
                .await
        }
    };
    done.map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<const N: usize>(nodes: [u64; N]) -> BTreeSet<u64> {
        BTreeSet::from(nodes)
    }

    /// Node 11 fills seat 1, node 12 is its second incarnation, and so on.
    #[track_caller]
    fn check(configs: &[BTreeSet<u64>], nodes: &[u64], present: &[u64], expect: Option<Step>) {
        let nodes = nodes.iter().map(|node| (*node, node / 10)).collect();
        let present = present.iter().map(|node| (node / 10, *node)).collect();
        assert_eq!(next_step(configs, &nodes, &present), expect);
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
        check(
            &[set([11, 21, 31]), set([11, 21, 32])],
            &[11, 21, 31, 32],
            &[11, 21, 32],
            Some(replace),
        );
        check(
            &[set([11, 21, 32])],
            &[11, 21, 31, 32],
            &[11, 21, 32],
            Some(Step::Forget(set([31]))),
        );
        check(&[set([11, 21, 32])], &[11, 21, 32], &[11, 21, 32], None);
    }

    #[test]
    fn a_change_that_stopped_half_way_is_finished_though_the_newcomer_is_away() {
        let joint = [set([11, 21, 31]), set([11, 21, 32])];
        let replace = Step::Replace(set([11, 21, 32]), vec![32]);
        check(&joint, &[11, 21, 31, 32], &[11, 21], Some(replace));
    }

    #[test]
    fn a_newcomer_that_was_emptied_again_is_forgotten() {
        let whole = [set([11, 21, 31])];
        check(
            &whole,
            &[11, 21, 31, 32],
            &[11, 21, 33],
            Some(Step::Learn(33)),
        );
        check(
            &[set([11, 21, 33])],
            &[11, 21, 32, 33],
            &[11, 21, 33],
            Some(Step::Forget(set([32]))),
        );
    }

    #[test]
    fn a_seat_that_never_voted_is_added() {
        check(&[set([11])], &[11], &[11, 21], Some(Step::Learn(21)));
        check(
            &[set([11])],
            &[11, 21],
            &[11, 21],
            Some(Step::Replace(set([11, 21]), vec![21])),
        );
    }
}
