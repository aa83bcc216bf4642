//! Decides when a shard's state is written to disk.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::{NodeId, ShardId};

/// One part in so many of the bytes that make a snapshot due at once makes it due after [`SOON`].
const PART: f64 = 4.0;
/// From one part in so many on it is looked often whether a snapshot is due: a busy shard fills the rest in less time
/// than usually passes between two looks.
const NEAR: f64 = 8.0;
/// See [`PART`]: so the entries of a burst do not stay in memory.
const SOON: Duration = Duration::from_secs(10);

/// Decides when a shard's state is written to disk.
///
/// Entries are in memory until a snapshot covers them, so snapshots should be frequent. But the intervals grow with the
/// state, so that the bytes written for snapshots stay in proportion to those written to the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SnapshotPolicy {
    /// A snapshot is due after so many bytes of applied entries, or half as many as the last one had.
    pub bytes: u64,
    /// A snapshot is due after so long if anything has changed; longer for a larger state.
    pub age: Duration,
    /// A factor for both, which differs from replica to replica.
    pub stretch: f64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            bytes: 8 << 20,
            age: Duration::from_secs(600),
            stretch: 1.0,
        }
    }
}

impl SnapshotPolicy {
    /// The policy of one replica. The replicas of a shard take snapshots at different times, so that not all are busy
    /// with it at once.
    pub fn of(node: NodeId, shard: ShardId) -> Self {
        let mut name = node.0.to_le_bytes().to_vec();
        name.extend(shard.0.to_le_bytes());
        // A number this small is exact in floating point.
        let share = (xxh3_64(&name) % 1024) as f64 / 1024.0;
        Self {
            stretch: 0.75 + share / 2.0,
            ..Self::default()
        }
    }

    /// Whether a snapshot is due, when `logged` bytes were applied since the last one, which has `length` bytes and was
    /// taken `since` ago.
    pub fn is_due(&self, logged: u64, length: u64, since: Duration) -> bool {
        let grown = self.grown(length);
        let full = self.bytes as f64 * grown;
        let is_past = |time: Duration| since.as_secs_f64() >= time.as_secs_f64() * grown;
        logged as f64 >= full
            || (logged as f64 >= full / PART && is_past(SOON))
            || (logged > 0 && is_past(self.age))
    }

    /// Whether a snapshot may soon be due by its bytes.
    pub fn is_near(&self, logged: u64, length: u64) -> bool {
        logged as f64 >= self.bytes as f64 * self.grown(length) / NEAR
    }

    /// The factor by which the intervals have grown with the state.
    fn grown(&self, length: u64) -> f64 {
        (length as f64 / 2.0 / self.bytes.max(1) as f64).max(1.0) * self.stretch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn intervals_grow_with_the_state() {
        let policy = SnapshotPolicy::default();
        let ago = Duration::from_secs;
        assert!(!policy.is_due(7 * MIB, 0, ago(0)) && policy.is_due(8 * MIB, 0, ago(0)));
        assert!(!policy.is_due(2 * MIB, 0, ago(9)) && policy.is_due(2 * MIB, 0, ago(10)));
        assert!(!policy.is_due(MIB, 0, ago(10)));
        assert!(!policy.is_due(0, 0, ago(6000)) && policy.is_due(1, 0, ago(600)));
        let large = 1024 * MIB;
        assert!(
            !policy.is_due(511 * MIB, large, ago(0)) && policy.is_due(512 * MIB, large, ago(0))
        );
        assert!(
            !policy.is_due(128 * MIB, large, ago(639)) && policy.is_due(128 * MIB, large, ago(640))
        );
        assert!(!policy.is_due(1, large, ago(38_399)) && policy.is_due(1, large, ago(38_400)));
    }

    #[test]
    fn it_is_near_at_an_eighth_of_the_bytes() {
        let policy = SnapshotPolicy::default();
        assert!(!policy.is_near(MIB - 1, 0) && policy.is_near(MIB, 0));
        let large = 1024 * MIB;
        assert!(!policy.is_near(63 * MIB, large) && policy.is_near(64 * MIB, large));
    }

    #[test]
    fn replicas_take_theirs_at_different_times() {
        let stretch = |node| SnapshotPolicy::of(NodeId(node), ShardId(1)).stretch;
        let all: Vec<f64> = (1..=100).map(stretch).collect();
        assert!(all.iter().all(|stretch| (0.75..1.25).contains(stretch)));
        let mean = all.iter().sum::<f64>() / 100.0;
        assert!((0.9..1.1).contains(&mean), "{mean}");
        assert!((stretch(1) - stretch(2)).abs() > 0.01 && stretch(1) == stretch(1));
    }
}
