//! What the cluster has for a client and what is not yet written, in the order of the log.
//!
//! A slow reader costs one pointer per stanza here; the stanzas themselves are those of the replicated
//! state.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::session::{Enabled, Item};

/// Something to write.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A stanza with its absolute number.
    Stanza(u64, Arc<Item>),
    /// `<enabled/>`: what follows counts.
    Enabled(Enabled),
}

/// What became of a stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the queue.
    Queued,
    /// It came before.
    Known,
    /// Those from this number on are missing before it.
    Gap(u64),
}

/// The queue.
#[derive(Debug)]
pub struct Unwritten {
    expected: u64,
    queue: VecDeque<Entry>,
    /// `<enabled/>` was queued. It comes once.
    is_enabled: bool,
}

impl Unwritten {
    /// An empty queue; stanza `next` is to come.
    pub fn new(next: u64) -> Self {
        Self {
            expected: next,
            queue: VecDeque::new(),
            is_enabled: false,
        }
    }

    /// Appends a stanza if it is the next one.
    pub fn push(&mut self, seq: u64, item: Arc<Item>) -> Pushed {
        match seq.cmp(&self.expected) {
            std::cmp::Ordering::Less => Pushed::Known,
            std::cmp::Ordering::Greater => Pushed::Gap(self.expected),
            std::cmp::Ordering::Equal => {
                self.queue.push_back(Entry::Stanza(seq, item));
                self.expected += 1;
                Pushed::Queued
            }
        }
    }

    /// Puts `<enabled/>` before the stanzas that count, unless it came before.
    pub fn enabled(&mut self, enabled: Enabled) {
        if self.is_enabled {
            return;
        }
        self.is_enabled = true;
        let counts = |entry: &Entry| matches!(entry, Entry::Stanza(seq, _) if *seq >= enabled.next);
        let place = self.queue.iter().position(counts);
        let place = place.unwrap_or(self.queue.len());
        self.queue.insert(place, Entry::Enabled(enabled));
    }

    /// The number of the next stanza that is to come.
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// Takes the oldest entry.
    pub fn pop(&mut self) -> Option<Entry> {
        self.queue.pop_front()
    }

    /// The entries behind the oldest `count`.
    pub fn behind(&self, count: usize) -> impl Iterator<Item = &Entry> {
        self.queue.iter().skip(count)
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proto::stanza::{Kind, MessageType, Stanza};

    use super::*;

    fn item() -> Arc<Item> {
        let packet = Stanza::new(Kind::Message(MessageType::Chat)).pack();
        super::super::write::tests::item(packet).into()
    }

    #[test]
    fn stanzas_are_taken_once_and_without_gaps() {
        let mut unwritten = Unwritten::new(5);
        assert_eq!(unwritten.push(4, item()), Pushed::Known);
        assert_eq!(unwritten.push(6, item()), Pushed::Gap(5));
        assert_eq!(unwritten.push(5, item()), Pushed::Queued);
        assert_eq!(unwritten.push(6, item()), Pushed::Queued);
        assert!(matches!(unwritten.pop(), Some(Entry::Stanza(5, _))));
        assert_eq!(unwritten.expected(), 7);
    }

    #[test]
    fn sm_17_enabled_keeps_its_place() {
        let mut unwritten = Unwritten::new(1);
        unwritten.push(1, item());
        unwritten.enabled(enabled(2));
        unwritten.push(2, item());
        unwritten.pop();
        assert!(matches!(unwritten.pop(), Some(Entry::Enabled(_))));
        assert!(matches!(unwritten.pop(), Some(Entry::Stanza(2, _))));
        assert!(unwritten.is_empty());
    }

    #[test]
    fn enabled_that_is_heard_late_and_twice_comes_once_before_what_counts() {
        let mut unwritten = Unwritten::new(1);
        unwritten.push(1, item());
        unwritten.push(2, item());
        unwritten.enabled(enabled(2));
        unwritten.enabled(enabled(2));
        assert!(matches!(unwritten.pop(), Some(Entry::Stanza(1, _))));
        assert!(matches!(unwritten.pop(), Some(Entry::Enabled(_))));
        assert!(matches!(unwritten.pop(), Some(Entry::Stanza(2, _))));
        unwritten.enabled(enabled(2));
        assert!(unwritten.is_empty());
    }

    fn enabled(next: u64) -> Enabled {
        Enabled {
            smid: None,
            max: 0,
            next,
            seed: 0,
        }
    }
}
