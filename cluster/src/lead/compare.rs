//! Tells the other replicas of a shard the hash of this one's state, whoever leads.

use std::sync::Arc;
use std::time::Duration;

use super::{Group, Queue};
use crate::NodeId;
use crate::session::Command;

/// Checkpoints are looked for no more often.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until the group is closed. What gets lost is made up for by the next checkpoint.
pub async fn run<G: Group>(group: Arc<G>, queue: Queue, node: NodeId) {
    let mut applied = group.applied();
    let mut told = None;
    while applied.changed().await.is_ok() {
        let newest = group.read(|state| state.checkpoint());
        if let Some((at, hash)) = newest.filter(|_| newest != told) {
            queue.propose_lazily(Command::Compare { node, at, hash });
            told = newest;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
