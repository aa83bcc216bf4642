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
pub struct Features {
    names: HashMap<Scope, BTreeSet<&'static str>>,
    identities: HashMap<Scope, BTreeSet<(&'static str, &'static str)>>,
}

impl Features {
    /// The features of a scope, sorted.
    pub fn of(&self, scope: Scope) -> impl Iterator<Item = &'static str> + '_ {
        self.names.get(&scope).into_iter().flatten().copied()
    }

    /// One feature more.
    pub(super) fn announce(&mut self, scope: Scope, feature: &'static str) {
        self.names.entry(scope).or_default().insert(feature);
    }

    /// What a scope is besides, as category and type, sorted.
    pub fn identities(&self, scope: Scope) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.identities.get(&scope).into_iter().flatten().copied()
    }

    /// One identity more.
    pub(super) fn identify(&mut self, scope: Scope, category: &'static str, kind: &'static str) {
        self.identities
            .entry(scope)
            .or_default()
            .insert((category, kind));
    }
}
