//! One group's log in memory, which its records add up to: its vote, its entries, and how far they are committed and
//! purged.
//!
//! It is pure, and used by replay and by the running store alike, so that the two cannot disagree.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

use openraft::EntryPayload;
use serde::{Deserialize, Serialize};

use crate::raft::types::{Entry, LogId, LogState, Vote};

/// One group's log in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryLog {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    purged: Option<LogId>,
    /// The entry before the first of `entries`. It is beyond `purged` only during replay, while the files with the
    /// entries in between are gone and the record of their purge has not been read yet.
    floor: Option<LogId>,
    entries: VecDeque<Entry>,
}

/// Everything about a group but its entries. It is written at the start of each segment, so that older segments can go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Marks {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
}

/// An entry does not follow the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {found} does not follow: {expected} does")]
pub(super) struct Hole {
    expected: u64,
    found: u64,
}

impl MemoryLog {
    /// A log of which only the marks are known. Its entries so far have to be purged ones.
    pub(super) fn from_marks(marks: Marks) -> Self {
        Self {
            vote: marks.vote,
            committed: marks.committed,
            purged: marks.purged,
            floor: marks.last.max(marks.purged),
            entries: VecDeque::new(),
        }
    }

    pub(super) fn marks(&self) -> Marks {
        Marks {
            vote: self.vote,
            committed: self.committed,
            purged: self.purged,
            last: self.last(),
        }
    }

    /// Whether no entry is missing between what is purged and what is here.
    pub(super) fn is_whole(&self) -> bool {
        self.floor == self.purged
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id).or(self.floor)
    }

    pub(super) fn state(&self) -> LogState {
        LogState {
            last_purged_log_id: self.purged,
            last_log_id: self.last(),
        }
    }

    /// Appends an entry, which has to follow the last one. An empty log takes any.
    pub(super) fn append(&mut self, entry: Entry) -> Result<(), Hole> {
        let found = entry.log_id.index;
        match self.last() {
            Some(last) if last.index + 1 != found => Err(Hole {
                expected: last.index + 1,
                found,
            }),
            _ => {
                self.entries.push_back(entry);
                Ok(())
            }
        }
    }

    /// Forgets the entries after `last`.
    pub(super) fn truncate_after(&mut self, last: Option<LogId>) {
        let keep = match (last, self.entries.front()) {
            (Some(last), Some(first)) => (last.index + 1).saturating_sub(first.log_id.index),
            _ => 0,
        };
        self.entries.truncate(keep as usize);
        // During replay, the truncated entries may have been in a file that is gone.
        self.floor = self.floor.min(last.max(self.purged));
    }

    /// Forgets the entries up to and including `upto`.
    pub(super) fn purge(&mut self, upto: LogId) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.log_id.index <= upto.index)
        {
            self.entries.pop_front();
        }
        self.purged = self.purged.max(Some(upto));
        self.floor = self.floor.max(Some(upto));
    }

    /// Entries in `range`, oldest first; after the first, only while they stay within `max_bytes`.
    pub(super) fn range(&self, range: impl RangeBounds<u64>, max_bytes: usize) -> Vec<Entry> {
        let Some(first) = self.entries.front().map(|entry| entry.log_id.index) else {
            return Vec::new();
        };
        let start = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(n) => n.saturating_add(1),
            Bound::Excluded(n) => *n,
            Bound::Unbounded => u64::MAX,
        };
        let start = start.max(first);
        let end = end.min(first + self.entries.len() as u64);
        if start >= end {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut bytes = 0;
        for entry in self
            .entries
            .range((start - first) as usize..(end - first) as usize)
        {
            if let EntryPayload::Normal(proposal) = &entry.payload {
                bytes += proposal.0.len();
            }
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{Proposal, TC};

    fn id(index: u64) -> LogId {
        openraft::testing::log_id::<TC>(1, 1, index)
    }

    fn entry(index: u64, size: usize) -> Entry {
        Entry {
            log_id: id(index),
            payload: EntryPayload::Normal(Proposal(vec![0; size].into())),
        }
    }

    fn filled() -> MemoryLog {
        let mut group = MemoryLog::default();
        for index in 0..5 {
            group.append(entry(index, 10)).expect("follows");
        }
        group
    }

    fn indexes(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.log_id.index).collect()
    }

    #[test]
    fn a_hole_is_refused() {
        assert_eq!(
            filled().append(entry(6, 1)),
            Err(Hole {
                expected: 5,
                found: 6
            })
        );
        assert_eq!(
            filled().append(entry(4, 1)),
            Err(Hole {
                expected: 5,
                found: 4
            })
        );
    }

    #[test]
    fn truncation_and_purge_keep_the_rest() {
        let mut group = filled();
        group.truncate_after(Some(id(3)));
        group.purge(id(1));
        assert_eq!(indexes(&group.range(.., usize::MAX)), [2, 3]);
        assert_eq!((group.purged(), group.last()), (Some(id(1)), Some(id(3))));
        group.purge(id(9));
        assert_eq!(group.last(), Some(id(9)));
        assert!(group.append(entry(10, 1)).is_ok());
        group.truncate_after(Some(id(9)));
        assert_eq!(group.last(), Some(id(9)));
    }

    #[test]
    fn bytes_limit_a_range_but_never_to_nothing() {
        assert_eq!(indexes(&filled().range(1..5, 25)), [1, 2]);
        assert_eq!(indexes(&filled().range(1..5, 0)), [1]);
        assert!(filled().range(3..3, usize::MAX).is_empty());
    }

    #[test]
    fn entries_known_by_their_marks_only_may_be_truncated() {
        let mut group = MemoryLog::from_marks(Marks {
            last: Some(id(4)),
            ..Marks::default()
        });
        group.truncate_after(Some(id(2)));
        assert!(group.append(entry(3, 1)).is_ok());
    }

    #[test]
    fn entries_known_by_their_marks_only_must_be_purged() {
        let mut group = MemoryLog::from_marks(Marks {
            last: Some(id(4)),
            purged: Some(id(2)),
            ..Marks::default()
        });
        assert!(group.append(entry(5, 1)).is_ok());
        assert!(!group.is_whole());
        group.purge(id(4));
        assert!(group.is_whole());
        assert_eq!(indexes(&group.range(.., usize::MAX)), [5]);
    }
}
