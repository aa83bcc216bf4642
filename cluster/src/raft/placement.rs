//! Decides who should vote in each shard. Pure: it follows from the memberships as they are and from who is there, so
//! that any leader comes to the same result and a new one goes on where the last one stopped.
//!
//! Three members vote, however many there are, in different zones if there are as many. Voters stay where they are
//! unless they are replaced, given up, share a zone or carry more than their share, so that little moves when a node
//! joins or leaves.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::known::Members;
use super::types::RaftId;
use super::zones::Zones;

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
    /// Where they are.
    pub zones: Zones,
}

impl View {
    /// What follows from these memberships. `None` for whoever does not know of all groups: it cannot tell who has
    /// room.
    pub fn of(
        memberships: &[Members],
        states: &BTreeMap<RaftId, State>,
        zones: Zones,
    ) -> Option<Self> {
        let all_known = memberships.iter().all(|members| members.at > 0);
        all_known.then(|| Self {
            voters: memberships.iter().map(Members::voters).collect(),
            nodes: states.clone(),
            zones,
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
            let near = |node: &RaftId| view.zones.neighbours(*node, &targets[place]);
            let voters = targets[place].iter().copied();
            let most = voters.max_by_key(|node| (near(node), loads.get(node).copied(), *node));
            most.map(|node| targets[place].remove(&node));
        }
        while targets[place].len() < wanted {
            let loads = weigh(&targets);
            let near = |node: &RaftId| view.zones.neighbours(*node, &targets[place]);
            let others = active.difference(&targets[place]).copied();
            let least = others.min_by_key(|node| (near(node), loads.get(node).copied(), *node));
            targets[place].extend(least);
        }
    }
    if shared {
        part(&mut targets, &active, &view.zones);
        share_out(&mut targets, &active, &view.zones);
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

/// Moves votes out of zones that have several in one shard, into zones that have none there.
fn part(targets: &mut [BTreeSet<RaftId>], active: &BTreeSet<RaftId>, zones: &Zones) {
    for place in 0..targets.len() {
        // Each turn leaves fewer in a zone with others, so this ends.
        while let Some((leaves, comes)) = parted(targets, place, active, zones) {
            targets[place].remove(&leaves);
            targets[place].insert(comes);
        }
    }
}

/// Who should vote in place of whom so that fewer of a shard's voters share a zone, if anybody should.
fn parted(
    targets: &[BTreeSet<RaftId>],
    place: usize,
    active: &BTreeSet<RaftId>,
    zones: &Zones,
) -> Option<(RaftId, RaftId)> {
    let (target, loads) = (&targets[place], loads(targets));
    let load = |node: &RaftId| loads.get(node).copied().unwrap_or(0);
    let crowded = target.iter().copied();
    let crowded = crowded.filter(|node| zones.neighbours(*node, target) > 0);
    let leaves = crowded.max_by_key(|node| (load(node), *node))?;
    let free = active.difference(target).copied();
    let free = free.filter(|node| zones.neighbours(*node, target) == 0);
    Some((leaves, free.min_by_key(|node| (load(node), *node))?))
}

/// Moves votes from those that have more to those that have less, until nobody has two more than another who could
/// take one of them without more voters in one zone.
fn share_out(targets: &mut [BTreeSet<RaftId>], active: &BTreeSet<RaftId>, zones: &Zones) {
    // Fewer votes for one and more for the other: each turn comes closer, so this ends.
    while let Some((place, from, to)) = uneven(targets, active, zones) {
        targets[place].remove(&from);
        targets[place].insert(to);
    }
}

/// A shard in which the second of two nodes should vote in place of the first, if there is one.
fn uneven(
    targets: &[BTreeSet<RaftId>],
    active: &BTreeSet<RaftId>,
    zones: &Zones,
) -> Option<(usize, RaftId, RaftId)> {
    let loads = loads(targets);
    let load = |node: &RaftId| loads.get(node).copied().unwrap_or(0);
    let mut busy: Vec<RaftId> = loads.keys().copied().collect();
    busy.sort_by_key(|node| std::cmp::Reverse((load(node), *node)));
    let mut idle: Vec<RaftId> = active.iter().copied().collect();
    idle.sort_by_key(|node| (load(node), *node));
    for from in busy {
        for to in idle
            .iter()
            .copied()
            .filter(|to| load(&from) >= load(to) + 2)
        {
            let movable = |target: &BTreeSet<RaftId>| {
                let mut after = target.clone();
                after.remove(&from)
                    && after.insert(to)
                    && zones.crowding(&after) <= zones.crowding(target)
            };
            if let Some(place) = targets.iter().position(movable) {
                return Some((place, from, to));
            }
        }
    }
    None
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
        zones: Zones::default(),
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
            zones: Zones::default(),
        }
    }

    /// Nodes 1, 2, … in these zones.
    fn zones(names: &[&str]) -> Zones {
        let named = names.iter().map(|name| String::from(*name));
        (1..).zip(named).collect()
    }

    fn crowding(view: &View) -> usize {
        let voters = view.voters.iter();
        voters.map(|voters| view.zones.crowding(voters)).sum()
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
    fn voters_are_in_different_zones_if_there_are_as_many() {
        for (names, at_best) in [
            (&["a", "b", "c"][..], 0),
            (&["a", "a", "b", "b", "c"], 0),
            (&["a", "a", "a", "a", "b", "c"], 0),
            (&["a", "a", "a", "b", "b"], 1),
            (&["a", "a", "a"], 2),
            (&["", "", "a", "a", "a"], 0),
        ] {
            for shards in [1, 3, 12] {
                let mut now = view(shards, 3, &active(names.len() as u64));
                now.zones = zones(names);
                now.voters = targets(&now);
                assert_eq!(crowding(&now), at_best * shards, "{names:?}: {now:?}");
                assert_eq!(targets(&now), now.voters, "{names:?}");
            }
        }
    }

    #[test]
    fn votes_are_shared_out_within_the_zones() {
        let mut now = view(6, 3, &active(7));
        now.zones = zones(&["a", "a", "a", "b", "b", "c", "c"]);
        now.voters = targets(&now);
        let loads = loads(&now.voters);
        let expect = [2, 2, 2, 3, 3, 3, 3];
        assert_eq!(loads, (1..).zip(expect).collect());
    }

    #[test]
    fn a_restart_moves_nothing_in_zones_either() {
        let mut now = view(1, 3, &with(5, &[(2, State::Away)]));
        now.zones = zones(&["a", "b", "c", "b", "c"]);
        assert_eq!(targets(&now), now.voters);
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
