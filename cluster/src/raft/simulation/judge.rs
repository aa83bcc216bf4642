//! What must be true of a change of members, and which losses the groups have to bear.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::replica::{What, is_quorum, votes};
use super::world::World;
use crate::raft::known::Members;
use crate::raft::placement::State;
use crate::raft::step::CAUGHT_UP;
use crate::raft::types::RaftId;

impl World {
    /// Judges a change that a leader is about to write down.
    pub(super) fn judge_change(
        &mut self,
        (id, shard): (RaftId, usize),
        now: &Members,
        next: &Members,
    ) -> Result<(), String> {
        let said = |what: String| format!("{what} (in shard {shard}, from {now:?} to {next:?})");
        if (self.records[shard].len() as u64) < now.at {
            return Err(said(
                "(M-5) a change begins while another is under way".into(),
            ));
        }
        for config in &next.configs {
            let seats = config.iter().map(|node| self.nodes[node].seat);
            if seats.collect::<BTreeSet<u64>>().len() < config.len() {
                return Err(said("(M-6) two incarnations of a seat vote".into()));
            }
        }
        let leader = &self.nodes[&id];
        let states = leader.look.as_ref().map(|look| &look.states);
        let is = |node: RaftId, state| states.is_some_and(|all| all.get(&node) == Some(&state));
        let (before, after) = (now.voters(), next.voters());
        let shrinks = after.len() < before.len();
        let mut lost = before.difference(&after).copied();
        if let Some(node) = lost.find(|node| shrinks && is(*node, State::Active)) {
            let what = format!("(M-4) {node} is there, and loses its vote to nobody");
            return Err(said(what));
        }
        let all: BTreeSet<RaftId> = next.configs.iter().flatten().copied().collect();
        for node in all.into_iter().filter(|node| !votes(now, *node)) {
            self.sums.promoted += 1;
            let log = &leader.replicas[shard];
            let has = log.common(&self.nodes[&node].replicas[shard]);
            if (log.log.len() - has) as u64 >= CAUGHT_UP {
                return Err(said(format!(
                    "(M-3) {node} is to vote and has {has} entries"
                )));
            }
            if is(node, State::Draining) {
                return Err(said(format!(
                    "(M-8) {node} is about to stop, and gets a vote"
                )));
            }
            if self.shut_out.contains(&node) {
                return Err(said(format!("(M-7) {node} was removed, and gets a vote")));
            }
        }
        Ok(())
    }

    /// The memberships that count, or may: the last one that was committed and what was written since.
    pub(super) fn in_force(&self, shard: usize) -> Vec<Rc<Members>> {
        let mut record = self.records[shard].iter().enumerate().rev();
        let committed = record.find_map(|(place, entry)| match &entry.what {
            What::Members(members) => Some((place, members.clone())),
            _ => None,
        });
        let (from, committed) = committed.map_or((0, None), |(at, now)| (at + 1, Some(now)));
        let intact = self.nodes.values().filter(|node| node.runs || !node.lost);
        let since = intact.flat_map(|node| node.replicas[shard].members_from(from));
        committed.into_iter().chain(since).collect()
    }

    /// Whether the groups can bear that a disk is lost: of all who vote, a majority is left.
    pub(super) fn may_lose(&self, id: RaftId) -> bool {
        let stays = |node: RaftId| node != id && !self.nodes[&node].lost;
        let mut all = (0..self.records.len()).flat_map(|shard| self.in_force(shard));
        all.all(|members| is_quorum(&members, stays))
    }

    /// Whether a majority of those who vote in a shard runs.
    pub(super) fn is_alive(&self, shard: usize) -> bool {
        let leader = self.leader(shard);
        let newest = leader.map(|id| self.nodes[&id].replicas[shard].newest());
        let committed = self.in_force(shard).into_iter().next();
        let mut all = committed.into_iter().chain(newest);
        all.all(|members| is_quorum(&members, |node| self.nodes[&node].runs))
    }
}
