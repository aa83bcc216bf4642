//! Sessions on nodes that have no replica of their shard.
//!
//! Three nodes have a replica of a shard, however many nodes there are; clients of its accounts are everywhere. A node
//! without a replica subscribes to one that has it ([`source`]), which keeps what its connections are to be told until
//! the node asks for it ([`feed`]). Where there is a replica on the node itself, that one is the source. Questions are
//! sent to the same source ([`query`]), proposals to the leader as ever.
//!
//! # Invariants
//!
//! 1. Outputs of a shard reach the host in order, from one source at a time.
//! 2. When the source changes, or outputs may have been lost, the host is told to look for what its connections have
//!    missed. The new source has applied at least what the old one had, so that no session seems to be unknown.
//! 3. A source that knows of no newer entries than long ago is left for another one.

pub mod feed;
pub mod query;
pub mod source;

use serde::{Deserialize, Serialize};

use crate::ShardId;
use crate::propose::LoadsOf;
use crate::session::{Load, Output, ShardState};

/// What a subscriber asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Keep outputs for me from now on, and answer once this entry is applied.
    Begin(u64),
    /// What is there since the last time, in the subscription with this number? A question of an earlier one may be
    /// answered late, and must not take what belongs to this one.
    Next(u64),
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct News {
    /// The number of the subscription.
    pub feed: u64,
    /// In order.
    pub outputs: Vec<Output>,
    /// The last entry that the source has applied. Its outputs may still be on their way.
    pub applied: u64,
    /// How much waits in the shard.
    pub loads: Loads,
}

/// How much waits in a shard until others take it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loads {
    /// For the database.
    rows: Load,
    /// For each shard, by number.
    outboxes: Vec<Load>,
    /// What may wait for the database.
    max_backlog: u64,
}

impl Loads {
    fn of(state: &ShardState, shards: u16) -> Self {
        let outboxes = (0..shards).map(|to| state.outbox_load(ShardId(to)));
        Self {
            rows: state.row_load(),
            outboxes: outboxes.collect(),
            max_backlog: state.max_backlog(),
        }
    }

    /// Whether anything waits.
    fn is_some(&self) -> bool {
        self.rows.bytes > 0 || self.outboxes.iter().any(|load| load.bytes > 0)
    }
}

impl LoadsOf for Loads {
    fn rows(&self) -> Load {
        self.rows
    }

    fn outbox(&self, to: ShardId) -> Load {
        let load = self.outboxes.get(usize::from(to.0));
        load.copied().unwrap_or_default()
    }

    fn max_backlog(&self) -> u64 {
        self.max_backlog
    }
}
