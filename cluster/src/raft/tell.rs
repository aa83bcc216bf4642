//! Leaders tell every node who leads their groups and who the members are.
//!
//! A node without a replica of a group cannot know it otherwise. Everybody needs it: proposals go to the leader,
//! questions and subscriptions to a member, and who has room for a vote depends on who votes elsewhere. What is told
//! may be late or get lost; it is told again at every change and every second.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready, select_all};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time;

use super::groups::Groups;
use super::known::Told;
use super::replica::ShardReplica;
use crate::link::{Handler, Kind, Links, PeerEvent, Request};
use crate::{ShardId, codec};

/// How often everybody is told what has not changed.
const AGAIN: Duration = Duration::from_secs(1);
/// The shortest time between two rounds.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Hears what leaders on other nodes say.
pub struct Hearer(pub Groups);

impl Handler for Hearer {
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>> {
        let told = codec::decode::<Vec<(ShardId, Told)>>(&request.payload);
        let heard = told.ok().map(|told| {
            for (shard, told) in told {
                if let Some(group) = self.0.group(shard) {
                    group.hear(told);
                }
            }
        });
        Box::pin(ready(heard.map(|()| Bytes::new())))
    }
}

/// Tells of the groups that this node leads, for as long as it runs.
pub async fn run(groups: Groups, links: Links) {
    let mut events = links.subscribe();
    let known = groups.all().iter().map(|group| group.watch_known());
    let mut known: Vec<_> = known.collect();
    loop {
        known.iter_mut().for_each(watch::Receiver::mark_unchanged);
        tell(&groups, &links);
        time::sleep(PAUSE).await;
        let changed = known.iter_mut().map(|known| Box::pin(known.changed()));
        tokio::select! {
            _ = select_all(changed) => {}
            () = met(&mut events) => {}
            () = time::sleep(AGAIN) => {}
        }
    }
}

/// A node that is slow to answer must not keep the others from hearing, so nobody waits for it here.
fn tell(groups: &Groups, links: &Links) {
    let told = |group: &Arc<ShardReplica>| Some((group.shard, group.tell()?));
    let told: Vec<(ShardId, Told)> = groups.all().iter().filter_map(told).collect();
    if told.is_empty() {
        return;
    }
    let payload = Bytes::from(codec::encode(&told));
    for peer in links.up() {
        let (links, payload) = (links.clone(), payload.clone());
        tokio::spawn(async move {
            // What gets lost is told again.
            drop(links.call(peer.node, Kind::Tell, 0, payload, ANSWER).await);
        });
    }
}

/// Waits until a node comes that has heard nothing yet.
async fn met(events: &mut broadcast::Receiver<PeerEvent>) {
    loop {
        match events.recv().await {
            Ok(PeerEvent::Up(_)) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            // The links are shut down, and soon this task.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
