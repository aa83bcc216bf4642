//! Decides who is no longer a member for good, and since when everybody may refuse it. Pure.
//!
//! A node that is given up is told so, and empties its disk at the next start. Nobody may come to that by itself: of
//! two nodes that see different things, one would refuse what the other goes on to count on. So it is an entry of shard
//! 0 that a node is retired, whoever asks for it: an operator, or the leader that has found it gone. From then on no
//! leader has it vote or learn, and each shard takes the same entry. A node is refused once every shard has that entry
//! and is without it: its vote may be needed until then, and no shard will ever have it again. All this follows from
//! what the groups have committed, so that it goes on wherever it was interrupted, whoever leads by then.

use std::collections::BTreeSet;

use super::known::Members;
use super::roll::Present;
use super::types::RaftId;
use crate::NodeId;

/// What each shard should be told of nodes that are retired, by its number.
pub type Orders = Vec<BTreeSet<NodeId>>;

/// What one node makes of nodes that are retired, or should be.
#[derive(Clone, Debug, Default)]
pub struct Retirement {
    /// Nodes that have left and should not come back. It is for shard 0 to decide.
    asked: BTreeSet<NodeId>,
}

impl Retirement {
    /// The nodes that are retired: some shard has the entry, and the others will.
    pub fn decided(retired: &[BTreeSet<NodeId>]) -> BTreeSet<RaftId> {
        retired.iter().flatten().map(|node| node.0).collect()
    }

    /// What each shard should be told, if this node leads it. `gone` are nodes that have left as this node sees it, and
    /// that should not come back; `retired` is what each shard has heard already.
    pub fn orders(
        &mut self,
        gone: Vec<NodeId>,
        present: &Present,
        memberships: &[Members],
        retired: &[BTreeSet<NodeId>],
    ) -> Orders {
        let decided = Self::decided(retired);
        let is_back = |node: &NodeId| {
            let is_there = present.values().any(|(here, _)| *here == node.0);
            is_there || memberships.iter().any(|members| members.contains(*node))
        };
        self.asked.extend(gone);
        self.asked
            .retain(|node| !decided.contains(&node.0) && !is_back(node));
        let decided: BTreeSet<NodeId> = decided.into_iter().map(NodeId).collect();
        let lacks = |(shard, has): (usize, &BTreeSet<NodeId>)| {
            let asked = self.asked.iter().filter(|_| shard == 0);
            decided.difference(has).chain(asked).copied().collect()
        };
        retired.iter().enumerate().map(lacks).collect()
    }

    /// The nodes that are to be refused from now on, and for ever: every shard has heard that they are retired, and none
    /// has them any more.
    pub fn refused(memberships: &[Members], retired: &[BTreeSet<NodeId>]) -> BTreeSet<NodeId> {
        let is_out = |node: &NodeId| {
            let heard = retired.iter().all(|retired| retired.contains(node));
            heard && !memberships.iter().any(|members| members.contains(*node))
        };
        let all = retired.iter().flatten().copied();
        all.filter(is_out).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::Seat;

    fn set<const N: usize>(nodes: [u64; N]) -> BTreeSet<NodeId> {
        nodes.into_iter().map(NodeId).collect()
    }

    fn present(nodes: &[u64]) -> Present {
        let place = |node: &u64| (node / 10, (*node, String::new()));
        nodes.iter().map(place).collect()
    }

    fn members(nodes: &[u64]) -> Members {
        Members {
            at: 1,
            nodes: nodes.iter().map(|node| (*node, Seat::default())).collect(),
            ..Members::default()
        }
    }

    #[test]
    fn m_13_shard_0_decides_and_the_others_follow() {
        let mut retirement = Retirement::default();
        let none = [set([]), set([]), set([])];
        let mut orders =
            |gone, here: &[u64], retired: &_| retirement.orders(gone, &present(here), &[], retired);
        let ask = vec![set([31]), set([]), set([])];
        assert_eq!(orders(vec![NodeId(31)], &[11, 21], &none), ask);
        assert_eq!(orders(vec![], &[11, 21], &none), ask, "until it is decided");
        let first = [set([31]), set([]), set([])];
        let follow = vec![set([]), set([31]), set([31])];
        assert_eq!(orders(vec![], &[11, 21], &first), follow);
        // However it came to that, and whoever is back: what is decided is decided.
        let second = [set([]), set([31]), set([])];
        let follow = vec![set([31]), set([]), set([31])];
        assert_eq!(orders(vec![], &[11, 21, 31], &second), follow);
    }

    #[test]
    fn who_comes_back_before_it_is_decided_stays() {
        let none = [set([]), set([])];
        // It is there, or it is elsewhere and has been taken in.
        for (here, nodes) in [(&[11, 31][..], &[11][..]), (&[11], &[11, 31])] {
            let mut retirement = Retirement::default();
            let mut orders = |gone, here: &[u64], nodes: &[u64]| {
                let groups = [members(&[11]), members(nodes)];
                retirement.orders(gone, &present(here), &groups, &none)
            };
            let asked = orders(vec![NodeId(31)], &[11], &[11]);
            assert_eq!(asked, [set([31]), set([])]);
            assert_eq!(orders(vec![], here, nodes), none);
            assert_eq!(orders(vec![], &[11], &[11]), none);
        }
    }

    #[test]
    fn m_13_nobody_is_refused_whose_vote_may_count() {
        let refused = |groups: [Members; 2], retired: [BTreeSet<NodeId>; 2]| {
            Retirement::refused(&groups, &retired)
        };
        let (with, without) = (members(&[11, 31]), members(&[11, 21]));
        let both = [without.clone(), without.clone()];
        assert_eq!(refused(both.clone(), [set([31]), set([31])]), set([31]));
        assert_eq!(refused(both, [set([31]), set([])]), set([]));
        let one = [without, with];
        assert_eq!(refused(one, [set([31]), set([31])]), set([]));
    }
}
