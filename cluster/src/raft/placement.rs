//! Decides who should vote in each shard. Pure: it follows from the memberships as they are and from who is there, so
//! that any leader comes to the same result and a new one goes on where the last one stopped.
//!
//! Three members vote, however many there are. Voters stay where they are unless they are replaced, given up, or
//! carry more than their share, so that little moves when a node joins or leaves.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::known::Members;
use super::types::RaftId;

/// How many members vote, if there are as many.
pub const VOTERS: usize = 3;

/// How a node of the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// It is connected.
    Active,
    /// It is connected and about to stop.
    Draining,
    /// It is not connected, and may come back any moment.
    Away,
    /// It was not connected for so long that others should vote in its place, if there are others.
    Overdue,
    /// It will not come back: its seat is filled by another, or it was removed.
    Gone,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Active,
        Self::Draining,
        Self::Away,
        Self::Overdue,
        Self::Gone,
    ];

    /// As operators read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Away => "away",
            Self::Overdue => "overdue",
            Self::Gone => "removed",
        }
    }
}

/// All that the decision depends on.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The voters of each shard.
    pub voters: Vec<BTreeSet<RaftId>>,
    /// Every node that is a member of some shard or connected.
    pub nodes: BTreeMap<RaftId, State>,
}

impl View {
    /// What follows from these memberships. `None` for whoever does not know of all groups: it cannot tell who has
    /// room.
    pub fn of(memberships: &[Members], states: &BTreeMap<RaftId, State>) -> Option<Self> {
        let all_known = memberships.iter().all(|members| members.at > 0);
        all_known.then(|| Self {
            voters: memberships.iter().map(Members::voters).collect(),
            nodes: states.clone(),
        })
    }

    fn is(&self, node: RaftId, states: &[State]) -> bool {
        let state = self.nodes.get(&node).unwrap_or(&State::Away);
        states.contains(state)
    }

    /// Whether too few of these voters would be left if those that drain were to stop now.
    fn is_critical(&self, voters: &BTreeSet<RaftId>) -> bool {
        let left = voters
            .iter()
            .filter(|node| self.is(**node, &[State::Active]));
        let drains = voters.iter().any(|node| self.is(*node, &[State::Draining]));
        drains && left.count() * 2 <= voters.len()
    }

    /// Those of the voters that need not be replaced.
    fn stay(&self, voters: &BTreeSet<RaftId>) -> BTreeSet<RaftId> {
        let stays: &[State] = match self.is_critical(voters) {
            true => &[State::Active],
            false => &[State::Active, State::Draining, State::Away],
        };
        voters
            .iter()
            .copied()
            .filter(|node| self.is(*node, stays))
            .collect()
    }

    fn active(&self) -> BTreeSet<RaftId> {
        let nodes = self.nodes.iter();
        nodes
            .filter(|(_, state)| **state == State::Active)
            .map(|(node, _)| *node)
            .collect()
    }
}

/// The voters that each shard should have.
pub fn targets(view: &View) -> Vec<BTreeSet<RaftId>> {
    let active = view.active();
    let mut targets: Vec<BTreeSet<RaftId>> =
        view.voters.iter().map(|voters| view.stay(voters)).collect();
    // Of fewer nodes one votes alone in each shard. Were it not the same in all, the loss of any would stop something.
    let shared = active.len() >= VOTERS;
    let weigh = |targets: &[BTreeSet<RaftId>]| {
        if shared {
            loads(targets)
        } else {
            BTreeMap::new()
        }
    };
    for (place, voters) in view.voters.iter().enumerate() {
        let stay = &targets[place];
        let mut available = stay.union(&active).count();
        if available < VOTERS && !view.is_critical(voters) {
            // Who is overdue goes on voting if nobody is there to take its place.
            let overdue = voters
                .iter()
                .filter(|node| view.is(**node, &[State::Overdue]));
            targets[place].extend(overdue);
            available = targets[place].union(&active).count();
        }
        let wanted = if available >= VOTERS {
            VOTERS
        } else {
            voters.len().max(1).min(available)
        };
        while targets[place].len() > wanted {
            let loads = weigh(&targets);
            let most = targets[place]
                .iter()
                .copied()
                .max_by_key(|node| (loads.get(node), *node));
            most.map(|node| targets[place].remove(&node));
        }
        while targets[place].len() < wanted {
            let loads = weigh(&targets);
            let others = active.difference(&targets[place]).copied();
            let least = others.min_by_key(|node| (loads.get(node), *node));
            targets[place].extend(least);
        }
    }
    if shared {
        share_out(&mut targets, &active);
    }
    targets
}

/// Whether any of these sets of voters would have no majority left if `me`, which votes in it, stopped now.
pub fn is_needed(
    me: RaftId,
    electorates: &[BTreeSet<RaftId>],
    stays: impl Fn(RaftId) -> bool,
) -> bool {
    let mut with_me = electorates.iter().filter(|voters| voters.contains(&me));
    with_me.any(|voters| {
        let left = voters.iter().filter(|node| stays(**node)).count();
        left * 2 <= voters.len()
    })
}

/// Moves votes from those that have most to those that have least, until nobody has two more than another.
fn share_out(targets: &mut [BTreeSet<RaftId>], active: &BTreeSet<RaftId>) {
    loop {
        let loads = loads(targets);
        let load = |node: &RaftId| loads.get(node).copied().unwrap_or(0);
        let most = loads.keys().copied().max_by_key(|node| (load(node), *node));
        let least = active
            .iter()
            .copied()
            .min_by_key(|node| (load(node), *node));
        let (Some(most), Some(least)) = (most, least) else {
            return;
        };
        let movable =
            |target: &&mut BTreeSet<RaftId>| target.contains(&most) && !target.contains(&least);
        // Fewer votes for one and more for the other: each turn comes closer, so this ends.
        match targets.iter_mut().find(movable) {
            Some(target) if load(&most) >= load(&least) + 2 => {
                target.remove(&most);
                target.insert(least);
            }
            _ => return,
        }
    }
}

/// In how many shards each node votes.
fn loads(targets: &[BTreeSet<RaftId>]) -> BTreeMap<RaftId, usize> {
    let mut loads = BTreeMap::new();
    for node in targets.iter().flatten() {
        *loads.entry(*node).or_insert(0) += 1;
    }
    loads
}

/// The first voters of each of so many shards of a cluster that these nodes found.
pub fn founding(shards: usize, founders: impl Iterator<Item = RaftId>) -> Vec<BTreeSet<RaftId>> {
    targets(&View {
        voters: vec![BTreeSet::new(); shards],
        nodes: founders.map(|node| (node, State::Active)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many shards in which the first `voters` nodes vote.
    fn view(shards: usize, voters: u64, states: &[(RaftId, State)]) -> View {
        View {
            voters: vec![(1..=voters).collect(); shards],
            nodes: states.iter().copied().collect(),
        }
    }

    fn active(nodes: u64) -> Vec<(RaftId, State)> {
        (1..=nodes).map(|node| (node, State::Active)).collect()
    }

    fn with(nodes: u64, changed: &[(RaftId, State)]) -> Vec<(RaftId, State)> {
        let mut states = active(nodes);
        states.extend_from_slice(changed);
        states
    }

    #[track_caller]
    fn check(states: &[(RaftId, State)], voters: u64, expect: &[RaftId]) {
        let targets = targets(&view(1, voters, states));
        assert_eq!(targets, [expect.iter().copied().collect::<BTreeSet<_>>()]);
    }

    #[test]
    fn each_node_votes_in_its_share_and_nothing_moves_twice() {
        for shards in [1, 3, 12] {
            let mut now = view(shards, 1, &active(1));
            for nodes in [1, 2, 3, 4, 5, 7, 6, 4, 3] {
                now.nodes = (1..=7)
                    .map(|n| (n, State::Gone))
                    .chain(active(nodes))
                    .collect();
                now.voters = targets(&now);
                let expect = if nodes < 3 { 1 } else { 3 };
                assert!(
                    now.voters.iter().all(|voters| voters.len() == expect),
                    "{now:?}"
                );
                let loads = loads(&now.voters);
                let share = (shards * expect).div_ceil(nodes as usize);
                if nodes >= 3 {
                    assert!(
                        loads.values().all(|load| *load <= share),
                        "{nodes}: {loads:?}"
                    );
                }
                assert_eq!(targets(&now), now.voters, "{nodes} nodes, {shards} shards");
            }
        }
    }

    #[test]
    fn few_voters_move_when_a_node_joins() {
        let before = view(3, 3, &active(4));
        let after = targets(&before);
        let moved = before
            .voters
            .iter()
            .zip(&after)
            .map(|(a, b)| b.difference(a).count());
        assert_eq!(moved.sum::<usize>(), 2);
    }

    #[test]
    fn a_restart_moves_nothing() {
        check(&with(3, &[(2, State::Draining)]), 3, &[1, 2, 3]);
        check(&with(3, &[(2, State::Away)]), 3, &[1, 2, 3]);
        check(&with(5, &[(2, State::Away)]), 3, &[1, 2, 3]);
    }

    #[test]
    fn two_that_drain_at_once_leave_their_votes_first() {
        check(
            &with(5, &[(1, State::Draining), (2, State::Draining)]),
            3,
            &[3, 4, 5],
        );
        check(
            &with(3, &[(2, State::Draining), (3, State::Draining)]),
            3,
            &[1],
        );
        check(
            &with(4, &[(1, State::Away), (2, State::Draining)]),
            3,
            &[3, 4],
        );
    }

    #[test]
    fn who_drains_is_needed_until_no_set_of_voters_counts_on_it() {
        let sets = |all: &[&[RaftId]]| -> Vec<BTreeSet<RaftId>> {
            all.iter()
                .map(|set| set.iter().copied().collect())
                .collect()
        };
        let needed = |electorates: &[&[RaftId]], stay: &[RaftId]| {
            is_needed(1, &sets(electorates), |node| stay.contains(&node))
        };
        assert!(!needed(&[&[1, 2, 3]], &[2, 3]));
        assert!(needed(&[&[1, 2, 3]], &[3, 4, 5]));
        // Others are to vote in its place, but the change needs its vote.
        assert!(needed(&[&[1, 2, 3], &[3, 4, 5]], &[3, 4, 5]));
        assert!(!needed(&[&[3, 4, 5]], &[3, 4, 5]));
    }

    #[test]
    fn who_is_overdue_is_replaced_if_there_is_somebody() {
        check(&with(3, &[(2, State::Overdue)]), 3, &[1, 2, 3]);
        check(&with(4, &[(2, State::Overdue)]), 3, &[1, 3, 4]);
    }

    #[test]
    fn who_is_gone_votes_no_more() {
        check(&with(3, &[(2, State::Gone)]), 3, &[1, 3]);
        check(&with(4, &[(2, State::Gone)]), 3, &[1, 3, 4]);
    }

    #[test]
    fn nobody_is_removed_for_want_of_others() {
        check(
            &[(1, State::Away), (2, State::Away), (3, State::Active)],
            3,
            &[1, 2, 3],
        );
        check(&active(2), 2, &[1, 2]);
        check(&active(2), 1, &[1]);
        let grown = targets(&view(3, 1, &active(2)));
        assert_eq!(grown, vec![BTreeSet::from([1]); 3]);
        assert_eq!(founding(3, [1, 2].into_iter()), grown);
    }
}
