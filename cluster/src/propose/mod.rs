//! The way into a shard and back: each node takes proposals to the leader, and hands on what applied entries caused.
//!
//! - [`admission`] holds what clients say until there is room for what follows from it;
//! - [`proposer`] takes commands from any thread; [`backlog`] orders what waits for the next batch and is pure; [`batch`]
//!   is the task that turns it into entries ([`entry`]), or into calls to the node that leads;
//! - [`group`] is a shard as openraft gives it; [`subscribers`] hands outputs and notices of applied entries on;
//! - [`stall`] reports a shard that stands still; [`compare`] proposes the hash of this node's replica.
//!
//! # Invariants
//!
//! 1. A proposal is answered with what its command did, or with [`Unavailable`]; then its fate is open.
//!    It may be proposed again by anyone, since commands may be repeated.
//! 2. Nothing here decides: a command decides when it is applied.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use crate::metrics::Hop;
use crate::session::{Load, Notice, Outcome, ShardState};
use crate::{NodeId, ShardId};

pub mod admission;
pub mod backlog;
pub mod batch;
pub mod compare;
pub mod entry;
pub mod group;
pub mod proposer;
pub mod stall;
pub mod subscribers;

pub use crate::raft::known::Leadership;
pub use entry::EncodedEntry;
pub use proposer::{ProposeError, Proposer, Unavailable};

/// How long a proposal is tried before its caller gets an error.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How long a lazy command may wait for others to share an entry with.
pub const LAZY: Duration = Duration::from_millis(250);
/// How many stanzas, items or commands fill an entry.
pub const MAX_COMMANDS: usize = 256;
/// How long a busy leader waits for more commands before it makes an entry.
pub const LINGER: Duration = Duration::from_millis(2);
/// A leader is busy when more commands per second than this arrive.
pub const LINGER_ABOVE: u32 = 500;

/// This node does not lead the shard (any longer), or cannot reach the others. What was proposed may still be
/// committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node does not lead the shard")]
pub struct NotLeader;

/// The notices of one entry.
pub type Notices = Arc<[Notice]>;

/// The Raft group of one shard, as seen from one node. Tests have one without consensus (`lead::fake`).
pub trait ShardGroup: Send + Sync + 'static {
    /// The shard.
    fn shard(&self) -> ShardId;
    /// Who leads the group, and its changes.
    fn leadership(&self) -> watch::Receiver<Leadership>;
    /// Proposes an entry, and returns once it is applied on this node.
    fn write(
        &self,
        entry: EncodedEntry,
    ) -> impl Future<Output = Result<Vec<Outcome>, NotLeader>> + Send;
    /// Confirms with a majority that this node leads. Returns the index that has to be applied for the state to be
    /// current.
    fn read_index(&self) -> impl Future<Output = Result<u64, NotLeader>> + Send;
    /// Reads the state on this node. `look` must be quick: entries wait for it.
    fn read<R>(&self, look: impl FnOnce(&ShardState) -> R) -> R;
    /// Looks at how much waits in the shard, as far as this node knows. `look` must be quick too.
    fn with_loads<R>(&self, look: impl FnOnce(&dyn LoadsOf) -> R) -> R {
        self.read(|state| look(state))
    }
    /// The number of the last entry that was applied here.
    fn applied_index(&self) -> u64;
    /// Changes whenever entries were applied here.
    fn applied(&self) -> watch::Receiver<()>;
    /// The notices of entries that are applied from now on.
    fn notices(&self) -> broadcast::Receiver<Notices>;
    /// Counts, for operators, how long something took that the leader did.
    fn note(&self, _: Hop, _: Duration) {}
}

/// How much waits in a shard until somebody takes it.
pub trait LoadsOf {
    /// For the database.
    fn rows(&self) -> Load;
    /// For another shard.
    fn outbox(&self, to: ShardId) -> Load;
    /// What may wait for the database; 0 if there is no bound.
    fn max_backlog(&self) -> u64;
}

impl LoadsOf for ShardState {
    fn rows(&self) -> Load {
        self.row_load()
    }

    fn outbox(&self, to: ShardId) -> Load {
        self.outbox_load(to)
    }

    fn max_backlog(&self) -> u64 {
        Self::max_backlog(self)
    }
}

/// A call was not answered; the other node may have acted on it nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node cannot be reached")]
pub struct Unreached;

/// How a node reaches the others.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and waits for the response. It fails at once when the connection is lost.
    fn call(
        &self,
        to: NodeId,
        shard: ShardId,
        asked: ShardRequest,
        payload: Bytes,
    ) -> impl Future<Output = Result<Bytes, Unreached>> + Send;
}

/// What one node asks another about a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardRequest {
    /// Propose these commands, if you lead the shard.
    Propose,
    /// See [`ShardGroup::read_index`].
    ReadIndex,
}

/// The answer to a [`ShardRequest`].
#[derive(Debug, Serialize, Deserialize)]
pub enum Response {
    /// For each command its outcome; `None` if it has to be proposed again.
    Outcomes(Vec<Option<Outcome>>),
    /// The state is current once this entry is applied.
    Index(u64),
    /// The node does not lead the shard.
    NotLeader,
}

/// Waits until the entry is applied on this node.
pub async fn wait_applied<G: ShardGroup>(group: &G, index: u64) -> Result<(), NotLeader> {
    let mut applied = group.applied();
    while group.applied_index() < index {
        applied.changed().await.map_err(|_| NotLeader)?;
    }
    Ok(())
}
