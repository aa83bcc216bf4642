//! How much of a node searches of archives may take (T-59): each costs as much as many other queries.

use std::time::Duration;

use proto::BareJid;
use proto::stanza::error::{Condition, StanzaError};
use tokio::sync::Semaphore;

use super::query::Query;
use super::storage::{Bounds, Page, Place};
use super::words::Words;
use crate::clock;
use crate::hooks::{fail, failure};
use crate::storage::Storage;

/// Messages that one search looks at.
const ROWS: u32 = 50_000;
/// How long it reads.
const TIME: Duration = Duration::from_secs(1);
/// Searches that a node carries out at a time: half of the connections that read from SQLite.
const SEARCHES: usize = 2;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

static TURNS: Semaphore = Semaphore::const_new(SEARCHES);

/// The page, or nothing if the query names what is not there; the count if that is all that is wanted and all messages
/// could be looked at.
pub async fn look(
    storage: &Storage,
    account: &BareJid,
    query: &Query,
    words: &Words,
) -> Result<(Option<Page>, Option<u64>), StanzaError> {
    let turn = tokio::time::timeout(PATIENCE, TURNS.acquire()).await;
    // Nobody closes it.
    let Ok(Ok(_turn)) = turn else {
        return fail(Condition::ResourceConstraint);
    };
    let counted = query.max == 0;
    let place = if counted { Place::First } else { query.place };
    let bounds = Bounds {
        max: query.max,
        rows: ROWS,
        until: clock::instant() + TIME,
    };
    let found = storage.archive_search(account, &query.filter, words, place, bounds);
    let Some((mut page, count)) = found.await.map_err(|error| failure(&error))? else {
        return Ok((None, None));
    };
    if counted {
        // An empty page by itself, which has no ends.
        page = Page::default();
    }
    Ok((Some(page), count))
}
