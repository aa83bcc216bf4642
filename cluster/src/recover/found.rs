//! What a stopped node is found to have, for an operator to judge.

use std::collections::{BTreeMap, BTreeSet};

use crate::raft::salvage::Remains;
use crate::raft::types::LogId;
use crate::session::{Forgotten, Totals};
use crate::{NodeId, ShardId};

/// The place of an entry in a log. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The term of the leader that made it.
    pub term: u64,
    /// Its number.
    pub index: u64,
}

impl From<LogId> for Place {
    fn from(id: LogId) -> Self {
        Self {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberFound {
    /// Its disk.
    pub node: NodeId,
    /// Its seat.
    pub seat: u64,
    /// Where it was.
    pub address: String,
}

/// What this node was in a group when it was last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It led.
    Leader,
    /// It voted.
    Voter,
    /// It only learned.
    Learner,
}

/// What this node has of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaFound {
    /// What it was in the group.
    pub role: Role,
    /// The term that it knew of last.
    pub term: u64,
    /// Those that voted, by their seats.
    pub voters: Vec<MemberFound>,
    /// The last entry.
    pub last: Place,
    /// When the last entry was made that has a time, in milliseconds since 1970, by the clock of its leader.
    pub at: u64,
    /// The last entry that was known to be committed.
    pub committed: Option<u64>,
    /// The last entry that a snapshot covers.
    pub snapshot: Option<u64>,
    /// How many entries at the end were not known to be committed.
    pub unconfirmed: u64,
    /// When the first of them was made that has a time.
    pub unconfirmed_since: Option<u64>,
    /// What the shard holds.
    pub totals: Totals,
}

/// A shard as this node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardFound {
    /// There is a replica.
    Replica(Box<ReplicaFound>),
    /// There is one that the group did not count on any more; it ends with this entry.
    Outdated(Place),
    /// There is none.
    Missing,
}

/// What a stopped node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The cluster, as it is written.
    pub cluster: String,
    /// This disk.
    pub node: NodeId,
    /// This seat.
    pub seat: u64,
    /// The shards.
    pub shards: BTreeMap<ShardId, ShardFound>,
    /// What shards have taken from others, and do not have any more.
    pub forgotten: Vec<Forgotten>,
}

/// What a node has of a shard, for an operator to judge.
pub(super) fn judge(me: NodeId, remains: Option<&Remains>) -> ShardFound {
    let Some(remains) = remains else {
        return ShardFound::Missing;
    };
    if !remains.members.contains(me) {
        return ShardFound::Outdated(remains.last.into());
    }
    let votes = remains
        .members
        .configs
        .iter()
        .any(|set| set.contains(&me.0));
    let led = remains
        .vote
        .is_some_and(|vote| vote.committed && vote.leader_id.node_id == me.0);
    let role = match (votes, led) {
        (false, _) => Role::Learner,
        (true, true) => Role::Leader,
        (true, false) => Role::Voter,
    };
    let voters: BTreeSet<u64> = remains.members.configs.iter().flatten().copied().collect();
    let member = |node: &u64| {
        let seat = remains.members.nodes.get(node).cloned().unwrap_or_default();
        MemberFound {
            node: NodeId(*node),
            seat: seat.seat,
            address: seat.address,
        }
    };
    let mut voters: Vec<_> = voters.iter().map(member).collect();
    voters.sort_by_key(|voter| voter.seat);
    let committed = remains.committed.map(|id| id.index);
    let behind = committed.map_or(0, |index| index + 1);
    ShardFound::Replica(Box::new(ReplicaFound {
        role,
        term: remains.vote.map_or(0, |vote| vote.leader_id.term),
        voters,
        last: remains.last.into(),
        at: remains.state.now(),
        committed,
        snapshot: remains.snapshot.map(|id| id.index),
        unconfirmed: (remains.last.index + 1).saturating_sub(behind),
        unconfirmed_since: remains.unconfirmed_since,
        totals: remains.state.totals(),
    }))
}
