//! Whom a request addresses, and what is announced there.

use std::collections::{BTreeSet, HashMap};

/// Whom an iq addresses that the server answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The server: a domain of ours.
    Host,
    /// The sender's own account: its bare JID, or no address at all.
    Account,
    /// The account of somebody else.
    Contact,
}

/// What disco names, in the order of the names.
#[derive(Debug, Default)]
pub struct Features(HashMap<Scope, BTreeSet<&'static str>>);

impl Features {
    /// The features of a scope, sorted.
    pub fn of(&self, scope: Scope) -> impl Iterator<Item = &'static str> + '_ {
        self.0.get(&scope).into_iter().flatten().copied()
    }

    /// One feature more.
    pub(super) fn announce(&mut self, scope: Scope, feature: &'static str) {
        self.0.entry(scope).or_default().insert(feature);
    }
}
