//! Carries Raft's requests over the links between nodes, in both directions.
//!
//! A link reports at once that a peer is gone. So a request may take seconds, and the shorter deadline that openraft
//! suggests is ignored: under load it would abort requests that are merely slow.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::OptionalSend;
use openraft::errors::{NetworkError, ReplicationClosed, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::log::Log;
use super::machine::Machine;
use super::snapshot::incoming::{Collected, Incoming, Part};
use super::snapshot::{SnapshotData, Turn};
use super::types::{
    AppendRequest, AppendResponse, Raft, RaftId, RpcError, Seat, Snapshot, SnapshotMeta,
    SnapshotResponse, StreamingError, TC, TransferRequest, TransferResponse, Vote, VoteRequest,
    VoteResponse,
};
use crate::clock;
use crate::identity::Identity;
use crate::link::{Handler, Kind, LinkError, Links, Request};
use crate::{NodeId, codec};

/// How long appending entries may take: a peer with a slow disk is not lost yet.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long votes and transfers may take, before another attempt is due.
const VOTING: Duration = Duration::from_secs(2);
/// How long installing a snapshot may take once all of it has arrived, in addition to the time for reading it.
const INSTALLING: Duration = Duration::from_secs(60);
/// The slowest rate at which a node reads a snapshot, in bytes per second.
const SLOWEST: u64 = 4 << 20;
/// How long entries wait for room in a follower's log before they are refused. They are sent again later, so a follower
/// without room just falls behind.
const ROOM: Duration = Duration::from_secs(2);
/// A snapshot travels in pieces of this size, so that other frames get in between.
const PIECE: usize = 256 << 10;

/// The requests that [`RaftHandler`] answers.
pub const KINDS: [Kind; 5] = [
    Kind::Append,
    Kind::Vote,
    Kind::PreVote,
    Kind::Transfer,
    Kind::Snapshot,
];

/// Makes the clients of one group. Without links nobody is reachable.
#[derive(Clone)]
pub struct Factory {
    /// The links to other nodes; `None` if there are none.
    pub links: Option<Links>,
    /// The group.
    pub group: u64,
}

/// Sends one group's requests to one peer.
pub struct Client {
    factory: Factory,
    target: NodeId,
}

impl RaftNetworkFactory<TC> for Factory {
    type Network = Client;

    async fn new_client(&mut self, target: RaftId, _: &Seat) -> Client {
        Client {
            factory: self.clone(),
            target: NodeId(target),
        }
    }
}

/// A piece of a snapshot file. The last one says what it is a snapshot of.
#[derive(Debug, Serialize, Deserialize)]
struct Piece {
    /// The number of the attempt, so that pieces of different attempts do not mix.
    transfer: u64,
    offset: u64,
    data: Bytes,
    end: Option<(Vote, SnapshotMeta)>,
}

impl Client {
    async fn ask<R: DeserializeOwned>(
        &self,
        kind: Kind,
        question: &impl Serialize,
        patience: Duration,
    ) -> Result<R, RpcError> {
        let answer = self.send(kind, question, patience).await?;
        codec::decode(&answer).map_err(|error| NetworkError::new(&error).into())
    }

    async fn send(
        &self,
        kind: Kind,
        question: &impl Serialize,
        patience: Duration,
    ) -> Result<Bytes, RpcError> {
        let Some(links) = &self.factory.links else {
            return Err(Unreachable::new(&LinkError::Down).into());
        };
        let payload = codec::encode(question);
        let answer = links
            .call(self.target, kind, self.factory.group, payload, patience)
            .await;
        answer.map_err(|error| match error {
            // openraft waits before it tries this peer again, and goes on with the others.
            LinkError::Down | LinkError::Refused => Unreachable::new(&error).into(),
            LinkError::Timeout => NetworkError::new(&error).into(),
            LinkError::TooLarge(over) => {
                let (group, node) = (self.factory.group, self.target);
                tracing::error!(group, %node, ?kind, %over, "a replica cannot be sent what it lacks");
                Unreachable::new(&error).into()
            }
        })
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse, RpcError> {
        let SnapshotData::Stored(stored) = snapshot.snapshot else {
            let why = std::io::Error::other("this snapshot is not on disk");
            return Err(NetworkError::new(&why).into());
        };
        let (transfer, length) = (clock::random(), stored.length());
        let mut offset = 0;
        loop {
            let file = stored.clone();
            let read = move || file.read(offset, PIECE).map(Bytes::from);
            let read = tokio::task::spawn_blocking(read).await;
            let read = read.map_err(std::io::Error::other).flatten();
            let data = read.map_err(|error| NetworkError::new(&error))?;
            let next = offset + data.len() as u64;
            let last = next == length;
            let piece = Piece {
                transfer,
                offset,
                data,
                end: last.then(|| (vote, snapshot.meta.clone())),
            };
            if last {
                return self.ask(Kind::Snapshot, &piece, installing(length)).await;
            }
            self.send(Kind::Snapshot, &piece, PATIENCE).await?;
            offset = next;
        }
    }
}

/// How long the receiver may take to read and install a snapshot once all of it has arrived. It grows with the
/// snapshot, so that none is too large.
fn installing(bytes: u64) -> Duration {
    INSTALLING + Duration::from_secs(bytes / SLOWEST)
}

impl RaftNetworkV2<TC> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendRequest,
        _: RPCOption,
    ) -> Result<AppendResponse, RpcError> {
        self.ask(Kind::Append, &rpc, PATIENCE).await
    }

    async fn vote(&mut self, rpc: VoteRequest, _: RPCOption) -> Result<VoteResponse, RpcError> {
        self.ask(Kind::Vote, &rpc, VOTING).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest, _: RPCOption) -> Result<VoteResponse, RpcError> {
        self.ask(Kind::PreVote, &rpc, VOTING).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferRequest,
        _: RPCOption,
    ) -> Result<TransferResponse, RpcError> {
        self.ask(Kind::Transfer, &rpc, VOTING).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, snapshot) => sent.map_err(StreamingError::from),
        }
    }
}

/// Answers the requests of the groups on other nodes.
pub struct RaftHandler {
    identity: Identity,
    log: Log,
    groups: BTreeMap<u64, (Raft, Machine)>,
    incoming: Incoming,
}

impl RaftHandler {
    /// Answers for these groups, by number. Received snapshots take turns with those that this node writes.
    pub fn new(
        identity: Identity,
        log: Log,
        turn: Turn,
        groups: BTreeMap<u64, (Raft, Machine)>,
    ) -> Self {
        Self {
            identity,
            log,
            groups,
            incoming: Incoming::new(turn),
        }
    }
}

/// Calls the group, and encodes its answer. If the group has stopped, the request is refused.
async fn answer<Q, R, E, F>(payload: &[u8], ask: impl FnOnce(Q) -> F) -> Option<Bytes>
where
    Q: DeserializeOwned,
    R: Serialize,
    F: Future<Output = Result<R, E>>,
{
    let question = codec::decode(payload).ok()?;
    let answer = ask(question).await.ok()?;
    Some(codec::encode(&answer).into())
}

/// Appends entries once the log has room for them (T-75). Heartbeats, which have no entries, are handled at once.
async fn append(raft: Raft, log: Log, payload: Bytes) -> Option<Bytes> {
    let rpc: AppendRequest = codec::decode(&payload).ok()?;
    if !rpc.entries.is_empty() && !log.takes_entries(ROOM).await {
        return None;
    }
    let answer = raft.append_entries(rpc).await.ok()?;
    Some(codec::encode(&answer).into())
}

/// Adds a piece to the transfer. The last piece is answered when the snapshot is installed.
async fn collect(
    incoming: Incoming,
    (raft, machine): (Raft, Machine),
    from: (NodeId, u64),
    payload: Bytes,
) -> Option<Bytes> {
    let piece: Piece = codec::decode(&payload).ok()?;
    let part = Part {
        transfer: piece.transfer,
        offset: piece.offset,
        data: piece.data,
        last: piece.end.is_some(),
    };
    let collected = incoming.collect(machine.file(), from, part).await;
    match (collected.ok()?, piece.end) {
        (Collected::Whole(meta, received), Some((vote, named))) if meta == named => {
            let snapshot = SnapshotData::Received(received);
            let snapshot = Snapshot { meta, snapshot };
            let response = raft.install_full_snapshot(vote, snapshot).await.ok()?;
            Some(codec::encode(&response).into())
        }
        (Collected::Whole(..), _) => None,
        (Collected::Part, _) => Some(Bytes::new()),
    }
}

impl Handler for RaftHandler {
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>> {
        // A node must have written to its disk which cluster it belongs to, before it votes or stores (T-69).
        let raft = match self.identity.cluster() {
            Some(_) => self.groups.get(&request.group).cloned(),
            None => None,
        };
        let Some((raft, machine)) = raft else {
            return Box::pin(std::future::ready(None));
        };
        let payload = request.payload;
        match request.kind {
            Kind::Append => Box::pin(append(raft, self.log.clone(), payload)),
            Kind::Vote => Box::pin(async move { answer(&payload, |rpc| raft.vote(rpc)).await }),
            Kind::PreVote => {
                Box::pin(async move { answer(&payload, |rpc| raft.pre_vote(rpc)).await })
            }
            Kind::Transfer => {
                Box::pin(
                    async move { answer(&payload, |rpc| raft.handle_transfer_leader(rpc)).await },
                )
            }
            Kind::Snapshot => {
                let from = (request.from.node, request.group);
                Box::pin(collect(
                    self.incoming.clone(),
                    (raft, machine),
                    from,
                    payload,
                ))
            }
            _ => Box::pin(std::future::ready(None)),
        }
    }
}
