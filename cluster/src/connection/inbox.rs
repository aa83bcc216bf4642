//! What a client sent and what is not yet handled, in order.
//!
//! One job is under way at a time; what arrives meanwhile becomes the next one. So a client that is
//! faster than the log fills its own batches and nobody else's.

use std::collections::VecDeque;

use proto::ns;
use proto::stanza::{Kind, Packet, Stanza};

/// So many stanzas are proposed at a time, at most.
pub const BATCH: usize = 64;

/// Something that happened on the stream and has its place in the order.
#[derive(Debug)]
pub enum Work {
    /// A stanza to be resolved.
    Stanza(Stanza),
    /// A stanza that is handled by this answer, or by none.
    Answer(Option<Packet>),
    /// `<enable/>`
    Enable {
        /// The session shall be resumable.
        resume: bool,
        /// For how long, by the client's wish.
        max: Option<u32>,
    },
    /// `<r/>`, and when it came.
    AckRequest(u64),
    /// `</stream:stream>`
    Closed,
    /// The client broke the protocol; the stream error is on its way.
    Violation,
    /// The socket is gone.
    Lost,
    /// Something that was dealt with when it came.
    Nothing,
}

/// What to do next.
#[derive(Debug)]
pub enum Job {
    /// Resolve these and propose what follows from them.
    Stanzas(Vec<Work>),
    /// Anything else.
    One(Work),
}

/// The queue.
#[derive(Debug, Default)]
pub struct Inbox {
    queue: VecDeque<Work>,
    taken: usize,
    /// So many at the front were put back, and had been counted as taken before.
    counted: usize,
}

impl Inbox {
    /// Appends. An `<r/>` right behind another one is answered with it (T-15).
    pub fn push(&mut self, work: Work) {
        match (&work, self.queue.back()) {
            (Work::Nothing, _) | (Work::AckRequest(_), Some(Work::AckRequest(_))) => {
                self.taken += 1
            }
            _ => self.queue.push_back(work),
        }
    }

    /// The next job: a run of stanzas, or one thing of another kind. What reads the archive begins a new
    /// one, as it has to find there what was sent before it.
    pub fn job(&mut self) -> Option<Job> {
        let run = self
            .queue
            .iter()
            .take(BATCH)
            .enumerate()
            .take_while(|(n, w)| w.is_stanza() && (*n == 0 || !w.reads_archive()))
            .count();
        self.take(run.max(1).min(self.queue.len()));
        match run {
            0 => self.queue.pop_front().map(Job::One),
            // An idle client costs no queue.
            _ if run == self.queue.len() => {
                Some(Job::Stanzas(std::mem::take(&mut self.queue).into()))
            }
            _ => Some(Job::Stanzas(self.queue.drain(..run).collect())),
        }
    }

    /// Stanzas of the last job that were too much for one command go first in the next one.
    pub fn put_back(&mut self, stanzas: impl DoubleEndedIterator<Item = Work>) {
        for work in stanzas.rev() {
            self.queue.push_front(work);
            self.counted += 1;
        }
    }

    fn take(&mut self, count: usize) {
        let known = count.min(self.counted);
        self.counted -= known;
        self.taken += count - known;
    }

    /// Whether an `<r/>` that came before `since` still waits; it is answered out of its turn, so it is
    /// taken out. No other is left behind: those before it are older.
    pub fn overdue(&mut self, since: u64) -> bool {
        let before = self.queue.len();
        self.queue
            .retain(|w| !matches!(w, Work::AckRequest(at) if *at <= since));
        self.taken += before - self.queue.len();
        before != self.queue.len()
    }

    /// When the oldest waiting `<r/>` came.
    pub fn oldest_request(&self) -> Option<u64> {
        self.queue.iter().find_map(|w| match w {
            Work::AckRequest(at) => Some(*at),
            _ => None,
        })
    }

    /// How many inputs have left the queue since the last call.
    pub fn taken(&mut self) -> usize {
        std::mem::take(&mut self.taken)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.take(self.queue.len());
        self.queue.clear();
    }
}

impl Work {
    fn is_stanza(&self) -> bool {
        matches!(self, Self::Stanza(_) | Self::Answer(_))
    }

    fn reads_archive(&self) -> bool {
        let Self::Stanza(stanza) = self else {
            return false;
        };
        let is_iq = matches!(stanza.header.kind, Kind::Iq(_));
        is_iq && stanza.payload.iter().any(|child| child.ns() == ns::MAM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanzas(inbox: &mut Inbox, count: usize) {
        (0..count).for_each(|_| inbox.push(Work::Answer(None)));
    }

    #[test]
    fn stanzas_that_wait_together_are_one_job() {
        let mut inbox = Inbox::default();
        stanzas(&mut inbox, BATCH + 2);
        inbox.push(Work::AckRequest(5));
        inbox.push(Work::AckRequest(6));
        stanzas(&mut inbox, 1);
        assert!(matches!(inbox.job(), Some(Job::Stanzas(s)) if s.len() == BATCH));
        assert!(matches!(inbox.job(), Some(Job::Stanzas(s)) if s.len() == 2));
        assert!(matches!(inbox.job(), Some(Job::One(Work::AckRequest(5)))));
        assert!(matches!(inbox.job(), Some(Job::Stanzas(s)) if s.len() == 1));
        assert!(inbox.job().is_none());
        assert_eq!(inbox.taken(), BATCH + 5);
        assert_eq!(inbox.taken(), 0);
    }

    #[test]
    fn what_is_put_back_goes_first_and_is_counted_once() {
        let mut inbox = Inbox::default();
        stanzas(&mut inbox, 5);
        let Some(Job::Stanzas(job)) = inbox.job() else {
            panic!("five stanzas");
        };
        assert_eq!((job.len(), inbox.taken()), (5, 5));
        stanzas(&mut inbox, 1);
        inbox.push(Work::Closed);
        inbox.put_back(job.into_iter().skip(2));
        assert!(matches!(inbox.job(), Some(Job::Stanzas(s)) if s.len() == 4));
        assert_eq!(inbox.taken(), 1);
        assert!(matches!(inbox.job(), Some(Job::One(Work::Closed))));
        assert_eq!(inbox.taken(), 1);
    }

    #[test]
    fn im_97_what_was_sent_is_handled_before_the_archive_is_read() {
        use proto::stanza::IqType;
        let mut inbox = Inbox::default();
        for child in [None, Some(ns::PING), Some(ns::MAM), None] {
            let mut stanza = Stanza::new(Kind::Iq(IqType::Set));
            let child = child.map(|ns| proto::Element::new("query", ns));
            stanza.payload = child.into_iter().collect();
            inbox.push(Work::Stanza(stanza));
        }
        for run in [2, 2] {
            assert!(matches!(inbox.job(), Some(Job::Stanzas(s)) if s.len() == run));
        }
        assert!(inbox.job().is_none());
    }

    #[test]
    fn sm_24_a_request_does_not_wait_for_ever() {
        let mut inbox = Inbox::default();
        stanzas(&mut inbox, 1);
        inbox.push(Work::AckRequest(5));
        assert_eq!(inbox.oldest_request(), Some(5));
        assert!(!inbox.overdue(4));
        assert!(inbox.overdue(5));
        assert_eq!(inbox.taken(), 1);
        assert_eq!(inbox.oldest_request(), None);
    }
}
