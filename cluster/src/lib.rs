//! What is true: the live state of every session, agreed on by Raft.
//!
//! Bare JIDs are hashed to slots and slots belong to shards; each shard is one Raft group whose state
//! machine is [`session::ShardState`]. That machine is pure: time and ids arrive inside commands, and
//! what follows from a command comes back as values. Around it stand the log on disk and the replication
//! (`raft`), the connections between nodes (`link`), the way of proposals into it (`propose`), what nodes without a
//! replica hear of it (`subscribe`) and the duties of a leader (`lead`), of which one keeps a copy of some counts in
//! Redis.
//!
//! [`architecture`] follows a stanza, a resume and the end of a session through all crates.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests measure how long things take"
    )
)]

pub mod architecture;
mod ask;
mod bootstrap;
pub mod bound;
pub mod claim;
mod clock;
mod cluster;
pub mod codec;
pub mod config;
pub mod connection;
pub mod disk;
pub mod fail;
pub mod format;
pub mod id;
mod identity;
mod lead;
mod link;
pub mod metrics;
mod peers;
mod propose;
mod raft;
pub mod recover;
mod replication;
pub mod room;
pub mod rules;
#[cfg(test)]
mod seeds;
pub mod session;
mod shard;
mod start;
pub mod status;
mod subscribe;

pub use clock::beat;
pub use cluster::{Cluster, Host, Permit, ProposeError, RemoveError, StartError, Unavailable};
pub use config::Config;
pub use id::{ArchiveId, BootId, ConnId, EffectId, Epoch, NodeId, Order, ShardId, SmId};
pub use identity::shards as founded_shards;
pub use lead::mirror;
pub use link::tls;
pub use raft::{dissent, verify};
pub use shard::map::shard_of;

/// What the project's own benches and fuzz targets look at. It may change at any time.
#[doc(hidden)]
pub mod inner {
    pub use crate::link::{frame, hello};
    pub use crate::raft::Fatal;
    pub use crate::raft::machine::{Machine, Observer};
    pub use crate::raft::snapshot::incoming::{Collected, Incoming, Part};
    pub use crate::raft::snapshot::{SnapshotData, Turn};
    pub use crate::raft::types::{Entry, Proposal, Snapshot, TC};
}
