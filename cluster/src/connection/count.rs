//! The two counters of a session: absolute numbers here and in the cluster, 32-bit `h` on the wire.
//!
//! Every stanza in either direction has an absolute number from 1, whether Stream Management is on or
//! not. When it is switched on, or the session is resumed, a point is fixed where an absolute number and
//! an `h` meet; from there both advance together (SM-16, SM-17, SM-53).

use std::collections::VecDeque;

use proto::sm::{CountTooHigh, Origin};

/// Stanzas from the client.
#[derive(Clone, Debug)]
pub struct Incoming {
    next: u64,
    origin: Option<Origin>,
}

impl Incoming {
    /// A session that was just bound.
    pub fn bound() -> Self {
        Self {
            next: 1,
            origin: None,
        }
    }

    /// A resumed session: stanza `next` is to come, and `h` of them were counted.
    pub fn resumed(next: u64, h: u32) -> Self {
        Self {
            next,
            origin: Some(Origin::new(next, h)),
        }
    }

    /// From the next stanza on they count; the count so far is `seed`.
    pub fn enable(&mut self, after: u64, seed: u32) {
        self.origin = Some(Origin::new(after + 1, seed));
    }

    /// The absolute number of the first stanza that is not handled.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Everything below `next` has taken effect.
    pub fn handled(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// What `<a/>` may say; nothing while Stream Management is off.
    pub fn h(&self) -> Option<u32> {
        self.origin.map(|origin| origin.h(self.next))
    }
}

/// Stanzas to the client that were written.
///
/// # Invariant
///
/// `acked + unacked.len() == written`: the sizes are those of the stanzas in flight.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The absolute number of the next stanza to write.
    written: u64,
    /// The first that the client is not known to have.
    acked: u64,
    /// What the cluster was told last.
    told: u64,
    /// Where the client's count begins, if it counts.
    origin: Option<Origin>,
    unacked: VecDeque<u32>,
    bytes: usize,
}

impl Outgoing {
    /// Nothing is in flight; stanza `next` is to come. `h` is the client's count if it counts.
    pub fn new(next: u64, h: Option<u32>) -> Self {
        Self {
            written: next,
            acked: next,
            told: next,
            origin: h.map(|h| Origin::new(next, h)),
            unacked: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Stanzas from here on count from `seed`. What was written before is not counted (SM-17), and the client is not
    /// known to have it before it has counted something.
    pub fn enable(&mut self, seed: u32) {
        self.origin = Some(Origin::new(self.written, seed));
    }

    /// A stanza of so many bytes was written.
    pub fn wrote(&mut self, bytes: usize) {
        self.written += 1;
        self.bytes += bytes;
        self.unacked
            .push_back(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The absolute number of the next stanza to write.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The first stanza that the client is not known to have.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// The client counts: Stream Management is on.
    pub fn counts(&self) -> bool {
        self.origin.is_some()
    }

    /// How many stanzas, and bytes, are in flight.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.unacked.len(), self.bytes)
    }

    /// The client says `h`. Returns what the cluster is to be told, if it is news; before Stream
    /// Management is on an `h` means nothing.
    pub fn acknowledge(&mut self, h: u32) -> Result<Option<u64>, CountTooHigh> {
        let Some(origin) = self.origin else {
            return Ok(None);
        };
        let upto = origin.covered(h, self.acked, self.written)?;
        // As many as are in flight at most.
        self.forget((upto - self.acked) as usize);
        Ok(self.news())
    }

    /// The client answered what was sent after everything below `upto` (a ping: there is no `h`).
    pub fn answered(&mut self, upto: u64) -> Option<u64> {
        let covered = upto.saturating_sub(self.acked) as usize;
        self.forget(covered.min(self.unacked.len()));
        self.news()
    }

    /// The client closed its stream in good order: without a count of its own, it has read all of it.
    pub fn closed(&mut self) {
        if self.origin.is_none() {
            self.forget(self.unacked.len());
        }
    }

    fn forget(&mut self, covered: usize) {
        let bytes: usize = self.unacked.drain(..covered).map(|b| b as usize).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        self.acked += covered as u64;
    }

    fn news(&mut self) -> Option<u64> {
        let news = self.acked > self.told;
        self.told = self.acked;
        news.then_some(self.acked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sm_16_stanzas_before_enable_are_numbered_but_not_counted() {
        let mut incoming = Incoming::bound();
        incoming.handled(4);
        assert_eq!(incoming.h(), None);
        incoming.enable(3, 0);
        assert_eq!(incoming.h(), Some(0));
        incoming.handled(6);
        assert_eq!(incoming.h(), Some(2));
    }

    #[test]
    fn sm_21_our_count_wraps() {
        let mut incoming = Incoming::resumed(10, u32::MAX);
        incoming.handled(12);
        assert_eq!(incoming.h(), Some(1));
    }

    #[test]
    fn sm_17_what_was_written_before_enabled_is_not_counted() {
        let mut outgoing = Outgoing::new(1, None);
        outgoing.wrote(10);
        assert_eq!(outgoing.acknowledge(1), Ok(None));
        outgoing.enable(0);
        assert_eq!(outgoing.acked(), 1);
        assert_eq!(outgoing.acknowledge(1), Err(CountTooHigh { h: 1, sent: 0 }));
        assert_eq!(outgoing.acknowledge(0), Ok(Some(2)));
        outgoing.wrote(10);
        assert_eq!(outgoing.in_flight(), (1, 10));
        assert_eq!(outgoing.acknowledge(1), Ok(Some(3)));
        assert_eq!(outgoing.in_flight(), (0, 0));
    }

    #[test]
    fn sm_21_the_clients_count_wraps() {
        let mut outgoing = Outgoing::new(7, Some(u32::MAX));
        (0..3).for_each(|_| outgoing.wrote(1));
        assert_eq!(outgoing.acknowledge(1), Ok(Some(9)));
        assert_eq!(outgoing.acknowledge(1), Ok(None));
        assert_eq!(outgoing.acknowledge(3), Err(CountTooHigh { h: 3, sent: 2 }));
    }

    #[test]
    fn sm_28_a_count_that_goes_back_is_refused() {
        let mut outgoing = Outgoing::new(1, Some(0));
        (0..3).for_each(|_| outgoing.wrote(1));
        assert_eq!(outgoing.acknowledge(2), Ok(Some(3)));
        assert_eq!(outgoing.acknowledge(1), Err(CountTooHigh { h: 1, sent: 3 }));
    }

    #[test]
    fn a_clean_close_acknowledges_only_where_nobody_counts() {
        for (h, acked) in [(None, 3), (Some(0), 1)] {
            let mut outgoing = Outgoing::new(1, h);
            (0..2).for_each(|_| outgoing.wrote(1));
            outgoing.closed();
            assert_eq!(outgoing.acked(), acked);
        }
    }

    #[test]
    fn a_pong_acknowledges_what_preceded_the_ping() {
        let mut outgoing = Outgoing::new(1, None);
        outgoing.wrote(1);
        let upto = outgoing.written();
        outgoing.wrote(1);
        assert_eq!(outgoing.answered(upto), Some(2));
        assert_eq!(outgoing.in_flight(), (1, 1));
        assert_eq!(outgoing.answered(upto), None);
    }
}
