//! The one place of this crate that reads clocks and draws random numbers (the linter sees to it); whatever decides
//! gets them as arguments.

#![allow(
    clippy::disallowed_methods,
    reason = "the one place that may look at the world"
)]

use std::ops::Range;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::distr::{Distribution, StandardUniform};

/// Milliseconds since 1970. A clock before that stands still, which shards survive.
pub(crate) fn wall() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A point on a scale that only rises, for threads.
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// The same for tasks: the runtime's timers go by it.
pub(crate) fn timer() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Waits for the next moment at which all loops of this process look that look every `period`. It is at most so far away.
/// A thread that has several of them wakes once for all.
pub async fn beat(period: Duration) {
    static FIRST: LazyLock<tokio::time::Instant> = LazyLock::new(timer);
    let passed = timer().saturating_duration_since(*FIRST).as_micros();
    let passed = passed % period.as_micros().max(1);
    // Less than the period, and so than its microseconds.
    tokio::time::sleep(period.saturating_sub(Duration::from_micros(passed as u64))).await;
}

/// A random value from a generator that the operating system seeds.
pub(crate) fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    rand::random()
}

/// A random factor, so that nodes that wait for the same thing do not all act at once.
pub(crate) fn jitter(range: Range<f64>) -> f64 {
    rand::random_range(range)
}
