//! The simulated world: every choice comes from one seed.

mod archive;
mod heal;
mod leave;
mod nodes;
mod owners;
pub(super) mod sources;

use std::collections::{BTreeMap, VecDeque};

use proto::{BareJid, Jid};

use archive::Archive;

use super::client::{Client, Up};
use super::conn::{Conn, Link};
use super::mutant::Mutant;
use super::oracle;
use super::presence::{self, Seen};
use super::shards::{REPLICAS, SHARDS, Shard};
use crate::id::{BootId, ConnId, NodeId, Owner, ShardId};
use crate::session::{Command, Outcome, Resume};
use crate::shard::map::shard_of;

/// The last one has none.
const NODES: usize = 4;
const STEPS: usize = 1_200;

/// Something on its way to a shard's leader.
struct Proposal {
    shard: ShardId,
    conn: Option<ConnId>,
    /// A resume by somebody else's account, which must not succeed (I-9).
    theft: bool,
    command: Command,
}

/// Everything there is.
pub(super) struct World {
    random: u64,
    now: u64,
    mutant: Mutant,
    shards: Vec<Shard>,
    boots: Vec<u64>,
    /// For each shard the replica from which the node without one hears of it.
    sources: Vec<usize>,
    /// For each shard the entries of which that node has heard.
    heard: Vec<usize>,
    clients: Vec<Client>,
    accounts: Vec<BareJid>,
    conns: BTreeMap<ConnId, Conn>,
    proposals: VecDeque<Proposal>,
    archive: Archive,
    next_conn: u64,
    next_uid: u64,
    trace: u64,
    /// An honest client's count was refused.
    refused: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, mutant: Mutant) -> Self {
        let account = |n| BareJid::new(&format!("user{n}@example.org")).expect("valid");
        Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d,
            now: 1_000_000,
            mutant,
            shards: (0..SHARDS)
                .map(|n| Shard::new(ShardId(n), !seed.is_multiple_of(3), mutant))
                .collect(),
            boots: (1..=NODES as u64).collect(),
            sources: vec![0; usize::from(SHARDS)],
            heard: vec![0; usize::from(SHARDS)],
            // Two devices of one user, one without stream management, and two more.
            clients: vec![
                Client::new(account(0), "one", true),
                Client::new(account(0), "two", true).with_carbons(),
                Client::new(account(1), "sim", true),
                Client::new(account(2), "plain", false),
                Client::new(account(3), "sim", true),
            ],
            accounts: (0..4).map(account).collect(),
            conns: BTreeMap::new(),
            proposals: VecDeque::new(),
            archive: Archive::default(),
            next_conn: 1,
            next_uid: 1,
            trace: 0,
            refused: None,
        }
    }

    /// A number below `n` (splitmix64).
    fn below(&mut self, n: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        self.trace = self.trace.rotate_left(5) ^ z;
        (z % n as u64) as usize
    }

    /// (messages received, sessions resumed, sessions begun), by all clients.
    pub(super) fn coverage(&self) -> (usize, u32, u32) {
        let received = self.clients.iter().map(|c| c.received.len()).sum();
        let resumes = self.clients.iter().map(|c| c.resumes).sum();
        (
            received,
            resumes,
            self.clients.iter().map(|c| c.session).sum(),
        )
    }

    /// Sums up every choice made: equal for equal runs.
    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    /// Faults, then healing, then the verdict.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.heal(None)?;
        self.judge_clients()?;
        self.judge_archive()?;
        presence::judge(&self.clients)?;
        self.leave()?;
        self.judge_clients()
    }

    /// A count that is refused follows from what went wrong before, which the clients may have seen.
    fn judge_clients(&self) -> Result<(), String> {
        oracle::judge(&self.clients)?;
        self.refused.clone().map_or(Ok(()), Err)
    }

    fn step(&mut self) -> Result<(), String> {
        let client = self.below(self.clients.len());
        let node = self.below(NODES);
        let shard = self.below(SHARDS as usize);
        match self.below(100) {
            0..=9 => self.connect(client, node),
            10..=24 => self.send(client),
            25..=27 => self.ask(client),
            28..=30 => self.acknowledge(client),
            31 => self.direct(),
            32..=49 => self.connections_work()?,
            50..=65 => self.serve(true)?,
            66..=75 => self.listen(client)?,
            76..=81 if node < REPLICAS => self.replicate(shard, node)?,
            76..=81 => self.change_source(shard)?,
            82..=84 => self.cut(client),
            85..=86 => {
                self.notice()?;
                self.sweep(node);
            }
            87..=90 => self.relay(shard),
            91..=94 => {
                self.effects(shard);
                self.tick(shard);
            }
            95 => self.shards[shard].take_snapshot(node % REPLICAS),
            96 => self.change_leader(shard, node % REPLICAS)?,
            97 => self.crash(node)?,
            98 => self.steal(client),
            _ => self.wait()?,
        }
        Ok(())
    }

    /// Time passes. Replicas lag for less than the longer waits, so that who lost a session knows.
    fn wait(&mut self) -> Result<(), String> {
        let wait = [10, 500, 7_000, 40_000][self.below(4)];
        if wait > 1_000 {
            self.catch_up()?;
            for client in 0..self.clients.len() {
                self.listen(client)?;
            }
        }
        self.now += wait;
        Ok(())
    }

    fn catch_up(&mut self) -> Result<(), String> {
        for shard in 0..self.shards.len() {
            for node in 0..REPLICAS {
                let outputs = self.shards[shard].catch_up(node, usize::MAX, &mut Vec::new())?;
                self.route(node, outputs)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, client: usize) {
        let to = self.below(self.clients.len());
        let Some(conn) = self.clients[client]
            .conn
            .filter(|_| self.clients[client].ready && to != client)
        else {
            return;
        };
        let uid = self.next_uid;
        self.next_uid += 1;
        // Some are for one of two sessions of an account.
        let to = match uid.is_multiple_of(5) && to < 2 {
            true => self.clients[to].jid.clone(),
            false => Jid::from(&self.clients[to].account),
        };
        let up = self.clients[client].send(uid, to);
        self.say(conn, vec![up]);
    }

    /// One client asks another one, at home or not.
    fn ask(&mut self, client: usize) {
        let to = self.below(self.clients.len());
        let to = self.clients[to].jid.clone();
        let uid = self.next_uid;
        let asker = &mut self.clients[client];
        if let Some(conn) = asker.conn.filter(|_| asker.ready && asker.jid != to)
            && let Some(up) = asker.ask(uid, to)
        {
            self.next_uid += 1;
            self.say(conn, vec![up]);
        }
    }

    /// The last client shows itself to two who do not see it otherwise, and to one who does.
    fn direct(&mut self) {
        let to = 1 + self.below(3);
        let to = match (to, self.below(2)) {
            (1, 0) => Jid::from(&self.clients[to].account),
            _ => self.clients[to].jid.clone(),
        };
        let client = &mut self.clients[4];
        if let Some(conn) = client.conn.filter(|_| client.ready) {
            let up = client.direct(to);
            self.say(conn, vec![up]);
        }
    }

    fn acknowledge(&mut self, client: usize) {
        let client = &self.clients[client];
        if let (Some(conn), Some(h), true) = (client.conn, client.count_read(), client.ready) {
            self.say(conn, vec![Up::Ack(h)]);
        }
    }

    /// A few proposals reach the leader of the first one's shard; with faults some are lost on the way,
    /// or the answer is, and they come again: from the cluster, which has more patience, or from the connection.
    fn serve(&mut self, faults: bool) -> Result<(), String> {
        let Some(shard) = self.proposals.front().map(|p| p.shard) else {
            return Ok(());
        };
        let mut batch = Vec::new();
        let mut rest = VecDeque::new();
        while let Some(proposal) = self.proposals.pop_front() {
            if proposal.shard == shard && batch.len() < 4 {
                batch.push(proposal);
            } else {
                rest.push_back(proposal);
            }
        }
        self.proposals = rest;
        let fate = if faults { self.below(10) } else { 9 };
        if fate == 0 {
            self.proposals.extend(batch);
            return Ok(());
        }
        let index = usize::from(shard.0);
        let commands = batch.iter().map(|p| p.command.clone()).collect();
        let leader = self.shards[index].leader;
        let committed = self.shards[index].commit(self.now, commands)?;
        self.route(leader, committed.outputs)?;
        if fate == 1 {
            self.proposals.extend(batch);
            return Ok(());
        }
        for (proposal, outcome) in batch.into_iter().zip(committed.outcomes) {
            match (fate, &proposal.command, proposal.conn) {
                (2, Command::Inbound(_), Some(conn)) => self.tend(conn, Conn::unanswered)?,
                _ => self.answer(proposal, outcome)?,
            }
        }
        Ok(())
    }

    fn answer(&mut self, proposal: Proposal, outcome: Outcome) -> Result<(), String> {
        match (&proposal.command, outcome) {
            (Command::Relay { from, .. }, Outcome::Relayed { cursor }) => {
                let trim = Command::Trim {
                    to: proposal.shard,
                    upto: cursor,
                };
                self.propose(*from, trim);
            }
            (Command::NodeLost { node, .. }, Outcome::Done) => {
                let node = *node;
                self.lost(node, proposal.shard);
            }
            (_, Outcome::NotResumed { h: None }) if proposal.theft => {}
            (_, outcome) if proposal.theft => return Err(format!("a theft got {outcome:?} (I-9)")),
            (command, outcome) => {
                if let Some(conn) = proposal.conn {
                    self.tend(conn, |conn, around| conn.decided(command, outcome, around))?;
                }
            }
        }
        Ok(())
    }

    fn propose(&mut self, shard: ShardId, command: Command) {
        self.proposals.push_back(Proposal {
            shard,
            conn: None,
            theft: false,
            command,
        });
    }

    fn replicate(&mut self, shard: usize, node: usize) -> Result<(), String> {
        let entries = 1 + self.below(5);
        let outputs = self.shards[shard].catch_up(node, entries, &mut Vec::new())?;
        self.route(node, outputs)
    }

    fn relay(&mut self, shard: usize) {
        for to in (0..SHARDS).filter(|to| usize::from(*to) != shard) {
            let state = self.shards[shard].state();
            let (first, items) = state.outbox(ShardId(to), 1, 5, 10_000);
            if !items.is_empty() {
                let from = ShardId(shard as u16);
                self.propose(ShardId(to), Command::Relay { from, first, items });
            }
        }
    }

    fn change_leader(&mut self, shard: usize, node: usize) -> Result<(), String> {
        let outputs = self.shards[shard].lead(node)?;
        self.route(node, outputs)
    }

    /// A process dies and starts again from its disk.
    fn crash(&mut self, node: usize) -> Result<(), String> {
        let lost: Vec<usize> = self
            .conns
            .values()
            .filter(|c| c.owner.node == NodeId(node as u64) && c.link == Link::Whole)
            .map(|c| c.client)
            .collect();
        for client in lost {
            self.cut(client);
        }
        self.conns
            .retain(|_, c| c.owner.node != NodeId(node as u64));
        self.boots[node] += NODES as u64;
        for shard in 0..self.shards.len() {
            if node < REPLICAS {
                self.hear(shard);
                let outputs = self.shards[shard].crash(node)?;
                let leader = self.shards[shard].leader;
                self.route(leader, outputs)?;
                self.lose_source(shard, node)?;
            }
            self.propose(ShardId(shard as u16), self.node_lost(NodeId(node as u64)));
        }
        Ok(())
    }

    /// Somebody tries another client's identifier.
    fn steal(&mut self, victim: usize) {
        let thief = (victim + 2) % self.clients.len();
        let Some(sm) = &self.clients[victim].sm else {
            return;
        };
        let account = self.clients[thief].account.clone();
        let owner = Owner {
            node: NodeId(0),
            boot: BootId(0),
            conn: ConnId(0),
        };
        let resume = Resume {
            account: account.clone(),
            smid: sm.smid.clone(),
            h: sm.h,
            owner,
        };
        let shard = shard_of(&account, SHARDS);
        self.proposals.push_back(Proposal {
            shard,
            conn: None,
            theft: true,
            command: Command::Resume(resume),
        });
    }
}
