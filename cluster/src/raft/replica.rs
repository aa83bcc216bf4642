//! A shard as this node takes part in it: its replica, and what is known of the group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;

use super::known::{Known, Leadership, Members, Told};
use super::log::GroupLog;
use super::machine::Machine;
use super::types::{LogId, Metrics, Raft, RaftId, StoredMembership};
use crate::metrics::Metrics as Counters;
use crate::{NodeId, ShardId};

/// One shard as this node takes part in it: with a replica if it is a member of the shard's Raft group. Otherwise the
/// replica is empty, or an old one to which nothing is added any more.
pub struct ShardReplica {
    /// The shard.
    pub shard: ShardId,
    me: NodeId,
    /// The group, as openraft runs it.
    pub raft: Raft,
    /// Its state machine.
    pub machine: Machine,
    /// Where it is counted what this replica does.
    pub counters: Counters,
    log: GroupLog,
    known: watch::Sender<Known>,
    committed: AtomicU64,
    leadership: watch::Sender<Leadership>,
}

impl ShardReplica {
    /// Nothing is known of the group yet.
    pub fn new(
        (me, shard): (NodeId, ShardId),
        (raft, machine): (Raft, Machine),
        log: GroupLog,
        counters: Counters,
    ) -> Self {
        Self {
            shard,
            me,
            raft,
            machine,
            counters,
            log,
            known: watch::Sender::default(),
            committed: AtomicU64::new(0),
            leadership: watch::Sender::default(),
        }
    }

    /// Whether the replica has neither voted nor stored anything: the cluster is not founded yet, or this disk is new.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// Who leads at the moment.
    pub fn leadership(&self) -> Leadership {
        *self.leadership.borrow()
    }

    /// Who leads, and its changes.
    pub fn watch_leader(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// What openraft tells of the group, now.
    pub fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// The last entry that this node was given, by which it judges candidates. It may still be on its way to the disk.
    pub fn last(&self) -> Option<LogId> {
        self.log.last()
    }

    /// The members, as far as they are known here.
    pub fn members(&self) -> Members {
        self.known.borrow().members.clone()
    }

    /// What is known of the group, and its changes.
    pub fn watch_known(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// Whether this node has a replica, or is about to get one.
    pub fn is_member(&self) -> bool {
        self.known.borrow().members.contains(self.me)
    }

    /// Voters of the newest membership, by seat.
    pub fn voters(&self) -> BTreeMap<u64, NodeId> {
        let known = self.known.borrow();
        let members = known.counted(self.me, || self.newest());
        let seat = |node: &u64| Some((members.nodes.get(node)?.seat, NodeId(*node)));
        members.voters().iter().filter_map(seat).collect()
    }

    /// The nodes that are no longer members, as far as this group has heard of it and this node knows. An old copy of
    /// its state is as right as any: what it says here stays true.
    pub fn retired(&self) -> BTreeSet<NodeId> {
        let mut retired = self.known.borrow().retired().clone();
        retired.extend(self.applied_retired());
        retired
    }

    fn applied_retired(&self) -> BTreeSet<NodeId> {
        let replica = self.machine.replica();
        // A poisoned lock means that `apply` has panicked, which ends the process by itself.
        let replica = replica.lock().unwrap_or_else(PoisonError::into_inner);
        replica.state.retired()
    }

    /// Whether this node is the only member of the group.
    pub fn is_alone(&self) -> bool {
        let known = self.known.borrow();
        known.counted(self.me, || self.newest()).nodes.len() == 1
    }

    /// The sets of voters that count, or may: those of the newest membership, and of the one that it follows.
    pub fn electorates(&self) -> Vec<BTreeSet<RaftId>> {
        let known = self.known.borrow();
        known.electorates(self.me, || self.newest())
    }

    /// The newest membership in the log of this node, committed or not.
    pub fn newest(&self) -> Members {
        let metrics = self.raft.server_metrics();
        members(&metrics.borrow_watched().membership_config)
    }

    /// What this node has to tell everybody if it leads.
    pub fn tell(&self) -> Option<Told> {
        let Leadership { leader, mine, term } = self.leadership();
        if !mine {
            return None;
        }
        // Before the members: of a node that is said to have left, nobody may find that it was a member only then.
        let retired = self.applied_retired();
        let metrics = self.metrics();
        Some(Told {
            leader,
            term,
            committed: metrics.cluster_committed.map_or(0, |id| id.index),
            members: members(&metrics.committed_membership_config),
            retired,
        })
    }

    /// The last committed entry, as leaders on other nodes have said.
    pub fn told_committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Notes what a leader has said.
    pub fn hear(&self, told: Told) {
        self.committed.fetch_max(told.committed, Ordering::Relaxed);
        self.learn(|known| known.hear(told));
    }

    /// Nobody leads any more: the replica has stopped.
    pub fn stopped(&self) {
        self.leadership.send_replace(Leadership::default());
    }

    /// Notes what the replica itself says.
    pub fn see(&self, leadership: Leadership, members: Members) {
        self.learn(|known| known.see(leadership, members));
    }

    fn learn(&self, change: impl FnOnce(&mut Known)) {
        self.known.send_if_modified(|known| {
            let before = known.clone();
            change(known);
            // A replica that is left behind does not know it, and would call for elections for ever.
            self.raft
                .runtime_config()
                .elect(known.may_campaign(self.me));
            // This happens while `known` is locked: of two who learn something at the same time, the one that has seen
            // less must not have the last word.
            let leadership = known.leadership(self.me);
            self.leadership.send_if_modified(|last| {
                let changed = *last != leadership;
                *last = leadership;
                changed
            });
            *known != before
        });
    }
}

/// The members according to a log.
pub fn members(stored: &StoredMembership) -> Members {
    let membership = stored.membership();
    let nodes = membership.nodes();
    Members {
        at: stored.log_id().map_or(0, |id| id.index + 1),
        configs: membership.get_joint_config().clone(),
        nodes: nodes.map(|(node, seat)| (*node, seat.clone())).collect(),
    }
}
