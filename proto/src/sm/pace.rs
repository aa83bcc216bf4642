//! When to ask for an acknowledgement, and when a silent peer is dead (SM-31…33).
//!
//! Reads no clock: every call is told the time in milliseconds, from any fixed point. It counts what
//! is in flight by what it is told; the queue itself lives elsewhere.
//!
//! # Invariant
//!
//! At most one `<r/>` is outstanding.

/// Ask once so many stanzas are in flight.
const STANZAS: usize = 5;
/// Ask once so many bytes are in flight.
const BYTES: usize = 32 * 1024;
/// Ask once nothing was written for so long while something is in flight.
const IDLE_MS: u64 = 2_000;
/// Whatever else arrives, an unanswered `<r/>` means death after so long.
const HARD_CAP_MS: u64 = 5 * 60_000;

/// What the connection should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send `<r/>` and call [`Pace::asked`].
    Ask,
    /// The peer is dead: drop the connection (SM-33).
    Dead,
    /// Come back at that time; sooner if something is written.
    At(u64),
    /// Nothing is in flight.
    Idle,
}

/// The pace of one stream.
#[derive(Clone, Debug)]
pub struct Pace {
    timeout_ms: u64,
    stanzas: usize,
    bytes: usize,
    written_ms: u64,
    heard_ms: u64,
    asked_ms: Option<u64>,
}

impl Pace {
    /// Nothing is in flight. An `<r/>` may stay unanswered for `timeout_ms`.
    pub fn new(timeout_ms: u64) -> Self {
        Self {
            timeout_ms,
            stanzas: 0,
            bytes: 0,
            written_ms: 0,
            heard_ms: 0,
            asked_ms: None,
        }
    }

    /// Stanzas were written, so many bytes long.
    pub fn wrote(&mut self, now: u64, stanzas: usize, bytes: usize) {
        self.stanzas += stanzas;
        self.bytes += bytes;
        self.written_ms = now;
    }

    /// `<r/>` was written.
    pub fn asked(&mut self, now: u64) {
        self.asked_ms = Some(now);
    }

    /// `<a/>` came; so much is still in flight.
    pub fn acknowledged(&mut self, stanzas: usize, bytes: usize) {
        self.stanzas = stanzas;
        self.bytes = bytes;
        self.asked_ms = None;
    }

    /// Anything came from the peer: it is alive, if not obedient.
    pub fn heard(&mut self, now: u64) {
        self.heard_ms = now;
    }

    /// When the outstanding `<r/>` was sent.
    pub fn outstanding_since(&self) -> Option<u64> {
        self.asked_ms
    }

    /// What to do at the end of a flush, or when the time came that was asked for.
    pub fn next(&self, now: u64) -> Next {
        if let Some(asked) = self.asked_ms {
            let patient = asked.max(self.heard_ms).saturating_add(self.timeout_ms);
            let deadline = patient.min(asked.saturating_add(HARD_CAP_MS.max(self.timeout_ms)));
            return if now >= deadline {
                Next::Dead
            } else {
                Next::At(deadline)
            };
        }
        if self.stanzas == 0 {
            return Next::Idle;
        }
        let idle = self.written_ms.saturating_add(IDLE_MS);
        if self.stanzas >= STANZAS || self.bytes >= BYTES || now >= idle {
            return Next::Ask;
        }
        Next::At(idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sm_32_asks_at_five_stanzas_or_32_kib_or_after_two_idle_seconds() {
        let mut pace = Pace::new(60_000);
        assert_eq!(pace.next(0), Next::Idle);
        pace.wrote(1_000, 4, 100);
        assert_eq!(pace.next(1_000), Next::At(3_000));
        assert_eq!(pace.next(3_000), Next::Ask);
        pace.wrote(1_500, 1, 100);
        assert_eq!(pace.next(1_500), Next::Ask);
        let mut pace = Pace::new(60_000);
        pace.wrote(0, 1, 32 * 1024);
        assert_eq!(pace.next(0), Next::Ask);
    }

    #[test]
    fn sm_32_at_most_one_request_is_outstanding() {
        let mut pace = Pace::new(60_000);
        pace.wrote(0, 9, 9);
        pace.asked(0);
        pace.wrote(1, 9, 9);
        assert_eq!(pace.next(1), Next::At(60_000));
        pace.acknowledged(9, 9);
        assert_eq!(pace.next(1), Next::Ask);
        pace.acknowledged(0, 0);
        assert_eq!(pace.next(1), Next::Idle);
    }

    #[test]
    fn sm_33_a_peer_that_talks_but_never_answers_dies_at_the_cap() {
        let mut pace = Pace::new(60_000);
        pace.wrote(0, 9, 9);
        pace.asked(0);
        assert_eq!(pace.next(59_999), Next::At(60_000));
        assert_eq!(pace.next(60_000), Next::Dead);
        pace.heard(50_000);
        assert_eq!(pace.next(60_000), Next::At(110_000));
        pace.heard(290_000);
        assert_eq!(pace.next(299_999), Next::At(300_000));
        assert_eq!(pace.next(300_000), Next::Dead);
    }
}
