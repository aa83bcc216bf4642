//! Which nodes the shard has heard to be no longer members, so that it never counts on them again.
//!
//! That a node is given up cannot be taken back: it is told so, and empties its disk. So it is not left to what each
//! node has seen or was told, but is an entry like any other (M-13). Shard 0 decides, and the others follow; what
//! follows from it for voters and connections is not decided here.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// So many are remembered here. Each node remembers on its disk whom it refuses, for ever.
const REMEMBERED: usize = 1024;

/// The last nodes that were given up, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Retired(VecDeque<NodeId>);

impl Retired {
    /// Remembers one.
    pub(super) fn note(&mut self, node: NodeId) {
        if self.0.contains(&node) {
            return;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(node);
    }

    /// All that are remembered.
    pub(super) fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_remembered_as_is_said() {
        let mut known = Retired::default();
        (0..3_000).for_each(|id| known.note(NodeId(id)));
        assert_eq!(known.0.len(), REMEMBERED);
        known.note(NodeId(2_999));
        assert_eq!(known.0.back(), Some(&NodeId(2_999)));
        assert_eq!(known.0.len(), REMEMBERED);
    }
}
