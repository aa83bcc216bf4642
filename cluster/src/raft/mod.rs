//! Replication: what openraft needs from us.
//!
//! `types` names openraft's parameters; `log` keeps the entries of all groups in one write-ahead log
//! per node; `machine` applies them to a shard's pure state; `snapshot` keeps that state on disk, so that
//! entries may be forgotten.
//!
//! # Invariants
//!
//! 1. What was promised to a peer or a client is on disk: votes and entries wait for the sync.
//! 2. A failed write or sync is never retried, and a committed entry never skipped: the process ends
//!    ([`Fatal`]), and the other replicas carry on.

use std::fmt;
use std::sync::Arc;

pub mod log;
pub mod failover;
pub mod groups;
pub mod machine;
pub mod network;
pub mod snapshot;
pub mod types;

/// What happens when the node cannot go on: by default the process ends at once.
///
/// Nothing may run after a failed sync, not even destructors: a promise that is already on its way
/// could otherwise leave the node without what it promises.
#[derive(Clone)]
pub struct Fatal(Arc<dyn Fn(&str) + Send + Sync>);

impl Fatal {
    /// Calls `act` with the reason instead of ending the process; for tests.
    pub fn new(act: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(act))
    }

    /// Says why and ends the process.
    pub fn abort() -> Self {
        Self::new(|why| {
            tracing::error!("{why}; the node stops");
            // The log of a stopped process may be a pipe that nobody reads any more.
            eprintln!("holdfast: {why}; the node stops");
            std::process::abort();
        })
    }

    /// The node cannot go on.
    pub fn call(&self, why: impl fmt::Display) {
        (self.0)(&why.to_string());
    }
}

impl Default for Fatal {
    fn default() -> Self {
        Self::abort()
    }
}

impl fmt::Debug for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fatal")
    }
}
