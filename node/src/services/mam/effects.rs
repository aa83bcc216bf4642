//! What shards have the archive write, read back and forget.

use std::collections::HashSet;

use cluster::ArchiveId;
use cluster::session::{ArchiveRow, Completed, Effect, Fetched, Pending, Relay};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::BareJid;

use super::settings::KeepByDefault;
use crate::clock;
use crate::hooks::{Edge, EffectHook, Work, completed, followed_by};
use crate::storage::StorageError;
use crate::trace::Step;

/// Messages that are read back at a time to be returned.
const RECALLED: usize = 8;
/// They are read for one part in so many of the time.
const SHARE: u32 = 16;

/// Writes rows.
pub struct Rows {
    /// What archives keep whose owners did not say what they prefer.
    pub fallback: KeepByDefault,
}

impl EffectHook for Rows {
    fn takes(&self, effect: &Effect) -> bool {
        matches!(effect, Effect::Archive(_))
    }

    fn perform<'a>(
        &'a self,
        work: Work<'a>,
        done: &'a mut Vec<Completed>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        archive(work, self.fallback, done).boxed()
    }
}

/// Reads messages back that wait for their user, and lets go of them.
pub struct Waiting;

impl EffectHook for Waiting {
    fn takes(&self, effect: &Effect) -> bool {
        matches!(
            effect,
            Effect::Forget { .. } | Effect::Fetch { .. } | Effect::Return { .. }
        )
    }

    fn perform<'a>(
        &'a self,
        work: Work<'a>,
        done: &'a mut Vec<Completed>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        async move {
            for effect in work.effects {
                done.extend(waiting(work.edge, effect).await?);
            }
            Ok(())
        }
        .boxed()
    }
}

async fn waiting(edge: &Edge, effect: &Pending) -> Result<Option<Completed>, StorageError> {
    Ok(match &*effect.effect {
        Effect::Forget { account, mids } => {
            edge.storage.forget(account, mids).await?;
            Some(completed(effect))
        }
        Effect::Fetch { session, mids } => Some(fetch(edge, effect, &session.bare(), mids).await?),
        Effect::Return { account, mids } => Some(recall(edge, effect, account, mids).await?),
        _ => None,
    })
}

/// All rows in one transaction; if the database refuses one of them, each by itself.
async fn archive(
    work: Work<'_>,
    fallback: KeepByDefault,
    done: &mut Vec<Completed>,
) -> Result<(), StorageError> {
    let edge = work.edge;
    let rows = work
        .effects
        .iter()
        .filter_map(|effect| match &*effect.effect {
            Effect::Archive(row) => Some((*effect, row)),
            _ => None,
        });
    let rows: Vec<(&Pending, &ArchiveRow)> = rows.collect();
    let all: Vec<&ArchiveRow> = rows.iter().map(|(_, row)| *row).collect();
    match edge.storage.archive(&all, fallback).await {
        Ok(hidden) => {
            done.extend(
                rows.iter()
                    .map(|(effect, row)| written(edge, effect, row, &hidden)),
            );
            return Ok(());
        }
        Err(error) if !error.blames_values() => return Err(error),
        Err(_) => {}
    }
    for (effect, row) in rows {
        match edge.storage.archive(&[row], fallback).await {
            Err(error) if !error.blames_values() => return Err(error),
            Err(error) => {
                tracing::error!(mid = %row.mid, %error, "a message cannot be archived");
                let word = Relay::Unkept {
                    account: row.owner.clone(),
                    mid: row.mid,
                    packet: row.packet.clone(),
                };
                done.push(followed_by(effect, vec![word]));
            }
            Ok(hidden) => done.push(written(edge, effect, row, &hidden)),
        }
    }
    Ok(())
}

/// The shard believes that the archive shows what it was given to show, unless it is told otherwise.
fn written(
    edge: &Edge,
    effect: &Pending,
    row: &ArchiveRow,
    hidden: &HashSet<(BareJid, ArchiveId)>,
) -> Completed {
    edge.trail.mark(row.mid, Step::Archived);
    if hidden.is_empty() || !hidden.contains(&(row.owner.clone(), row.mid)) {
        return completed(effect);
    }
    let word = Relay::Hidden {
        account: row.owner.clone(),
        mids: vec![row.mid],
    };
    followed_by(effect, vec![word])
}

/// Messages that waited, in the order asked for. One that is gone meanwhile is left out.
async fn fetch(
    edge: &Edge,
    effect: &Pending,
    account: &BareJid,
    mids: &[ArchiveId],
) -> Result<Completed, StorageError> {
    let found = edge.storage.fetch(account, mids).await?;
    Ok(Completed {
        id: effect.id,
        relays: Vec::new(),
        messages: in_order(found, mids),
    })
}

/// The messages in the order of these ids.
fn in_order(mut found: Vec<Fetched>, mids: &[ArchiveId]) -> Vec<Fetched> {
    let place = |fetched: &Fetched| mids.iter().position(|mid| *mid == fetched.mid);
    found.sort_by_key(place);
    found
}

/// Messages that go back to their senders, who hear of them and do not get them: nothing of what they say is kept in
/// memory. Nobody waits for these, so most of the time is left to those who do for something else ([`SHARE`]).
async fn recall(
    edge: &Edge,
    effect: &Pending,
    account: &BareJid,
    mids: &[ArchiveId],
) -> Result<Completed, StorageError> {
    let mut returned = completed(effect);
    for some in mids.chunks(RECALLED) {
        let began = clock::instant();
        let found = edge.storage.fetch_headers(account, some).await?;
        returned.messages.extend(in_order(found, some));
        tokio::time::sleep((clock::instant() - began) * (SHARE - 1)).await;
    }
    Ok(returned)
}
