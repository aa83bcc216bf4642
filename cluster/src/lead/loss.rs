//! Tells a shard of processes that are gone, so that their sessions hibernate.
//!
//! A leader that stood still for a while finds all others gone when it wakes, although it was itself that
//! was. So only a leader that a majority confirms may say who is gone, and no other node says it for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Group, Queue};
use crate::session::Command;
use crate::{BootId, NodeId};

/// How long a node that was never connected may take.
const GRACE: Duration = Duration::from_secs(1);
/// How soon a leader that was not confirmed asks again.
const SOON: Duration = Duration::from_millis(50);
/// How often owners are compared with processes while anything is unsettled.
const OFTEN: Duration = Duration::from_secs(2);
/// For so long after a change, proposals of a process that is gone may still be committed.
const UNSETTLED: Duration = Duration::from_secs(15);

/// The processes that this node is connected with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Who is there.
    pub up: BTreeMap<NodeId, BootId>,
    /// How many there would be if all were.
    pub expected: usize,
}

/// Runs for as long as this node leads.
pub async fn run<G: Group>(
    group: Arc<G>,
    queue: Queue,
    me: (NodeId, BootId),
    mut peers: watch::Receiver<Peers>,
) {
    let started = Instant::now();
    let mut changed = started;
    let mut known = BTreeSet::new();
    loop {
        let now = peers.borrow_and_update().clone();
        let patient = started.elapsed() < GRACE;
        let gone = |up: &BTreeMap<NodeId, BootId>| {
            let owners = group.read(|state| state.owners());
            lost(&owners, me, up, |node| patient && !known.contains(&node))
        };
        let mut unsaid = false;
        if !gone(&now.up).is_empty() {
            unsaid = group.read_index().await.is_err();
            let up = peers.borrow().up.clone();
            for command in gone(&up).into_iter().filter(|_| !unsaid) {
                tracing::info!(shard = %group.shard(), ?command, "sessions of a process that is gone");
                queue.propose_as_leader(command).await;
            }
        }
        known.extend(now.up.keys().copied());
        let settled = changed.elapsed() > UNSETTLED && now.up.len() >= now.expected;
        let pause = match () {
            () if unsaid => SOON,
            () if started.elapsed() < GRACE => GRACE,
            () => OFTEN,
        };
        tokio::select! {
            event = peers.changed() => match event {
                Ok(()) => changed = Instant::now(),
                Err(_) => return,
            },
            () = tokio::time::sleep(pause), if !settled || unsaid => {}
        }
    }
}

/// Which owners are gone. `spared` nodes get time to connect. Pure.
fn lost(
    owners: &BTreeSet<(NodeId, BootId)>,
    me: (NodeId, BootId),
    up: &BTreeMap<NodeId, BootId>,
    spared: impl Fn(NodeId) -> bool,
) -> Vec<Command> {
    let mut gone = BTreeMap::new();
    for (node, boot) in owners {
        let alive = if *node == me.0 {
            Some(me.1)
        } else {
            up.get(node).copied()
        };
        if alive != Some(*boot) && (alive.is_some() || !spared(*node)) {
            gone.insert(*node, alive);
        }
    }
    gone.into_iter()
        .map(|(node, alive)| Command::NodeLost { node, alive })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: (NodeId, BootId) = (NodeId(1), BootId(10));

    #[track_caller]
    fn check(owner: (u64, u64), up: &[(u64, u64)], spared: bool, expect: Option<Option<u64>>) {
        let owners = BTreeSet::from([(NodeId(owner.0), BootId(owner.1))]);
        let up = up
            .iter()
            .map(|(node, boot)| (NodeId(*node), BootId(*boot)))
            .collect();
        let expect = expect.map(|alive| Command::NodeLost {
            node: NodeId(owner.0),
            alive: alive.map(BootId),
        });
        assert_eq!(lost(&owners, ME, &up, |_| spared), Vec::from_iter(expect));
    }

    #[test]
    fn connections_of_processes_that_run_are_left_alone() {
        check((1, 10), &[], false, None);
        check((2, 20), &[(2, 20)], false, None);
    }

    #[test]
    fn a_process_that_is_gone_or_was_replaced_loses_its_connections() {
        check((2, 20), &[(3, 30)], false, Some(None));
        check((2, 20), &[(2, 21)], true, Some(Some(21)));
        check((1, 9), &[], true, Some(Some(10)));
    }

    #[test]
    fn a_node_that_was_never_seen_gets_time_to_connect() {
        check((2, 20), &[], true, None);
    }
}
