//! What must be true in the end.

use std::collections::{BTreeMap, BTreeSet};

use super::node::zone;
use super::replica::{Replica, votes};
use super::world::{SHARDS, World};
use crate::raft::placement::VOTERS;
use crate::raft::types::RaftId;
use crate::raft::zones::Zones;

impl World {
    pub(super) fn judge_end(&mut self, moves: usize, bound: Option<usize>) -> Result<(), String> {
        let running: BTreeSet<RaftId> = self.running().into_iter().collect();
        let leaves = |id: &RaftId| self.nodes[id].drains || self.is_given_up(*id);
        let active = running.iter().copied().filter(|id| !leaves(id));
        let active: BTreeSet<RaftId> = active.collect();
        let mut loads: BTreeMap<RaftId, usize> = active.iter().map(|id| (*id, 0)).collect();
        self.judge_refused(&running, &active)?;
        for shard in 0..SHARDS {
            let Some(id) = self.leader(shard) else {
                return Err(format!("(M-4) nobody leads shard {shard}"));
            };
            self.write(id, shard, 1)?;
            self.settle(shard)?;
            self.settle(shard)?;
            self.judge_shard((id, shard), &running, &active)
                .map_err(|what| {
                    let now = self.nodes[&id].replicas[shard].newest();
                    format!("{what} in shard {shard}, where {active:?} of {running:?} are there: {now:?}")
                })?;
            for node in self.nodes[&id].replicas[shard].newest().voters() {
                *loads.entry(node).or_insert(0) += 1;
            }
        }
        let (most, least) = (
            loads.values().max(),
            active.iter().map(|id| loads[id]).min(),
        );
        // Zones come first.
        let even = self.zones == 0 && active.len() >= VOTERS;
        if even && most.copied() > least.map(|least| least + 1) {
            return Err(format!("(M-10) the votes are not shared out: {loads:?}"));
        }
        // Two leaders that decide at the same time may each miss what the other one does.
        match bound.filter(|bound| moves > bound + 1) {
            Some(bound) => Err(format!(
                "(M-11) {moves} votes moved where {bound} were enough"
            )),
            None => Ok(()),
        }
    }

    /// Nobody is there who is no longer a member, unless too few others are: they could not do without its vote.
    fn judge_refused(
        &self,
        running: &BTreeSet<RaftId>,
        active: &BTreeSet<RaftId>,
    ) -> Result<(), String> {
        if active.len() < VOTERS {
            return Ok(());
        }
        for id in running {
            let node = &self.nodes[id];
            let retired = node.replicas.iter().flat_map(Replica::retired);
            let mut retired = retired
                .map(|node| node.0)
                .chain(node.retired.iter().copied());
            if let Some(gone) = retired.find(|gone| running.contains(gone)) {
                return Err(format!(
                    "(M-13) {id} knows that {gone} is retired, and it is there, as are {active:?} of {running:?}"
                ));
            }
        }
        Ok(())
    }

    fn judge_shard(
        &self,
        (id, shard): (RaftId, usize),
        running: &BTreeSet<RaftId>,
        active: &BTreeSet<RaftId>,
    ) -> Result<(), String> {
        let replica = &self.nodes[&id].replicas[shard];
        let (now, record) = (replica.newest(), &self.records[shard]);
        let voters = now.voters();
        let there = voters.intersection(active).count();
        if replica.log != *record {
            return Err("(M-4) not all is committed".into());
        }
        if now.configs.len() != 1 || voters.is_empty() {
            return Err("(M-4) the voters still change".into());
        }
        if voters.intersection(running).count() * 2 <= voters.len() {
            return Err("(M-4) too few vote".into());
        }
        if active.len() >= VOTERS {
            if voters.len() != VOTERS || !voters.is_subset(running) || there * 2 <= VOTERS {
                return Err("(M-4) three that are there should vote".into());
            }
            let zone = |id: &RaftId| (*id, zone(self.nodes[id].seat, self.zones));
            let zones: Zones = self.nodes.keys().map(zone).collect();
            let most = active.len() - zones.crowding(active);
            if VOTERS - zones.crowding(&voters) < most.min(VOTERS) {
                return Err("(M-12) voters share a zone without need".into());
            }
            if now.nodes.len() != VOTERS {
                return Err("(M-4) others should have no replica".into());
            }
        }
        let mut members = now.nodes.keys().filter(|node| running.contains(node));
        if let Some(node) = members.find(|node| self.nodes[node].replicas[shard].log != *record) {
            return Err(format!("(M-4) {node} is behind"));
        }
        if self.nodes[&id].drains && there > 0 {
            return Err(format!("(M-8) {id} is about to stop and leads"));
        }
        match self.shut_out.iter().find(|node| votes(&now, **node)) {
            Some(node) => Err(format!("(M-7) {node} was removed and votes")),
            None => Ok(()),
        }
    }
}
