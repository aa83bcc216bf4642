//! Looks for sessions that this process is said to act for, and does not.
//!
//! A bind or a resume whose time was over may be committed later all the same. Nobody is there then who could
//! say that its connection is lost, and the session would look attached until its node stops: it would
//! neither hibernate nor end. So each node compares what the shards say with the connections that it has.
//! A connection is in the directory before anything is proposed in its name, and its last command is known
//! until it is committed, so one look is enough.

use std::sync::Arc;
use std::time::Duration;

use cluster::session::Command;
use cluster::{ConnId, ShardId};
use proto::BareJid;

use crate::app::App;

/// Between two looks at some accounts of each shard.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs for as long as the node does.
pub async fn run(app: Arc<App>) {
    let mut after: Vec<Option<BareJid>> = vec![None; usize::from(app.cluster.shards())];
    loop {
        cluster::beat(PAUSE).await;
        for (shard, after) in (0..).map(ShardId).zip(&mut after) {
            look(&app, shard, after).await;
        }
    }
}

/// Looks at the next accounts of a shard.
async fn look(app: &App, shard: ShardId, after: &mut Option<BareJid>) {
    let is_here = |conn: ConnId| app.directory.contains(conn) || app.departures.contains(conn);
    let Ok((owned, next)) = app.cluster.owned(shard, after.clone()).await else {
        return;
    };
    *after = next;
    let ghosts = owned.into_iter().filter(|(.., conn)| !is_here(*conn));
    for (session, epoch, _) in ghosts {
        tracing::debug!(%session, "a session has no connection");
        let account = session.bare();
        // What does not work out is found again.
        app.cluster
            .propose_lazily(&account, Command::Lost { session, epoch });
    }
}
