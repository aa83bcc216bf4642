//! What was published last, for sessions that begin to hear of it (PE-9).

use cluster::session::{Completed, Effect, LastEvents, NodeEvent, Relay};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::BareJid;

use super::access::Reader;
use super::config::Access;
use super::event;
use super::storage::Last;
use crate::hooks::{Edge, EffectHook, Work, followed_by};
use crate::storage::StorageError;

/// Items that are read at a time.
const MOST_ITEMS: usize = if cfg!(test) { 3 } else { 100 };
/// The most bytes of the events that are made of them, unless one alone has more.
const MOST_BYTES: usize = 48 << 10;

/// Reads what was published last.
pub struct Readings;

impl EffectHook for Readings {
    fn takes(&self, effect: &Effect) -> bool {
        matches!(effect, Effect::LastEvents(_))
    }

    fn perform<'a>(
        &'a self,
        work: Work<'a>,
        done: &'a mut Vec<Completed>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        async move {
            for pending in work.effects {
                if let Effect::LastEvents(wanted) = &*pending.effect {
                    let relay = read(work.edge, wanted).await?;
                    done.push(followed_by(pending, vec![relay]));
                }
            }
            Ok(())
        }
        .boxed()
    }
}

async fn read(edge: &Edge, wanted: &LastEvents) -> Result<Relay, StorageError> {
    let account = wanted.session.bare();
    let owners = owners(edge, &account, wanted.owner.as_ref()).await?;
    let storage = &edge.storage;
    let after = wanted.after.as_ref();
    let found = storage
        .last_items(&owners, &wanted.nodes, after, MOST_ITEMS)
        .await?;
    let mut more = found.len() == MOST_ITEMS;
    let seen: Vec<BareJid> = found.iter().map(|last| last.account.clone()).collect();
    let blockers = edge
        .blocking
        .blockers(storage, &seen, &wanted.session)
        .await?;
    let (mut events, mut bytes, mut after) = (Vec::new(), 0, None);
    for last in found {
        let event = event::last(&last.account, &last.node, &last.config, &last.item);
        let size = event.packet.size();
        if bytes + size > MOST_BYTES && after.is_some() {
            more = true;
            break;
        }
        after = Some((last.account.clone(), last.node.as_str().into()));
        if !blockers.contains(&last.account) && may_read(edge, &account, &last).await? {
            bytes += size;
            events.push(event);
        }
    }
    let rest = more.then(|| LastEvents {
        after,
        ..wanted.clone()
    });
    Ok(relay(wanted, events, rest))
}

fn relay(wanted: &LastEvents, events: Vec<NodeEvent>, rest: Option<LastEvents>) -> Relay {
    Relay::LastEvents {
        session: wanted.session.clone(),
        events,
        rest,
    }
}

/// Whose nodes the account hears of, in order: its own, and those of whom it sees.
async fn owners(
    edge: &Edge,
    account: &BareJid,
    only: Option<&BareJid>,
) -> Result<Vec<BareJid>, StorageError> {
    if let Some(only) = only {
        let seen = edge.visibility.sees(&edge.storage, account, only).await?;
        return Ok(seen.then(|| only.clone()).into_iter().collect());
    }
    let mut owners = edge.visibility.visible(&edge.storage, account).await?;
    owners.retain(|owner| edge.serves(owner.domain()));
    owners.push(account.clone());
    owners.sort_unstable();
    owners.dedup();
    Ok(owners)
}

/// Only rare models of access ask the database once more.
async fn may_read(edge: &Edge, viewer: &BareJid, last: &Last) -> Result<bool, StorageError> {
    let plain = matches!(last.config.access, Access::Open | Access::Presence);
    if *viewer == last.account {
        return Ok(true);
    }
    if plain && !edge.storage.has_outcasts(&last.account, &last.node).await? {
        return Ok(true);
    }
    let reader = Reader::new(edge, viewer, &last.account).await?;
    reader.may(&last.node, &last.config).await
}
