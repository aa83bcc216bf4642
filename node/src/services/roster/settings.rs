//! What an operator may say about rosters.

use serde::Deserialize;

use crate::config::{ConfigError, Table, within};

/// What a name or a group may measure (IM-19).
pub const MAX_TEXT: usize = 1023;

/// Of `[quotas]`: what a roster may take. Answers and the log carry what these allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// How many contacts a roster may have.
    pub roster_contacts: u64,
    /// How many groups one contact may be in.
    pub roster_groups: u64,
    /// The most bytes of a roster, as it is sent to its owner. An answer cannot be larger.
    pub roster_bytes: u64,
    /// How many subscription requests may wait for an answer. A session that logs in gets all of them at once.
    pub roster_requests: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            roster_contacts: 5_000,
            roster_groups: 64,
            roster_bytes: 400 << 10,
            roster_requests: 100,
        }
    }
}

impl Table for Quotas {
    const SECTION: &'static str = "quotas";

    fn check(&self) -> Result<(), ConfigError> {
        within(&[
            ("quotas.roster_contacts", self.roster_contacts, 1..=10_000),
            ("quotas.roster_groups", self.roster_groups, 1..=64),
            ("quotas.roster_bytes", self.roster_bytes, 1_000..=400 << 10),
            ("quotas.roster_requests", self.roster_requests, 1..=100),
        ])
    }
}
