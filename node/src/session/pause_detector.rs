//! Whether this process has stood still: stopped, swapped out, suspended with its machine.
//!
//! The cluster may have taken such a node for dead and given its sessions away. What the node's own
//! replica still has to apply then is history, and must not be written to a socket as if it were news
//! (P3). So whoever writes compares the count of pauses and, when it moved, asks the shard first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a sign of life is given.
const BEAT: Duration = Duration::from_millis(150);
/// A silence of this length is a pause. Shorter than what peers take for silence (500 ms).
const PAUSE: u64 = 350;

/// Counts the pauses of this process.
#[derive(Debug)]
pub struct PauseDetector {
    started: Instant,
    beat: AtomicU64,
    pauses: AtomicU64,
}

impl PauseDetector {
    /// A watch that began at `now`.
    fn new(now: Instant) -> Self {
        Self {
            started: now,
            beat: AtomicU64::new(0),
            pauses: AtomicU64::new(0),
        }
    }

    /// Begins to watch, on a thread that no work can hold up and that ends with the last handle.
    pub fn begin(now: fn() -> Instant) -> Arc<Self> {
        let pause_detector = Arc::new(Self::new(now()));
        let watched = Arc::downgrade(&pause_detector);
        thread::spawn(move || {
            while let Some(pause_detector) = watched.upgrade() {
                pause_detector.beat(now());
                drop(pause_detector);
                thread::sleep(BEAT);
            }
        });
        pause_detector
    }

    /// How many pauses there were. If it differs from the last answer, there was one in between; it may
    /// also count one twice, which costs a question and no more.
    pub fn pauses(&self, now: Instant) -> u64 {
        let pauses = self.pauses.load(Ordering::Acquire);
        pauses + u64::from(self.silence(now) > PAUSE)
    }

    fn beat(&self, now: Instant) {
        if self.silence(now) > PAUSE {
            self.pauses.fetch_add(1, Ordering::Release);
        }
        self.beat.store(self.millis(now), Ordering::Release);
    }

    fn silence(&self, now: Instant) -> u64 {
        self.millis(now)
            .saturating_sub(self.beat.load(Ordering::Acquire))
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_38_a_pause_is_seen_before_and_after_the_watch_wakes() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let pause_detector = PauseDetector::new(start);
        pause_detector.beat(at(100));
        assert_eq!(pause_detector.pauses(at(200)), 0);
        assert_eq!(pause_detector.pauses(at(5_000)), 1);
        pause_detector.beat(at(5_000));
        assert_eq!(pause_detector.pauses(at(5_001)), 1);
        pause_detector.beat(at(5_050));
        assert_eq!(pause_detector.pauses(at(5_051)), 1);
    }
}
