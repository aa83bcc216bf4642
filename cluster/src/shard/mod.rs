//! Assigns accounts to shards.

pub mod map;
