//! What an operator is told first: which shards cannot commit, and who is missing.

use std::collections::BTreeSet;

use cluster::NodeId;
use cluster::status::{MemberState, NodeStatus, ShardStatus};

use super::report::Seats;

/// How much of a shard can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// How many voters.
    pub voters: usize,
    /// How many voters there are.
    of: usize,
    /// Whether there is a leader, and it can be reached.
    pub leader: bool,
}

impl Reach {
    /// By who is up.
    pub fn of(shard: &ShardStatus, up: &BTreeSet<NodeId>) -> Self {
        let reached = shard.voters.iter().filter(|voter| up.contains(voter));
        Self {
            voters: reached.count(),
            of: shard.voters.len(),
            leader: shard.leader.is_some_and(|leader| up.contains(&leader)),
        }
    }

    fn has_majority(&self) -> bool {
        self.voters * 2 > self.of
    }

    /// Whether something can be committed.
    pub fn is_well(&self) -> bool {
        self.leader && self.has_majority()
    }

    /// How many more voters may be lost.
    pub fn can_lose(&self) -> usize {
        self.voters.saturating_sub(self.of / 2 + 1)
    }
}

/// All warnings, worst first.
pub fn all(
    nodes: &[NodeStatus],
    shards: &[&ShardStatus],
    reached: &[Reach],
    seats: &Seats,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let named = |is: &dyn Fn(&Reach) -> bool| -> Option<String> {
        let found = shards.iter().zip(reached).filter(|(_, reach)| is(reach));
        let names: Vec<String> = found.map(|(shard, _)| shard.shard.to_string()).collect();
        shards_named(&names)
    };
    if let Some(shards) = named(&|reach| !reach.has_majority()) {
        warnings.push(format!(
            "no majority for {shards}: nothing can be committed there, and clients of this node are sent away"
        ));
    }
    if let Some(shards) = named(&|reach| reach.has_majority() && !reach.leader) {
        warnings.push(format!("no leader for {shards}"));
    }
    let drained = |state| state == Some(MemberState::Draining);
    let serves = |node: &NodeStatus| node.up && !drained(node.state);
    if nodes.iter().any(|node| drained(node.state)) && !nodes.iter().any(serves) {
        warnings.push(
            "no node is in service, so clients are turned away everywhere: `holdfast cluster undrain NODE`"
                .to_owned(),
        );
    }
    let stalled = shards.iter().filter_map(|shard| shard.stalled);
    warnings.extend(stalled.map(|stalled| stalled.to_string()));
    warnings.extend(missing(nodes, shards, seats));
    let formats: BTreeSet<String> = nodes
        .iter()
        .filter_map(|node| Some(node.formats?.to_string()))
        .collect();
    if formats.len() > 1 {
        let formats: Vec<String> = formats.into_iter().collect();
        warnings.push(format!(
            "nodes read different formats ({}): an upgrade is not complete",
            formats.join("; ")
        ));
    }
    warnings
}

/// A line for each voter that cannot be reached.
fn missing(nodes: &[NodeStatus], shards: &[&ShardStatus], seats: &Seats) -> Vec<String> {
    let up = nodes.iter().filter(|node| node.up);
    let up: BTreeSet<NodeId> = up.filter_map(|node| node.node).collect();
    let voters: BTreeSet<NodeId> = shards
        .iter()
        .flat_map(|shard| shard.voters.iter().copied())
        .collect();
    let missing = voters.difference(&up).map(|node| {
        let of = shards.iter().filter(|shard| shard.voters.contains(node));
        let of: Vec<String> = of.map(|shard| shard.shard.to_string()).collect();
        let state = nodes.iter().find(|known| known.node == Some(*node));
        let state = state.and_then(|known| known.state);
        let state = state.map_or("unknown", |state| state.name());
        let (name, of) = (seats.name(*node), shards_named(&of).unwrap_or_default());
        format!("node {name} cannot be reached ({state}) and votes in {of}")
    });
    missing.collect()
}

/// Some shards, for a sentence.
fn shards_named(names: &[String]) -> Option<String> {
    match names {
        [] => None,
        [one] => Some(format!("shard {one}")),
        some => Some(format!("shards {}", some.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_lost_is_what_is_beyond_a_majority() {
        let reach = |voters, of| Reach {
            voters,
            of,
            leader: true,
        };
        for (voters, of, can_lose, is_well) in [
            (1, 1, 0, true),
            (3, 3, 1, true),
            (2, 3, 0, true),
            (1, 3, 0, false),
            (5, 5, 2, true),
            (0, 0, 0, false),
        ] {
            let reach = reach(voters, of);
            let found = (reach.can_lose(), reach.is_well());
            assert_eq!(found, (can_lose, is_well), "{voters} of {of}");
        }
    }

    #[test]
    fn that_no_node_is_in_service_is_told() {
        let node = |seat, state, up| NodeStatus {
            seat,
            node: Some(NodeId(seat)),
            address: String::new(),
            up,
            me: seat == 1,
            state: Some(state),
            formats: None,
            zone: None,
        };
        let (drained, away) = (MemberState::Draining, MemberState::Away);
        for (second, is_told) in [
            (node(2, MemberState::Active, true), false),
            (node(2, drained, true), true),
            (node(2, away, false), true),
        ] {
            let nodes = [node(1, drained, true), second];
            let warnings = all(&nodes, &[], &[], &Seats::of(&nodes));
            let told = warnings
                .iter()
                .any(|one| one.starts_with("no node is in service"));
            assert_eq!(told, is_told, "{warnings:?}");
        }
    }
}
