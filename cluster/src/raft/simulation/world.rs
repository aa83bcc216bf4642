//! The simulated world: nodes, what connects them, and what befalls them. Every choice comes from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::dice::Dice;
use super::mutant::Mutant;
use super::node::Node;
use super::replica::{Entry, What};
use crate::clock;
use crate::raft::known::Members;
use crate::raft::placement;
use crate::raft::types::{RaftId, Seat};

pub(super) const SHARDS: usize = 3;
/// The seats that there may be.
const SEATS: u64 = 6;
const STEPS: usize = 250;

/// How much has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) numbers: u64,
    pub(super) elections: u64,
    pub(super) changes: u64,
    pub(super) promoted: u64,
    /// Nodes that came with an empty disk.
    pub(super) joined: u64,
    /// Those of them that came to a seat that had another one before.
    pub(super) reborn: u64,
    pub(super) drained: u64,
    pub(super) stopped: u64,
    pub(super) removed: u64,
    pub(super) told: u64,
    /// Runs that ended without a verdict.
    pub(super) undecided: u64,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            numbers,
            elections,
            changes,
            promoted,
            joined,
            reborn,
            drained,
            stopped,
            removed,
            told,
            undecided,
        } = other;
        self.numbers += numbers;
        self.elections += elections;
        self.changes += changes;
        self.promoted += promoted;
        self.joined += joined;
        self.reborn += reborn;
        self.drained += drained;
        self.stopped += stopped;
        self.removed += removed;
        self.told += told;
        self.undecided += undecided;
    }
}

/// Everything there is.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) mutant: Mutant,
    /// How many zones there are; 0 if nobody is in one.
    pub(super) zones: u64,
    /// The seconds that have passed.
    pub(super) now: u64,
    start: Instant,
    /// All incarnations of all seats that there ever were.
    pub(super) nodes: BTreeMap<RaftId, Node>,
    /// Pairs that cannot reach each other.
    pub(super) cut: BTreeSet<(RaftId, RaftId)>,
    /// For each shard all that was ever committed.
    pub(super) records: Vec<Vec<Entry>>,
    /// Incarnations that everybody refuses for good.
    pub(super) shut_out: BTreeSet<RaftId>,
    pub(super) sums: Sums,
}

impl World {
    pub(super) fn new(seed: u64, mutant: Mutant) -> Self {
        let mut world = Self {
            dice: Dice::new(seed),
            mutant,
            zones: [0, 3, 0, 2][(seed % 4) as usize],
            now: 0,
            start: clock::timer(),
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            records: vec![Vec::new(); SHARDS],
            shut_out: BTreeSet::new(),
            sums: Sums::default(),
        };
        let founders = 1 + world.dice.below(4) as u64;
        for seat in 1..=founders {
            world.join(seat);
        }
        world.found();
        world
    }

    /// The founders give each group its first voters.
    fn found(&mut self) {
        let seats: Vec<(RaftId, u64)> = self.nodes.values().map(|n| (n.id, n.seat)).collect();
        let first = placement::founding(SHARDS, seats.iter().map(|(node, _)| *node));
        for (shard, voters) in first.into_iter().enumerate() {
            let place = |(node, seat): &(RaftId, u64)| {
                let address = self.nodes[node].address.clone();
                (
                    *node,
                    Seat {
                        seat: *seat,
                        address,
                    },
                )
            };
            let members = seats.iter().filter(|(node, _)| voters.contains(node));
            let members = Members {
                at: 1,
                nodes: members.map(place).collect(),
                configs: vec![voters.clone()],
            };
            let members = Rc::new(members);
            for voter in voters {
                let replica = &mut self.node(voter).replicas[shard];
                replica.push(0, What::Members(members.clone()));
            }
        }
    }

    pub(super) fn node(&mut self, id: RaftId) -> &mut Node {
        self.nodes.get_mut(&id).expect("nodes stay known")
    }

    pub(super) fn instant(&self) -> Instant {
        self.start + Duration::from_secs(self.now)
    }

    pub(super) fn running(&self) -> Vec<RaftId> {
        let running = self.nodes.values().filter(|node| node.runs);
        running.map(|node| node.id).collect()
    }

    /// The nodes that run in a seat. There are two for a while when one was thought dead.
    pub(super) fn in_seat(&self, seat: u64) -> Vec<RaftId> {
        let there = |node: &&Node| node.runs && node.seat == seat;
        self.nodes.values().filter(there).map(|n| n.id).collect()
    }

    /// Faults, then rest, then the verdict.
    pub(super) fn run(&mut self) -> Result<(), String> {
        self.round(true)?;
        for _ in 0..STEPS {
            self.step()?;
            if self.sums.undecided > 0 {
                return Ok(());
            }
        }
        self.heal()
    }

    fn step(&mut self) -> Result<(), String> {
        let running = self.running();
        let Some(id) = self.dice.pick(&running) else {
            self.come_back();
            return Ok(());
        };
        let other = running[self.dice.below(running.len())];
        let shard = self.dice.below(SHARDS);
        let seat = 1 + self.dice.below(SEATS as usize) as u64;
        match self.dice.below(100) {
            0..=24 => self.work(id).map(drop),
            25..=54 => self.serve(shard),
            55..=61 => self.campaign(id, shard),
            62..=64 => self.drain(id),
            65 => self.prefer(id, shard),
            66..=67 => self.round(true).map(drop),
            68..=82 => {
                self.meet(id);
                Ok(())
            }
            event => self.befall(event, (id, other), seat),
        }
    }

    /// A node calls others and talks with those that it is connected with.
    fn meet(&mut self, id: RaftId) {
        for other in self.running() {
            if self.dice.chance(80) {
                self.dial(id, other);
            }
        }
        self.talk(id);
    }

    /// What only happens to nodes.
    fn befall(
        &mut self,
        event: usize,
        (id, other): (RaftId, RaftId),
        seat: u64,
    ) -> Result<(), String> {
        match event {
            83..=84 => self.tear(id, other),
            85..=87 => {
                let cut: Vec<_> = self.cut.iter().copied().collect();
                if let Some(pair) = self.dice.pick(&cut) {
                    self.cut.remove(&pair);
                }
            }
            88..=90 => self.replace(seat),
            91 => self.die(id),
            92..=93 => self.come_back(),
            94 => self.crash(id),
            95 => self.remove(id, seat)?,
            _ => self.now += [1, 5, 60, 700][self.dice.below(4)],
        }
        Ok(())
    }

    /// A leader takes numbers, or sends somebody what it lacks.
    fn serve(&mut self, shard: usize) -> Result<(), String> {
        let leading = self.running();
        let leads = |id: &RaftId| self.nodes[id].replicas[shard].lead.is_some();
        let leading: Vec<RaftId> = leading.into_iter().filter(leads).collect();
        let Some(id) = self.dice.pick(&leading) else {
            return Ok(());
        };
        if self.dice.chance(25) {
            let count = 1 + self.dice.below(80);
            return self.write(id, shard, count);
        }
        let members = self.nodes[&id].replicas[shard].newest();
        let members: Vec<RaftId> = members.nodes.keys().copied().collect();
        for _ in 0..3 {
            if let Some(to) = self.dice.pick(&members) {
                self.replicate((id, to), shard, 10)?;
            }
        }
        Ok(())
    }

    /// A node campaigns if it knows nobody who leads, and now and then by mistake.
    fn campaign(&mut self, id: RaftId, shard: usize) -> Result<(), String> {
        let mistaken = self.dice.chance(10);
        let node = self.node(id);
        let leader = node.known(shard).leadership(crate::NodeId(id)).leader;
        match leader.is_none_or(|leader| !node.is_up(leader.0)) || mistaken {
            true => self.elect(id, shard, 10),
            false => Ok(()),
        }
    }

    /// Looks around, and takes the next step in each shard. It looks anew after each, since a step takes its time.
    pub(super) fn work(&mut self, id: RaftId) -> Result<usize, String> {
        let mut taken = 0;
        let mut is_old = true;
        for shard in 0..SHARDS {
            if !self.nodes[&id].runs {
                break;
            }
            if is_old {
                self.look(id);
            }
            self.follow_orders(id, shard)?;
            is_old = self.take_step(id, shard)?;
            taken += usize::from(is_old);
        }
        Ok(taken)
    }

    pub(super) fn look(&mut self, id: RaftId) {
        let (now, mutant) = (self.instant(), self.mutant);
        // What a wrong build has seen is good enough for long.
        let keeps = mutant == Mutant::OldLook && self.dice.chance(80);
        if keeps && self.nodes[&id].look.is_some() {
            return;
        }
        for gone in self.node(id).look_around(now, mutant) {
            self.send_away(id, gone);
            let mut others = self
                .nodes
                .values()
                .filter(|node| node.runs && node.id != gone);
            if others.all(|node| node.retired.contains(&gone)) {
                self.shut_out.insert(gone);
            }
        }
    }

    /// A leader has its shard retire whom it should.
    fn follow_orders(&mut self, id: RaftId, shard: usize) -> Result<(), String> {
        let node = self.node(id);
        if !node.leads(shard) {
            return Ok(());
        }
        let look = node.look.as_ref();
        let orders = look.and_then(|look| look.orders.get(shard).cloned());
        let known = node.retired_in(shard);
        let due: Vec<_> = orders
            .unwrap_or_default()
            .difference(&known)
            .copied()
            .collect();
        match due.is_empty() {
            true => Ok(()),
            false => self.retire((id, shard), due),
        }
    }

    fn take_step(&mut self, id: RaftId, shard: usize) -> Result<bool, String> {
        let unready = self.mutant == Mutant::VotesUnready;
        let node = self.node(id);
        let Some(step) = node.next_step(shard) else {
            return Ok(false);
        };
        let replica = &node.replicas[shard];
        let lag = |member| match member == id {
            true => Some(0),
            false => replica.lag(member),
        };
        if !unready && !step.is_ready(lag) {
            return Ok(false);
        }
        let change = node
            .look
            .as_ref()
            .and_then(|look| step.change(&look.present));
        match change {
            Some(change) => self.change((id, shard), change),
            None => Ok(false),
        }
    }
}
