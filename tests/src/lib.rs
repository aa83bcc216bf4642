//! Tests against real processes: nodes that are started, killed and paused, and clients that behave or
//! do not.
//!
//! What is here panics when something does not go as it must: that is how a test fails. Nothing waits
//! for a time to pass, only for a condition, and every wait has an end.

pub mod archive;
pub mod bosh;
pub mod client;
pub mod cluster;
pub mod command;
pub mod contact;
pub mod login;
pub mod pair;
pub mod pep;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod register;
pub mod repository;
pub mod sasl2;
pub mod shim;
pub mod slixmpp;
pub mod small;
pub mod web;
pub mod web_session;
pub mod wire;

use std::time::Duration;

/// What the server must do comes within this time, even on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something has become true. Looks again and again, for as long as [`PATIENCE`].
pub async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_true().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
