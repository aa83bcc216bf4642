//! Counters of how limits were decided, on one node.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Counters that the leaders' tasks of one node share.
#[derive(Debug, Default)]
pub struct LimitCounters {
    by_redis: AtomicU64,
    by_shard: AtomicU64,
    errors: AtomicU64,
    state: AtomicU8,
}

/// Nothing was asked of Redis yet.
const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitCounts {
    /// Sessions admitted to hibernation with Redis' answer.
    pub by_redis: u64,
    /// Sessions admitted by the shard alone.
    pub by_shard: u64,
    /// Calls to Redis that failed, came too late or made no sense.
    pub errors: u64,
    /// Whether Redis answers, if it was ever asked.
    pub up: Option<bool>,
}

impl LimitCounters {
    /// Reads all counters.
    pub fn counts(&self) -> LimitCounts {
        LimitCounts {
            by_redis: self.by_redis.load(Relaxed),
            by_shard: self.by_shard.load(Relaxed),
            errors: self.errors.load(Relaxed),
            up: match self.state.load(Relaxed) {
                UNKNOWN => None,
                state => Some(state == UP),
            },
        }
    }

    /// Counts sessions that were admitted, and whether Redis has answered for them.
    pub(crate) fn decided(&self, redis: bool, count: usize) {
        let counter = if redis {
            &self.by_redis
        } else {
            &self.by_shard
        };
        counter.fetch_add(count as u64, Relaxed);
    }

    /// Counts a call to Redis that failed.
    pub(crate) fn failed(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    /// Remembers that Redis answers. True if it did not answer before.
    pub(crate) fn is_back(&self) -> bool {
        self.state.swap(UP, Relaxed) == DOWN
    }

    /// Remembers that Redis does not answer. True if that was not known yet.
    pub(crate) fn is_away(&self) -> bool {
        self.state.swap(DOWN, Relaxed) != DOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_away_and_coming_back_are_news_once() {
        let counters = LimitCounters::default();
        assert_eq!(counters.counts().up, None);
        assert!(!counters.is_back(), "it was never away");
        assert_eq!((counters.is_away(), counters.is_away()), (true, false));
        assert_eq!((counters.is_back(), counters.is_back()), (true, false));
        assert_eq!(counters.counts().up, Some(true));
    }
}
