//! Which nodes a session's client wants to hear of (XEP-0163 §4.3), and what it is given of them when it begins to.
//!
//! What was published last is read from the database, which takes its time. What is published meanwhile comes by itself
//! and is newer: so the session notes of which nodes it has heard since it asked, and is told nothing older of them.
//!
//! # Invariants
//!
//! 1. A session whose client wants nothing costs a pointer.
//! 2. At most [`MOST_NODES`] names of [`MOST_BYTES`] together are kept, and at most [`MOST_HEARD`] nodes are noted.

use std::collections::BTreeSet;

use proto::BareJid;
use serde::{Deserialize, Serialize};

/// Nodes that one client may want to hear of.
pub const MOST_NODES: usize = 128;
/// Bytes of their names.
pub const MOST_BYTES: usize = 8 << 10;
/// Nodes of which it is noted that they were heard of. Of more it may be told something older at the end.
const MOST_HEARD: usize = 1_000;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Interest(Option<Box<Parts>>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Parts {
    nodes: BTreeSet<Box<str>>,
    /// So many times what was published last is being read.
    reading: u32,
    /// Of whom and what the session has heard since.
    heard: BTreeSet<(BareJid, Box<str>)>,
}

impl Interest {
    /// The client wants to hear of this node.
    pub(super) fn contains(&self, node: &str) -> bool {
        self.0
            .as_ref()
            .is_some_and(|parts| parts.nodes.contains(node))
    }

    /// All of them.
    pub(super) fn nodes(&self) -> Vec<Box<str>> {
        let parts = self.0.iter();
        parts
            .flat_map(|parts| parts.nodes.iter().cloned())
            .collect()
    }

    /// The client wants to hear of these and of no others; returns those that it did not want before.
    pub(super) fn replace(&mut self, nodes: Vec<Box<str>>) -> Vec<Box<str>> {
        let mut bytes = 0;
        let nodes: BTreeSet<Box<str>> = nodes
            .into_iter()
            .take(MOST_NODES)
            .take_while(|node| {
                bytes += node.len();
                bytes <= MOST_BYTES
            })
            .collect();
        let added = nodes.iter().filter(|node| !self.contains(node));
        let added = added.cloned().collect();
        self.0.get_or_insert_default().nodes = nodes;
        self.tidy();
        added
    }

    /// What was published last is being read for the session.
    pub(super) fn begin(&mut self) {
        self.0.get_or_insert_default().reading += 1;
    }

    /// All of that has come.
    pub(super) fn end(&mut self) {
        if let Some(parts) = &mut self.0 {
            parts.reading = parts.reading.saturating_sub(1);
            if parts.reading == 0 {
                parts.heard.clear();
            }
        }
        self.tidy();
    }

    /// Something was published, and the session hears of it.
    pub(super) fn hear(&mut self, owner: &BareJid, node: &str) {
        if let Some(parts) = &mut self.0
            && parts.reading > 0
            && parts.heard.len() < MOST_HEARD
        {
            parts.heard.insert((owner.clone(), node.into()));
        }
    }

    /// Whether something newer has come than what was read.
    pub(super) fn has_heard(&self, owner: &BareJid, node: &str) -> bool {
        let parts = self.0.as_ref().filter(|parts| !parts.heard.is_empty());
        parts.is_some_and(|parts| parts.heard.contains(&(owner.clone(), node.into())))
    }

    fn tidy(&mut self) {
        if self
            .0
            .as_ref()
            .is_some_and(|parts| **parts == Parts::default())
        {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn pe_9_only_what_was_not_wanted_before_is_new() {
        let mut interest = Interest::default();
        assert_eq!(interest.replace(nodes(&["a", "b"])), nodes(&["a", "b"]));
        assert_eq!(interest.replace(nodes(&["b", "c"])), nodes(&["c"]));
        assert!(!interest.contains("a") && interest.contains("c"));
        assert_eq!(interest.replace(Vec::new()), nodes(&[]));
        assert_eq!(interest, Interest::default());
    }

    #[test]
    fn what_a_client_wants_is_bounded_in_number_and_bytes() {
        let many = |count: usize, bytes: usize| -> Vec<Box<str>> {
            let name = |n| format!("{n:0bytes$}").into();
            (0..count).map(name).collect()
        };
        for (count, bytes, kept) in [
            (MOST_NODES, 4, MOST_NODES),
            (MOST_NODES + 1, 4, MOST_NODES),
            (8, 1 << 10, 8),
            (9, 1 << 10, 8),
        ] {
            let mut interest = Interest::default();
            interest.replace(many(count, bytes));
            assert_eq!(interest.nodes().len(), kept);
        }
        let mut interest = Interest::default();
        interest.begin();
        let owner = BareJid::new("a@b.c").expect("valid");
        for n in 0..=MOST_HEARD {
            interest.hear(&owner, &n.to_string());
        }
        let last = MOST_HEARD.to_string();
        assert!(interest.has_heard(&owner, "0") && !interest.has_heard(&owner, &last));
        interest.end();
        assert_eq!(interest, Interest::default());
    }
}
