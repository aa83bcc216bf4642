//! The zones that nodes are in, and how a shard's voters are kept apart. Pure.
//!
//! A zone is what may fail as a whole: a rack, a room, a site. What is not known shares nothing with anybody, so that a
//! cluster without zones is placed as if there were none.

use std::collections::{BTreeMap, BTreeSet};

use super::types::RaftId;

/// The zones of nodes, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones(BTreeMap<RaftId, String>);

impl Zones {
    fn of(&self, node: RaftId) -> Option<&String> {
        self.0.get(&node)
    }

    /// How many others of these nodes are in the zone of `node`.
    pub fn neighbours(&self, node: RaftId, among: &BTreeSet<RaftId>) -> usize {
        let zone = self.of(node);
        let near = |other: &&RaftId| **other != node && zone.is_some() && self.of(**other) == zone;
        among.iter().filter(near).count()
    }

    /// How many of these nodes are in the zone of another one that was counted before. None share one if it is 0.
    pub fn crowding(&self, nodes: &BTreeSet<RaftId>) -> usize {
        let known: Vec<_> = nodes.iter().filter_map(|node| self.of(*node)).collect();
        let different: BTreeSet<_> = known.iter().collect();
        known.len() - different.len()
    }
}

/// Nodes with their zones. An empty name says that a node is in none.
impl FromIterator<(RaftId, String)> for Zones {
    fn from_iter<I: IntoIterator<Item = (RaftId, String)>>(nodes: I) -> Self {
        let named = nodes.into_iter().filter(|(_, zone)| !zone.is_empty());
        Self(named.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_no_zone_shares_none() {
        let zones = [(1, "a"), (2, "a"), (3, "b"), (4, ""), (5, "")];
        let zones: Zones = zones
            .map(|(node, zone)| (node, zone.into()))
            .into_iter()
            .collect();
        let all = (1..=6).collect();
        assert_eq!(
            [1, 2, 3, 4, 6].map(|node| zones.neighbours(node, &all)),
            [1, 1, 0, 0, 0]
        );
        assert_eq!(zones.crowding(&all), 1);
        assert_eq!(zones.crowding(&BTreeSet::from([1, 3, 4, 5])), 0);
    }
}
