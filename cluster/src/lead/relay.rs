//! Delivers the items in a shard's outbox to the other shard, in order.
//!
//! The receiver's cursor skips what it has already, so that it does no harm to start over after a failure. Confirmed
//! items are trimmed lazily: if a trim is lost, they only take up memory until the next one.

use std::sync::Arc;
use std::time::Duration;

use crate::ShardId;
use crate::bound;
use crate::clock;
use crate::metrics::Hop;
use crate::propose::{MAX_COMMANDS, ProposeError, Proposer, ShardGroup};
use crate::session::{Command, Outcome};

/// Runs for as long as this node leads. `proposer` is the receiver's, `own` the sender's.
pub async fn run<G: ShardGroup>(group: Arc<G>, to: ShardId, proposer: Proposer, own: Proposer) {
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
        let begun = clock::timer();
        match proposer
            .propose(Command::Relay { from, first, items })
            .await
        {
            Ok(Outcome::Relayed { cursor }) => {
                let took = clock::timer().saturating_duration_since(begun);
                group.note(Hop::Relay, took);
                next = cursor;
                own.propose_lazily(Command::Trim { to, upto: cursor });
            }
            Ok(Outcome::Gap { expected }) => {
                let kept = group.read(|state| state.outbox_range(to).0);
                if expected < kept {
                    // This happens only if the receiver was restored from an old backup. The items are gone, so all
                    // that is left is to go on.
                    tracing::error!(%from, %to, expected, kept, "items between shards are lost");
                }
                next = expected;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(other) => {
                tracing::error!(%from, %to, ?other, "a relay had no such outcome");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            // The proposer has tried for seconds already.
            Err(ProposeError::Unavailable(_)) => {}
            Err(ProposeError::TooLarge(over)) => {
                // A shard accepts nothing from which such an item could follow.
                tracing::error!(%from, %to, first, %over, "an item between shards cannot be carried");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
