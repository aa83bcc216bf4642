//! Counts of hibernated and old sessions in Redis, where operators and other programs can see and set them.
//!
//! The shard is the truth: it holds every limit by itself ([`crate::session::quota`]), in the entry that
//! passes it. Redis hears of each decision a moment later, from the shard's leader
//! ([`crate::lead::limits`]), and what it answers can change one thing: the limits of single accounts, as
//! an operator may have set them there. Nothing waits for it.
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
//! - [`address`]: which Redis; [`script`]: one script for each decision, and how its answer is read, pure;
//!   [`store`]: a connection; [`tally`]: what came of it.

pub mod address;
pub mod script;
pub mod store;
pub mod tally;

pub use address::Address;
pub use tally::{LimitCounts, Tally};
