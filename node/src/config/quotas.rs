//! What one account may take, apart from what services keep for it.

use std::ops::RangeInclusive;

use serde::Deserialize;

use super::error::{ConfigError, Rule};

/// `[quotas]`: what one account may have stored and waiting; services have further keys there. Whatever would take more is refused with an
/// error to the one who asked for it, before it is acknowledged. None of them can be turned off: answers and
/// the log carry what they allow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
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
            queue_bytes: 32 << 20,
            directed_presence: 500,
            directed_presence_bytes: 64 << 10,
        }
    }
}

impl Quotas {
    pub(super) fn settle(&self) -> Result<(), ConfigError> {
        within(&[
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
        ])
    }
}

/// A key, its value, and what it must be within.
pub type Bound = (&'static str, u64, RangeInclusive<u64>);

/// Refuses the first value that is out of its bounds.
pub fn within(bounds: &[Bound]) -> Result<(), ConfigError> {
    let broken = bounds
        .iter()
        .find(|(_, value, range)| !range.contains(value));
    match broken {
        Some((key, _, range)) => Err(Rule::Between(*range.start(), *range.end()).broken(key)),
        None => Ok(()),
    }
}
