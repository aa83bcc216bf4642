//! Raft's requests over the links between nodes, both ways.
//!
//! That a peer is gone is known from its link, at once; so a request gets seconds, and what openraft
//! proposes as its deadline is not used: under load it would tear down what is merely slow.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use openraft::OptionalSend;
use openraft::errors::{NetworkError, ReplicationClosed, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::types::{
    AppendRequest, AppendResponse, Raft, RaftId, RpcError, Seat, Snapshot, SnapshotMeta,
    SnapshotResponse, StreamingError, TC, TransferRequest, TransferResponse, Vote, VoteRequest,
    VoteResponse,
};
use crate::identity::Identity;
use crate::link::{Handler, Kind, LinkError, Links, Request};
use crate::{NodeId, codec};

/// For entries: a peer whose disk is slow is not yet lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// For votes and transfers, after which another attempt is due.
const VOTING: Duration = Duration::from_secs(2);
/// For installing a snapshot, once all of it has arrived.
const INSTALLING: Duration = Duration::from_secs(60);
/// A snapshot travels in pieces of this size, so that other frames get in between.
const PIECE: usize = 64 << 10;

/// The requests that [`Replicas`] answers.
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
    /// The links, unless the node is by itself.
    pub links: Option<Links>,
    /// The group.
    pub group: u64,
}

/// One group's way to one peer.
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

/// A piece of a snapshot. The last one says what it is a snapshot of.
#[derive(Debug, Serialize, Deserialize)]
struct Piece {
    /// Pieces of different attempts do not mix.
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
            // openraft then waits before it tries again, and tries everything else meanwhile.
            LinkError::Down | LinkError::Refused => Unreachable::new(&error).into(),
            LinkError::Timeout | LinkError::TooLarge(_) => NetworkError::new(&error).into(),
        })
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse, RpcError> {
        let transfer = rand::random();
        let mut data = snapshot.snapshot;
        let mut offset = 0;
        while data.len() > PIECE {
            let piece = Piece {
                transfer,
                offset,
                data: data.split_to(PIECE),
                end: None,
            };
            offset += PIECE as u64;
            self.send(Kind::Snapshot, &piece, PATIENCE).await?;
        }
        let piece = Piece {
            transfer,
            offset,
            data,
            end: Some((vote, snapshot.meta)),
        };
        self.ask(Kind::Snapshot, &piece, INSTALLING).await
    }
}

impl RaftNetworkV2<TC> for Client {
    type SnapshotData = Bytes;

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

/// Answers what the peers' groups ask of this node's.
pub struct Replicas {
    identity: Identity,
    groups: BTreeMap<u64, Raft>,
    // Pieces of one transfer arrive one after another; the lock is held to add one.
    partial: Mutex<HashMap<(NodeId, u64), Partial>>,
}

/// The pieces of a snapshot that have arrived.
struct Partial {
    transfer: u64,
    data: BytesMut,
}

impl Replicas {
    /// For these groups, by their number.
    pub fn new(identity: Identity, groups: BTreeMap<u64, Raft>) -> Self {
        Self {
            identity,
            groups,
            partial: Mutex::default(),
        }
    }

    /// Adds a piece; returns all of the data with the last one. `None`: a piece is missing.
    fn collect(&self, from: (NodeId, u64), piece: &Piece) -> Option<Option<Bytes>> {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        if piece.offset == 0 {
            partial.insert(
                from,
                Partial {
                    transfer: piece.transfer,
                    data: BytesMut::new(),
                },
            );
        }
        let known = partial
            .get_mut(&from)
            .filter(|known| known.transfer == piece.transfer)?;
        let fits = known.data.len() as u64 == piece.offset
            && known.data.len() + piece.data.len() <= codec::LIMIT;
        if !fits {
            partial.remove(&from);
            return None;
        }
        known.data.extend_from_slice(&piece.data);
        match piece.end {
            Some(_) => partial.remove(&from).map(|whole| Some(whole.data.freeze())),
            None => Some(None),
        }
    }
}

/// The answer of a group that has stopped is a refusal.
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

async fn install(raft: &Raft, vote: Vote, snapshot: Snapshot) -> Option<Bytes> {
    let response = raft.install_full_snapshot(vote, snapshot).await.ok()?;
    Some(codec::encode(&response).into())
}

impl Handler for Replicas {
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>> {
        // Whoever has no cluster yet must have said so on its disk before it votes or stores (T-69).
        let raft = match self.identity.cluster() {
            Some(_) => self.groups.get(&request.group).cloned(),
            None => None,
        };
        let Some(raft) = raft else {
            return Box::pin(std::future::ready(None));
        };
        let payload = request.payload;
        match request.kind {
            Kind::Append => {
                Box::pin(async move { answer(&payload, |rpc| raft.append_entries(rpc)).await })
            }
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
                let piece: Option<Piece> = codec::decode(&payload).ok();
                let collected = piece.and_then(|piece| {
                    let whole = self.collect((request.from.node, request.group), &piece)?;
                    Some((whole, piece.end))
                });
                match collected {
                    Some((Some(snapshot), Some((vote, meta)))) => {
                        Box::pin(
                            async move { install(&raft, vote, Snapshot { meta, snapshot }).await },
                        )
                    }
                    Some(_) => Box::pin(std::future::ready(Some(Bytes::new()))),
                    None => Box::pin(std::future::ready(None)),
                }
            }
            _ => Box::pin(std::future::ready(None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas() -> (tempfile::TempDir, Replicas) {
        let dir = tempfile::tempdir().expect("makes");
        let identity = Identity::open(dir.path(), 1, true).expect("opens");
        (dir, Replicas::new(identity, BTreeMap::new()))
    }

    fn piece(transfer: u64, offset: u64, data: &'static [u8], end: bool) -> Piece {
        let end = end.then(|| (Vote::new(1, 1), SnapshotMeta::default()));
        Piece {
            transfer,
            offset,
            data: Bytes::from_static(data),
            end,
        }
    }

    #[test]
    fn pieces_of_a_snapshot_come_together_in_order_only() {
        let (_dir, replicas) = replicas();
        let from = (NodeId(1), 1);
        assert_eq!(
            replicas.collect(from, &piece(1, 0, b"ab", false)),
            Some(None)
        );
        assert_eq!(
            replicas.collect(from, &piece(1, 2, b"c", true)),
            Some(Some(Bytes::from("abc")))
        );
        assert_eq!(
            replicas.collect(from, &piece(2, 0, b"ab", false)),
            Some(None)
        );
        assert_eq!(
            replicas.collect(from, &piece(3, 2, b"c", true)),
            None,
            "another transfer"
        );
        assert_eq!(
            replicas.collect((NodeId(2), 1), &piece(2, 2, b"c", true)),
            None,
            "another peer"
        );
        assert_eq!(
            replicas.collect(from, &piece(2, 3, b"c", true)),
            None,
            "a hole"
        );
        assert_eq!(
            replicas.collect(from, &piece(2, 2, b"c", true)),
            None,
            "after a hole"
        );
    }
}
