//! What an operator may say about pushes.

use serde::Deserialize;

use crate::config::{ConfigError, Table, within};

/// `[push]`: what a service learns that wakes a user's device (XEP-0357). It may be anybody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Push {
    /// The service learns who wrote last.
    pub with_sender: bool,
    /// The service learns what was written.
    pub with_body: bool,
}

impl Table for Push {
    const SECTION: &'static str = "push";
}

/// Of `[quotas]`: what an account may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// How many push services all clients of the account may register.
    pub push_registrations: u64,
    /// All of them together: addresses, nodes and options.
    pub push_bytes: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            push_registrations: 16,
            push_bytes: 64 << 10,
        }
    }
}

impl Table for Quotas {
    const SECTION: &'static str = "quotas";

    fn check(&self) -> Result<(), ConfigError> {
        within(&[
            ("quotas.push_registrations", self.push_registrations, 1..=64),
            ("quotas.push_bytes", self.push_bytes, 1_000..=1 << 20),
        ])
    }
}
