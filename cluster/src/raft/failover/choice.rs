//! Who should lead next. Pure.

use std::collections::{BTreeMap, HashSet};

use crate::NodeId;

/// The survivor with the longest log. Among equals the groups of a lost node are shared out.
pub fn choose<T: Ord>(
    voters: &BTreeMap<u64, NodeId>,
    dead: NodeId,
    tails: &BTreeMap<NodeId, T>,
    turn: usize,
) -> Option<NodeId> {
    let survivors: Vec<NodeId> = voters
        .values()
        .copied()
        .filter(|voter| *voter != dead && tails.contains_key(voter))
        .collect();
    let longest = survivors
        .iter()
        .filter_map(|voter| tails.get(voter))
        .max()?;
    let equals: Vec<NodeId> = survivors
        .iter()
        .copied()
        .filter(|voter| tails.get(voter) == Some(longest))
        .collect();
    equals.get(turn % equals.len().max(1)).copied()
}

/// The voter that leads if all is well. The groups are shared out by their turn.
pub fn preferred(voters: &BTreeMap<u64, NodeId>, turn: usize) -> Option<NodeId> {
    voters.values().nth(turn % voters.len().max(1)).copied()
}

/// To whom leadership is given away: of those that are there and want to lead, the one that lacks fewest entries.
pub fn heir(
    voters: &BTreeMap<u64, NodeId>,
    is_there: impl Fn(NodeId) -> bool,
    draining: &HashSet<NodeId>,
    lag: impl Fn(NodeId) -> Option<u64>,
) -> Option<NodeId> {
    let others = voters.values().copied().filter(|voter| is_there(*voter));
    let willing = others.filter(|voter| !draining.contains(voter));
    willing.min_by_key(|voter| lag(*voter).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters() -> BTreeMap<u64, NodeId> {
        (1..=3).map(|seat| (seat, NodeId(10 * seat))).collect()
    }

    #[track_caller]
    fn check(tails: &[(u64, u64)], turn: usize, expect: Option<u64>) {
        let tails = tails
            .iter()
            .map(|(node, index)| (NodeId(*node), *index))
            .collect();
        assert_eq!(
            choose(&voters(), NodeId(20), &tails, turn),
            expect.map(NodeId)
        );
    }

    #[test]
    fn the_longest_log_among_the_survivors_is_chosen() {
        check(&[(10, 5), (30, 6)], 0, Some(30));
        check(&[(10, 5), (30, 4)], 1, Some(10));
        check(&[(10, 5), (20, 9), (40, 9)], 1, Some(10));
        check(&[], 0, None);
    }

    #[test]
    fn the_groups_of_a_lost_node_are_shared_out_among_equals() {
        check(&[(10, 5), (30, 5)], 0, Some(10));
        check(&[(10, 5), (30, 5)], 1, Some(30));
        check(&[(10, 5), (30, 5)], 2, Some(10));
    }
}
