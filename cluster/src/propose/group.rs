//! Implements [`ShardGroup`] with openraft, and [`Transport`] with the links between nodes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::ReadPolicy;
use tokio::sync::{broadcast, watch};

use super::stall::Stalled;
use super::subscribers::Listeners;
use super::{
    DEADLINE, EncodedEntry, Leadership, LoadsOf, NotLeader, Notices, Proposer, ShardGroup,
    ShardRequest, Transport, Unreached, batch,
};
use crate::format::Version;
use crate::link::{Handler, Kind, Links, Request};
use crate::metrics::Hop;
use crate::raft::groups::{META_GROUP, group_of};
use crate::raft::log::Pressure;
use crate::raft::replica::ShardReplica;
use crate::raft::types::Proposal;
use crate::room::Shortage;
use crate::session::{Outcome, ShardState};
use crate::subscribe::Loads;
use crate::subscribe::feed::Feeds;
use crate::subscribe::source::Source;
use crate::{NodeId, ShardId, clock};

/// The kinds of requests that [`RequestHandler`] answers.
pub const KINDS: [Kind; 2] = [Kind::Propose, Kind::ReadIndex];

/// Whether there is room for entries on the disk of this node.
#[derive(Clone, Debug)]
pub struct LogRoom {
    /// What the node lacks, if anything.
    pub shortage: watch::Receiver<Option<Shortage>>,
    /// Whether the log takes entries.
    pub pressure: watch::Receiver<Pressure>,
}

/// One shard of a running node. While the log of this node takes no entries it proposes none.
pub struct RaftGroup {
    replica: Arc<ShardReplica>,
    leadership: watch::Receiver<Leadership>,
    room: LogRoom,
    listeners: Arc<Listeners>,
    /// How much waits in the shard, as a source on another node has said.
    loads: Mutex<Loads>,
    stalled: watch::Sender<Option<Stalled>>,
}

impl RaftGroup {
    /// `listeners` hear of the progress of the replica.
    pub fn new(
        replica: Arc<ShardReplica>,
        leadership: watch::Receiver<Leadership>,
        room: LogRoom,
        listeners: Arc<Listeners>,
    ) -> Self {
        listeners.watch(leadership.clone());
        Self {
            replica,
            leadership,
            room,
            listeners,
            loads: Mutex::default(),
            stalled: watch::Sender::new(None),
        }
    }

    /// Where the outputs for connections of this node come from.
    pub fn source(&self) -> Source {
        *self.listeners.source.borrow()
    }

    /// Changes the source; false if it is the same as before.
    pub fn set_source(&self, source: Source) -> bool {
        self.listeners.source.send_replace(source) != source
    }

    /// Nodes without a replica that subscribe to this one.
    pub fn feeds(&self) -> &Feeds {
        &self.listeners.feeds
    }

    /// Notes how much waits in the shard.
    pub fn take_loads(&self, loads: Loads) {
        *self.loads() = loads;
        self.listeners.applied.send_replace(());
    }

    /// A poisoned lock is usable: the value is only ever replaced as a whole.
    fn loads(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the shard stands still.
    pub fn stalled(&self) -> Option<Stalled> {
        *self.stalled.borrow()
    }

    /// Whether this node takes no entries because it lacks something.
    pub(super) fn is_short(&self) -> bool {
        self.room.shortage.borrow().is_some()
    }

    pub(super) fn set_stalled(&self, stalled: Option<Stalled>) {
        self.stalled.send_replace(stalled);
    }

    /// The replica of the shard on this node.
    pub fn replica(&self) -> &ShardReplica {
        &self.replica
    }
}

impl ShardGroup for RaftGroup {
    fn shard(&self) -> ShardId {
        self.replica.shard
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    async fn write(&self, entry: EncodedEntry) -> Result<Vec<Outcome>, NotLeader> {
        // Nobody has got an acknowledgement for this entry yet, so it may wait; once it is proposed it must find room
        // (T-75).
        let mut pressure = self.room.pressure.clone();
        pressure
            .wait_for(|now| *now != Pressure::Full)
            .await
            .map_err(|_| NotLeader)?;
        let (bytes, version, batch) = entry.into_parts();
        if version == Version::CURRENT {
            let proposed = self.replica.machine.proposed();
            proposed.put(bytes.clone(), version, batch);
        }
        let proposal = Proposal(bytes);
        let begun = clock::instant();
        match self.replica.raft.client_write(proposal).await {
            Ok(written) => {
                let took = clock::instant().saturating_duration_since(begun);
                self.replica.counters.commit.observe(took.as_secs_f64());
                Ok(written.data)
            }
            Err(error) => {
                tracing::debug!(shard = %self.shard(), %error, "not written");
                Err(NotLeader)
            }
        }
    }

    /// It never trusts a lease: after a hand-over by false alarm, an old leader may still have one.
    async fn read_index(&self) -> Result<u64, NotLeader> {
        let index = self
            .replica
            .raft
            .get_read_log_id(ReadPolicy::ReadIndex)
            .await;
        index.map(|(read, _)| read.index()).map_err(|_| NotLeader)
    }

    fn read<R>(&self, look: impl FnOnce(&ShardState) -> R) -> R {
        let replica = self.replica.machine.replica();
        // A poisoned lock means that `apply` has panicked, which ends the process by itself.
        let replica = replica.lock().unwrap_or_else(PoisonError::into_inner);
        look(&replica.state)
    }

    fn applied_index(&self) -> u64 {
        let replica = self.replica.machine.replica();
        let replica = replica.lock().unwrap_or_else(PoisonError::into_inner);
        replica.applied.map_or(0, |id| id.index)
    }

    fn applied(&self) -> watch::Receiver<()> {
        self.listeners.applied.subscribe()
    }

    fn note(&self, hop: Hop, took: Duration) {
        self.replica.counters.hops.observe(hop, took);
    }

    fn notices(&self) -> broadcast::Receiver<Notices> {
        self.listeners.notices.subscribe()
    }

    fn with_loads<R>(&self, look: impl FnOnce(&dyn LoadsOf) -> R) -> R {
        match self.source() {
            Source::Here => self.read(|state| look(state)),
            Source::At(_) | Source::None => look(&*self.loads()),
        }
    }
}

/// The links to other nodes; `None` if there are none.
#[derive(Clone)]
pub struct LinkTransport(pub Option<Links>);

impl Transport for LinkTransport {
    async fn call(
        &self,
        to: NodeId,
        shard: ShardId,
        asked: ShardRequest,
        payload: Bytes,
    ) -> Result<Bytes, Unreached> {
        let links = self.0.as_ref().ok_or(Unreached)?;
        let kind = match asked {
            ShardRequest::Propose => Kind::Propose,
            ShardRequest::ReadIndex => Kind::ReadIndex,
        };
        let answer = links
            .call(to, kind, group_of(shard), payload, DEADLINE)
            .await;
        answer.map_err(|_| Unreached)
    }
}

/// Answers requests of other nodes about shards.
pub struct RequestHandler {
    /// The shards of this node, by number.
    pub groups: Arc<[Arc<RaftGroup>]>,
    /// The proposers of these shards.
    pub proposers: Arc<[Proposer]>,
}

impl Handler for RequestHandler {
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>> {
        let place = request
            .group
            .checked_sub(META_GROUP + 1)
            .and_then(|n| usize::try_from(n).ok());
        let found =
            place.and_then(|n| Some((self.groups.get(n)?.clone(), self.proposers.get(n)?.clone())));
        Box::pin(async move {
            let (group, proposer) = found?;
            let asked = match request.kind {
                Kind::Propose => ShardRequest::Propose,
                Kind::ReadIndex => ShardRequest::ReadIndex,
                _ => return None,
            };
            Some(batch::answer(&*group, &proposer, asked, &request.payload).await)
        })
    }
}
