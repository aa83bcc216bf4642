//! All that node sees.

use futures_util::future::BoxFuture;

use crate::ShardId;
use crate::session::{Completed, Output, Pending};

/// What node provides. Called from the cluster's own runtime; must not block.
pub trait Host: Send + Sync + 'static {
    /// For connections of this process, in the order of their entries.
    fn outputs(&self, outputs: Vec<Output>);
    /// A snapshot took the place of entries: what local connections missed is to be read from the state.
    fn resync(&self, shard: ShardId);
    /// This node leads the shard: carry out effects, in order. Returns those that are done; the rest is
    /// asked for again later. May be dropped when this node no longer leads.
    fn perform(&self, shard: ShardId, effects: Vec<Pending>) -> BoxFuture<'static, Vec<Completed>>;
}
