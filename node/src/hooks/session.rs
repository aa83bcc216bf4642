//! What happens to sessions, for services that want to know.

use cluster::session::Notice;

use crate::metrics::Metrics;

/// Hears of what happens to sessions: they fall asleep, wake up, are queued to, end.
///
/// Called on the cluster's own threads: it must not wait. Every node hears of the sessions of all shards
/// that it holds, and of some twice after a restart; only one of the nodes leads the shard at a time. What
/// must follow exactly once is no matter for a hook but an effect of the shard.
pub trait SessionHook: Send + Sync + 'static {
    /// Something happened.
    fn notice(&self, heard: &Heard<'_>);
}

/// What a [`SessionHook`] is told.
#[derive(Clone, Copy)]
pub struct Heard<'a> {
    /// What happened, to which session, and when.
    pub notice: &'a Notice,
    /// This node leads the session's shard, or is the only one to hear of it.
    pub leads: bool,
    /// What this node counts.
    pub metrics: &'a Metrics,
}
