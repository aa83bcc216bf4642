//! The cluster's state in the form that operators read.
//!
//! A node has two names: its seat, which its configuration gives it, and its id, which names its disk
//! and stands in the logs. Ids are texts: they use all 64 bits, which numbers in JSON cannot.

use std::collections::{BTreeMap, BTreeSet};

use cluster::NodeId;
use cluster::status::{NodeStatus, ShardStatus, Status};
use serde::Serialize;

/// The state of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterReport {
    /// Whether the node that was asked reaches a leader and a majority of every shard.
    pub majority: bool,
    /// All nodes, by seat.
    pub nodes: Vec<NodeReport>,
    /// All shards, by number.
    pub shards: Vec<ShardReport>,
}

/// One seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    /// Its number.
    pub seat: u64,
    /// The id of the node that fills it, as far as known.
    pub node: Option<String>,
    /// The address.
    pub address: String,
    /// Whether it can be reached.
    pub up: bool,
    /// Whether it is the node that was asked.
    pub me: bool,
    /// Shards that it leads, as far as the node that was asked knows.
    pub leads: usize,
}

/// One shard, as the node that was asked knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardReport {
    /// Its number.
    pub shard: u16,
    /// The leader's seat.
    pub leader: Option<u64>,
    /// The leader's term.
    pub term: u64,
    /// The last entry in the log.
    pub last_log: u64,
    /// The last that is committed.
    pub committed: u64,
    /// The last that is applied.
    pub applied: u64,
    /// How many entries are committed and not applied yet.
    pub lag: u64,
    /// Seats that vote; a node that lost its seat is named by its id.
    pub voters: Vec<String>,
    /// Sessions in all.
    pub sessions: usize,
    /// Those without a connection.
    pub hibernated: usize,
    /// Effects that wait to be carried out.
    pub pending: usize,
    /// Why it commits nothing, if it is stalled.
    pub stalled: Option<String>,
}

/// Which nodes fill which seats.
#[derive(Clone, Debug, Default)]
pub struct Seats(BTreeMap<NodeId, u64>);

impl Seats {
    /// Remembers which node fills which seat, as far as it is known.
    pub fn of(nodes: &[NodeStatus]) -> Self {
        let known = nodes
            .iter()
            .filter_map(|status| Some((status.node?, status.seat)));
        Self(known.collect())
    }

    /// A node as people know it: by its seat, or by its id if it has none.
    pub fn name(&self, node: NodeId) -> String {
        match self.0.get(&node) {
            Some(seat) => seat.to_string(),
            None => node.to_string(),
        }
    }
}

impl From<Status> for ClusterReport {
    fn from(Status { nodes, shards }: Status) -> Self {
        let seats = Seats::of(&nodes);
        let up = nodes.iter().filter(|status| status.up);
        let up: BTreeSet<NodeId> = up.filter_map(|status| status.node).collect();
        let majority = shards.iter().all(|shard| is_within_reach(shard, &up));
        let nodes = nodes
            .into_iter()
            .map(|status| node(status, &shards))
            .collect();
        let shards = shards
            .into_iter()
            .map(|status| shard(status, &seats))
            .collect();
        Self {
            majority,
            nodes,
            shards,
        }
    }
}

fn is_within_reach(shard: &ShardStatus, up: &BTreeSet<NodeId>) -> bool {
    let reached = shard.voters.iter().filter(|voter| up.contains(voter));
    let leader = shard.leader.is_some_and(|leader| up.contains(&leader));
    leader && reached.count() * 2 > shard.voters.len()
}

fn node(status: NodeStatus, shards: &[ShardStatus]) -> NodeReport {
    let led = |shard: &&ShardStatus| shard.leader.is_some() && shard.leader == status.node;
    NodeReport {
        seat: status.seat,
        leads: shards.iter().filter(led).count(),
        node: status.node.map(|node| node.to_string()),
        address: status.address,
        up: status.up,
        me: status.me,
    }
}

fn shard(status: ShardStatus, seats: &Seats) -> ShardReport {
    let voters = status.voters.iter().map(|node| seats.name(*node));
    let mut voters: Vec<String> = voters.collect();
    voters.sort();
    ShardReport {
        shard: status.shard.0,
        leader: status
            .leader
            .and_then(|leader| seats.0.get(&leader).copied()),
        term: status.term,
        last_log: status.last_log,
        committed: status.committed,
        applied: status.applied,
        lag: status.committed.saturating_sub(status.applied),
        voters,
        sessions: status.sessions,
        hibernated: status.hibernated,
        pending: status.pending,
        stalled: status.stalled.map(|stalled| stalled.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::ShardId;
    use cluster::status::{Cause, Stalled};

    #[test]
    fn nodes_are_named_by_their_seats_and_their_ids_in_full() {
        let id = NodeId(u64::MAX - 1);
        let gone = NodeId(7);
        let status = Status {
            nodes: vec![NodeStatus {
                seat: 2,
                node: Some(id),
                address: "h:1".to_owned(),
                up: true,
                me: true,
            }],
            shards: vec![ShardStatus {
                shard: ShardId(1),
                leader: Some(id),
                term: 3,
                last_log: 12,
                committed: 11,
                applied: 9,
                voters: vec![id, gone],
                sessions: 4,
                hibernated: 1,
                pending: 0,
                stalled: Some(Stalled {
                    shard: ShardId(1),
                    seconds: 5,
                    cause: Cause::Unanswered(2),
                }),
            }],
        };
        let report = ClusterReport::from(status);
        let (node, shard) = (&report.nodes[0], &report.shards[0]);
        assert_eq!(node.node.as_deref(), Some("fffffffffffffffe"));
        assert_eq!((node.leads, shard.leader, shard.lag), (1, Some(2), 2));
        let stalled = "shard 1 has committed nothing for 5 s: the node in seat 2, which leads it, does not answer";
        assert_eq!(shard.stalled.as_deref(), Some(stalled));
        assert_eq!(shard.voters, ["0000000000000007", "2"]);
        assert!(!report.majority, "one of two is none");
    }
}
