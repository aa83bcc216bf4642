//! What the replicas of a group do together: elect, replicate, commit, and change who they are.

use std::collections::BTreeSet;
use std::rc::Rc;

use openraft::ChangeMembers;

use super::mutant::Mutant;
use super::replica::{Entry, Lead, What, changed, is_quorum, votes};
use super::world::World;
use crate::NodeId;
use crate::raft::known::{Members, Told};
use crate::raft::types::{RaftId, Seat};

/// How many entries are sent at once.
const SENT: usize = 64;

impl World {
    /// A node campaigns for a shard. Requests and answers may get lost.
    pub(super) fn elect(&mut self, id: RaftId, shard: usize, loss: usize) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.runs) else {
            return Ok(());
        };
        let may = node.known(shard).may_campaign(NodeId(id));
        let replica = &mut node.replicas[shard];
        let (newest, settled) = (replica.newest(), replica.settled());
        let is_voter = votes(&newest, id) || votes(&settled, id);
        if !may || !is_voter || replica.lead.is_some() {
            return Ok(());
        }
        let tail = replica.tail();
        // It asks first whether it would win. Only who hands leadership over has others campaign without that.
        let grants = |voter: RaftId| {
            self.is_linked(id, voter) && tail >= self.nodes[&voter].replicas[shard].tail()
        };
        if !is_quorum(&newest, grants) && (loss == 0 || self.dice.chance(80)) {
            return Ok(());
        }
        let replica = &mut self.node(id).replicas[shard];
        replica.enter(replica.term + 1);
        replica.voted = Some(id);
        let (term, tail) = (replica.term, replica.tail());
        let (mut granted, mut heard) = (BTreeSet::from([id]), term);
        let others: BTreeSet<RaftId> = newest.configs.iter().flatten().copied().collect();
        for voter in others {
            if voter == id || !self.is_linked(id, voter) || self.dice.chance(loss) {
                continue;
            }
            let other = &mut self.node(voter).replicas[shard];
            heard = heard.max(other.term);
            let fresh = term > other.term || (term == other.term && other.voted.is_none());
            if fresh && tail >= other.tail() {
                other.enter(term);
                other.voted = Some(id);
                if !self.dice.chance(loss) {
                    granted.insert(voter);
                }
            }
        }
        self.node(id).replicas[shard].enter(heard);
        match heard == term && is_quorum(&newest, |node| granted.contains(&node)) {
            true => self.begin_to_lead(id, shard),
            false => Ok(()),
        }
    }

    fn begin_to_lead(&mut self, id: RaftId, shard: usize) -> Result<(), String> {
        self.sums.elections += 1;
        let replica = &mut self.nodes.get_mut(&id).expect("campaigns").replicas[shard];
        replica.push(replica.term, What::Term);
        let has = [(id, replica.log.len())].into();
        replica.lead = Some(Lead { has, half: None });
        let record = &self.records[shard];
        let lacks = |place: &usize| replica.log.get(*place) != Some(&record[*place]);
        match (0..record.len()).rev().find(lacks) {
            Some(place) => Err(format!(
                "(M-1) {id} leads shard {shard} without entry {place}, which is committed"
            )),
            None => self.advance(id, shard),
        }
    }

    /// A leader sends a member what it lacks. The answer may get lost.
    pub(super) fn replicate(
        &mut self,
        (id, to): (RaftId, RaftId),
        shard: usize,
        loss: usize,
    ) -> Result<(), String> {
        let leader = &self.nodes[&id].replicas[shard];
        let member = id != to && leader.newest().nodes.contains_key(&to);
        if leader.lead.is_none() || !member || !self.is_linked(id, to) {
            return Ok(());
        }
        let (term, committed) = (leader.term, leader.committed);
        let other = &self.nodes[&to].replicas[shard];
        if other.term > term {
            let term = other.term;
            self.node(id).replicas[shard].enter(term);
            return Ok(());
        }
        let start = leader.common(other);
        let end = leader.log.len().min(start + SENT);
        let entries: Vec<Entry> = leader.log[start..end].to_vec();
        let other = &mut self.node(to).replicas[shard];
        other.enter(term);
        other.leader = Some(id);
        other.accept(start, &entries)?;
        other.committed = other.committed.max(committed.min(end));
        if self.dice.chance(loss) {
            return Ok(());
        }
        if let Some(lead) = &mut self.node(id).replicas[shard].lead {
            lead.has.insert(to, end);
        }
        self.advance(id, shard)
    }

    /// A leader counts what a majority has.
    pub(super) fn advance(&mut self, id: RaftId, shard: usize) -> Result<(), String> {
        let replica = &self.nodes[&id].replicas[shard];
        let Some(lead) = &replica.lead else {
            return Ok(());
        };
        let newest = replica.newest();
        let by_most = newest.configs.iter().map(|config| {
            let has = |node: &RaftId| lead.has.get(node).copied().unwrap_or(0);
            let mut has: Vec<usize> = config.iter().map(has).collect();
            has.sort_unstable();
            has[(has.len() - 1) / 2]
        });
        let most = by_most.min().unwrap_or(0);
        // What earlier leaders have written counts once something of this one does.
        if most <= replica.committed || replica.log[most - 1].term != replica.term {
            return Ok(());
        }
        let record = &mut self.records[shard];
        for place in replica.committed..most {
            match record.get(place) {
                None => record.push(replica.log[place].clone()),
                Some(entry) if *entry == replica.log[place] => {}
                Some(_) => {
                    return Err(format!(
                        "(M-2) two leaders of shard {shard} have committed entry {place}"
                    ));
                }
            }
        }
        self.node(id).replicas[shard].committed = most;
        self.go_on(id, shard)
    }

    /// After a commit: the second half of a change follows the first, and who votes no more leads no more.
    fn go_on(&mut self, id: RaftId, shard: usize) -> Result<(), String> {
        let replica = &mut self.node(id).replicas[shard];
        let settled = replica.settled();
        if !votes(&settled, id) && settled.at > 0 {
            replica.lead = None;
            return Ok(());
        }
        let committed = replica.committed;
        let Some(lead) = &mut replica.lead else {
            return Ok(());
        };
        if lead.half.take_if(|half| *half < committed).is_some()
            && replica.newest().at == settled.at
            && !self.dice.chance(10)
        {
            let nothing = ChangeMembers::AddNodes([].into());
            return self.change((id, shard), nothing).map(drop);
        }
        Ok(())
    }

    /// A leader writes numbers.
    pub(super) fn write(&mut self, id: RaftId, shard: usize, count: usize) -> Result<(), String> {
        for _ in 0..count {
            self.sums.numbers += 1;
            let number = What::Number(self.sums.numbers);
            let replica = &mut self.node(id).replicas[shard];
            replica.push(replica.term, number);
        }
        self.has_more(id, shard)
    }

    /// A leader writes down that nodes are no longer members.
    pub(super) fn retire(
        &mut self,
        (id, shard): (RaftId, usize),
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> Result<(), String> {
        for node in nodes {
            let replica = &mut self.node(id).replicas[shard];
            replica.push(replica.term, What::Retire(node));
        }
        self.has_more(id, shard)
    }

    fn has_more(&mut self, id: RaftId, shard: usize) -> Result<(), String> {
        let replica = &mut self.node(id).replicas[shard];
        let len = replica.log.len();
        if let Some(lead) = &mut replica.lead {
            lead.has.insert(id, len);
        }
        self.advance(id, shard)
    }

    /// A leader begins a change of the members, unless another one is under way. Returns whether it does.
    pub(super) fn change(
        &mut self,
        (id, shard): (RaftId, usize),
        change: ChangeMembers<RaftId, Seat>,
    ) -> Result<bool, String> {
        let replica = &self.nodes[&id].replicas[shard];
        let (newest, settled) = (replica.newest(), replica.settled());
        let is_under_way = newest.at != settled.at;
        if replica.lead.is_none() || (is_under_way && self.mutant != Mutant::ChangeUnderWay) {
            return Ok(false);
        }
        let at = replica.log.len() as u64 + 1;
        let next = match (self.mutant, &change) {
            (Mutant::RemovedTwice, ChangeMembers::RemoveNodes(nodes)) => {
                Some(without_seats(&newest, nodes, at))
            }
            _ => changed(&newest, change, at),
        };
        let Some(mut next) = next else {
            return Ok(false);
        };
        if self.mutant == Mutant::WithoutJoint {
            next.configs = vec![next.voters()];
        }
        self.judge_change((id, shard), &newest, &next)?;
        self.sums.changes += 1;
        let replica = &mut self.node(id).replicas[shard];
        if let Some(lead) = &mut replica.lead {
            lead.half = (next.configs.len() > 1).then_some(at as usize - 1);
        }
        replica.push(replica.term, What::Members(Rc::new(next)));
        self.has_more(id, shard)?;
        Ok(true)
    }

    /// A leader tells everybody whom it is connected with who leads and who the members are.
    pub(super) fn tell(&mut self, id: RaftId, shard: usize) {
        if !self.node(id).leads(shard) {
            return;
        }
        let node = &self.nodes[&id];
        let replica = &node.replicas[shard];
        let told = Told {
            leader: Some(NodeId(id)),
            term: replica.term,
            committed: replica.committed as u64,
            members: Members::clone(&replica.settled()),
            retired: replica.retired(),
        };
        let peers: Vec<RaftId> = node.up.values().map(|(peer, _)| *peer).collect();
        for peer in peers {
            self.node(peer).known(shard).hear(told.clone());
        }
    }

    /// The one that has the last word about a shard, if anybody who runs leads it.
    pub(super) fn leader(&self, shard: usize) -> Option<RaftId> {
        let nodes = self.nodes.values().filter(|node| node.runs);
        let leading = nodes.filter(|node| node.replicas[shard].lead.is_some());
        leading
            .max_by_key(|node| node.replicas[shard].term)
            .map(|node| node.id)
    }
}

/// As if a removal meant seats and not those who had them.
fn without_seats(now: &Members, gone: &BTreeSet<RaftId>, at: u64) -> Members {
    let seats = now.nodes.iter().filter(|(node, _)| gone.contains(node));
    let seats: BTreeSet<u64> = seats.map(|(_, seat)| seat.seat).collect();
    let mut next = now.clone();
    next.at = at;
    next.nodes.retain(|_, seat| !seats.contains(&seat.seat));
    for config in &mut next.configs {
        config.retain(|node| next.nodes.contains_key(node));
    }
    next
}
