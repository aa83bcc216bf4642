//! Tells a shard which nodes are no longer members ([`crate::raft::retirement`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::NodeId;
use crate::propose::{Proposer, ShardGroup};
use crate::raft::retirement::Orders;
use crate::session::Command;

/// The pause before it is looked whether all was committed: members that do not read the entry yet have it refused.
const SOON: Duration = Duration::from_millis(250);

/// Runs for as long as this node leads. Ends when there will be no other orders.
pub async fn run<G: ShardGroup>(
    group: Arc<G>,
    proposer: Proposer,
    mut orders: watch::Receiver<Orders>,
) {
    loop {
        let due = orders.borrow_and_update().clone();
        let due = due.into_iter().nth(usize::from(group.shard().0));
        let lacking = lacking(&*group, due.unwrap_or_default());
        if lacking.is_empty() {
            match orders.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        for node in lacking {
            let _ = proposer.propose_as_leader(Command::Retire { node }).await;
        }
        tokio::time::sleep(SOON).await;
    }
}

/// Those that the shard has not heard of. Orders may be older than its last entries.
fn lacking<G: ShardGroup>(group: &G, due: BTreeSet<NodeId>) -> Vec<NodeId> {
    match due.is_empty() {
        true => Vec::new(),
        false => {
            let known = group.read(|state| state.retired());
            due.difference(&known).copied().collect()
        }
    }
}
