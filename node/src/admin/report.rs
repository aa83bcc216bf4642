//! The cluster's state in the form that operators read.
//!
//! A node has two names: its seat, which its configuration gives it, and its id, which names its disk
//! and stands in the logs. Ids are texts: they use all 64 bits, which numbers in JSON cannot.
//!
//! The node that is asked tells what it sees. How far the replicas of a shard are only its leader knows, so that is
//! told by the leaders that can be reached.

use std::collections::{BTreeMap, BTreeSet};

use cluster::NodeId;
use cluster::status::{NodeStatus, ShardStatus, Status};
use serde::Serialize;

use super::warning::{self, Reach};

/// The state of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterReport {
    /// Whether the node that was asked reaches a leader and a majority of every shard.
    pub majority: bool,
    /// How many more members may be lost, whichever they are, without a shard losing its majority.
    pub can_lose: usize,
    /// What an operator should see to, worst first.
    pub warnings: Vec<String>,
    /// The newest version of the formats that all members read.
    pub format: u8,
    /// All nodes, by seat.
    pub nodes: Vec<NodeReport>,
    /// All shards, by number.
    pub shards: Vec<ShardReport>,
    /// Replicas that are on their way to other members.
    pub moves: Vec<MoveReport>,
}

/// One seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    /// Its number.
    pub seat: u64,
    /// How it is: active, draining, away, overdue or removed; unknown for one that was never met.
    pub state: Option<&'static str>,
    /// The id of the node that fills it, as far as known.
    pub node: Option<String>,
    /// The address.
    pub address: String,
    /// Whether it can be reached.
    pub up: bool,
    /// Whether it is the node that was asked.
    pub me: bool,
    /// Shards that it leads, as far as known.
    pub leads: usize,
    /// Shards that it votes in.
    pub votes: usize,
    /// The versions of the formats that it reads, if it was met.
    pub formats: Option<String>,
    /// The zone that it is in, if it was met and is in one.
    pub zone: Option<String>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardReport {
    /// Its number.
    pub shard: u16,
    /// The leader's seat, if the leader can be reached.
    pub leader: Option<u64>,
    /// The leader's term.
    pub term: u64,
    /// The last entry in the log of the node that was asked.
    pub last_log: u64,
    /// The last that is committed, as far as it knows.
    pub committed: u64,
    /// The last that it has applied.
    pub applied: u64,
    /// How many entries are committed and it has not applied yet.
    pub lag: u64,
    /// Seats that vote; a node that lost its seat is named by its id.
    pub voters: Vec<String>,
    /// How many of them the node that was asked reaches.
    pub reached: usize,
    /// Those that have a replica and do not vote.
    pub learners: Vec<String>,
    /// By node, how many entries it lacks of the leader's; unknown for one that has not answered. Empty if the leader
    /// does not tell.
    pub behind: BTreeMap<String, Option<u64>>,
    /// How long ago the last entry was made, in milliseconds.
    pub last_commit_ms: Option<u64>,
    /// Bytes of its last snapshot.
    pub snapshot_bytes: u64,
    /// Sessions in all.
    pub sessions: usize,
    /// Those without a connection.
    pub hibernated: usize,
    /// Effects that wait to be carried out.
    pub pending: usize,
    /// Why it commits nothing, if it is stalled.
    pub stalled: Option<String>,
}

/// A shard whose voters are not those that it should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MoveReport {
    /// Its number.
    pub shard: u16,
    /// Nodes that are to vote.
    pub joins: Vec<String>,
    /// Nodes that are to vote no more.
    pub leaves: Vec<String>,
    /// How many entries those that join lack; unknown if they have not begun.
    pub lacks: Option<u64>,
    /// How many entries there are.
    pub entries: u64,
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

    /// The same for some nodes, in the order of their names.
    fn names<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeId>) -> Vec<String> {
        let mut names: Vec<String> = nodes.into_iter().map(|node| self.name(*node)).collect();
        names.sort();
        names
    }
}

impl ClusterReport {
    /// What the node that was asked sees, and what leaders have told.
    pub fn new(status: Status, told: &[ShardStatus]) -> Self {
        let Status {
            format,
            nodes,
            shards,
        } = status;
        let shards: Vec<(ShardStatus, ShardStatus)> =
            shards.into_iter().map(|own| informed(own, told)).collect();
        let seats = Seats::of(&nodes);
        let up = nodes.iter().filter(|status| status.up);
        let up: BTreeSet<NodeId> = up.filter_map(|status| status.node).collect();
        let newest: Vec<&ShardStatus> = shards.iter().map(|(_, newest)| newest).collect();
        let reached: Vec<Reach> = newest.iter().map(|shard| Reach::of(shard, &up)).collect();
        Self {
            majority: reached.iter().all(Reach::is_well),
            can_lose: reached.iter().map(Reach::can_lose).min().unwrap_or(0),
            warnings: warning::all(&nodes, &newest, &reached, &seats),
            format: format.0,
            moves: newest
                .iter()
                .filter_map(|shard| moving(shard, &seats))
                .collect(),
            nodes: nodes
                .into_iter()
                .map(|status| node(status, &newest))
                .collect(),
            shards: shards
                .iter()
                .zip(&reached)
                .map(|((own, newest), reach)| shard(own, newest, reach, &seats))
                .collect(),
        }
    }
}

/// A shard as the node that was asked sees it, and as its leader does if that is known.
fn informed(own: ShardStatus, told: &[ShardStatus]) -> (ShardStatus, ShardStatus) {
    let leaders = told.iter().filter(|led| led.shard == own.shard);
    let leaders = leaders.chain([&own].into_iter().filter(|own| own.mine));
    // One that was replaced may not have heard of it yet.
    let newest = leaders
        .filter(|led| led.term >= own.term)
        .max_by_key(|led| led.term);
    let mut newest = newest.unwrap_or(&own).clone();
    newest.stalled = own.stalled.or(newest.stalled);
    (own, newest)
}

fn node(status: NodeStatus, shards: &[&ShardStatus]) -> NodeReport {
    let led = |shard: &&&ShardStatus| shard.leader.is_some() && shard.leader == status.node;
    let votes =
        |shard: &&&ShardStatus| status.node.is_some_and(|node| shard.voters.contains(&node));
    NodeReport {
        seat: status.seat,
        state: status.state.map(|state| state.name()),
        leads: shards.iter().filter(led).count(),
        votes: shards.iter().filter(votes).count(),
        node: status.node.map(|node| node.to_string()),
        address: status.address,
        up: status.up,
        me: status.me,
        formats: status.formats.map(|formats| formats.to_string()),
        zone: status.zone,
    }
}

fn shard(own: &ShardStatus, newest: &ShardStatus, reach: &Reach, seats: &Seats) -> ShardReport {
    let behind = newest.replicas.iter();
    let behind = behind.map(|replica| (seats.name(replica.node), replica.lag));
    let leader = newest.leader.filter(|_| reach.leader);
    ShardReport {
        shard: own.shard.0,
        leader: leader.and_then(|leader| seats.0.get(&leader).copied()),
        term: newest.term,
        last_log: own.last_log,
        committed: own.committed,
        applied: own.applied,
        lag: own.committed.saturating_sub(own.applied),
        voters: seats.names(&newest.voters),
        reached: reach.voters,
        learners: seats.names(&newest.learners),
        behind: behind.collect(),
        last_commit_ms: newest.last_commit,
        snapshot_bytes: newest.snapshot_bytes,
        sessions: newest.sessions,
        hibernated: newest.hibernated,
        pending: newest.pending,
        stalled: newest.stalled.map(|stalled| stalled.to_string()),
    }
}

/// How the voters of a shard are to change, if they are.
fn moving(shard: &ShardStatus, seats: &Seats) -> Option<MoveReport> {
    let voters: BTreeSet<NodeId> = shard.voters.iter().copied().collect();
    let target: BTreeSet<NodeId> = shard.target.iter().copied().collect();
    if target.is_empty() || target == voters {
        return None;
    }
    let lag = |node: &NodeId| {
        let replica = shard.replicas.iter().find(|replica| replica.node == *node);
        replica.and_then(|replica| replica.lag)
    };
    let joins: Vec<NodeId> = target.difference(&voters).copied().collect();
    let lags: Option<Vec<u64>> = joins.iter().map(lag).collect();
    Some(MoveReport {
        shard: shard.shard.0,
        lacks: lags.map(|lags| lags.into_iter().max().unwrap_or(0)),
        joins: seats.names(&joins),
        leaves: seats.names(voters.difference(&target)),
        entries: shard.last_log,
    })
}

#[cfg(test)]
mod tests;
