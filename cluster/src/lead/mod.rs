//! What a node does for the shards that it leads: it carries out what their states ask for.
//!
//! [`tasks`] starts and stops the tasks of a leader:
//!
//! - [`relay`] takes items to other shards; [`effects`] has pending effects carried out, and [`outcome`] cuts what
//!   follows from them to commands;
//! - [`tick`] lets time pass; [`loss`] tells the shard of processes that are gone; [`settings`] has the shard follow the
//!   configuration;
//! - [`mirror`] tells Redis who hibernates.
//!
//! # Invariants
//!
//! 1. A leader acts only on states that contain every entry of its predecessors.
//! 2. Nothing here decides: what is to be done is in the state, and what is done is a command.

pub mod effects;
#[cfg(test)]
pub(crate) mod fake;
pub mod loss;
pub mod mirror;
pub mod outcome;
pub mod relay;
pub mod retire;
pub mod settings;
pub mod tasks;
#[cfg(test)]
pub(crate) mod tests;
pub mod tick;
