//! How each node of the cluster is, as far as this one knows: by what is connected, for how long what is not has been
//! away, and which seats an operator has given up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use tokio::time::Instant;

use super::placement::State;
use super::types::RaftId;
use crate::config::Patience;
use crate::link::{Handler, Request};
use crate::{NodeId, codec};

/// The nodes that are connected, by seat, and where they are reached. This node is among them.
pub type Present = BTreeMap<u64, (RaftId, String)>;

/// What this node knows of the others beside the memberships. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Roll(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Since when a member is not connected.
    away: BTreeMap<RaftId, Instant>,
    /// Seats that an operator has given up.
    removed: BTreeSet<u64>,
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
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.patience = patience;
    }

    /// Gives a seat up whose node is away, until a node comes to it.
    pub fn remove(&self, seat: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.removed.insert(seat);
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
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.last = found;
    }

    /// What was found at the last look. Nothing is known on a node that has no others.
    pub fn found(&self) -> Found {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.last.clone()
    }

    /// The states of all nodes at this time.
    pub fn states(
        &self,
        members: &BTreeMap<RaftId, u64>,
        present: &Present,
        stopping: &BTreeSet<RaftId>,
        now: Instant,
    ) -> BTreeMap<RaftId, State> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.removed.retain(|seat| !present.contains_key(seat));
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
                Some((here, _)) if here == node && stopping.contains(node) => State::Draining,
                Some((here, _)) if here == node => State::Active,
                Some(_) => State::Gone,
                None => {
                    let since = *known.away.entry(*node).or_insert(now);
                    let surplus = expected_size > 0 && *seat > expected_size;
                    match () {
                        () if surplus || known.removed.contains(seat) => State::Gone,
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

/// Other nodes say which seats an operator has given up.
impl Handler for Roll {
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>> {
        let seat = codec::decode(&request.payload).ok();
        let known = seat.map(|seat| self.remove(seat));
        Box::pin(ready(known.map(|()| Bytes::new())))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn a_seat_that_is_given_up_is_gone_at_once_and_one_that_is_away_after_a_while() {
        let members = BTreeMap::from([(11, 1), (21, 2)]);
        let here = BTreeMap::from([(1, (11, String::from("node1:1")))]);
        let (roll, start) = (Roll::default(), clock::timer());
        let state = |after: u64| {
            let now = start + Duration::from_secs(after);
            roll.states(&members, &here, &BTreeSet::new(), now)[&21]
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
        patience(600, 0);
        roll.remove(2);
        assert_eq!(state(0), State::Gone);
    }
}
