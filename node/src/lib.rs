//! Holdfast: the part that touches the world.
//!
//! # The life of a stanza
//!
//! A socket is let in (`listen`) and led to a bound or resumed session (`session`). From then on its
//! pump turns bytes into stanzas; the session's actor has each of them resolved to actions (`router`,
//! with the `services` attached through `hooks`) and proposes those to the account's shard. Once they
//! are committed, whatever follows comes back as outputs (`host`), which the actors of the receiving
//! sessions write, in the shard's order. What belongs into the database (`storage`) is done by the
//! node that leads the shard.
//!
//! Nothing is acknowledged that was not committed, and no byte of a stanza leaves before the commit that
//! numbered it.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests measure how long things take and make names up"
    )
)]

pub mod admin;
mod app;
mod auth;
mod clock;
pub mod config;
mod database;
pub mod demo;
mod drain;
mod hooks;
mod host;
mod inquiry;
mod listen;
mod live;
mod maintenance;
mod metrics;
mod outage;
mod preflight;
mod readiness;
mod reload;
mod router;
pub mod rules;
pub mod secrecy;
mod serve;
mod services;
mod session;
mod storage;
mod telemetry;
mod trace;
mod view;

pub use hooks::Needs;
pub use services::{extensions, needs};
