//! Whether the shards know the lists that the database has, asked once when the node has started.
//!
//! A list is enforced although nobody is logged in, so that it does not suffice to look when somebody does: shards
//! that have lost their state, or that are those of another cluster than the one that had the database before, know of
//! no list.

use std::sync::Arc;
use std::time::Duration;

use cluster::session::{Command, query};
use proto::BareJid;

use crate::app::App;
use crate::storage::StorageError;

/// So many lists are looked at together.
const CHUNK: u32 = 500;
/// How often it is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until each list was compared by the node that leads its shard then.
pub async fn run(app: Arc<App>) {
    while app.ready().is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    let mut after = None;
    loop {
        match page(&app, after.as_ref()).await {
            Ok(None) => return,
            Ok(last) => after = last,
            Err(error) => {
                tracing::debug!(%error, "blocklists are compared later");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Compares some; returns the last of them.
async fn page(app: &App, after: Option<&BareJid>) -> Result<Option<BareJid>, StorageError> {
    let lists = app.edge.storage.blocklists_after(after, CHUNK).await?;
    for (account, revision) in &lists {
        let known = query::BlocklistRevision {
            account: account.clone(),
        };
        // A shard that another node leads is that node's to look after.
        let led = app.cluster.leads(account);
        if !led || app.cluster.query(account, known).await.ok() == Some(*revision) {
            continue;
        }
        let command = Command::ReadBlocklist {
            account: account.clone(),
        };
        if let Err(error) = app.cluster.propose(account, command).await {
            tracing::warn!(%account, %error, "its blocklist is in force when it logs in");
        }
    }
    Ok(lists.into_iter().next_back().map(|(account, _)| account))
}
