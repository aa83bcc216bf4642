//! Lets time pass for a shard in which nothing happens.
//!
//! The time of a shard moves only with its entries. So the leader proposes an empty entry when the next deadline is
//! due. While there is a deadline it also does so every few seconds, because one entry moves the time by five seconds
//! at most.

use std::sync::Arc;
use std::time::Duration;

use crate::fail;
use crate::propose::{Proposer, ShardGroup};
use crate::session::Command;

/// The longest time without an entry while there is a deadline.
const OFTEN: Duration = Duration::from_secs(3);

/// Runs for as long as this node leads.
pub async fn run<G: ShardGroup>(group: Arc<G>, proposer: Proposer) {
    let mut applied = group.applied();
    loop {
        applied.borrow_and_update();
        let Some(left) = group.read(|state| state.next_deadline()) else {
            if applied.changed().await.is_err() {
                return;
            }
            continue;
        };
        // One millisecond more, since both clocks are rounded down.
        let wait = Duration::from_millis(left.saturating_add(1)).min(OFTEN);
        tokio::select! {
            changed = applied.changed() => {
                // The remaining time counts from the last applied entry, so it is read again.
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(wait) => {
                if left < wait.as_millis() as u64 {
                    fail::point("expiry-proposed");
                }
                let _ = proposer.propose(Command::Tick).await;
            }
        }
    }
}
