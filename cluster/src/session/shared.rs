//! Messages that several sessions of an account hold: whoever acknowledges one has it for all of them.
//!
//! A message that others hold may wait for the account's next session at the same time; there it counts as one more
//! holder.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::ArchiveId;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SharedMessages(BTreeMap<ArchiveId, Shared>);

/// How many sessions hold a message, and whether one of them has acknowledged it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Shared {
    pub(super) holders: u32,
    pub(super) acknowledged: bool,
}

impl From<BTreeMap<ArchiveId, Shared>> for SharedMessages {
    fn from(shared: BTreeMap<ArchiveId, Shared>) -> Self {
        Self(shared)
    }
}

impl SharedMessages {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many more sessions hold a message from now on. Of one that was not shared, none has acknowledged it.
    pub(super) fn hold(&mut self, mid: ArchiveId, holders: usize) {
        let holders = u32::try_from(holders).unwrap_or(u32::MAX);
        let shared = self.0.entry(mid).or_insert(Shared {
            holders: 0,
            acknowledged: false,
        });
        shared.holders = shared.holders.saturating_add(holders);
    }

    /// Somebody holds the message as one of several, or as the last of them.
    pub(super) fn contains(&self, mid: ArchiveId) -> bool {
        self.0.contains_key(&mid)
    }

    /// Others hold the message too, and nobody has acknowledged it.
    pub(super) fn is_left_to_others(&self, mid: ArchiveId) -> bool {
        let shared = self.0.get(&mid);
        shared.is_some_and(|shared| shared.holders > 1 && !shared.acknowledged)
    }

    /// One session holds the message alone, and has it acknowledged by another way.
    pub(super) fn hold_acknowledged(&mut self, mid: ArchiveId) {
        let known = Shared {
            holders: 1,
            acknowledged: true,
        };
        self.0.insert(mid, known);
    }

    /// Somebody has the message; returns whether several held it.
    pub(super) fn acknowledge(&mut self, mid: ArchiveId) -> bool {
        let Some(shared) = self.0.get_mut(&mid) else {
            return false;
        };
        shared.acknowledged = true;
        true
    }

    /// One holder lets go of the message. True if it was the last and none has acknowledged. One that nobody shares
    /// is let go of by the one that holds it.
    pub(super) fn release(&mut self, mid: ArchiveId, acknowledged: bool) -> bool {
        let Some(shared) = self.0.get_mut(&mid) else {
            return !acknowledged;
        };
        shared.holders = shared.holders.saturating_sub(1);
        shared.acknowledged |= acknowledged;
        let (last, nobody) = (shared.holders == 0, !shared.acknowledged);
        if last {
            self.0.remove(&mid);
        }
        last && nobody
    }

    /// How many sessions hold each.
    #[cfg(test)]
    pub(super) fn holders(&self) -> BTreeMap<ArchiveId, u32> {
        self.0.iter().map(|(mid, s)| (*mid, s.holders)).collect()
    }

    /// For broken builds.
    #[cfg(test)]
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Shared> {
        self.0.values_mut()
    }
}
