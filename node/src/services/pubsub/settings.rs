//! What an operator may say about nodes.

use serde::Deserialize;

use crate::config::{ConfigError, Table, within};

/// Of `[quotas]`: what the nodes of an account may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// How many nodes an account may have.
    pub pubsub_nodes: u64,
    /// How many items a node may hold; this is `max`.
    pub pubsub_items: u64,
    /// The most bytes of an item's payload.
    pub pubsub_item_bytes: u64,
    /// The most bytes of all items of an account.
    pub pubsub_bytes: u64,
    /// How many affiliations, and how many subscriptions, a node may have.
    pub pubsub_parties: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            pubsub_nodes: 1_000,
            pubsub_items: 10_000,
            pubsub_item_bytes: 192 << 10,
            pubsub_bytes: 32 << 20,
            pubsub_parties: 1_000,
        }
    }
}

impl Table for Quotas {
    const SECTION: &'static str = "quotas";

    fn check(&self) -> Result<(), ConfigError> {
        within(&[
            ("quotas.pubsub_nodes", self.pubsub_nodes, 1..=10_000),
            ("quotas.pubsub_items", self.pubsub_items, 1..=100_000),
            (
                "quotas.pubsub_item_bytes",
                self.pubsub_item_bytes,
                1_000..=256 << 10,
            ),
            ("quotas.pubsub_bytes", self.pubsub_bytes, 10_000..=1 << 30),
            ("quotas.pubsub_parties", self.pubsub_parties, 1..=5_000),
        ])
    }
}
