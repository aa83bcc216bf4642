//! Has the shard follow its leader's configuration.
//!
//! Settings are part of the state, because replicas with other files must apply entries in the same way. They
//! change by a command, when a node with others begins to lead or its configuration is read anew.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Group, Queue};
use crate::session::{Command, Settings};

/// After a proposal that came to nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs for as long as this node leads.
pub async fn run<G: Group>(group: Arc<G>, queue: Queue, mut settings: watch::Receiver<Settings>) {
    loop {
        let own = *settings.borrow_and_update();
        if group.read(|state| *state.settings() == own) {
            if settings.changed().await.is_err() {
                return;
            }
            continue;
        }
        queue.propose_as_leader(Command::Settings(own)).await;
        if group.read(|state| *state.settings() != own) {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
