//! Stands where `session::ShardState` will be.

use serde::{Deserialize, Serialize};

use crate::ShardId;
use crate::session::{Batch, Outcome, Output};

/// Counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardState {
    id: ShardId,
    count: u64,
}

/// What follows from a batch.
#[derive(Debug, Default)]
pub struct Applied {
    /// One for each command.
    pub outcomes: Vec<Outcome>,
    /// What owners are told.
    pub outputs: Vec<Output>,
}

impl ShardState {
    /// Nothing yet.
    pub fn new(id: ShardId, _shards: u16) -> Self {
        Self { id, count: 0 }
    }

    /// Counts the commands.
    pub fn apply(&mut self, batch: Batch) -> Applied {
        self.count += batch.commands.len() as u64;
        Applied {
            outcomes: batch.commands.iter().map(|_| Outcome::Done).collect(),
            outputs: Vec::new(),
        }
    }
}
