//! What shards have to know of the preferences in the database: which accounts have stated some.
//!
//! Where archives keep nothing unless their users ask for it (`archive.default = "never"`), the shards do not even
//! send the database what accounts say that have never asked. An account asks through its shard, which remembers it.
//! Shards that have lost their state, or that are those of another cluster than the one that had the database before,
//! are told when a node has started. They are so whatever the node's own `archive.default`: nodes are restarted one by
//! one with another, and then all shards have to know already.

use std::sync::Arc;
use std::time::Duration;

use cluster::session::{Command, query};
use proto::BareJid;

use crate::app::App;
use crate::storage::StorageError;

/// So many accounts are looked at together.
const CHUNK: u32 = 500;
/// How often it is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until each account that has stated what it prefers is known to its shard.
pub async fn run(app: Arc<App>) {
    while app.ready().is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    let mut behind = None;
    loop {
        match page(&app, behind.as_ref()).await {
            Ok(None) => return,
            Ok(last) => behind = last,
            Err(error) => {
                tracing::debug!(%error, "shards are told of archive preferences later");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Looks at some; returns the last of them.
async fn page(app: &App, behind: Option<&BareJid>) -> Result<Option<BareJid>, StorageError> {
    let accounts = app.edge.storage.archive_statements(behind, CHUNK).await?;
    for account in &accounts {
        let known = query::ArchiveIsStated {
            account: account.clone(),
        };
        if app.cluster.query(account, known).await.ok() == Some(true) {
            continue;
        }
        let command = Command::ArchiveStated {
            account: account.clone(),
        };
        if let Err(error) = app.cluster.propose(account, command).await {
            tracing::warn!(%account, %error, "its archive preferences are in force when it states them again");
        }
    }
    Ok(accounts.into_iter().next_back())
}
