//! What an operator may say about blocklists.

use serde::Deserialize;

use crate::config::{ConfigError, Table, within};

/// Of `[quotas]`: what a blocklist may take. Each shard holds the lists of all its accounts in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// How many addresses an account may block.
    pub blocked_jids: u64,
    /// The most bytes of a blocklist, as it is sent to its owner.
    pub blocked_bytes: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            blocked_jids: 1_000,
            blocked_bytes: 64 << 10,
        }
    }
}

impl Table for Quotas {
    const SECTION: &'static str = "quotas";

    fn check(&self) -> Result<(), ConfigError> {
        within(&[
            ("quotas.blocked_jids", self.blocked_jids, 1..=5_000),
            (
                "quotas.blocked_bytes",
                self.blocked_bytes,
                1_000..=128 << 10,
            ),
        ])
    }
}
