//! What an operator sees of the cluster, from one node.

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::format::{Version, Versions};
use crate::peers::Peers;
use crate::propose::ShardGroup;
use crate::propose::group::RaftGroup;
pub use crate::propose::stall::{Cause, Stalled};
use crate::raft::known::Leadership;
pub use crate::raft::placement::State as MemberState;
use crate::room::Shortage;
use crate::subscribe::source::Source;
use crate::{NodeId, ShardId};

/// How many entries a replica may be behind and still count as up to date.
const LAG: u64 = 256;

/// The cluster as one node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The newest version of the formats that all members read, as far as this node has met them.
    pub format: Version,
    /// Every seat.
    pub nodes: Vec<NodeStatus>,
    /// Every shard.
    pub shards: Vec<ShardStatus>,
}

/// One seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number in the configuration.
    pub seat: u64,
    /// The node that fills it, as far as it is known.
    pub node: Option<NodeId>,
    /// The address.
    pub address: String,
    /// Whether it is this node, or connected with it.
    pub up: bool,
    /// Whether it is this node.
    pub me: bool,
    /// How it is; unknown for a seat whose node was never met.
    pub state: Option<MemberState>,
    /// The versions of the formats that it reads, if it was met.
    pub formats: Option<Versions>,
    /// The zone that it is in, if it was met and is in one.
    pub zone: Option<String>,
}

/// A replica on another node, as the leader of its shard knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// The node.
    pub node: NodeId,
    /// How many entries of the leader's log it does not have; unknown as long as it has not answered.
    pub lag: Option<u64>,
}

/// One shard, as the replica on this node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its number.
    pub shard: ShardId,
    /// Who leads it.
    pub leader: Option<NodeId>,
    /// The leader's term.
    pub term: u64,
    /// The last entry in the log.
    pub last_log: u64,
    /// The last one that is committed, as far as known.
    pub committed: u64,
    /// The last one that is applied.
    pub applied: u64,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who has a replica and does not vote.
    pub learners: Vec<NodeId>,
    /// Who should vote; empty if this node does not know.
    pub target: Vec<NodeId>,
    /// Whether this node leads it.
    pub mine: bool,
    /// All other replicas, if this node leads it.
    pub replicas: Vec<ReplicaStatus>,
    /// How old the last entry is that was applied here, in milliseconds by the clocks of the leader and of this node.
    pub last_commit: Option<u64>,
    /// Bytes of its last snapshot.
    pub snapshot_bytes: u64,
    /// Sessions in all.
    pub sessions: usize,
    /// Those without a connection.
    pub hibernated: usize,
    /// Effects that wait to be carried out.
    pub pending: usize,
    /// Set while it commits nothing although something waits.
    pub stalled: Option<Stalled>,
}

/// Why clients should not be sent to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It has not taken part in the cluster yet.
    #[error("the node is starting")]
    Starting,
    /// It hands its leaderships over, because it is about to stop.
    #[error("the node is about to stop")]
    Draining,
    /// It lacks disk space or file descriptors.
    #[error("{0}")]
    Short(#[from] Shortage),
    /// A shard has no leader that can be reached.
    #[error("shard {0} has no leader")]
    NoLeader(ShardId),
    /// Too few voters can be reached to commit anything.
    #[error("fewer than half of the voters of shard {0} can be reached")]
    NoQuorum(ShardId),
    /// This node has no replica of a shard, and reaches no other that it hears of the shard from.
    #[error("no replica of shard {0} can be reached")]
    NoSource(ShardId),
    /// A shard commits nothing.
    #[error("{0}")]
    Stalled(Stalled),
    /// The replica of a shard has not applied what is committed.
    #[error("shard {shard} is {entries} entries behind")]
    Behind {
        /// The shard.
        shard: ShardId,
        /// How many entries are missing.
        entries: u64,
    },
}

impl NotReady {
    /// The shard that it is about; none if it is about the node.
    pub fn shard(&self) -> Option<ShardId> {
        match self {
            Self::Starting | Self::Draining | Self::Short(_) => None,
            Self::NoLeader(shard)
            | Self::NoQuorum(shard)
            | Self::NoSource(shard)
            | Self::Behind { shard, .. } => Some(*shard),
            Self::Stalled(stalled) => Some(stalled.shard),
        }
    }
}

/// A shard's part of the [`Status`].
pub fn shard(group: &RaftGroup) -> ShardStatus {
    let metrics = group.replica().metrics();
    let Leadership { leader, mine, term } = group.replica().leadership();
    let ((sessions, hibernated), pending, at) =
        group.read(|state| (state.counts(), state.pending_count(), state.now()));
    let last_log = metrics.last_log_index.unwrap_or(0);
    let members = group.replica().members();
    let known = metrics.replication.as_ref().filter(|_| mine);
    let others = known.into_iter().flatten();
    let others = others.filter(|(node, _)| **node != metrics.id);
    let replicas = others.map(|(node, has)| ReplicaStatus {
        node: NodeId(*node),
        lag: has.map(|has| last_log.saturating_sub(has.index)),
    });
    let here = group.source() == Source::Here;
    ShardStatus {
        shard: group.shard(),
        leader,
        term,
        last_log,
        committed: match here {
            true => metrics.cluster_committed.map_or(0, |id| id.index),
            // A replica that this node does not serve clients from cannot hold them up.
            false => 0,
        },
        applied: group.applied_index(),
        voters: group.replica().voters().into_values().collect(),
        learners: members.learners().map(NodeId).collect(),
        target: Vec::new(),
        mine,
        replicas: replicas.collect(),
        last_commit: (at > 0).then(|| clock::wall().saturating_sub(at)),
        snapshot_bytes: group.replica().machine.snapshot_bytes(),
        sessions,
        hibernated,
        pending,
        stalled: group.stalled(),
    }
}

/// Whether a majority of the shard's voters and its leader can be reached. Pure.
pub fn reach(
    shard: ShardId,
    leader: Option<NodeId>,
    voters: &[NodeId],
    me: NodeId,
    peers: &Peers,
) -> Result<(), NotReady> {
    let up = |node: &NodeId| *node == me || peers.up.contains_key(node);
    let reached = voters.iter().filter(|node| up(node)).count();
    if reached * 2 <= voters.len() {
        return Err(NotReady::NoQuorum(shard));
    }
    match leader.as_ref().is_some_and(up) {
        true => Ok(()),
        false => Err(NotReady::NoLeader(shard)),
    }
}

/// Whether this node hears what a shard says to its connections. Pure.
pub(crate) fn has_source(shard: ShardId, source: Source, peers: &Peers) -> Result<(), NotReady> {
    match source {
        Source::Here => Ok(()),
        Source::At(node) if peers.up.contains_key(&node) => Ok(()),
        Source::At(_) | Source::None => Err(NotReady::NoSource(shard)),
    }
}

/// Whether clients can be served from this node, as far as this shard is concerned. Pure.
pub fn check(shard: &ShardStatus, me: NodeId, peers: &Peers) -> Result<(), NotReady> {
    reach(shard.shard, shard.leader, &shard.voters, me, peers)?;
    if let Some(stalled) = shard.stalled {
        return Err(NotReady::Stalled(stalled));
    }
    match shard.committed.saturating_sub(shard.applied) {
        entries if entries > LAG => Err(NotReady::Behind {
            shard: shard.shard,
            entries,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BootId;

    /// Three voters, led by `leader`; this is node 1, and `up` are connected.
    #[track_caller]
    fn check_status(leader: Option<u64>, up: &[u64], applied: u64, expect: Result<(), NotReady>) {
        check_all(leader, up, (applied, None), expect);
    }

    #[track_caller]
    fn check_stalled(stalled: Stalled, leader: Option<u64>, up: &[u64], expect: NotReady) {
        check_all(leader, up, (1000, Some(stalled)), Err(expect));
    }

    #[track_caller]
    fn check_all(
        leader: Option<u64>,
        up: &[u64],
        (applied, stalled): (u64, Option<Stalled>),
        expect: Result<(), NotReady>,
    ) {
        let shard = ShardStatus {
            shard: ShardId(0),
            leader: leader.map(NodeId),
            term: 1,
            last_log: 1000,
            committed: 1000,
            applied,
            voters: (1..=3).map(NodeId).collect(),
            learners: Vec::new(),
            target: Vec::new(),
            mine: false,
            replicas: Vec::new(),
            last_commit: None,
            snapshot_bytes: 0,
            sessions: 0,
            hibernated: 0,
            pending: 0,
            stalled,
        };
        let up = up.iter().map(|node| (NodeId(*node), BootId(1))).collect();
        let peers = Peers {
            up,
            expected: 2,
            ..Peers::default()
        };
        assert_eq!(check(&shard, NodeId(1), &peers), expect);
    }

    #[test]
    fn a_node_is_ready_with_a_quorum_a_leader_and_a_fresh_state() {
        let shard = ShardId(0);
        check_status(Some(2), &[2], 1000, Ok(()));
        check_status(Some(1), &[3], 1000, Ok(()));
        check_status(Some(1), &[], 1000, Err(NotReady::NoQuorum(shard)));
        check_status(Some(2), &[3], 1000, Err(NotReady::NoLeader(shard)));
        check_status(None, &[2, 3], 1000, Err(NotReady::NoLeader(shard)));
        let stalled = Stalled {
            shard,
            seconds: 3,
            cause: Cause::Unconfirmed(1001),
        };
        check_stalled(stalled, Some(1), &[2, 3], NotReady::Stalled(stalled));
        check_stalled(stalled, None, &[2, 3], NotReady::NoLeader(shard));
        check_status(
            Some(2),
            &[2],
            500,
            Err(NotReady::Behind {
                shard,
                entries: 500,
            }),
        );
    }
}
