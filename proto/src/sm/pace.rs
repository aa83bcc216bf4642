//! Decides when to ask for an acknowledgement, and when a silent peer counts as dead (SM-31…33).
//!
//! Every call is given the time in milliseconds since any fixed point. What is in flight is counted by what the caller
//! reports; the queue itself is elsewhere.
//!
//! # Invariants
//!
//! 1. At most one `<r/>` is outstanding.
//! 2. An answer by itself never causes a question: it takes something written since, or a rest of
//!    two seconds.

/// Ask once so many bytes are in flight.
const BYTES: usize = 32 * 1024;
/// Ask once nothing was written and nothing answered for so long while something is in flight.
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
    /// Nothing is in flight, or an inactive peer is left alone.
    Idle,
}

/// What an operator decides about acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Ask as soon as more stanzas than this are in flight; 0 = whenever something was written.
    pub unacked: usize,
    /// An `<r/>` may stay unanswered for so long, in milliseconds.
    pub timeout_ms: u64,
}

/// The pace of one stream.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    stanzas: usize,
    bytes: usize,
    /// Something was written since the last question.
    news: bool,
    /// When something was written or answered last.
    moved_ms: u64,
    heard_ms: u64,
    asked_ms: Option<u64>,
    inactive: bool,
}

impl Pace {
    /// Stanzas were written, so many bytes long.
    pub fn wrote(&mut self, now: u64, stanzas: usize, bytes: usize) {
        self.stanzas += stanzas;
        self.bytes += bytes;
        self.news = true;
        self.moved_ms = now;
    }

    /// `<r/>` was written.
    pub fn asked(&mut self, now: u64) {
        self.asked_ms = Some(now);
        self.news = false;
    }

    /// `<a/>` came; so much is still in flight.
    pub fn acknowledged(&mut self, now: u64, stanzas: usize, bytes: usize) {
        self.stanzas = stanzas;
        self.bytes = bytes;
        self.asked_ms = None;
        self.moved_ms = now;
    }

    /// Anything came from the peer: it is alive, even if it does not acknowledge.
    pub fn heard(&mut self, now: u64) {
        self.heard_ms = now;
    }

    /// Whether the client is inactive (XEP-0352): it is asked only along with something else that is
    /// written, so that its radio does not wake up for a question (SM-32).
    pub fn set_inactive(&mut self, inactive: bool) {
        self.inactive = inactive;
    }

    /// When the outstanding `<r/>` was sent.
    pub fn outstanding_since(&self) -> Option<u64> {
        self.asked_ms
    }

    /// What to do at the end of a flush, or when the time came that was asked for.
    pub fn next(&self, now: u64, terms: Terms) -> Next {
        if let Some(asked) = self.asked_ms {
            let timeout = terms.timeout_ms;
            let patient = asked.max(self.heard_ms).saturating_add(timeout);
            let deadline = patient.min(asked.saturating_add(HARD_CAP_MS.max(timeout)));
            return if now >= deadline {
                Next::Dead
            } else {
                Next::At(deadline)
            };
        }
        if self.stanzas == 0 {
            return Next::Idle;
        }
        let many = self.stanzas > terms.unacked || self.bytes >= BYTES;
        let idle = self.moved_ms.saturating_add(IDLE_MS);
        match (self.news && (many || self.inactive), self.inactive) {
            (true, _) => Next::Ask,
            (false, true) => Next::Idle,
            (false, false) if now >= idle => Next::Ask,
            (false, false) => Next::At(idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        unacked: 4,
        timeout_ms: 60_000,
    };

    #[test]
    fn sm_32_asks_beyond_so_many_stanzas_or_32_kib_or_after_two_idle_seconds() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(0, TERMS), Next::Idle);
        pace.wrote(1_000, 4, 100);
        assert_eq!(pace.next(1_000, TERMS), Next::At(3_000));
        assert_eq!(pace.next(3_000, TERMS), Next::Ask);
        pace.wrote(1_500, 1, 100);
        assert_eq!(pace.next(1_500, TERMS), Next::Ask);
        let mut pace = Pace::default();
        pace.wrote(0, 1, 32 * 1024);
        assert_eq!(pace.next(0, TERMS), Next::Ask);
    }

    #[test]
    fn sm_31_zero_asks_whenever_something_was_written() {
        let terms = Terms {
            unacked: 0,
            ..TERMS
        };
        let mut pace = Pace::default();
        pace.wrote(0, 1, 1);
        assert_eq!(pace.next(0, terms), Next::Ask);
    }

    #[test]
    fn sm_32_at_most_one_request_is_outstanding() {
        let mut pace = Pace::default();
        pace.wrote(0, 9, 9);
        pace.asked(0);
        pace.wrote(1, 9, 9);
        assert_eq!(pace.next(1, TERMS), Next::At(60_000));
        pace.acknowledged(1, 9, 9);
        assert_eq!(pace.next(1, TERMS), Next::Ask);
        pace.acknowledged(1, 0, 0);
        assert_eq!(pace.next(1, TERMS), Next::Idle);
    }

    #[test]
    fn sm_31_a_client_that_answers_without_having_handled_is_not_asked_in_a_loop() {
        let mut pace = Pace::default();
        pace.wrote(0, 9, 9);
        pace.asked(0);
        pace.acknowledged(100, 9, 9);
        assert_eq!(pace.next(100, TERMS), Next::At(2_100));
        assert_eq!(pace.next(2_100, TERMS), Next::Ask);
    }

    #[test]
    fn sm_32_an_inactive_client_is_asked_only_along_with_something_else() {
        let mut pace = Pace::default();
        pace.set_inactive(true);
        pace.wrote(0, 1, 1);
        assert_eq!(pace.next(0, TERMS), Next::Ask);
        pace.asked(0);
        pace.acknowledged(5, 1, 1);
        assert_eq!(pace.next(60_000, TERMS), Next::Idle);
        pace.set_inactive(false);
        assert_eq!(pace.next(60_000, TERMS), Next::Ask);
    }

    #[test]
    fn sm_33_a_peer_that_talks_but_never_answers_dies_at_the_cap() {
        let mut pace = Pace::default();
        pace.wrote(0, 9, 9);
        pace.asked(0);
        assert_eq!(pace.next(59_999, TERMS), Next::At(60_000));
        assert_eq!(pace.next(60_000, TERMS), Next::Dead);
        pace.heard(50_000);
        assert_eq!(pace.next(60_000, TERMS), Next::At(110_000));
        pace.heard(290_000);
        assert_eq!(pace.next(299_999, TERMS), Next::At(300_000));
        assert_eq!(pace.next(300_000, TERMS), Next::Dead);
    }
}
