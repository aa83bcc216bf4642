//! The next step that brings a group's membership closer to what it should be. Pure: it follows from the membership as
//! it is and from who is there, so that a new leader takes over wherever the last one stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use openraft::ChangeMembers;

use super::known::Members;
use super::placement::{self, State};
use super::roll::Present;
use super::types::{RaftId, Seat};
use crate::NodeId;
use crate::metrics::MoveStep;

/// A learner that lacks fewer entries than this may become a voter.
pub const CAUGHT_UP: u64 = 100;

/// A step that brings a membership closer to what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add this node as a learner, so that it gets the log.
    Learn(RaftId),
    /// Make exactly these the voters; the second list are those that are new.
    Replace(BTreeSet<RaftId>, Vec<RaftId>),
    /// Remove these from the members.
    Forget(BTreeSet<RaftId>),
    /// Note where this node is reached now.
    Move(RaftId),
}

impl Step {
    /// What it counts as, if a replica moves by it.
    pub fn counted(&self) -> Option<MoveStep> {
        match self {
            Self::Learn(_) => Some(MoveStep::Join),
            Self::Replace(..) => Some(MoveStep::Vote),
            Self::Forget(_) => Some(MoveStep::Leave),
            Self::Move(_) => None,
        }
    }

    /// Whether it may be taken now: who is to vote has nearly all that the group has. `lag` says how many entries a
    /// node lacks, as far as the leader knows.
    pub fn is_ready(&self, lag: impl Fn(RaftId) -> Option<u64>) -> bool {
        let has_the_log = |node: &RaftId| lag(*node).is_some_and(|lag| lag < CAUGHT_UP);
        match self {
            Self::Replace(_, fresh) => fresh.iter().all(has_the_log),
            Self::Learn(_) | Self::Forget(_) | Self::Move(_) => true,
        }
    }

    /// What is asked of the group for it. `None` if the node that it is about is not there any more.
    pub fn change(&self, present: &Present) -> Option<ChangeMembers<RaftId, Seat>> {
        let place = |node: &RaftId| {
            let (seat, (_, address)) = present.iter().find(|(_, (here, _))| here == node)?;
            let (seat, address) = (*seat, address.clone());
            Some(BTreeMap::from([(*node, Seat { seat, address })]))
        };
        Some(match self {
            Self::Learn(node) => ChangeMembers::AddNodes(place(node)?),
            Self::Replace(voters, _) => ChangeMembers::ReplaceAllVoters(voters.clone()),
            Self::Forget(nodes) => ChangeMembers::RemoveNodes(nodes.clone()),
            Self::Move(node) => ChangeMembers::SetNodes(place(node)?),
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |nodes: &mut dyn Iterator<Item = &RaftId>| {
            let names: Vec<String> = nodes.map(|node| NodeId(*node).to_string()).collect();
            names.join(", ")
        };
        match self {
            Self::Learn(node) => write!(f, "node {} is to get the log", NodeId(*node)),
            Self::Replace(voters, _) => {
                write!(f, "nodes {} are to vote", names(&mut voters.iter()))
            }
            Self::Forget(nodes) => write!(f, "nodes {} are to leave", names(&mut nodes.iter())),
            Self::Move(node) => write!(f, "node {} is elsewhere now", NodeId(*node)),
        }
    }
}

/// Decides the next step of a group whose voters should be `target`.
pub fn next_step(
    now: &Members,
    target: &BTreeSet<RaftId>,
    states: &BTreeMap<RaftId, State>,
    present: &Present,
) -> Option<Step> {
    let known = |node: &RaftId| now.nodes.get(node);
    // Where fewer than three vote, the others have the log at least.
    let all = target.len() < placement::VOTERS;
    let wanted = |node: &RaftId| all || target.contains(node);
    let may_join = |node: &RaftId| states.get(node) != Some(&State::Gone);
    let lacks =
        |(node, _): &&(RaftId, String)| wanted(node) && may_join(node) && known(node).is_none();
    if let Some((node, _)) = present.values().find(lacks) {
        return Some(Step::Learn(*node));
    }
    let whole = target.iter().all(|node| known(node).is_some());
    if whole && !target.is_empty() && now.configs.iter().any(|config| config != target) {
        if !can_be_finished(now, target, present) {
            return None;
        }
        // Who votes in one half of a change that is under way is not asked again: it may be dead by now, and the change
        // can be finished without it.
        let is_new = |node: &RaftId| !now.configs.iter().any(|config| config.contains(node));
        let fresh = target.iter().copied().filter(is_new).collect();
        return Some(Step::Replace(target.clone(), fresh));
    }
    let left = |node: &RaftId| {
        let state = states.get(node);
        // A learner that was away for long would only hold the log back.
        let leaves = matches!(state, Some(State::Gone | State::Overdue)) || !wanted(node);
        leaves && !now.configs.iter().any(|config| config.contains(node))
    };
    let left: BTreeSet<RaftId> = now.nodes.keys().copied().filter(left).collect();
    if !left.is_empty() {
        return Some(Step::Forget(left));
    }
    let moved = |(node, address): &&(RaftId, String)| {
        known(node).is_some_and(|seat| !address.is_empty() && seat.address != *address)
    };
    present
        .values()
        .find(moved)
        .map(|(node, _)| Step::Move(*node))
}

/// Whether a change to these voters finds its majorities among those who are there. One that is begun without them
/// cannot be taken back: it would go on to need voters that are dead, when others that would have done are there again.
fn can_be_finished(now: &Members, target: &BTreeSet<RaftId>, present: &Present) -> bool {
    let here: BTreeSet<RaftId> = present.values().map(|(node, _)| *node).collect();
    let has_majority =
        |voters: &BTreeSet<RaftId>| voters.intersection(&here).count() * 2 > voters.len();
    // The second half of a change is carried by the voters that it is about.
    let is_half_done = now.configs.contains(target);
    has_majority(target) && (is_half_done || has_majority(&now.voters()))
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::clock;
    use crate::raft::placement::View;
    use crate::raft::roll::Roll;

    fn set<const N: usize>(nodes: [u64; N]) -> BTreeSet<u64> {
        BTreeSet::from(nodes)
    }

    fn seat(node: u64) -> Seat {
        Seat {
            seat: node / 10,
            address: format!("node{}:1", node / 10),
        }
    }

    fn membership(configs: &[BTreeSet<u64>], nodes: &[u64]) -> Members {
        Members {
            at: 1,
            configs: configs.to_vec(),
            nodes: nodes.iter().map(|node| (*node, seat(*node))).collect(),
        }
    }

    fn present(nodes: &[u64]) -> Present {
        let seats = nodes.iter().map(|node| (*node, seat(*node)));
        seats
            .map(|(node, seat)| (seat.seat, (node, seat.address)))
            .collect()
    }

    /// Node 11 fills seat 1, node 12 is its second incarnation, and so on.
    #[track_caller]
    fn check(configs: &[BTreeSet<u64>], nodes: &[u64], here: &[u64], expect: Option<Step>) {
        let (now, here) = (membership(configs, nodes), present(here));
        let mut members: BTreeMap<u64, u64> = nodes.iter().map(|node| (*node, node / 10)).collect();
        members.extend(here.iter().map(|(seat, (node, _))| (*node, *seat)));
        let nobody = BTreeSet::new();
        let states = Roll::default().states(&members, &here, &nobody, &nobody, clock::timer());
        let view = View {
            voters: vec![configs[configs.len() - 1].clone()],
            nodes: states.clone(),
            ..View::default()
        };
        let target = &placement::targets(&view)[0];
        assert_eq!(next_step(&now, target, &states, &here), expect);
    }

    #[test]
    fn a_membership_of_those_present_is_left_alone_and_so_is_one_of_the_absent() {
        let whole = [set([11, 21, 31])];
        check(&whole, &[11, 21, 31], &[11, 21, 31], None);
        check(&whole, &[11, 21, 31], &[11], None);
    }

    #[test]
    fn t_69_a_new_incarnation_learns_and_then_replaces_the_old_one() {
        let whole = [set([11, 21, 31])];
        check(&whole, &[11, 21, 31], &[11, 21, 32], Some(Step::Learn(32)));
        let replace = Step::Replace(set([11, 21, 32]), vec![32]);
        check(&whole, &[11, 21, 31, 32], &[11, 21, 32], Some(replace));
        // Its second half begins nothing, so nobody is asked whether they have the log: they may be dead by now.
        let joint = [set([11, 21, 31]), set([11, 21, 32])];
        let finish = Step::Replace(set([11, 21, 32]), vec![]);
        check(&joint, &[11, 21, 31, 32], &[11, 21, 32], Some(finish));
        let forget = Step::Forget(set([31]));
        check(
            &[set([11, 21, 32])],
            &[11, 21, 31, 32],
            &[11, 21, 32],
            Some(forget),
        );
    }

    #[test]
    fn no_change_begins_that_could_not_be_finished() {
        let mut states = BTreeMap::from([(11, State::Active), (21, State::Gone)]);
        states.insert(31, State::Away);
        let nodes = [11, 21, 31, 41];
        let step = |configs: &[BTreeSet<u64>], target, here: &[u64]| {
            next_step(
                &membership(configs, &nodes),
                &target,
                &states,
                &present(here),
            )
        };
        let (whole, rest) = (set([11, 21, 31]), set([11, 31]));
        assert_eq!(step(slice::from_ref(&whole), rest.clone(), &[11, 21]), None);
        assert_eq!(
            step(slice::from_ref(&whole), set([11, 41, 31]), &[11, 41]),
            None
        );
        // What is half done needs only those who are to vote.
        let begun = step(&[whole, rest.clone()], rest.clone(), &[11, 31]);
        assert_eq!(begun, Some(Step::Replace(rest, vec![])));
    }

    #[test]
    fn a_node_has_no_replica_where_three_others_vote() {
        let whole = [set([11, 21, 31])];
        let all = [11, 21, 31, 41];
        check(&whole, &[11, 21, 31], &all, None);
        let forget = Step::Forget(set([41]));
        check(&whole, &all, &all, Some(forget));
    }

    #[test]
    fn where_fewer_than_three_vote_every_node_gets_the_log() {
        check(&[set([11])], &[11], &[11, 21], Some(Step::Learn(21)));
        check(&[set([11])], &[11, 21], &[11, 21], None);
        let all = Step::Replace(set([11, 21, 31]), vec![21, 31]);
        check(&[set([11])], &[11, 21, 31], &[11, 21, 31], Some(all));
    }

    #[test]
    fn m_13_a_node_that_is_gone_is_not_taken_in_though_it_is_there() {
        let states = BTreeMap::from([(11, State::Active), (21, State::Gone)]);
        let step = |nodes: &[u64]| {
            let now = membership(&[set([11])], nodes);
            next_step(&now, &set([11]), &states, &present(&[11, 21]))
        };
        assert_eq!(step(&[11]), None);
        assert_eq!(step(&[11, 21]), Some(Step::Forget(set([21]))));
    }

    #[test]
    fn a_node_that_moves_is_noted() {
        let (now, mut here) = (membership(&[set([11])], &[11]), present(&[11]));
        here.insert(1, (11, String::from("elsewhere:1")));
        let states = BTreeMap::from([(11, State::Active)]);
        let step = next_step(&now, &set([11]), &states, &here);
        assert_eq!(step, Some(Step::Move(11)));
    }
}
