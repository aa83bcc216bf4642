//! Lets time pass for a shard in which nothing happens.
//!
//! A shard's time moves with its entries. The leader makes an empty one when the next deadline is due, and
//! every few seconds before: an entry moves it by five seconds at most.

use std::sync::Arc;
use std::time::Duration;

use super::{Group, Queue};
use crate::fail;
use crate::session::Command;

/// The longest silence while something hibernates.
const OFTEN: Duration = Duration::from_secs(3);

/// Runs for as long as this node leads.
pub async fn run<G: Group>(group: Arc<G>, queue: Queue) {
    let mut applied = group.applied();
    loop {
        applied.borrow_and_update();
        let Some(left) = group.read(|state| state.next_deadline()) else {
            if applied.changed().await.is_err() {
                return;
            }
            continue;
        };
        // One more, as both clocks are cut to whole milliseconds.
        let wait = Duration::from_millis(left.saturating_add(1)).min(OFTEN);
        tokio::select! {
            changed = applied.changed() => {
                // What is left was true when the last entry was applied, which is now.
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(wait) => {
                if left < wait.as_millis() as u64 {
                    fail::point("expiry-proposed");
                }
                let _ = queue.propose(Command::Tick).await;
            }
        }
    }
}
