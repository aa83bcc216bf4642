//! How each node of the cluster is, as far as this one knows: by what is connected, for how long what is not has been
//! away, and who is no longer a member.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::placement::State;
use super::retirement::Orders;
use super::types::RaftId;
use crate::NodeId;
use crate::config::Patience;

/// The nodes that are connected, by seat, and where they are reached. This node is among them.
pub type Present = BTreeMap<u64, (RaftId, String)>;

/// What this node knows of the others beside the memberships. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Roll(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    // A lock that is rarely taken: what it guards changes with each look, four times a second.
    known: Mutex<Known>,
    /// Who should be retired, by shard.
    orders: watch::Sender<Orders>,
}

#[derive(Debug, Default)]
struct Known {
    /// Since when a member is not connected.
    away: BTreeMap<RaftId, Instant>,
    patience: Patience,
    /// What was found at the last look.
    last: Found,
}

/// The members of the cluster and where replicas should be, as this node sees it.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The seat and the state of each member.
    pub members: BTreeMap<NodeId, (u64, State)>,
    /// The voters that each shard should have.
    pub targets: Vec<BTreeSet<NodeId>>,
}

impl Roll {
    /// Changes when nodes are given up.
    pub fn set_patience(&self, patience: Patience) {
        self.known().patience = patience;
    }

    /// Notes whom each shard's leader should retire.
    pub fn order(&self, orders: Orders) {
        self.0.orders.send_if_modified(|before| {
            let changed = *before != orders;
            *before = orders;
            changed
        });
    }

    /// Whom each shard's leader should retire, and its changes.
    pub fn orders(&self) -> watch::Receiver<Orders> {
        self.0.orders.subscribe()
    }

    /// A poisoned lock is usable: no holder can leave the value half changed.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was found, for those who ask.
    pub fn note(
        &self,
        seats: &BTreeMap<RaftId, u64>,
        states: &BTreeMap<RaftId, State>,
        targets: &[BTreeSet<RaftId>],
    ) {
        let member =
            |(node, state): (&RaftId, &State)| Some((NodeId(*node), (*seats.get(node)?, *state)));
        let target = |nodes: &BTreeSet<RaftId>| nodes.iter().copied().map(NodeId).collect();
        let found = Found {
            members: states.iter().filter_map(member).collect(),
            targets: targets.iter().map(target).collect(),
        };
        self.known().last = found;
    }

    /// What was found at the last look. Nothing is known on a node that has no others.
    pub fn found(&self) -> Found {
        self.known().last.clone()
    }

    /// The states of all nodes at this time, of which those in `retired` are no longer members.
    pub fn states(
        &self,
        members: &BTreeMap<RaftId, u64>,
        present: &Present,
        stopping: &BTreeSet<RaftId>,
        retired: &BTreeSet<RaftId>,
        now: Instant,
    ) -> BTreeMap<RaftId, State> {
        let mut known = self.known();
        let Patience {
            replace_after,
            expected_size,
        } = known.patience;
        let away = |node: &RaftId| !present.values().any(|(here, _)| here == node);
        known
            .away
            .retain(|node, _| away(node) && members.contains_key(node));
        let mut states = BTreeMap::new();
        for (node, seat) in members {
            let state = match present.get(seat) {
                // It may be back. That does not change what is decided.
                _ if retired.contains(node) => State::Gone,
                Some((here, _)) if here == node && stopping.contains(node) => State::Draining,
                Some((here, _)) if here == node => State::Active,
                Some(_) => State::Gone,
                None => {
                    let since = *known.away.entry(*node).or_insert(now);
                    let surplus = expected_size > 0 && *seat > expected_size;
                    match () {
                        () if surplus => State::Gone,
                        () if now.saturating_duration_since(since) >= replace_after => {
                            State::Overdue
                        }
                        () => State::Away,
                    }
                }
            };
            states.insert(*node, state);
        }
        states
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn a_seat_beyond_the_expected_is_gone_at_once_and_a_node_that_is_away_overdue_after_a_while() {
        let members = BTreeMap::from([(11, 1), (21, 2)]);
        let here = BTreeMap::from([(1, (11, String::from("node1:1")))]);
        let (roll, start) = (Roll::default(), clock::timer());
        let state = |after: u64| {
            let now = start + Duration::from_secs(after);
            let nobody = BTreeSet::new();
            roll.states(&members, &here, &nobody, &nobody, now)[&21]
        };
        let patience = |seconds, expected_size| {
            roll.set_patience(Patience {
                replace_after: Duration::from_secs(seconds),
                expected_size,
            });
        };
        patience(600, 0);
        assert_eq!(state(0), State::Away);
        assert_eq!(state(599), State::Away);
        assert_eq!(state(600), State::Overdue);
        patience(599, 0);
        assert_eq!(state(599), State::Overdue, "it may change meanwhile");
        patience(600, 1);
        assert_eq!(state(0), State::Gone);
    }

    #[test]
    fn m_13_a_node_that_is_retired_is_gone_whether_it_is_there_or_not() {
        let members = BTreeMap::from([(11, 1), (21, 2)]);
        let place = |node: RaftId| (node / 10, (node, String::new()));
        let (roll, nobody) = (Roll::default(), BTreeSet::new());
        for here in [&[11][..], &[11, 21]] {
            let here = here.iter().copied().map(place).collect();
            let retired = BTreeSet::from([21]);
            let states = roll.states(&members, &here, &nobody, &retired, clock::timer());
            assert_eq!(states[&21], State::Gone);
            assert_eq!(states[&11], State::Active);
        }
    }
}
