//! When to ask a client for a sign of life, and when it is dead. Reads no clock.
//!
//! [`proto::sm::Pace`] watches what is in flight; this adds silence: a client that says nothing for long
//! is asked too, whether it owes an answer or not.

use proto::sm::{Next, Pace};

/// How long an acknowledgement may be outstanding, in milliseconds (SM-33).
const ACK_TIMEOUT: u64 = 60_000;

/// What the connection should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Ask: `<r/>`, or a ping where Stream Management is off.
    Ask,
    /// The client is gone.
    Dead,
    /// Nothing until then.
    At(u64),
}

/// The state of one connection; all times in milliseconds from any fixed point.
#[derive(Clone, Debug)]
pub struct Pulse {
    pace: Pace,
    idle: u64,
    patience: u64,
    heard: u64,
    asked: Option<u64>,
}

impl Pulse {
    /// A client may be silent for `idle` before it is asked, and for `patience` after that.
    pub fn new(idle: u64, patience: u64) -> Self {
        Self {
            pace: Pace::new(ACK_TIMEOUT),
            idle,
            patience,
            heard: 0,
            asked: None,
        }
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
    pub fn answered(&mut self, stanzas: usize, bytes: usize) {
        self.pace.acknowledged(stanzas, bytes);
    }

    /// A question is not answered yet.
    pub fn is_asking(&self) -> bool {
        self.pace.outstanding_since().is_some()
    }

    /// What to do.
    pub fn next(&self, now: u64) -> Beat {
        let paced = match self.pace.next(now) {
            Next::Ask => return Beat::Ask,
            Next::Dead => return Beat::Dead,
            Next::At(at) => at,
            Next::Idle => u64::MAX,
        };
        let deadline = match self.asked {
            // Something is in flight: the pace has the longer patience.
            Some(_) if paced != u64::MAX && self.heard + self.idle > now => paced,
            Some(asked) => asked + self.patience,
            None => self.heard + self.idle,
        };
        let at = deadline.min(paced);
        match (now >= at, self.asked.is_some()) {
            (false, _) => Beat::At(at),
            (true, true) => Beat::Dead,
            // Asked long ago, heard since, silent again: the question still stands.
            (true, false) if self.is_asking() => Beat::At(paced),
            (true, false) => Beat::Ask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: u64 = 300_000;

    #[test]
    fn st_22_a_silent_client_is_asked_and_then_given_up() {
        let mut pulse = Pulse::new(IDLE, 30_000);
        pulse.heard(1_000);
        assert_eq!(pulse.next(2_000), Beat::At(301_000));
        assert_eq!(pulse.next(301_000), Beat::Ask);
        pulse.asked(301_000);
        assert_eq!(pulse.next(301_000), Beat::At(331_000));
        assert_eq!(pulse.next(331_000), Beat::Dead);
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        let mut pulse = Pulse::new(IDLE, 30_000);
        pulse.asked(300_000);
        pulse.heard(310_000);
        pulse.answered(0, 0);
        assert_eq!(pulse.next(330_000), Beat::At(610_000));
    }

    #[test]
    fn sm_33_what_is_in_flight_has_the_patience_of_acks() {
        let mut pulse = Pulse::new(IDLE, 30_000);
        pulse.heard(0);
        pulse.wrote(0, 5, 100);
        assert_eq!(pulse.next(0), Beat::Ask);
        pulse.asked(0);
        assert_eq!(pulse.next(31_000), Beat::At(60_000));
        assert_eq!(pulse.next(60_000), Beat::Dead);
    }
}
