//! The clients of one account that can be woken (XEP-0357), and what was last done about them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::clock::ShardTime;
use super::resources::Resources;

/// Clients of one account that are remembered: as many as there may be registrations.
pub(super) const CLIENTS: usize = 64;

/// A client that can be woken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pushing {
    /// Important messages since the client was last connected.
    pub(super) count: u32,
    /// When it was last woken since then, on the shard's scale.
    pub(super) last: Option<ShardTime>,
    /// Its last session is over, and wanted copies of what goes to others.
    pub(super) copies: bool,
}

/// An account's clients that can be woken, by resource, connected or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Clients(BTreeMap<Box<str>, Pushing>);

impl From<BTreeMap<Box<str>, Pushing>> for Clients {
    fn from(clients: BTreeMap<Box<str>, Pushing>) -> Self {
        Self(clients)
    }
}

impl Clients {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn can_wake(&self, resource: &str) -> bool {
        self.0.contains_key(resource)
    }

    pub(super) fn get_mut(&mut self, resource: &str) -> Option<&mut Pushing> {
        self.0.get_mut(resource)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Pushing)> {
        self.0
            .iter()
            .map(|(resource, client)| (&**resource, client))
    }

    /// Remembers one more client, in the place of another if there are too many.
    pub(super) fn add(&mut self, resource: &str, sessions: &Resources) {
        if self.0.len() >= CLIENTS && !self.can_wake(resource) {
            // A hint that is out of date may be among them, and one without a session is likely to be it. If it
            // is not, its client is woken again once it registers anew.
            let mut clients = self.0.keys();
            let one = clients.find(|r| sessions.get(r).is_none());
            let one = one.or_else(|| self.0.keys().next());
            if let Some(one) = one.cloned() {
                self.0.remove(&one);
            }
        }
        self.0.entry(resource.into()).or_default();
    }

    pub(super) fn forget(&mut self, resource: &str) {
        self.0.remove(resource);
    }
}
