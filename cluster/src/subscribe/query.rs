//! Answers nodes that have no replica: what their connections are to be told, and what they ask.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::source::Source;
use super::{Ask, Loads, News};
use crate::cluster::catch_up;
use crate::link::{Handler, Kind, Links, Process, Request};
use crate::propose::group::{LinkTransport, RaftGroup};
use crate::propose::{DEADLINE, ShardGroup, Unavailable, wait_applied};
use crate::raft::groups::{META_GROUP, group_of};
use crate::session::query::{AnyQuery, Query};
use crate::{NodeId, clock, codec};

/// The kinds of requests that [`Answers`] answers.
pub const KINDS: [Kind; 2] = [Kind::Subscribe, Kind::Query];
/// How long a question for news is held while there is none.
const HOLD: Duration = Duration::from_secs(1);
/// The same while something waits in the shard, so that subscribers know how much.
const BUSY: Duration = Duration::from_millis(100);
/// How long a replica may take to apply what a new subscriber has heard of already.
const CATCH_UP: Duration = Duration::from_secs(1);
/// The pause before a question is asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// A question on its way.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    /// The answer has to contain all that was committed before.
    latest: bool,
    query: AnyQuery,
}

/// Answers other nodes.
pub struct Answers {
    /// The shards of this node, by number.
    pub groups: Arc<[Arc<RaftGroup>]>,
}

impl Handler for Answers {
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>> {
        let place = request.group.checked_sub(META_GROUP + 1);
        let group = place.and_then(|place| self.groups.get(usize::try_from(place).ok()?).cloned());
        let shards = u16::try_from(self.groups.len()).unwrap_or(u16::MAX);
        Box::pin(async move {
            let group = group.filter(|group| group.replica().is_member())?;
            match request.kind {
                Kind::Subscribe => {
                    let ask = codec::decode(&request.payload).ok()?;
                    let news = news(&group, request.from, ask, shards).await?;
                    Some(codec::encode(&news).into())
                }
                Kind::Query => answer(&group, codec::decode(&request.payload).ok()?).await,
                _ => None,
            }
        })
    }
}

/// What a subscriber asks for. None if it has no such subscription (any more).
async fn news(group: &RaftGroup, from: Process, ask: Ask, shards: u16) -> Option<News> {
    let of = (from.node, from.boot);
    let loads = || group.read(|state| Loads::of(state, shards));
    let (feed, outputs) = match ask {
        Ask::Begin(after) => {
            let feed = group.feeds().begin(of, clock::timer());
            let caught_up = timeout(CATCH_UP, wait_applied(group, after));
            caught_up.await.ok()?.ok()?;
            (feed, Vec::new())
        }
        Ask::Next(feed) => {
            let take = || group.feeds().take(of, feed, clock::timer()).ok();
            let (mut outputs, more) = take()?;
            if outputs.is_empty() {
                let hold = match loads().is_some() {
                    true => BUSY,
                    false => HOLD,
                };
                // Time is over when there is nothing to tell.
                drop(timeout(hold, more.notified()).await);
                outputs = take()?.0;
            }
            (feed, outputs)
        }
    };
    Some(News {
        feed,
        outputs,
        applied: group.applied_index(),
        loads: loads(),
    })
}

/// The answer of this replica. None if it has to be asked elsewhere.
async fn answer(group: &RaftGroup, asked: Asked) -> Option<Bytes> {
    if asked.latest {
        let index = group.read_index().await.ok()?;
        wait_applied(group, index).await.ok()?;
    }
    Some(group.read(|state| asked.query.answer(state)).into())
}

/// Asks the source of this shard, which may be behind.
pub async fn ask<Q: Query>(
    group: &RaftGroup,
    links: Option<&Links>,
    query: Q,
) -> Result<Q::Answer, Unavailable> {
    let here = || group.read(|state| query.answer(state));
    if group.source() == Source::Here {
        return Ok(here());
    }
    let payload = encoded(&query, false);
    let asked = async {
        loop {
            // The source may change meanwhile.
            match group.source() {
                Source::Here => return Ok(here()),
                Source::At(node) => {
                    if let Some(answer) = call(group, links, node, &payload).await {
                        return codec::decode(&answer).map_err(|_| Unavailable);
                    }
                }
                Source::None => {}
            }
            sleep(AGAIN).await;
        }
    };
    timeout(DEADLINE, asked).await.map_err(|_| Unavailable)?
}

/// The same, but the answer contains all that was committed before the call.
pub async fn ask_latest<Q: Query>(
    group: &RaftGroup,
    links: Option<&Links>,
    query: Q,
) -> Result<Q::Answer, Unavailable> {
    let transport = LinkTransport(links.cloned());
    let asked = async {
        loop {
            let leader = group.leadership().borrow().leader;
            if group.source() == Source::Here {
                if catch_up(group, &transport).await.is_ok() {
                    return Ok(group.read(|state| query.answer(state)));
                }
            } else if let Some(leader) = leader
                && let Some(answer) = call(group, links, leader, &encoded(&query, true)).await
            {
                return codec::decode(&answer).map_err(|_| Unavailable);
            }
            sleep(AGAIN).await;
        }
    };
    timeout(DEADLINE, asked).await.map_err(|_| Unavailable)?
}

fn encoded<Q: Query>(query: &Q, latest: bool) -> Bytes {
    let query = query.clone().into();
    codec::encode(&Asked { latest, query }).into()
}

async fn call(
    group: &RaftGroup,
    links: Option<&Links>,
    node: NodeId,
    payload: &Bytes,
) -> Option<Bytes> {
    let group = group_of(group.shard());
    let answer = links?.call(node, Kind::Query, group, payload.clone(), DEADLINE);
    answer.await.ok()
}
