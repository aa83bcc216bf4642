//! How absolute numbers of stanzas and counts modulo 2^32 belong together.
//!
//! Every stanza of a session has an absolute number from 1, which never wraps. Peers count modulo 2^32, and begin
//! with `<enable/>` or `<enabled/>` (SM-16, SM-17). Where the two meet is an [`Origin`]; whoever has to tell an `h`,
//! or to judge one, asks it.

/// The peer acknowledges what was never sent, or takes an acknowledgement back (SM-28).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer acknowledged {h} stanzas of the {sent} that were sent")]
pub struct CountTooHigh {
    /// What the peer claims.
    pub h: u32,
    /// What was sent.
    pub sent: u32,
}

/// A point where a number and a count meet: everything below `number` is covered by the count `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    number: u64,
    h: u32,
}

impl Origin {
    /// Stanza `number` is the first beyond the count `h`.
    pub const fn new(number: u64, h: u32) -> Self {
        Self { number, h }
    }

    /// The number of the first stanza beyond the count.
    pub const fn number(self) -> u64 {
        self.number
    }

    /// The count that covers everything below `next` (SM-14, SM-21). Before the origin nothing is counted.
    pub const fn h(self, next: u64) -> u32 {
        // The remainder modulo 2^32 is what counts.
        self.h.wrapping_add(next.saturating_sub(self.number) as u32)
    }

    /// The number below which `h` covers everything, while the stanzas from `acked` up to `sent`, without it, are in
    /// flight. What precedes the origin is covered with it: it was sent before the peer began to count.
    ///
    /// # Errors
    ///
    /// `h` covers more than what was sent, or less than what was acknowledged (SM-28): one comparison refuses both,
    /// because a claim that is taken back wraps to an enormous one.
    pub fn covered(self, h: u32, acked: u64, sent: u64) -> Result<u64, CountTooHigh> {
        let first = acked.max(self.number);
        let in_flight = sent.saturating_sub(first);
        let claimed = u64::from(h.wrapping_sub(self.h(first)));
        if claimed > in_flight {
            let sent = self.h(first + in_flight);
            return Err(CountTooHigh { h, sent });
        }
        Ok(first + claimed)
    }

    /// `h` covers less than everything below `acked`: whoever says it does not know yet that more was acknowledged.
    pub fn is_behind(self, h: u32, acked: u64) -> bool {
        let first = acked.max(self.number);
        let lead = self.h(first).wrapping_sub(h);
        lead != 0 && u64::from(lead) <= first - self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sm_14_the_count_covers_what_is_below_and_wraps() {
        let origin = Origin::new(3, u32::MAX);
        let counts = [1, 3, 4, 5].map(|next| origin.h(next));
        assert_eq!(counts, [u32::MAX, u32::MAX, 0, 1]);
    }

    #[test]
    fn sm_28_only_what_is_in_flight_can_be_covered() {
        let origin = Origin::new(3, u32::MAX);
        let covered = |h| origin.covered(h, 4, 6).map_err(|error| error.sent);
        assert_eq!([covered(0), covered(1), covered(2)], [Ok(4), Ok(5), Ok(6)]);
        assert_eq!([covered(3), covered(u32::MAX)], [Err(2), Err(2)]);
    }

    #[test]
    fn sm_17_what_was_sent_before_the_count_is_covered_with_its_beginning() {
        let origin = Origin::new(3, 0);
        assert_eq!(origin.covered(0, 1, 3), Ok(3));
        assert_eq!(origin.covered(1, 1, 3).map_err(|error| error.sent), Err(0));
    }

    #[test]
    fn sm_59_an_older_claim_is_known_for_one() {
        let origin = Origin::new(3, u32::MAX);
        let behind = [u32::MAX, 0, 1, u32::MAX - 1].map(|h| origin.is_behind(h, 5));
        assert_eq!(behind, [true, true, false, false]);
    }

    proptest::proptest! {
        #[test]
        fn sm_28_a_count_that_was_told_is_taken_at_its_number(number: u32, h: u32, acked: u16, more: u16, flight: u16) {
            let origin = Origin::new(u64::from(number) + 1, h);
            let acked = origin.number() + u64::from(acked);
            let (said, sent) = (acked + u64::from(more), acked + u64::from(more) + u64::from(flight));
            proptest::prop_assert_eq!(origin.covered(origin.h(said), acked, sent), Ok(said));
        }
    }
}
