//! A model of one replica of a Raft group: its log, its votes, and what it knows. It changes memberships as openraft
//! does.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use openraft::ChangeMembers;

use crate::NodeId;
use crate::raft::known::{Leadership, Members};
use crate::raft::types::{RaftId, Seat};

/// What an entry of the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A leader begins its term.
    Term,
    /// What a client has written.
    Number(u64),
    /// A node is no longer a member.
    Retire(NodeId),
    /// The members from here on.
    Members(Rc<Members>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) term: u64,
    pub(super) what: What,
}

/// What a leader knows.
#[derive(Debug, Default)]
pub(super) struct Lead {
    /// How many entries each member is known to have.
    pub(super) has: BTreeMap<RaftId, usize>,
    /// Where the first half of a change of voters is that this leader has begun.
    pub(super) half: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Replica {
    // What is on the disk.
    pub(super) log: Vec<Entry>,
    /// Where in the log memberships are.
    marks: Vec<usize>,
    /// Where in the log nodes are retired.
    retirements: Vec<usize>,
    pub(super) term: u64,
    pub(super) voted: Option<RaftId>,
    // What the process knows.
    /// How many entries are known to be committed.
    pub(super) committed: usize,
    pub(super) leader: Option<RaftId>,
    pub(super) lead: Option<Lead>,
}

impl Replica {
    pub(super) fn push(&mut self, term: u64, what: What) {
        match what {
            What::Members(_) => self.marks.push(self.log.len()),
            What::Retire(_) => self.retirements.push(self.log.len()),
            What::Term | What::Number(_) => {}
        }
        self.log.push(Entry { term, what });
    }

    /// Drops all entries from this place on.
    fn truncate(&mut self, len: usize) {
        self.log.truncate(len);
        self.marks.retain(|mark| *mark < len);
        self.retirements.retain(|place| *place < len);
    }

    /// The nodes that are no longer members, by what is known to be committed.
    pub(super) fn retired(&self) -> BTreeSet<NodeId> {
        let places = self.retirements.iter();
        let known = places.take_while(|place| **place < self.committed);
        known.filter_map(|place| self.retires(*place)).collect()
    }

    fn retires(&self, place: usize) -> Option<NodeId> {
        match self.log[place].what {
            What::Retire(node) => Some(node),
            _ => None,
        }
    }

    /// Whether its log says that a node is no longer a member, committed or not.
    pub(super) fn names(&self, node: NodeId) -> bool {
        let mut places = self.retirements.iter();
        places.any(|place| self.retires(*place) == Some(node))
    }

    fn members_at(&self, mark: Option<usize>) -> Rc<Members> {
        match mark.map(|mark| &self.log[mark].what) {
            Some(What::Members(members)) => members.clone(),
            _ => Rc::default(),
        }
    }

    /// The newest membership, committed or not.
    pub(super) fn newest(&self) -> Rc<Members> {
        self.members_at(self.marks.last().copied())
    }

    /// The last membership that is known to be committed.
    pub(super) fn settled(&self) -> Rc<Members> {
        let mut marks = self.marks.iter().rev().copied();
        self.members_at(marks.find(|mark| *mark < self.committed))
    }

    /// All memberships from this place on.
    pub(super) fn members_from(&self, place: usize) -> impl Iterator<Item = Rc<Members>> {
        let marks = self.marks.iter().filter(move |mark| **mark >= place);
        marks.map(|mark| self.members_at(Some(*mark)))
    }

    /// By what candidates are judged.
    pub(super) fn tail(&self) -> (u64, usize) {
        let term = self.log.last().map_or(0, |entry| entry.term);
        (term, self.log.len())
    }

    /// How many entries both have in common.
    pub(super) fn common(&self, other: &Self) -> usize {
        let mut len = self.log.len().min(other.log.len());
        // Entries of the same place and term are the same, and so is all before them.
        while len > 0 && self.log[len - 1].term != other.log[len - 1].term {
            len -= 1;
        }
        len
    }

    /// Takes entries that follow the first `start` ones. Fails if that takes back what is committed.
    pub(super) fn accept(&mut self, start: usize, entries: &[Entry]) -> Result<(), String> {
        if !entries.is_empty() && self.log.len() > start {
            if self.committed > start {
                return Err(format!("(M-2) entry {start} was committed and is replaced"));
            }
            self.truncate(start);
        }
        for entry in entries {
            self.push(entry.term, entry.what.clone());
        }
        Ok(())
    }

    /// Hears of a term.
    pub(super) fn enter(&mut self, term: u64) {
        if term > self.term {
            self.term = term;
            self.voted = None;
            self.leader = None;
            self.lead = None;
        }
    }

    /// Only the disk is left. The last membership but one is known to be committed, since one follows the other.
    pub(super) fn restart(&mut self) {
        let mut marks = self.marks.iter().rev();
        self.committed = marks.nth(1).map_or(0, |mark| mark + 1);
        self.leader = None;
        self.lead = None;
    }

    pub(super) fn leadership(&self, me: RaftId) -> Leadership {
        let mine = self.lead.is_some();
        let leader = if mine { Some(me) } else { self.leader };
        Leadership {
            leader: leader.map(NodeId),
            mine,
            term: self.term,
        }
    }

    /// How many entries a member lacks, as this leader knows.
    pub(super) fn lag(&self, node: RaftId) -> Option<u64> {
        let has = self.lead.as_ref()?.has.get(&node)?;
        Some((self.log.len() - has) as u64)
    }
}

pub(super) fn votes(members: &Members, node: RaftId) -> bool {
    members.configs.iter().any(|config| config.contains(&node))
}

/// Whether those make a majority of each set of voters.
pub(super) fn is_quorum(members: &Members, there: impl Fn(RaftId) -> bool) -> bool {
    let mut configs = members.configs.iter();
    configs.all(|config| {
        let count = config.iter().filter(|node| there(**node)).count();
        count * 2 > config.len()
    })
}

/// The membership after a change, as openraft makes it: through a joint one if the voters change, and no voter may be
/// without a seat.
pub(super) fn changed(
    now: &Members,
    change: ChangeMembers<RaftId, Seat>,
    at: u64,
) -> Option<Members> {
    let last = now.voters();
    let mut nodes = now.nodes.clone();
    let mut goal = last.clone();
    match change {
        ChangeMembers::AddNodes(new) => {
            for (node, seat) in new {
                nodes.entry(node).or_insert(seat);
            }
        }
        ChangeMembers::SetNodes(new) => nodes.extend(new),
        ChangeMembers::RemoveNodes(old) => nodes.retain(|node, _| !old.contains(node)),
        ChangeMembers::ReplaceAllVoters(voters) => goal = voters,
        _ => return None,
    }
    let configs: Vec<BTreeSet<RaftId>> = match now.configs.contains(&goal) {
        true => vec![goal],
        false => vec![last, goal],
    };
    let whole = |config: &BTreeSet<RaftId>| {
        !config.is_empty() && config.iter().all(|node| nodes.contains_key(node))
    };
    configs
        .iter()
        .all(whole)
        .then_some(Members { at, configs, nodes })
}
