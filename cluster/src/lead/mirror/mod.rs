//! Counts of hibernated and old sessions in Redis, where operators and other programs can see and set them.
//!
//! The shard is the truth: it holds every limit by itself (its `quota`), in the entry that passes it. The
//! shard's leader tells Redis of each decision a moment later ([`task`]). The answers of Redis can change only one
//! thing: the limits of single accounts, which an operator may have set there. Nothing waits for Redis.
//!
//! Three keys for each account, with one hash tag, so that a Redis Cluster has them in one place:
//!
//! | key | type | holds |
//! |---|---|---|
//! | `{holdfast:DOMAIN:JID}:hibernated` | sorted set | resources, by when they fell asleep |
//! | `{holdfast:DOMAIN:JID}:old` | sorted set | digests of SM-IDs, by when they are forgotten |
//! | `{holdfast:DOMAIN:JID}:limits` | hash | `hibernated` and `old` as set, and their `version` |
//!
//! The sets vanish by themselves within a minute of the last word from a leader, who renews them more often.
//!
//! - [`address`] parses the URL; [`script`] makes the calls and reads their answers, and is pure; [`store`] is a
//!   connection; [`counters`] counts what came of it; [`task`] is the leader's task.

pub mod address;
pub mod counters;
pub mod script;
pub mod store;
pub mod task;

pub use address::Address;
pub use counters::{LimitCounters, LimitCounts};
