//! What an operator may say about private storage.

use serde::Deserialize;

use crate::config::{ConfigError, Table, within};

/// Of `[quotas]`: what an account may store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// How many elements.
    pub private_elements: u64,
    /// All of them together.
    pub private_bytes: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            private_elements: 1_000,
            private_bytes: 1 << 20,
        }
    }
}

impl Table for Quotas {
    const SECTION: &'static str = "quotas";

    fn check(&self) -> Result<(), ConfigError> {
        within(&[
            ("quotas.private_elements", self.private_elements, 1..=10_000),
            ("quotas.private_bytes", self.private_bytes, 1_000..=1 << 30),
        ])
    }
}
