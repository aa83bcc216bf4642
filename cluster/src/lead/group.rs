//! The replicas of a shard as openraft runs them, and the links as the way to other nodes.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::ReadPolicy;
use tokio::sync::{broadcast, watch};

use super::junction::Junction;
use super::loss::{Away, Peers};
use super::stall::Stalled;
use super::{
    Courier, DEADLINE, EncodedEntry, Group, Leadership, News, NotLeader, Question, Queue,
    Unreached, batch,
};
use crate::format::Version;
use crate::link::{Absence, Handler, Kind, Links, Request};
use crate::raft::groups::{Group as Replicas, META_GROUP, group_of};
use crate::raft::log::Pressure;
use crate::raft::types::Proposal;
use crate::room::Shortage;
use crate::session::{Outcome, ShardState};
use crate::{NodeId, ShardId};

/// The kinds of requests that [`Desk`] answers.
pub const KINDS: [Kind; 2] = [Kind::Propose, Kind::ReadIndex];

/// What a leader must know of the room that its entries need.
#[derive(Clone, Debug)]
pub struct Room {
    /// What the node lacks, as it tells others.
    pub shortage: watch::Receiver<Option<Shortage>>,
    /// Whether the log takes entries.
    pub pressure: watch::Receiver<Pressure>,
}

/// One shard of a running node. While its log takes no entries, it proposes none.
pub struct RaftGroup {
    replicas: Arc<Replicas>,
    leadership: watch::Receiver<Leadership>,
    room: Room,
    applied: watch::Receiver<()>,
    news: broadcast::Sender<News>,
    stalled: watch::Sender<Option<Stalled>>,
}

impl RaftGroup {
    /// What `junction` hears of tells of progress.
    pub fn new(
        replicas: Arc<Replicas>,
        leadership: watch::Receiver<Leadership>,
        room: Room,
        junction: &Junction,
    ) -> Self {
        let shard = replicas.shard;
        junction.watch(shard, leadership.clone());
        Self {
            replicas,
            leadership,
            room,
            applied: junction.progress(shard),
            news: junction.news(shard),
            stalled: watch::Sender::new(None),
        }
    }

    /// Whether the shard stands still.
    pub fn stalled(&self) -> Option<Stalled> {
        *self.stalled.borrow()
    }

    /// Whether this node takes no entries for want of something.
    pub(super) fn is_short(&self) -> bool {
        self.room.shortage.borrow().is_some()
    }

    pub(super) fn set_stalled(&self, stalled: Option<Stalled>) {
        self.stalled.send_replace(stalled);
    }

    /// The replicas themselves.
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }
}

impl Group for RaftGroup {
    fn shard(&self) -> ShardId {
        self.replicas.shard
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    async fn write(&self, entry: EncodedEntry) -> Result<Vec<Outcome>, NotLeader> {
        // What is refused here is not acknowledged yet; what is proposed must find room (T-75).
        let mut pressure = self.room.pressure.clone();
        pressure
            .wait_for(|now| *now != Pressure::Full)
            .await
            .map_err(|_| NotLeader)?;
        let proposal = Proposal(entry.into_bytes());
        match self.replicas.raft.client_write(proposal).await {
            Ok(written) => Ok(written.data),
            Err(error) => {
                tracing::debug!(shard = %self.shard(), %error, "not written");
                Err(NotLeader)
            }
        }
    }

    /// Never by lease: a hand-off after a false alarm may leave an old leader with one.
    async fn read_index(&self) -> Result<u64, NotLeader> {
        let index = self
            .replicas
            .raft
            .get_read_log_id(ReadPolicy::ReadIndex)
            .await;
        index.map(|(read, _)| read.index()).map_err(|_| NotLeader)
    }

    fn read<R>(&self, look: impl FnOnce(&ShardState) -> R) -> R {
        let replica = self.replicas.machine.replica();
        // A poisoned lock means that `apply` has panicked, which ends the process by itself.
        let replica = replica.lock().unwrap_or_else(PoisonError::into_inner);
        look(&replica.state)
    }

    fn applied_index(&self) -> u64 {
        let replica = self.replicas.machine.replica();
        let replica = replica.lock().unwrap_or_else(PoisonError::into_inner);
        replica.applied.map_or(0, |id| id.index)
    }

    fn applied(&self) -> watch::Receiver<()> {
        self.applied.clone()
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }
}

/// The links, unless the node is by itself.
#[derive(Clone)]
pub struct LinkCourier(pub Option<Links>);

impl Courier for LinkCourier {
    async fn call(
        &self,
        to: NodeId,
        shard: ShardId,
        question: Question,
        payload: Bytes,
    ) -> Result<Bytes, Unreached> {
        let links = self.0.as_ref().ok_or(Unreached)?;
        let kind = match question {
            Question::Propose => Kind::Propose,
            Question::ReadIndex => Kind::ReadIndex,
        };
        let answer = links
            .call(to, kind, group_of(shard), payload, DEADLINE)
            .await;
        answer.map_err(|_| Unreached)
    }
}

/// Answers what other nodes ask about shards.
pub struct Desk {
    /// The shards of this node, by number.
    pub groups: Arc<[Arc<RaftGroup>]>,
    /// Their queues.
    pub queues: Arc<[Queue]>,
}

impl Handler for Desk {
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>> {
        let place = request
            .group
            .checked_sub(META_GROUP + 1)
            .and_then(|n| usize::try_from(n).ok());
        let found =
            place.and_then(|n| Some((self.groups.get(n)?.clone(), self.queues.get(n)?.clone())));
        Box::pin(async move {
            let (group, queue) = found?;
            let question = match request.kind {
                Kind::Propose => Question::Propose,
                Kind::ReadIndex => Question::ReadIndex,
                _ => return None,
            };
            Some(batch::answer(&*group, &queue, question, &request.payload).await)
        })
    }
}

fn away(absence: Absence) -> (NodeId, Away) {
    let away = Away {
        boot: absence.process.boot,
        since: absence.since,
        gone: absence.gone,
    };
    (absence.process.node, away)
}

/// Keeps `peers` at what the links know. Runs until they are shut down.
pub async fn watch_peers(links: Links, peers: watch::Sender<Peers>) {
    let mut events = links.subscribe();
    loop {
        let up = links
            .up()
            .into_iter()
            .map(|process| (process.node, process.boot))
            .collect();
        let now = Peers {
            up,
            expected: links.seats().len(),
            away: links.absent().into_iter().map(away).collect(),
        };
        peers.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        if let Err(broadcast::error::RecvError::Closed) = events.recv().await {
            return;
        }
    }
}

/// The newest version of the formats that every member reads, as far as it is known when the node starts.
pub fn formats(links: Option<&Links>) -> (watch::Sender<Version>, watch::Receiver<Version>) {
    watch::channel(links.map_or(Version::CURRENT, Links::common_format))
}

/// Raises `formats` to what the members that are met read. It never falls: who comes back with an older build
/// must expect what was written meanwhile. Runs until the links are shut down.
pub async fn watch_formats(links: Links, formats: watch::Sender<Version>) {
    let mut events = links.subscribe();
    loop {
        let common = links.common_format();
        let raised = formats.send_if_modified(|known| {
            let raised = common > *known;
            *known = common.max(*known);
            raised
        });
        if raised {
            tracing::info!("all members read format {common}: it is written from now on");
        }
        if let Err(broadcast::error::RecvError::Closed) = events.recv().await {
            return;
        }
    }
}
