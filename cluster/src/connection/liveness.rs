//! When to ask a client for a sign of life, when it is late, and when it is dead. Reads no clock.
//!
//! [`proto::sm::Pace`] watches what is in flight; this adds silence: a client that says nothing for long
//! is asked too, whether it owes an answer or not.

use proto::sm::{Next, Pace, Terms};

/// A client without stream management is pinged once more stanzas than this are in flight: a ping is a
/// stanza of its own, and its answer another.
pub(super) const UNCOUNTED: usize = 4;

/// What the connection should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Ask: `<r/>`, or a ping where Stream Management is off.
    Ask,
    /// The answer is late (`sm.max_ack_delay`). Said once for each question.
    Late,
    /// The client is gone.
    Dead,
    /// Nothing until then.
    At(u64),
}

/// The operator's times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Silence before a client is asked (`c2s.idle_timeout`).
    pub idle: u64,
    /// Silence after that before it is dead (`c2s.ping_timeout`).
    pub patience: u64,
    /// A later answer than this is late (`sm.max_ack_delay`).
    pub delay: u64,
    /// A question about what is in flight may stay unanswered for so long (`sm.ack_timeout`).
    pub timeout: u64,
    /// More in flight than this is asked about (`sm.max_unacked_stanzas`).
    pub unacked: usize,
}

impl Times {
    fn terms(&self) -> Terms {
        Terms {
            unacked: self.unacked,
            timeout_ms: self.timeout,
        }
    }
}

/// The state of one connection; all times in milliseconds from any fixed point.
#[derive(Clone, Debug)]
pub struct Liveness {
    pace: Pace,
    times: Times,
    heard: u64,
    asked: Option<u64>,
    /// Asked at that time, the answer was late, and that has been said.
    late: Option<u64>,
    inactive: bool,
}

impl Liveness {
    /// Nothing has happened yet.
    pub fn new(times: Times) -> Self {
        Self {
            pace: Pace::default(),
            times,
            heard: 0,
            asked: None,
            late: None,
            inactive: false,
        }
    }

    /// The operator changed their mind, or the client has begun to count.
    pub fn set_times(&mut self, times: Times) {
        self.times = times;
    }

    /// Anything came from the client.
    pub fn heard(&mut self, now: u64) {
        self.heard = now;
        self.asked = None;
        self.pace.heard(now);
    }

    /// Stanzas were written.
    pub fn wrote(&mut self, now: u64, stanzas: usize, bytes: usize) {
        self.pace.wrote(now, stanzas, bytes);
    }

    /// The question was written.
    pub fn asked(&mut self, now: u64) {
        self.asked = Some(now);
        self.pace.asked(now);
    }

    /// The answer came; so much is still in flight.
    pub fn answered(&mut self, now: u64, stanzas: usize, bytes: usize) {
        self.pace.acknowledged(now, stanzas, bytes);
        self.late = None;
    }

    /// That the answer is late has been said.
    pub fn said_late(&mut self) {
        self.late = self.pace.outstanding_since();
    }

    /// See [`Pace::set_inactive`].
    pub fn set_inactive(&mut self, inactive: bool) {
        self.inactive = inactive;
        self.pace.set_inactive(inactive);
    }

    /// Nobody looks at the client (XEP-0352).
    pub fn is_inactive(&self) -> bool {
        self.inactive
    }

    /// When the question was written that is not answered yet.
    pub fn asking_since(&self) -> Option<u64> {
        self.pace.outstanding_since()
    }

    /// What to do.
    pub fn next(&self, now: u64) -> Beat {
        let paced = match self.pace.next(now, self.times.terms()) {
            Next::Ask => return Beat::Ask,
            Next::Dead => return Beat::Dead,
            Next::At(at) => at,
            Next::Idle => u64::MAX,
        };
        let late = self.late_at();
        if late.is_some_and(|late| now >= late) {
            return Beat::Late;
        }
        match self.silence(now, paced) {
            Beat::At(at) => Beat::At(late.map_or(at, |late| late.min(at))),
            beat => beat,
        }
    }

    /// When the outstanding answer will be late, unless that has been said.
    fn late_at(&self) -> Option<u64> {
        let asked = self.pace.outstanding_since()?;
        (self.late != Some(asked)).then(|| asked.saturating_add(self.times.delay))
    }

    fn silence(&self, now: u64, paced: u64) -> Beat {
        let silent = self.heard.saturating_add(self.times.idle);
        let deadline = match self.asked {
            // Something is in flight: the pace has the longer patience.
            Some(_) if paced != u64::MAX && silent > now => paced,
            Some(asked) => asked.saturating_add(self.times.patience),
            None => silent,
        };
        let at = deadline.min(paced);
        match (now >= at, self.asked.is_some()) {
            (false, _) => Beat::At(at),
            (true, true) => Beat::Dead,
            // Asked long ago, heard since, silent again: the question still stands.
            (true, false) if self.asking_since().is_some() => Beat::At(paced),
            (true, false) => Beat::Ask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        idle: 300_000,
        patience: 30_000,
        delay: 20_000,
        timeout: 60_000,
        unacked: 0,
    };

    #[test]
    fn st_22_a_silent_client_is_asked_and_then_given_up() {
        let mut liveness = Liveness::new(TIMES);
        liveness.heard(1_000);
        assert_eq!(liveness.next(2_000), Beat::At(301_000));
        assert_eq!(liveness.next(301_000), Beat::Ask);
        liveness.asked(301_000);
        liveness.said_late();
        assert_eq!(liveness.next(301_000), Beat::At(331_000));
        assert_eq!(liveness.next(331_000), Beat::Dead);
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        let mut liveness = Liveness::new(TIMES);
        liveness.asked(300_000);
        liveness.heard(310_000);
        liveness.answered(310_000, 0, 0);
        assert_eq!(liveness.next(330_000), Beat::At(610_000));
    }

    #[test]
    fn an_answer_is_late_once_and_then_the_client_is_dead() {
        let mut liveness = Liveness::new(TIMES);
        liveness.heard(0);
        liveness.wrote(0, 5, 100);
        assert_eq!(liveness.next(0), Beat::Ask);
        liveness.asked(0);
        assert_eq!(liveness.next(1), Beat::At(20_000));
        assert_eq!(liveness.next(20_000), Beat::Late);
        liveness.said_late();
        assert_eq!(liveness.next(31_000), Beat::At(60_000));
        assert_eq!(liveness.next(60_000), Beat::Dead);
    }

    #[test]
    fn the_next_question_may_be_late_again() {
        let mut liveness = Liveness::new(TIMES);
        liveness.wrote(0, 1, 1);
        liveness.asked(0);
        liveness.said_late();
        liveness.answered(30_000, 0, 0);
        liveness.wrote(40_000, 1, 1);
        liveness.asked(40_000);
        assert_eq!(liveness.next(60_000), Beat::Late);
    }
}
