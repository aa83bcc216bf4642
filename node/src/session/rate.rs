//! A token bucket: a client above its rate is read more slowly, nothing is refused (T-15, T-53).

use std::time::{Duration, Instant};

/// Bytes that cost as much as one element, so that whitespace is not free.
const BYTES: f64 = 4096.0;

/// A bucket of elements.
#[derive(Clone, Debug)]
pub struct Rate {
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Rate {
    /// `per_second` elements, bursts of five times as many; 0 = no limit.
    pub fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            tokens: per_second * 5.0,
            at: now,
        }
    }

    /// So much arrived. Returns how long to stop reading, if at all.
    pub fn spend(&mut self, elements: usize, bytes: usize, now: Instant) -> Option<Duration> {
        if self.per_second == 0.0 {
            return None;
        }
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * self.per_second).min(self.per_second * 5.0);
        self.tokens -= elements as f64 + bytes as f64 / BYTES;
        (self.tokens < 0.0).then(|| Duration::from_secs_f64(-self.tokens / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_15_a_burst_passes_and_then_reading_slows() {
        let start = Instant::now();
        let mut rate = Rate::new(200, start);
        assert_eq!(rate.spend(1000, 0, start), None);
        let pause = rate.spend(100, 0, start).unwrap();
        assert_eq!(pause.as_millis(), 500);
        assert_eq!(
            rate.spend(0, 0, start + pause + Duration::from_millis(1)),
            None
        );
        assert_eq!(Rate::new(0, start).spend(1_000_000, 0, start), None);
    }

    #[test]
    fn t_15_bytes_that_are_no_elements_count_too() {
        let start = Instant::now();
        let mut rate = Rate::new(10, start);
        assert!(rate.spend(0, 1 << 20, start).is_some());
    }
}
