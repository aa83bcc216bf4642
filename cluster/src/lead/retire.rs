//! Tells a shard which nodes are no longer members ([`crate::raft::retirement`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::NodeId;
use crate::propose::{Proposer, ShardGroup};
use crate::raft::retirement::Orders;
use crate::session::Command;

/// The pause before what was not committed is proposed again.
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
        let mut said = true;
        for node in lacking(&*group, due.unwrap_or_default()) {
            tracing::info!(shard = %group.shard(), %node, "a node is no longer a member");
            said &= proposer.propose_as_leader(Command::Retire { node }).await;
        }
        if !said {
            tokio::time::sleep(SOON).await;
        } else if orders.changed().await.is_err() {
            return;
        }
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
