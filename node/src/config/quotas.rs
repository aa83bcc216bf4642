//! What one account may take.

use std::ops::RangeInclusive;

use serde::Deserialize;

use super::error::{ConfigError, Rule};

/// `[quotas]`: what one account may have stored and waiting. Whatever would take more is refused with an
/// error to the one who asked for it, before it is acknowledged. None of them can be turned off: answers and
/// the log carry what they allow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// How many contacts a roster may have.
    pub roster_contacts: u64,
    /// How many groups one contact may be in.
    pub roster_groups: u64,
    /// The most bytes of a roster, as it is sent to its owner. An answer cannot be larger.
    pub roster_bytes: u64,
    /// How many subscription requests may wait for an answer. A session that logs in gets all of them at once.
    pub roster_requests: u64,
    /// How many elements of private XML an account may store.
    pub private_elements: u64,
    /// All of them together.
    pub private_bytes: u64,
    /// The most bytes of a vCard.
    pub vcard_bytes: u64,
    /// How many push services all clients of the account may register.
    pub push_registrations: u64,
    /// All of them together: addresses, nodes and options.
    pub push_bytes: u64,
    /// The most bytes that may be queued for all sessions together. Each session is guaranteed its share, so that one
    /// that is away takes nothing from one that reads.
    pub queue_bytes: u64,
    /// Addresses that one session's directed presence is remembered for.
    pub directed_presence: u32,
    /// All of them together.
    pub directed_presence_bytes: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            roster_contacts: 5_000,
            roster_groups: 64,
            roster_bytes: 400 << 10,
            roster_requests: 100,
            private_elements: 1_000,
            private_bytes: 1 << 20,
            vcard_bytes: 128 << 10,
            push_registrations: 16,
            push_bytes: 64 << 10,
            queue_bytes: 32 << 20,
            directed_presence: 500,
            directed_presence_bytes: 64 << 10,
        }
    }
}

impl Quotas {
    pub(super) fn settle(&self) -> Result<(), ConfigError> {
        let bounds: [(&'static str, u64, RangeInclusive<u64>); 12] = [
            ("quotas.roster_contacts", self.roster_contacts, 1..=10_000),
            ("quotas.roster_groups", self.roster_groups, 1..=64),
            ("quotas.roster_bytes", self.roster_bytes, 1_000..=400 << 10),
            ("quotas.roster_requests", self.roster_requests, 1..=100),
            ("quotas.private_elements", self.private_elements, 1..=10_000),
            ("quotas.private_bytes", self.private_bytes, 1_000..=1 << 30),
            ("quotas.vcard_bytes", self.vcard_bytes, 1_000..=256 << 10),
            ("quotas.push_registrations", self.push_registrations, 1..=64),
            ("quotas.push_bytes", self.push_bytes, 1_000..=1 << 20),
            ("quotas.queue_bytes", self.queue_bytes, 1 << 16..=1 << 40),
            (
                "quotas.directed_presence",
                u64::from(self.directed_presence),
                1..=5_000,
            ),
            (
                "quotas.directed_presence_bytes",
                self.directed_presence_bytes,
                1_000..=1 << 20,
            ),
        ];
        let broken = bounds
            .iter()
            .find(|(_, value, range)| !range.contains(value));
        match broken {
            Some((key, _, range)) => Err(Rule::Between(*range.start(), *range.end()).broken(key)),
            None => Ok(()),
        }
    }
}
