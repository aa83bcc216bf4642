//! Sessions of an account that are over, and of which only the inbound count is kept (SM-47).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::clock::ShardTime;
use crate::id::SmId;

/// Oldest first: those that go first when there are too many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct OldSessions(VecDeque<Old>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Old {
    pub(super) smid: SmId,
    pub(super) h: u32,
    /// When it is forgotten, on the shard's scale.
    pub(super) until: ShardTime,
}

impl From<VecDeque<Old>> for OldSessions {
    fn from(old: VecDeque<Old>) -> Self {
        Self(old)
    }
}

impl OldSessions {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Old> {
        self.0.iter()
    }

    /// When the first of them is forgotten.
    pub(super) fn next_forget(&self) -> Option<ShardTime> {
        self.iter().map(|old| old.until).min()
    }

    /// The inbound count that is known under this identifier at `time`.
    pub(super) fn h(&self, smid: &SmId, time: ShardTime) -> Option<u32> {
        let mut known = self.iter();
        let known = known.find(|old| old.smid == *smid && old.until > time);
        known.map(|old| old.h)
    }

    /// It is remembered until others have taken all places.
    pub(super) fn add(&mut self, old: Old) {
        self.0.push_back(old);
    }

    /// It makes room before all others do.
    pub(super) fn add_first(&mut self, old: Old) {
        self.0.push_front(old);
    }

    /// Forgets those whose time is over.
    pub(super) fn forget_until(&mut self, time: ShardTime) {
        self.0.retain(|old| old.until > time);
    }

    /// Forgets the oldest beyond so many.
    pub(super) fn limit(&mut self, most: usize) {
        let beyond = self.0.len().saturating_sub(most);
        self.0.drain(..beyond);
    }

    /// For broken builds.
    #[cfg(test)]
    pub(super) fn all_mut(&mut self) -> &mut VecDeque<Old> {
        &mut self.0
    }
}
