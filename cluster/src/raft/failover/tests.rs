//! The choice among survivors.

use super::*;
use crate::raft::types::TC;

fn tail(index: u64) -> Option<LogId> {
    Some(openraft::testing::log_id::<TC>(1, 1, index))
}

fn voters() -> BTreeMap<u64, NodeId> {
    (1..=3).map(|seat| (seat, NodeId(10 * seat))).collect()
}

#[track_caller]
fn check(tails: &[(u64, u64)], turn: usize, expect: Option<u64>) {
    let tails = tails
        .iter()
        .map(|(node, index)| (NodeId(*node), tail(*index)))
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
