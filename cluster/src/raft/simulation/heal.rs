//! The rest after the faults: links hold, nobody dies, and every group comes to what it should be, and stays there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::node::REPLACE_AFTER;
use super::replica::is_quorum;
use super::world::{SHARDS, World};
use crate::NodeId;
use crate::raft::placement::VOTERS;
use crate::raft::types::RaftId;

/// In so many rounds all must be in order.
const ROUNDS: usize = 60;
/// After so many rounds without a step nothing will happen any more.
const STILL: usize = 4;

impl World {
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.calm();
        let seats = self.running().into_iter().map(|id| self.nodes[&id].seat);
        if seats.collect::<BTreeSet<u64>>().len() < self.running().len() {
            // Two disks of one seat, and the groups can do without neither: an operator has to choose.
            self.sums.undecided += 1;
            return Ok(());
        }
        for _ in 0..6 {
            self.round(false)?;
        }
        // Whoever is away by now will not come back.
        self.now += REPLACE_AFTER + 100;
        self.round(false)?;
        let (bound, before) = (self.fewest_moves(), self.sums.promoted);
        let mut still = 0;
        for _ in 0..ROUNDS {
            if self.sums.undecided > 0 {
                return Ok(());
            }
            still = match self.round(true)? {
                0 => still + 1,
                _ => 0,
            };
            if still == STILL {
                let moves = (self.sums.promoted - before) as usize;
                return self.judge_end(moves, bound);
            }
            self.now += 1;
        }
        let memberships: Vec<_> = (0..SHARDS).map(|shard| self.in_force(shard)).collect();
        Err(format!(
            "(M-4) {ROUNDS} rounds are not enough: {memberships:?}"
        ))
    }

    /// The faults end. Who was stopped is started again, or is never seen again.
    fn calm(&mut self) {
        self.cut.clear();
        // Of two in the same seat one has to go.
        for id in self.running() {
            if self.in_seat(self.nodes[&id].seat).len() > 1 && self.may_lose(id) {
                self.end(id);
                self.node(id).lost = true;
            }
        }
        let intact = self.nodes.values().filter(|node| !node.lost);
        for id in intact.map(|node| node.id).collect::<Vec<_>>() {
            if self.dice.chance(60) {
                self.node(id).drains = false;
            }
            if self.nodes[&id].runs {
                continue;
            }
            let filled = !self.in_seat(self.nodes[&id].seat).is_empty();
            match self.may_lose(id) && (filled || self.dice.chance(40)) {
                true => self.node(id).lost = true,
                false => self.begin(id),
            }
        }
    }

    /// Everybody does all that is to be done. Returns how many steps were taken.
    pub(super) fn round(&mut self, acts: bool) -> Result<usize, String> {
        let all = self.running();
        for from in &all {
            for to in &all {
                self.dial(*from, *to);
            }
        }
        for shard in 0..SHARDS {
            self.settle(shard)?;
        }
        let all = self.running();
        all.iter().for_each(|id| self.talk(*id));
        let mut taken = 0;
        for id in all {
            if self.nodes[&id].drains {
                self.give_away(id)?;
            }
            match acts {
                true => taken += self.work(id)?,
                false => self.look(id),
            }
        }
        Ok(taken)
    }

    /// A group gets a leader if it can, and everybody in it gets what the leader has.
    pub(super) fn settle(&mut self, shard: usize) -> Result<(), String> {
        let mut all = self.running();
        all.sort_by_key(|id| Reverse(self.nodes[id].replicas[shard].tail()));
        for id in all.repeat(2) {
            let leader = self.leader(shard);
            if leader.is_some_and(|leader| self.is_followed(leader, shard)) {
                break;
            }
            self.elect(id, shard, 0)?;
        }
        let Some(id) = self.leader(shard) else {
            return Ok(());
        };
        for _ in 0..3 {
            let members = self.nodes[&id].replicas[shard].newest();
            for to in members.nodes.keys() {
                self.catch_up((id, *to), shard)?;
            }
        }
        Ok(())
    }

    /// A member gets all that it lacks, and hears what is committed.
    fn catch_up(&mut self, (id, to): (RaftId, RaftId), shard: usize) -> Result<(), String> {
        let missing = |world: &Self| {
            let [ours, theirs] = [id, to].map(|id| &world.nodes[&id].replicas[shard]);
            ours.log.len() - ours.common(theirs)
        };
        let mut before = usize::MAX;
        while missing(self) < before {
            before = missing(self);
            self.replicate((id, to), shard, 0)?;
        }
        Ok(())
    }

    fn is_followed(&self, id: RaftId, shard: usize) -> bool {
        let replica = &self.nodes[&id].replicas[shard];
        let may_follow = |node: RaftId| {
            self.is_linked(id, node) && self.nodes[&node].replicas[shard].term <= replica.term
        };
        is_quorum(&replica.newest(), may_follow)
    }

    /// Whether it is decided, or may be, that a node is no longer a member.
    pub(super) fn is_given_up(&self, id: RaftId) -> bool {
        let mut replicas = self.nodes.values().flat_map(|node| &node.replicas);
        replicas.any(|replica| replica.names(NodeId(id)))
    }

    /// How many votes have to move, if nobody is about to stop and there are enough nodes: one for each that is
    /// missing, and those of which a node has more than its share.
    fn fewest_moves(&self) -> Option<usize> {
        let running = self.running();
        let leaves = |id: &RaftId| self.nodes[id].drains || self.is_given_up(*id);
        if running.len() < VOTERS || running.iter().any(leaves) {
            return None;
        }
        let mut loads: BTreeMap<RaftId, usize> = BTreeMap::new();
        for shard in 0..SHARDS {
            let now = self.nodes[&self.leader(shard)?].replicas[shard].newest();
            for node in now.voters().into_iter().filter(|id| running.contains(id)) {
                *loads.entry(node).or_insert(0) += 1;
            }
        }
        let missing = SHARDS * VOTERS - loads.values().sum::<usize>();
        let share = SHARDS * VOTERS / running.len();
        let excess = loads.values().map(|load| load.saturating_sub(share));
        Some(missing + excess.sum::<usize>())
    }
}
