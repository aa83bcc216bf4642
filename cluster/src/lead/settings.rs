//! Has the shard follow its leader's configuration.
//!
//! Settings are part of the state, because replicas whose configurations differ must still apply entries in the same
//! way. They are changed by a command, when a node with different settings becomes leader or reads its configuration
//! again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::propose::{Proposer, ShardGroup};
use crate::session::{Command, Settings};

/// The pause after a proposal that was not carried out.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs for as long as this node leads.
pub async fn run<G: ShardGroup>(
    group: Arc<G>,
    proposer: Proposer,
    mut settings: watch::Receiver<Settings>,
) {
    loop {
        let own = *settings.borrow_and_update();
        if group.read(|state| *state.settings() == own) {
            if settings.changed().await.is_err() {
                return;
            }
            continue;
        }
        proposer.propose_as_leader(Command::Settings(own)).await;
        if group.read(|state| *state.settings() != own) {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
