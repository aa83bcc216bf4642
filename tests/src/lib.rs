//! Tests against real processes: nodes that are started, killed and paused, and clients that behave or
//! do not.
//!
//! What is here panics when something does not go as it must: that is how a test fails. Nothing waits
//! for a time to pass, only for a condition, and every wait has an end.

pub mod archive;
pub mod client;
pub mod cluster;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod wire;

use std::time::Duration;

/// What the server must do comes within this time, even on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(30);
