//! The nodes that one node has ever met or heard of as members, and when they may be forgotten. Pure.

use std::collections::BTreeMap;

use super::known::Members;
use super::placement::State;
use super::roll::Present;
use super::types::RaftId;
use crate::NodeId;

/// The nodes that were ever met or members, and their seats.
#[derive(Clone, Debug, Default)]
pub struct Seen(BTreeMap<RaftId, u64>);

impl Seen {
    /// Notes who is there and who is a member.
    pub fn meet(&mut self, present: &Present, memberships: &[Members]) {
        let met = present.iter().map(|(seat, (node, _))| (*node, *seat));
        let members = memberships.iter().flat_map(|members| &members.nodes);
        let members = members.map(|(node, seat)| (*node, seat.seat));
        self.0.extend(met.chain(members));
    }

    /// The seats of all of them.
    pub fn seats(&self) -> &BTreeMap<RaftId, u64> {
        &self.0
    }

    /// Whether any of them has this seat.
    pub fn has(&self, seat: u64) -> bool {
        self.0.values().any(|of| *of == seat)
    }

    /// Forgets nodes that have left. Returns those that should not come back, as their seats are not wanted or are filled
    /// by others. `current` says whether this node hears from the leader of each group: of one that it hears nothing of
    /// anybody may have become a member.
    pub fn forget(
        &mut self,
        states: &BTreeMap<RaftId, State>,
        memberships: &[Members],
        current: bool,
    ) -> Vec<NodeId> {
        let is_member = |node: &RaftId| memberships.iter().any(|now| now.nodes.contains_key(node));
        let all_known = current && memberships.iter().all(|now| now.at > 0);
        let mut gone = Vec::new();
        self.0.retain(|node, _| match states.get(node) {
            Some(State::Active | State::Draining | State::Away) | None => true,
            Some(state) => {
                let stays = is_member(node) || !all_known;
                if !stays && *state == State::Gone {
                    gone.push(NodeId(*node));
                }
                stays
            }
        });
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::Seat;

    #[test]
    fn nobody_is_refused_for_good_by_a_node_that_may_have_missed_a_change() {
        let place = |seat| (seat, (10 * seat, String::new()));
        let (mut seen, both) = (Seen::default(), Present::from([1, 2].map(place)));
        let members = Members {
            at: 1,
            nodes: BTreeMap::from([(10, Seat::default())]),
            ..Members::default()
        };
        seen.meet(&both, &[]);
        let states = BTreeMap::from([(10, State::Active), (20, State::Gone)]);
        let mut forget = |members: &Members, current| {
            let members = std::slice::from_ref(members);
            seen.forget(&states, members, current)
        };
        assert!(forget(&members, false).is_empty());
        assert!(forget(&Members::default(), true).is_empty());
        assert_eq!(forget(&members, true), [NodeId(20)]);
        assert!(forget(&members, true).is_empty(), "it is forgotten");
    }
}
