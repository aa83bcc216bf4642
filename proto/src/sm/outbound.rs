//! Stanzas sent and not yet acknowledged.
//!
//! [`Outbound`] is the queue of a peer that keeps its stanzas itself. No I/O, no clock: [`super::pace`] decides when
//! to ask, [`Origin`] what an `h` covers.
//!
//! # Invariants of [`Outbound`]
//!
//! 1. `sent == acked + unacked.len()`, modulo 2^32: a stanza is acknowledged or it is kept.
//! 2. `unacked.len() <= limit`: a peer that never acknowledges costs bounded memory.

use std::collections::VecDeque;

use super::origin::{CountTooHigh, Origin};
use crate::ns;
use crate::stream::{Condition, StreamError};
use crate::xml::Element;

impl From<CountTooHigh> for StreamError {
    fn from(CountTooHigh { h, sent }: CountTooHigh) -> Self {
        let application = Element::new("handled-count-too-high", ns::SM)
            .with_attr("h", h.to_string())
            .with_attr("send-count", sent.to_string());
        Self {
            condition: Condition::UndefinedCondition,
            text: Some("acknowledged more than was sent, or less than before".into()),
            application: Some(application),
        }
    }
}

/// A peer counts from its first stanza on.
const ORIGIN: Origin = Origin::new(0, 0);

/// The unacknowledged stanzas of one session, oldest first.
#[derive(Clone, Debug)]
pub struct Outbound<S> {
    unacked: VecDeque<S>,
    /// How many are acknowledged.
    acked: u64,
    limit: usize,
}

/// The queue is full: too many stanzas await acknowledgement (SM-34).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer does not acknowledge what it is sent")]
pub struct Full;

impl<S> Outbound<S> {
    /// An empty queue, which will hold at most `limit` stanzas.
    pub fn new(limit: usize) -> Self {
        Self {
            unacked: VecDeque::new(),
            acked: 0,
            limit,
        }
    }

    /// Keeps a stanza that is about to be sent. On error nothing has changed.
    pub fn push(&mut self, stanza: S) -> Result<(), Full> {
        if self.unacked.len() >= self.limit {
            return Err(Full);
        }
        self.unacked.push_back(stanza);
        Ok(())
    }

    /// Forgets the stanzas that `h` covers and says how many. On error nothing has changed.
    pub fn acknowledge(&mut self, h: u32) -> Result<usize, CountTooHigh> {
        let upto = ORIGIN.covered(h, self.acked, self.total())?;
        // The queue is as long as that, so that the cast loses nothing.
        let covered = (upto - self.acked) as usize;
        self.unacked.drain(..covered);
        self.acked = upto;
        Ok(covered)
    }

    /// What a resumed stream sends again, once the `h` of the answer is acknowledged (SM-52).
    pub fn unacked(&self) -> impl ExactSizeIterator<Item = &S> {
        self.unacked.iter()
    }

    /// How many were sent, modulo 2^32. Invariant 1 cannot be broken, because this is not stored.
    pub fn sent(&self) -> u32 {
        ORIGIN.h(self.total())
    }

    fn total(&self) -> u64 {
        self.acked + self.unacked.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts at a count of `acked`, sends `0..sent`, acknowledges `h`; compares what is kept.
    #[track_caller]
    fn check(acked: u32, sent: u32, h: u32, expect: Result<&[u32], CountTooHigh>) {
        let mut queue = Outbound::new(8);
        queue.acked = u64::from(acked);
        for stanza in 0..sent {
            queue.push(stanza).expect("within the limit");
        }
        let result = queue.acknowledge(h);
        assert_eq!(result.map(|_| &*queue.unacked.make_contiguous()), expect);
    }

    #[test]
    fn sm_27_the_oldest_stanzas_are_forgotten_first() {
        check(0, 3, 2, Ok(&[2]));
        check(7, 3, 7, Ok(&[0, 1, 2]));
    }

    #[test]
    fn sm_21_counts_wrap_at_two_to_the_32() {
        check(u32::MAX - 1, 3, 0, Ok(&[2]));
        check(u32::MAX, 3, 2, Ok(&[]));
        check(u32::MAX, 1, 1, Err(CountTooHigh { h: 1, sent: 0 }));
    }

    #[test]
    fn sm_28_a_count_outside_of_what_is_in_flight_is_refused() {
        check(0, 3, 4, Err(CountTooHigh { h: 4, sent: 3 }));
        check(5, 1, 4, Err(CountTooHigh { h: 4, sent: 6 }));
        let mut out = Vec::new();
        StreamError::from(CountTooHigh { h: 12, sent: 9 }).write(&mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(text.contains("<undefined-condition "), "{text}");
        assert!(text.contains("handled-count-too-high"), "{text}");
        assert!(
            text.contains("send-count='9'") || text.contains("send-count=\"9\""),
            "{text}"
        );
    }

    #[test]
    fn sm_34_a_silent_peer_costs_bounded_memory() {
        let mut queue = Outbound::new(1);
        assert_eq!(queue.push(1), Ok(()));
        assert_eq!(queue.push(2), Err(Full));
        assert_eq!(queue.sent(), 1);
    }
}
