//! Messages leave the archive when they are older than `archive.retention`.
//!
//! Every node looks at all that is too old, and deletes what belongs to accounts whose shard it leads: only
//! there it is known for certain which messages somebody still has to get. Those stay until they are
//! delivered, or their user never comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster::session::query;
use cluster::{ArchiveId, NodeId, ShardId};
use proto::BareJid;

use super::settings::Archive;
use super::storage::Expired;
use crate::app::App;
use crate::storage::StorageError;

/// The longest pause between two rounds.
const LONGEST: Duration = Duration::from_secs(600);
/// The shortest one.
const SHORTEST: Duration = Duration::from_secs(1);
/// Messages that are looked at, and deleted, at a time.
const CHUNK: u32 = 250;
/// A pause after each chunk: users come first.
const BREATH: Duration = Duration::from_millis(50);

/// Runs for as long as the node does.
pub async fn run(app: Arc<App>) {
    let retention = app.config.table::<Archive>().retention;
    if retention.is_zero() {
        return;
    }
    // What is kept for a year may go ten minutes late, what is kept for a minute may not.
    let pause = (retention / 20).clamp(SHORTEST, LONGEST);
    loop {
        tokio::time::sleep(pause).await;
        match round(&app, retention).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "messages left the archive for their age"),
            Err(error) => tracing::warn!(%error, "old messages stay in the archive for now"),
        }
    }
}

/// Looks at everything that is too old, once; says how much of it went.
async fn round(app: &App, retention: Duration) -> Result<u64, StorageError> {
    let age = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
    let before = (app.edge.now)().saturating_sub(age);
    let (mut deleted, mut last): (u64, Option<Expired>) = (0, None);
    loop {
        let storage = &app.edge.storage;
        let page = storage
            .expired_archive(before, last.as_ref(), CHUNK)
            .await?;
        let Some(end) = page.last().cloned() else {
            return Ok(deleted);
        };
        last = Some(end);
        for (owner, mids) in ours(page, &led(app), |owner| app.cluster.shard_of(owner)) {
            let account = owner.clone();
            let not_held = query::NotHeld { account, mids };
            let Ok(free) = app.cluster.query_latest(&owner, not_held).await else {
                continue;
            };
            deleted += storage.delete_archived(&owner, &free).await?;
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// The shards that this node leads.
fn led(app: &App) -> BTreeSet<ShardId> {
    let me: NodeId = app.cluster.node();
    let shards = app.cluster.status().shards.into_iter();
    let led = shards.filter(|shard| shard.leader == Some(me));
    led.map(|shard| shard.shard).collect()
}

/// What belongs to accounts of these shards, by account. Pure.
fn ours(
    page: Vec<Expired>,
    led: &BTreeSet<ShardId>,
    shard_of: impl Fn(&BareJid) -> ShardId,
) -> BTreeMap<BareJid, Vec<ArchiveId>> {
    let mut ours: BTreeMap<BareJid, Vec<ArchiveId>> = BTreeMap::new();
    for expired in page {
        if led.contains(&shard_of(&expired.owner)) {
            ours.entry(expired.owner).or_default().push(expired.mid);
        }
    }
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_leader_of_an_account_s_shard_deletes_its_messages() {
        let account = |name: &str| BareJid::new(name).unwrap();
        let page = [("a@x", 1), ("b@x", 2), ("a@x", 3)].map(|(owner, mid)| Expired {
            owner: account(owner),
            mid: ArchiveId(mid),
            stamp: 1,
        });
        let shard = |owner: &BareJid| ShardId(u16::from(owner.as_str() == "b@x"));
        let of = |led: &[u16]| {
            let led = led.iter().copied().map(ShardId).collect();
            ours(page.to_vec(), &led, shard)
        };
        assert_eq!(
            of(&[0]),
            BTreeMap::from([(account("a@x"), vec![ArchiveId(1), ArchiveId(3)])])
        );
        assert_eq!(of(&[0, 1]).len(), 2);
        assert_eq!(of(&[]).len(), 0);
    }
}
