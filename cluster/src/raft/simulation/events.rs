//! What befalls nodes: they join, die, come back, stop, are removed, and lose sight of each other.

use super::mutant::Mutant;
use super::node::Node;
use super::world::{SHARDS, World};
use crate::format::Versions;
use crate::identity::ClusterId;
use crate::link::hello::{Body, Hello, HelloError};
use crate::raft::failover::choice;
use crate::raft::placement;
use crate::raft::types::RaftId;
use crate::{BootId, NodeId};

impl World {
    /// A node with an empty disk comes to a seat.
    pub(super) fn join(&mut self, seat: u64) -> RaftId {
        let before = self.nodes.values().filter(|node| node.seat == seat);
        let before: Vec<RaftId> = before.map(|node| node.id).collect();
        self.sums.joined += 1;
        self.sums.reborn += u64::from(!before.is_empty());
        let named = before.last().filter(|_| self.mutant == Mutant::SameName);
        let id = named.copied().unwrap_or_else(|| {
            let drawn = std::iter::repeat_with(|| 1 + self.dice.below(1_000_000) as RaftId);
            drawn
                .take(100)
                .find(|id| !self.nodes.contains_key(id))
                .expect("most are free")
        });
        self.nodes
            .insert(id, Node::new(id, (seat, self.zones), SHARDS));
        id
    }

    pub(super) fn is_linked(&self, a: RaftId, b: RaftId) -> bool {
        a == b || self.nodes[&a].is_up(b)
    }

    fn greeting(&self, id: RaftId) -> Hello {
        let node = &self.nodes[&id];
        Hello {
            zone: String::new(),
            speaks: Versions::SPOKEN,
            body: Body {
                cluster: Some(ClusterId(1)),
                seat: node.seat,
                node: NodeId(id),
                boot: BootId(id),
                address: node.address.clone(),
                ..Body::default()
            },
        }
    }

    /// One node calls another one, which may refuse it, and say that it is no longer a member.
    pub(super) fn dial(&mut self, from: RaftId, to: RaftId) {
        let both = [from, to].map(|id| &self.nodes[&id]);
        let reached = both.iter().all(|node| node.runs) && !self.is_cut(from, to);
        if !reached || self.is_linked(from, to) {
            return;
        }
        let [caller, called] = both;
        let (hers, his) = (self.greeting(from), self.greeting(to));
        let lets_in = self.mutant == Mutant::RemovedReturns;
        let refuses = |node: &Node, id: &RaftId| !lets_in && node.retired.contains(id);
        match his.check(&hers, caller.seat, refuses(called, &from)) {
            Err(HelloError::Retired(_)) => return self.replaced(from),
            Err(_) => return,
            Ok(()) => {}
        }
        let answered = hers.check(&his, called.seat, refuses(caller, &to));
        if matches!(answered, Err(HelloError::Retired(_))) {
            return self.replaced(to);
        }
        let filled = called.up.contains_key(&caller.seat) || caller.up.contains_key(&called.seat);
        if answered.is_err() || filled {
            return;
        }
        let places = both.map(|node| (node.seat, (node.id, node.address.clone())));
        for (id, (seat, peer)) in [to, from].into_iter().zip(places) {
            let node = self.node(id);
            node.draining.remove(&NodeId(peer.0));
            node.stopping.remove(&peer.0);
            node.up.insert(seat, peer);
        }
    }

    /// A node is told that it is no longer a member. It ends, and its disk is emptied at the next start.
    fn replaced(&mut self, id: RaftId) {
        self.sums.told += 1;
        // Where two processes had one seat, somebody may say so who knows only the other one.
        self.sums.undecided += u64::from(!self.may_lose(id));
        self.end(id);
        self.node(id).lost = true;
    }

    fn is_cut(&self, a: RaftId, b: RaftId) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    fn unlink(&mut self, a: RaftId, b: RaftId) {
        self.node(a).up.retain(|_, (peer, _)| *peer != b);
        self.node(b).up.retain(|_, (peer, _)| *peer != a);
    }

    /// Two nodes lose each other, or one loses everybody.
    pub(super) fn tear(&mut self, id: RaftId, other: RaftId) {
        if self.dice.chance(15) {
            self.isolate(id);
        } else if id != other {
            self.cut.insert((id.min(other), id.max(other)));
            self.unlink(id, other);
        }
    }

    /// The process ends.
    pub(super) fn end(&mut self, id: RaftId) {
        for peer in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.unlink(id, peer);
        }
        self.node(id).runs = false;
    }

    /// The process begins anew, at once and maybe elsewhere.
    pub(super) fn crash(&mut self, id: RaftId) {
        self.end(id);
        if self.dice.chance(30) {
            self.sums.stopped += 1;
            return;
        }
        self.begin(id);
    }

    pub(super) fn begin(&mut self, id: RaftId) {
        let moves = self.dice.chance(20);
        let port = 1 + self.dice.below(9);
        let node = self.node(id);
        if moves {
            node.address = format!("node{}:{port}", node.seat);
        }
        node.begin();
    }

    /// A node that was stopped is started again, unless another one has its seat.
    pub(super) fn come_back(&mut self) {
        let stopped = self.nodes.values().filter(|node| !node.runs && !node.lost);
        let stopped: Vec<(RaftId, u64)> = stopped.map(|node| (node.id, node.seat)).collect();
        let stopped: Vec<RaftId> = stopped
            .into_iter()
            .filter(|(_, seat)| self.in_seat(*seat).is_empty())
            .map(|(id, _)| id)
            .collect();
        if let Some(id) = self.dice.pick(&stopped) {
            self.begin(id);
        }
    }

    /// A disk is lost, if the groups can bear it.
    pub(super) fn die(&mut self, id: RaftId) {
        if self.may_lose(id) {
            self.end(id);
            self.node(id).lost = true;
        }
    }

    /// A node comes to a seat with an empty disk. Now and then the one before it runs on, unseen for a while.
    pub(super) fn replace(&mut self, seat: u64) {
        let before = self.nodes.values().filter(|n| n.seat == seat && !n.lost);
        let before: Vec<(RaftId, bool)> = before.map(|node| (node.id, node.runs)).collect();
        for (id, runs) in before {
            if !self.may_lose(id) {
                return;
            }
            match runs && self.dice.chance(50) {
                true => self.isolate(id),
                false => {
                    self.end(id);
                    self.node(id).lost = true;
                }
            }
        }
        self.join(seat);
    }

    fn isolate(&mut self, id: RaftId) {
        for other in self.running().into_iter().filter(|other| *other != id) {
            self.cut.insert((id.min(other), id.max(other)));
            self.unlink(id, other);
        }
    }

    /// A node is about to stop, thinks better of it, or stops.
    pub(super) fn drain(&mut self, id: RaftId) -> Result<(), String> {
        let drains = self.nodes[&id].drains;
        self.node(id).drains = !drains || self.dice.chance(70);
        self.talk(id);
        if !drains {
            self.sums.drained += 1;
            return Ok(());
        }
        if !self.nodes[&id].drains {
            return Ok(());
        }
        self.give_away(id)?;
        // What was on its way to it arrives before it judges whether it may go.
        for shard in 0..SHARDS {
            if let Some(leader) = self.leader(shard) {
                self.replicate((leader, id), shard, 0)?;
            }
        }
        match self.is_needed(id) && self.mutant != Mutant::StopsAtOnce {
            true => Ok(()),
            false => self.stop(id),
        }
    }

    fn stop(&mut self, id: RaftId) -> Result<(), String> {
        // What a node does not hear of it cannot wait for.
        let counts = |shard: usize| {
            let leader = self.leader(shard);
            leader.is_some_and(|leader| self.is_linked(id, leader)) && self.is_alive(shard)
        };
        let before: Vec<bool> = (0..SHARDS).map(counts).collect();
        let alone = self.is_last(id);
        self.end(id);
        self.sums.stopped += 1;
        let lost = (0..SHARDS).find(|shard| before[*shard] && !self.is_alive(*shard));
        match lost.filter(|_| !alone) {
            Some(shard) => Err(format!(
                "(M-9) {id} stops, and shard {shard} has no majority: {:?}",
                self.in_force(shard)
            )),
            None => Ok(()),
        }
    }

    /// Whether all others that this node is connected with are about to stop, too.
    fn is_last(&self, id: RaftId) -> bool {
        let node = &self.nodes[&id];
        let mut others = node.up.values();
        others.all(|(peer, _)| node.stopping.contains(peer))
    }

    fn is_needed(&mut self, id: RaftId) -> bool {
        if self.is_last(id) {
            return false;
        }
        let newest_only = self.mutant == Mutant::NeededLater;
        let node = self.node(id);
        (0..SHARDS).any(|shard| {
            let electorates = match newest_only {
                true => vec![
                    node.voters(shard)
                        .into_values()
                        .map(|node| node.0)
                        .collect(),
                ],
                false => node.electorates(shard),
            };
            let stays = |peer| peer != id && node.is_up(peer) && !node.stopping.contains(&peer);
            placement::is_needed(id, &electorates, stays)
        })
    }

    /// A node says whether it is about to stop, and tells of the groups that it leads.
    pub(super) fn talk(&mut self, id: RaftId) {
        let node = &self.nodes[&id];
        let (drains, peers) = (node.drains, node.up.clone());
        for (peer, _) in peers.values() {
            let peer = self.node(*peer);
            match drains {
                true => {
                    peer.draining.insert(NodeId(id));
                    peer.stopping.insert(id);
                }
                false => {
                    peer.draining.remove(&NodeId(id));
                    peer.stopping.remove(&id);
                }
            }
        }
        (0..SHARDS).for_each(|shard| self.tell(id, shard));
    }

    /// A node has others lead what it leads.
    pub(super) fn give_away(&mut self, id: RaftId) -> Result<(), String> {
        if self.mutant == Mutant::DrainedLeads {
            return Ok(());
        }
        for shard in 0..SHARDS {
            let node = self.node(id);
            if !node.leads(shard) {
                continue;
            }
            let voters = node.voters(shard);
            let is_there = |peer: NodeId| peer.0 != id && node.is_up(peer.0);
            let lag = |peer: NodeId| node.replicas[shard].lag(peer.0);
            if let Some(heir) = choice::heir(&voters, is_there, &node.draining, lag) {
                self.elect(heir.0, shard, 10)?;
            }
        }
        Ok(())
    }

    /// A leader gives the lead to the one that should have it.
    pub(super) fn prefer(&mut self, id: RaftId, shard: usize) -> Result<(), String> {
        let node = self.node(id);
        let preferred = choice::preferred(&node.voters(shard), shard);
        let Some(preferred) = preferred.filter(|_| node.leads(shard)) else {
            return Ok(());
        };
        match node.is_up(preferred.0) && !node.draining.contains(&preferred) {
            true => self.elect(preferred.0, shard, 10),
            false => Ok(()),
        }
    }

    /// A connection is ended.
    pub(super) fn send_away(&mut self, id: RaftId, peer: RaftId) {
        if self.is_linked(id, peer) {
            self.unlink(id, peer);
        }
    }

    /// An operator gives a seat up whose node is away: shard 0 decides it, if it has a leader. Whether that is committed
    /// remains open, and now and then the node is there at once.
    pub(super) fn remove(&mut self, id: RaftId, seat: u64) -> Result<(), String> {
        let node = &self.nodes[&id];
        if seat == node.seat || node.up.contains_key(&seat) {
            return Ok(());
        }
        let had = node.had(seat);
        let leader = self.leader(0).filter(|leader| self.is_linked(id, *leader));
        if let Some(leader) = leader.filter(|_| !had.is_empty()) {
            self.sums.removed += 1;
            self.retire((leader, 0), had.iter().copied())?;
        }
        for node in had {
            let is_away = |node: &Node| !node.runs && !node.lost;
            if self.nodes.get(&node.0).is_some_and(is_away) && self.dice.chance(50) {
                self.begin(node.0);
            }
        }
        Ok(())
    }
}
