//! Tells the other replicas of a shard the hash of this one's state. Every replica does, whether it leads or not.

use std::sync::Arc;
use std::time::Duration;

use super::{Proposer, ShardGroup};
use crate::NodeId;
use crate::session::Command;

/// The shortest time between two proposals.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until the group is closed. A hash that gets lost does not matter, as another checkpoint follows.
pub async fn run<G: ShardGroup>(group: Arc<G>, proposer: Proposer, node: NodeId) {
    let mut applied = group.applied();
    let mut told = None;
    while applied.changed().await.is_ok() {
        let newest = group.read(|state| state.checkpoint());
        if let Some((at, hash)) = newest.filter(|_| newest != told) {
            proposer.propose_lazily(Command::Compare { node, at, hash });
            told = newest;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
