//! Takes what a shard has for another one to it, in order.
//!
//! The receiver's cursor skips what it has, so that starting over after any failure does no harm. What it
//! has confirmed is trimmed lazily: a trim that is lost costs memory, not truth.

use std::sync::Arc;
use std::time::Duration;

use super::{Group, MAX_COMMANDS, ProposeError, Queue};
use crate::ShardId;
use crate::bound;
use crate::session::{Command, Outcome};

/// Runs for as long as this node leads. `queue` is the receiver's, `own` the sender's.
pub async fn run<G: Group>(group: Arc<G>, to: ShardId, queue: Queue, own: Queue) {
    let from = group.shard();
    let mut applied = group.applied();
    let mut next = group.read(|state| state.outbox_range(to).0);
    loop {
        applied.borrow_and_update();
        let (first, items) = group.read(|state| state.outbox(to, next, MAX_COMMANDS, bound::BATCH));
        if items.is_empty() {
            if applied.changed().await.is_err() {
                return;
            }
            continue;
        }
        match queue.propose(Command::Relay { from, first, items }).await {
            Ok(Outcome::Relayed { cursor }) => {
                next = cursor;
                own.propose_lazily(Command::Trim { to, upto: cursor });
            }
            Ok(Outcome::Gap { expected }) => {
                let kept = group.read(|state| state.outbox_range(to).0);
                if expected < kept {
                    // Only a restored old state can do this. To go on is all that is left.
                    tracing::error!(%from, %to, expected, kept, "items between shards are lost");
                }
                next = expected;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(other) => {
                tracing::error!(%from, %to, ?other, "a relay had no such outcome");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            // It was tried for seconds already.
            Err(ProposeError::Unavailable(_)) => {}
            Err(ProposeError::TooLarge(over)) => {
                // Nothing that a shard takes in makes such an item.
                tracing::error!(%from, %to, first, %over, "an item between shards cannot be carried");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
