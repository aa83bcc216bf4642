//! A node: a disk, the process that runs on it, and what that process makes of what it sees. The decisions are those of
//! real nodes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::mutant::Mutant;
use super::replica::Replica;
use crate::NodeId;
use crate::config::Patience;
use crate::raft::known::{Known, Members};
use crate::raft::placement::{self, State, View};
use crate::raft::retirement::{Orders, Retirement};
use crate::raft::roll::{Present, Roll};
use crate::raft::seen::Seen;
use crate::raft::step::{Step, next_step};
use crate::raft::types::RaftId;
use crate::raft::zones::Zones;

/// After so many seconds others vote in place of a node that is away.
pub(super) const REPLACE_AFTER: u64 = 600;

/// What a node has seen when it looked around, and what should be done about it, shard by shard.
pub(super) struct Look {
    pub(super) present: Present,
    pub(super) states: BTreeMap<RaftId, State>,
    memberships: Vec<Members>,
    /// Whom each shard should retire.
    pub(super) orders: Orders,
    pub(super) targets: Vec<BTreeSet<RaftId>>,
}

pub(super) struct Node {
    pub(super) id: RaftId,
    pub(super) seat: u64,
    /// How many zones there are.
    zones: u64,
    pub(super) runs: bool,
    /// Its disk will not be seen again.
    pub(super) lost: bool,
    /// It is about to stop.
    pub(super) drains: bool,
    pub(super) address: String,
    /// The nodes that it is connected with.
    pub(super) up: Present,
    pub(super) roll: Roll,
    seen: Seen,
    retirement: Retirement,
    /// Incarnations that it knows to be replaced or removed. This is on the disk.
    pub(super) retired: BTreeSet<RaftId>,
    /// Peers that do not want to lead, as they have said.
    pub(super) draining: HashSet<NodeId>,
    /// Peers that are about to stop.
    pub(super) stopping: BTreeSet<RaftId>,
    known: Vec<Known>,
    pub(super) replicas: Vec<Replica>,
    pub(super) look: Option<Look>,
}

impl Node {
    /// A node with an empty disk.
    pub(super) fn new(id: RaftId, (seat, zones): (u64, u64), shards: usize) -> Self {
        let mut node = Self {
            id,
            seat,
            zones,
            runs: true,
            lost: false,
            drains: false,
            address: format!("node{seat}:1"),
            up: Present::new(),
            roll: Roll::default(),
            seen: Seen::default(),
            retirement: Retirement::default(),
            retired: BTreeSet::new(),
            draining: HashSet::new(),
            stopping: BTreeSet::new(),
            known: Vec::new(),
            replicas: (0..shards).map(|_| Replica::default()).collect(),
            look: None,
        };
        node.begin();
        node
    }

    /// A new process begins on its disk.
    pub(super) fn begin(&mut self) {
        self.runs = true;
        self.drains = false;
        self.roll = Roll::default();
        self.roll.set_patience(Patience {
            replace_after: Duration::from_secs(REPLACE_AFTER),
            expected_size: 0,
        });
        self.seen = Seen::default();
        self.retirement = Retirement::default();
        self.draining.clear();
        self.stopping.clear();
        self.known = vec![Known::default(); self.replicas.len()];
        self.replicas.iter_mut().for_each(Replica::restart);
        self.look = None;
    }

    pub(super) fn is_up(&self, node: RaftId) -> bool {
        node == self.id || self.up.values().any(|(there, _)| *there == node)
    }

    /// Hears from its own replica of a shard, and says what it knows of the group.
    pub(super) fn known(&mut self, shard: usize) -> &mut Known {
        let (replica, known) = (&self.replicas[shard], &mut self.known[shard]);
        let settled = replica.settled();
        let members = match settled.at > known.members.at {
            true => Members::clone(&settled),
            false => Members::default(),
        };
        known.see(replica.leadership(self.id), members);
        known
    }

    pub(super) fn leads(&mut self, shard: usize) -> bool {
        let id = NodeId(self.id);
        self.known(shard).leadership(id).mine
    }

    pub(super) fn voters(&mut self, shard: usize) -> BTreeMap<u64, NodeId> {
        let newest = self.replicas[shard].newest();
        let id = NodeId(self.id);
        let members = self.known(shard).counted(id, || Members::clone(&newest));
        let seat = |node: &RaftId| Some((members.nodes.get(node)?.seat, NodeId(*node)));
        members.voters().iter().filter_map(seat).collect()
    }

    pub(super) fn electorates(&mut self, shard: usize) -> Vec<BTreeSet<RaftId>> {
        let newest = self.replicas[shard].newest();
        let id = NodeId(self.id);
        self.known(shard)
            .electorates(id, || Members::clone(&newest))
    }

    fn observe(&mut self, shard: usize) -> Members {
        match self.leads(shard) {
            true => Members::clone(&self.replicas[shard].newest()),
            false => self.known[shard].members.clone(),
        }
    }

    /// Whether it is connected with the leader of a group.
    fn hears_of(&mut self, shard: usize) -> bool {
        let id = NodeId(self.id);
        let leader = self.known(shard).leadership(id).leader;
        leader.is_some_and(|leader| self.is_up(leader.0))
    }

    /// The nodes that are no longer members, as far as a group has heard of it and this node knows.
    pub(super) fn retired_in(&mut self, shard: usize) -> BTreeSet<NodeId> {
        let mut retired = self.known(shard).retired().clone();
        retired.extend(self.replicas[shard].retired());
        retired
    }

    /// The nodes that it knows to have had a seat.
    pub(super) fn had(&self, seat: u64) -> Vec<NodeId> {
        let seats = self.seen.seats().iter().filter(|(_, of)| **of == seat);
        seats.map(|(node, _)| NodeId(*node)).collect()
    }

    /// Looks around. Returns the incarnations that may not come back from now on.
    pub(super) fn look_around(&mut self, now: Instant, mutant: Mutant) -> Vec<RaftId> {
        let shards = 0..self.replicas.len();
        let retired: Vec<_> = shards.clone().map(|shard| self.retired_in(shard)).collect();
        let memberships: Vec<Members> = shards.map(|shard| self.observe(shard)).collect();
        let mut present = self.up.clone();
        present.insert(self.seat, (self.id, self.address.clone()));
        self.seen.meet(&present, &memberships);
        let mut stopping = self.stopping.clone();
        stopping.extend(self.drains.then_some(self.id));
        let mut decided = Retirement::decided(&retired);
        match mutant {
            Mutant::Heedless => decided.clear(),
            Mutant::RemovedReturns => decided.retain(|node| !self.retired.contains(node)),
            _ => {}
        }
        let seats = self.seen.seats();
        let states = self.roll.states(seats, &present, &stopping, &decided, now);
        let current = (0..self.replicas.len()).all(|shard| self.hears_of(shard));
        let gone = self.seen.forget(&states, &memberships, current);
        let orders = self
            .retirement
            .orders(gone, &present, &memberships, &retired);
        let refused = Retirement::refused(&memberships, &retired);
        let refused = refused.into_iter().map(|node| node.0);
        let refused: Vec<RaftId> = refused.filter(|node| *node != self.id).collect();
        self.retired.extend(&refused);
        let zones = self.seen.seats().iter();
        let zones = zones.map(|(node, seat)| (*node, zone(*seat, self.zones)));
        let view = View::of(&memberships, &mistake(&states, mutant), zones.collect());
        self.look = view.map(|view| Look {
            present,
            states,
            memberships,
            orders,
            targets: targets(&view, mutant),
        });
        refused
    }

    /// What is to be done next about a shard that this node leads, after it has looked around.
    pub(super) fn next_step(&mut self, shard: usize) -> Option<Step> {
        if !self.leads(shard) {
            return None;
        }
        let look = self.look.as_ref()?;
        let (now, target) = (&look.memberships[shard], &look.targets[shard]);
        next_step(now, target, &look.states, &look.present)
    }
}

/// The zone of a seat where there are so many of them.
pub(super) fn zone(seat: u64, zones: u64) -> String {
    match zones {
        0 => String::new(),
        _ => (seat % zones).to_string(),
    }
}

fn mistake(states: &BTreeMap<RaftId, State>, mutant: Mutant) -> BTreeMap<RaftId, State> {
    let taken = |state: State| match (mutant, state) {
        (Mutant::BothIncarnations, State::Gone) => State::Away,
        (Mutant::DrainedVotes, State::Draining) => State::Active,
        (Mutant::Patient, State::Overdue) => State::Away,
        _ => state,
    };
    let states = states.iter();
    states.map(|(node, state)| (*node, taken(*state))).collect()
}

fn targets(view: &View, mutant: Mutant) -> Vec<BTreeSet<RaftId>> {
    let apart = |voters: &BTreeSet<RaftId>| {
        let mut targets = placement::targets(&View {
            voters: vec![voters.clone()],
            nodes: view.nodes.clone(),
            zones: view.zones.clone(),
        });
        targets.remove(0)
    };
    match mutant {
        Mutant::Uneven => view.voters.iter().map(apart).collect(),
        Mutant::Zoneless => placement::targets(&View {
            zones: Zones::default(),
            ..view.clone()
        }),
        Mutant::Forgetful => placement::targets(&View {
            voters: vec![BTreeSet::new(); view.voters.len()],
            nodes: view.nodes.clone(),
            zones: view.zones.clone(),
        }),
        _ => placement::targets(view),
    }
}
