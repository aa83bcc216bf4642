//! What a node does for shards: everywhere it takes proposals to the leader; where it leads, it carries
//! out what the state asks for.
//!
//! - [`backlog`]: what waits for the next batch, pure; [`queue`]: the way into it; [`batch`]: the task
//!   that turns it into entries ([`entry`]), or into calls to the node that leads;
//! - [`duty`]: starts and stops a leader's tasks: [`relay`] empties the outboxes, [`effects`] has pending
//!   effects carried out, [`tick`] lets time pass, [`loss`] tells the shard of processes that are gone,
//!   [`limits`] tells Redis who hibernates, [`settings`] has the shard follow the configuration;
//! - [`outcome`]: cuts what follows from effects to commands;
//! - [`admission`]: holds what is said until there is room for what follows from it;
//! - [`stall`]: says that a shard stands still;
//! - [`compare`]: tells what the hash of this node's replica is;
//! - [`group`]: the replicas of a shard, as openraft gives them; [`junction`]: what applied entries set off.
//!
//! # Invariants
//!
//! 1. A proposal is answered with what its command did, or with [`Unavailable`]; then its fate is open.
//!    It may be proposed again by anyone, since commands may be repeated.
//! 2. A leader acts on states only that contain every entry of its predecessors.
//! 3. Nothing here decides: what is to be done is in the state, and what is done is a command.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use crate::session::{Notice, Outcome, ShardState};
use crate::{NodeId, ShardId};

pub mod admission;
pub mod backlog;
pub mod batch;
pub mod compare;
pub mod duty;
pub mod effects;
pub mod entry;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub mod group;
pub mod junction;
pub mod limits;
pub mod loss;
pub mod outcome;
pub mod queue;
pub mod relay;
pub mod settings;
pub mod stall;
pub mod tick;

pub use crate::raft::groups::Leadership;
pub use entry::EncodedEntry;
pub use queue::{ProposeError, Queue, Unavailable};

/// How long a proposal is tried before its caller is told that it did not work out.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How long a command that nobody waits for may wait for company.
pub const LAZY: Duration = Duration::from_millis(250);
/// How many stanzas, items or commands make an entry full.
pub const MAX_COMMANDS: usize = 256;
/// How long a busy leader waits for more; an entry costs the same whatever it carries.
pub const LINGER: Duration = Duration::from_millis(2);
/// Busy: more commands per second than this.
pub const LINGER_ABOVE: u32 = 500;

/// This node does not lead the shard, or no longer, or cannot reach the others. What was proposed may
/// yet be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node does not lead the shard")]
pub struct NotLeader;

/// What an entry brought about.
pub type News = Arc<[Notice]>;

/// The replicas of one shard.
pub trait Group: Send + Sync + 'static {
    /// Which shard.
    fn shard(&self) -> ShardId;
    /// Who leads it.
    fn leadership(&self) -> watch::Receiver<Leadership>;
    /// Proposes an encoded batch; returns when it is applied here.
    fn write(
        &self,
        entry: EncodedEntry,
    ) -> impl Future<Output = Result<Vec<Outcome>, NotLeader>> + Send;
    /// Confirms with the others that this node leads; the state is current once this entry is applied.
    fn read_index(&self) -> impl Future<Output = Result<u64, NotLeader>> + Send;
    /// Looks at the state on this node. Must be quick: entries wait.
    fn read<R>(&self, look: impl FnOnce(&ShardState) -> R) -> R;
    /// The number of the last entry that was applied here.
    fn applied_index(&self) -> u64;
    /// Changes whenever entries were applied here.
    fn applied(&self) -> watch::Receiver<()>;
    /// What happens to sessions from now on.
    fn news(&self) -> broadcast::Receiver<News>;
}

/// A call was not answered; the other node may have acted on it nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node cannot be reached")]
pub struct Unreached;

/// The way to other nodes.
pub trait Courier: Send + Sync + 'static {
    /// Asks the node. Ends at once when the connection is lost.
    fn call(
        &self,
        to: NodeId,
        shard: ShardId,
        question: Question,
        payload: Bytes,
    ) -> impl Future<Output = Result<Bytes, Unreached>> + Send;
}

/// What one node asks of another, about one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// These commands are to be proposed, by the node that leads.
    Propose,
    /// See [`Group::read_index`].
    ReadIndex,
}

/// The answer to a [`Question`].
#[derive(Debug, Serialize, Deserialize)]
pub enum Response {
    /// For each command what it did; none: propose it again.
    Outcomes(Vec<Option<Outcome>>),
    /// The state is current once this entry is applied.
    Index(u64),
    /// Ask someone else.
    NotLeader,
}

/// Waits until the entry is applied on this node.
pub async fn wait_applied<G: Group>(group: &G, index: u64) -> Result<(), NotLeader> {
    let mut applied = group.applied();
    while group.applied_index() < index {
        applied.changed().await.map_err(|_| NotLeader)?;
    }
    Ok(())
}
