//! What a node knows of a group: who its members are, and who leads it. Pure.
//!
//! A member knows it from its own replica, everybody else from what leaders say. Of two memberships the later one is
//! right, as each follows from a committed entry.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::types::{RaftId, Seat};
use crate::NodeId;

/// Who leads a group, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader.
    pub leader: Option<NodeId>,
    /// Whether it is this node.
    pub mine: bool,
    /// The term.
    pub term: u64,
}

/// The members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The number of the entry that made them so, counted from 1; 0 if there is none.
    pub at: u64,
    /// The voters; two sets while they change.
    pub configs: Vec<BTreeSet<RaftId>>,
    /// All members.
    pub nodes: BTreeMap<RaftId, Seat>,
}

impl Members {
    /// The voters, or those that are about to be.
    pub fn voters(&self) -> BTreeSet<RaftId> {
        self.configs.last().cloned().unwrap_or_default()
    }

    /// Members that do not vote.
    pub fn learners(&self) -> impl Iterator<Item = RaftId> {
        let votes = |node: &RaftId| self.configs.iter().any(|config| config.contains(node));
        self.nodes.keys().copied().filter(move |node| !votes(node))
    }

    /// Whether a node has a replica, or is about to get one.
    pub fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node.0)
    }
}

/// What a group's leader tells everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The leader.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// The last entry that is committed.
    pub committed: u64,
    /// The members as of then.
    pub members: Members,
    /// The nodes that are no longer members, as the group has heard it.
    pub retired: BTreeSet<NodeId>,
}

/// All that a node knows of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The newest committed membership.
    pub members: Members,
    own: Leadership,
    told: Leadership,
    /// The nodes that are no longer members, as a leader has said, and what it had committed by then.
    retired: (u64, BTreeSet<NodeId>),
}

impl Known {
    /// Notes what the replica on this node says.
    pub fn see(&mut self, leadership: Leadership, members: Members) {
        self.own = leadership;
        self.note(members);
    }

    /// Notes what a leader has said.
    pub fn hear(&mut self, told: Told) {
        if told.term >= self.told.term {
            self.told = Leadership {
                leader: told.leader,
                mine: false,
                term: told.term,
            };
        }
        self.note(told.members);
        if told.committed >= self.retired.0 {
            self.retired = (told.committed, told.retired);
        }
    }

    /// The nodes that are no longer members, as leaders have said.
    pub fn retired(&self) -> &BTreeSet<NodeId> {
        &self.retired.1
    }

    fn note(&mut self, members: Members) {
        if members.at > self.members.at {
            self.members = members;
        }
    }

    /// Whether the group may count on the replica of `me`. Before any membership is committed its log has the word.
    pub fn may_campaign(&self, me: NodeId) -> bool {
        self.members.at == 0 || self.members.contains(me)
    }

    /// The members that `me` counts with; `newest` are those that the log of its replica ends with, committed or not.
    pub fn counted(&self, me: NodeId, newest: impl FnOnce() -> Members) -> Members {
        match self.may_campaign(me) {
            true => newest(),
            false => self.members.clone(),
        }
    }

    /// The sets of voters that count, or may: until a change is committed, nothing is committed without those before.
    pub fn electorates(
        &self,
        me: NodeId,
        newest: impl FnOnce() -> Members,
    ) -> Vec<BTreeSet<RaftId>> {
        let mut electorates = self.counted(me, newest).configs;
        electorates.extend(self.members.configs.iter().cloned());
        electorates
    }

    /// Who leads, as far as `me` knows. A node that is no member (any longer) hears nothing through its replica.
    pub fn leadership(&self, me: NodeId) -> Leadership {
        match self.members.contains(me) && self.own.term >= self.told.term {
            true => self.own,
            false => self.told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);

    fn members(at: u64, nodes: &[u64]) -> Members {
        Members {
            at,
            configs: vec![nodes.iter().copied().collect()],
            nodes: nodes.iter().map(|node| (*node, Seat::default())).collect(),
        }
    }

    fn led(leader: u64, term: u64) -> Leadership {
        Leadership {
            leader: Some(NodeId(leader)),
            mine: leader == ME.0,
            term,
        }
    }

    fn told(leader: u64, term: u64, members: Members) -> Told {
        Told {
            leader: Some(NodeId(leader)),
            term,
            committed: 0,
            members,
            retired: BTreeSet::new(),
        }
    }

    #[test]
    fn a_member_believes_its_replica_unless_a_leader_of_a_later_term_has_spoken() {
        let mut known = Known::default();
        known.see(led(1, 3), members(5, &[1, 2, 3]));
        known.hear(told(2, 3, members(5, &[1, 2, 3])));
        assert_eq!(known.leadership(ME), led(1, 3));
        known.hear(told(2, 4, members(5, &[1, 2, 3])));
        assert_eq!(known.leadership(ME), led(2, 4));
        known.see(Leadership::default(), members(5, &[1, 2, 3]));
        assert_eq!(known.leadership(ME), led(2, 4));
    }

    #[test]
    fn a_node_that_is_no_member_any_longer_believes_leaders_only() {
        let mut known = Known::default();
        known.see(led(1, 3), members(5, &[1, 2, 3]));
        known.hear(told(2, 3, members(9, &[2, 3, 4])));
        assert!(!known.members.contains(ME));
        assert_eq!(known.leadership(ME), led(2, 3));
        // Its replica calls for elections that nobody hears of.
        let mut lonely = led(1, 8);
        lonely.leader = None;
        known.see(lonely, members(5, &[1, 2, 3]));
        assert_eq!(known.leadership(ME), led(2, 3));
        assert_eq!(known.members.at, 9);
    }

    #[test]
    fn who_is_no_longer_a_member_is_known_from_whoever_has_committed_most() {
        let mut known = Known::default();
        let mut hear = |committed, retired: &[u64]| {
            known.hear(Told {
                committed,
                retired: retired.iter().copied().map(NodeId).collect(),
                ..told(2, 4, members(9, &[2, 3, 4]))
            });
            known.retired().clone()
        };
        let gone = BTreeSet::from([NodeId(7)]);
        assert_eq!(hear(5, &[7]), gone);
        assert_eq!(hear(4, &[]), gone, "it was said before, and came late");
    }

    #[test]
    fn an_older_leader_is_not_believed() {
        let mut known = Known::default();
        known.hear(told(2, 4, members(9, &[2, 3, 4])));
        known.hear(told(3, 3, members(7, &[1, 2, 3])));
        assert_eq!(known.leadership(ME), led(2, 4));
        assert_eq!(known.members.at, 9);
    }
}
