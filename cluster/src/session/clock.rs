//! A shard's two time scales: what has passed for it, and what its leaders' clocks say.

use serde::{Deserialize, Serialize};

/// The longest step, in milliseconds, that the shard's time takes from one entry to the next: an outage
/// or a leap of a clock costs a session no more of its hibernation.
pub(crate) const MAX_STEP: u64 = 5_000;

/// A point in the time that has passed for a shard, in milliseconds. Deadlines are such points: no leap of a clock and
/// no outage reaches them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(crate) struct ShardTime(u64);

impl ShardTime {
    /// So many milliseconds after the shard began.
    pub(super) const fn at(millis: u64) -> Self {
        Self(millis)
    }

    pub(super) const fn millis(self) -> u64 {
        self.0
    }

    /// So many milliseconds later.
    pub(super) const fn after(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// For broken builds: another point near to it.
    #[cfg(test)]
    pub(super) const fn odd(self) -> Self {
        Self(self.0 | 1)
    }

    /// How many milliseconds have passed since then; none if it is yet to come.
    pub(super) const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both scales, as they were at the last entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clock {
    time: ShardTime,
    now: u64,
}

impl Clock {
    pub(super) const fn new(time: ShardTime, now: u64) -> Self {
        Self { time, now }
    }

    /// What has passed for this shard.
    pub(super) const fn time(self) -> ShardTime {
        self.time
    }

    /// The last leader's clock, in milliseconds since 1970. It stamps what people see, and decides nothing.
    pub(super) const fn now(self) -> u64 {
        self.now
    }

    /// An entry comes whose leader's clock says `now`.
    pub(super) fn advance(&mut self, now: u64) {
        if self.now != 0 {
            let passed = now.saturating_sub(self.now).min(MAX_STEP);
            self.time = self.time.after(passed);
        }
        self.now = now;
    }

    /// When it was, by the leader's clock of today, that the shard's time stood there.
    pub(super) const fn date_of(self, earlier: ShardTime) -> u64 {
        self.now.saturating_sub(self.time.since(earlier))
    }

    /// When it will be, by the leader's clock of today, that the shard's time stands there.
    pub(super) const fn date_until(self, later: ShardTime) -> u64 {
        self.now + later.since(self.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_10_a_leap_of_the_leaders_clock_takes_little_of_the_shards_time_and_none_of_it_back() {
        let mut clock = Clock::default();
        let mut times = Vec::new();
        for now in [1_000_000, 1_000_400, 900_000, 900_100, 9_000_000] {
            clock.advance(now);
            times.push((clock.time().millis(), clock.now()));
        }
        let expect = [
            (0, 1_000_000),
            (400, 1_000_400),
            (400, 900_000),
            (500, 900_100),
        ];
        assert_eq!(times[..4], expect);
        assert_eq!(times[4], (500 + MAX_STEP, 9_000_000));
    }

    #[test]
    fn points_of_the_shards_time_have_dates() {
        let clock = Clock::new(ShardTime::at(500), 10_000);
        let dates = [400, 500].map(|millis| clock.date_of(ShardTime::at(millis)));
        assert_eq!(dates, [9_900, 10_000]);
        assert_eq!(clock.date_until(ShardTime::at(700)), 10_200);
    }
}
