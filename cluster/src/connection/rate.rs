//! Token buckets: a client above its rate is read more slowly, nothing is refused (T-15, T-53). All times are
//! measured from any fixed point.

use std::time::Duration;

/// Bytes that cost as much as one element, so that whitespace is not free.
const BYTES: f64 = 4096.0;
/// Seconds' worth of elements that may come at once.
const BURST: f64 = 5.0;
/// Bytes that may come at once, and those of answers: what everybody on the node may do at the same time must not
/// keep the others waiting.
const BURST_BYTES: (f64, f64) = (262_144.0, 1_048_576.0);

/// One bucket.
#[derive(Clone, Debug)]
struct Bucket {
    per_second: f64,
    most: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// `per_second` 0 = no limit.
    fn new(per_second: f64, most: f64, now: Duration) -> Self {
        Self {
            per_second,
            most,
            tokens: most,
            at: now,
        }
    }

    /// Returns how long to stop, if at all.
    fn spend(&mut self, tokens: f64, now: Duration) -> Option<Duration> {
        if self.per_second == 0.0 {
            return None;
        }
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * self.per_second).min(self.most) - tokens;
        (self.tokens < 0.0).then(|| Duration::from_secs_f64(-self.tokens / self.per_second))
    }
}

/// What a client may send.
#[derive(Clone, Debug)]
pub struct Rate {
    elements: Bucket,
    bytes: Bucket,
}

impl Rate {
    /// By the operator's limits.
    pub fn new(stanzas_per_second: u32, bytes_per_second: u32, now: Duration) -> Self {
        let elements = f64::from(stanzas_per_second);
        let bytes = f64::from(bytes_per_second);
        Self {
            elements: Bucket::new(elements, elements * BURST, now),
            bytes: Bucket::new(bytes, BURST_BYTES.0, now),
        }
    }

    /// So much arrived. Returns how long to stop reading, if at all.
    pub fn spend(&mut self, elements: usize, bytes: usize, now: Duration) -> Option<Duration> {
        let bytes = bytes as f64;
        let pause = self.elements.spend(elements as f64 + bytes / BYTES, now);
        pause.max(self.bytes.spend(bytes, now))
    }
}

/// What a client may ask for: few bytes can have a large answer.
#[derive(Clone, Debug)]
pub struct Answers(Bucket);

impl Answers {
    /// By the operator's limits.
    pub fn new(bytes_per_second: u32, now: Duration) -> Self {
        let bytes = f64::from(bytes_per_second);
        Self(Bucket::new(bytes, BURST_BYTES.1, now))
    }

    /// The client is answered with so many bytes. Returns how long its next stanzas have to wait, if at all.
    pub fn spend(&mut self, bytes: usize, now: Duration) -> Option<Duration> {
        self.0.spend(bytes as f64, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_15_a_burst_passes_and_then_reading_slows() {
        let start = Duration::from_secs(5);
        let mut rate = Rate::new(200, 0, start);
        assert_eq!(rate.spend(1000, 0, start), None);
        let pause = rate.spend(100, 0, start).unwrap();
        assert_eq!(pause.as_millis(), 500);
        assert_eq!(
            rate.spend(0, 0, start + pause + Duration::from_millis(1)),
            None
        );
        let mut unlimited = Rate::new(0, 0, start);
        assert_eq!(unlimited.spend(1_000_000, usize::MAX, start), None);
    }

    #[test]
    fn t_15_bytes_that_are_no_elements_count_too() {
        let start = Duration::from_secs(5);
        let mut rate = Rate::new(10, 0, start);
        assert!(rate.spend(0, 1 << 20, start).is_some());
    }

    #[test]
    fn t_15_large_stanzas_are_read_at_a_rate_of_their_own() {
        let start = Duration::from_secs(5);
        let mut rate = Rate::new(200, 1 << 20, start);
        assert_eq!(rate.spend(2, 256 << 10, start), None);
        let pause = rate.spend(2, 512 << 10, start).unwrap();
        assert_eq!(pause.as_millis(), 500);
        // Silence does not save up for more than a burst.
        let later = start + Duration::from_secs(3600);
        assert_eq!(rate.spend(2, 256 << 10, later), None);
        assert!(rate.spend(2, 64 << 10, later).is_some());
    }

    #[test]
    fn who_asks_for_much_waits_for_it() {
        let start = Duration::from_secs(5);
        let mut answers = Answers::new(1 << 20, start);
        assert_eq!(answers.spend(1 << 20, start), None);
        let pause = answers.spend(128 << 10, start).unwrap();
        assert_eq!(pause.as_millis(), 125);
        let mut unlimited = Answers::new(0, start);
        assert_eq!(unlimited.spend(usize::MAX, start), None);
    }
}
