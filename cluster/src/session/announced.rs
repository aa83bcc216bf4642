//! Which messages of the server a shard has shown to everybody, so that it shows none of them again.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::id::ArchiveId;

/// So many are remembered. One that is asked for again after as many others is another one.
const REMEMBERED: usize = 64;

/// The last messages to everybody, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Broadcasts(VecDeque<ArchiveId>);

impl Broadcasts {
    /// Remembers one; `false` if it is one that is remembered already.
    pub(super) fn note(&mut self, id: ArchiveId) -> bool {
        if self.0.contains(&id) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(id);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_remembered_as_is_said() {
        let mut known = Broadcasts::default();
        assert!((0..1_000).all(|id| known.note(ArchiveId(id))));
        assert_eq!(known.0.len(), REMEMBERED);
        assert!(!known.note(ArchiveId(999)));
        assert!(known.note(ArchiveId(0)));
    }
}
