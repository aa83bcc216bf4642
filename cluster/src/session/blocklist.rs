//! Whom an account has blocked (XEP-0191), as its shard knows it, and what follows from that for its stanzas.
//!
//! The database has the list. The shard has a copy in its state, because it is the shard that decides what is
//! delivered, whether somebody is there or not: so whoever is blocked is turned away before anything is archived,
//! copied, pushed or kept (IM-71). Each state of the list in the database has a number of its own, drawn at random. A
//! change says which number it has found and which it has left; a shard that knows another one takes what is blocked
//! from the change, and has the list read anew. The same happens when a client logs in with a list that the shard
//! does not know, as after the loss of its state.
//!
//! # Invariants
//!
//! 1. An account without a list costs a pointer, and a stanza of it a comparison.
//! 2. Only what the newest reading has found takes the place of the list: no older one takes back a change.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::payload::blocking::is_blockable;
use proto::stanza::Packet;
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use crate::id::EffectId;

/// Whom one account has blocked. A copy shares what neither of the two changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Blocklist(Option<Arc<Blocked>>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Blocked {
    /// The state of the list in the database; 0 = there is none.
    revision: u64,
    jids: BTreeSet<Jid>,
    /// What reads the list anew.
    reading: Option<EffectId>,
}

/// A change of an account's list, which the database has taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlocklistUpdate {
    /// The state of the list that the change has found there.
    pub found: u64,
    /// The one that it has left.
    pub left: u64,
    /// Who is blocked from now on.
    pub block: Vec<Jid>,
    /// Who no longer is.
    pub unblock: Vec<Jid>,
    /// Those of both whose presence subscriptions let them see the account, at each address that is concerned.
    pub viewers: Vec<Jid>,
    /// Those whose presence the account may see again.
    pub probes: Vec<BareJid>,
    /// What sessions are told that have asked for the list; an iq without `to`.
    pub push: Packet,
}

impl BlocklistUpdate {
    /// About how many bytes it takes where it waits, but for the names of many accounts.
    pub(super) fn size(&self) -> usize {
        let names = self.block.iter().chain(&self.unblock);
        48 + self.push.size() + names.map(|jid| 16 + jid.as_str().len()).sum::<usize>()
    }
}

impl Blocklist {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the account, which has this list, has blocked `peer` (IM-68).
    pub(super) fn blocks(&self, account: &BareJid, peer: &Jid) -> bool {
        let Some(blocked) = &self.0 else {
            return false;
        };
        let mut wider = peer.and_wider();
        wider.any(|known| blocked.jids.contains(known)) && is_blockable(account, peer)
    }

    /// The state of the list; 0 = there is none.
    pub(super) fn revision(&self) -> u64 {
        self.0.as_ref().map_or(0, |blocked| blocked.revision)
    }

    fn blocked_mut(&mut self) -> &mut Blocked {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    /// Takes a change over; returns whether the list has to be read anew.
    pub(super) fn change(&mut self, update: &BlocklistUpdate) -> bool {
        let known = self.revision() == update.found;
        let blocked = self.blocked_mut();
        blocked.jids.extend(update.block.iter().cloned());
        // Of a list that is not this one it is not known what else has changed. Until that is, more is blocked.
        if known {
            update.unblock.iter().for_each(|jid| {
                blocked.jids.remove(jid);
            });
            blocked.revision = update.left;
        }
        let again = !known || blocked.reading.is_some();
        self.tidy();
        again
    }

    /// This effect reads the list anew; returns the one that was to do so before.
    pub(super) fn read_by(&mut self, effect: EffectId) -> Option<EffectId> {
        self.blocked_mut().reading.replace(effect)
    }

    /// What has been read.
    pub(super) fn replace(&mut self, revision: u64, jids: Vec<Jid>) {
        *self.blocked_mut() = Blocked {
            revision,
            jids: BTreeSet::from_iter(jids),
            reading: None,
        };
        self.tidy();
    }

    /// A list in which nothing is says nothing.
    fn tidy(&mut self) {
        let nothing = Blocked::default();
        if self.0.as_ref().is_some_and(|blocked| **blocked == nothing) {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn im_68_an_entry_covers_what_it_includes_and_nothing_else() {
        let account = BareJid::new("alice@example.org").expect("valid");
        let jid = |text: &str| Jid::new(text).expect("valid");
        for (entry, covered, others) in [
            (
                "a@b.c/d",
                &["a@b.c/d"][..],
                &["a@b.c/e", "a@b.c", "b.c/d", "b.c"][..],
            ),
            ("a@b.c", &["a@b.c/d", "a@b.c"], &["x@b.c", "b.c", "b.c/d"]),
            ("b.c/d", &["b.c/d"], &["a@b.c/d", "b.c", "b.c/e"]),
            (
                "b.c",
                &["a@b.c/d", "a@b.c", "b.c", "b.c/d"],
                &["a@x.b.c", "c"],
            ),
            (
                "example.org",
                &["bob@example.org"],
                &["example.org", "alice@example.org/x"],
            ),
        ] {
            let mut list = Blocklist::default();
            list.replace(1, vec![jid(entry)]);
            for peer in covered {
                assert!(list.blocks(&account, &jid(peer)), "{entry}: {peer}");
            }
            for peer in others {
                assert!(!list.blocks(&account, &jid(peer)), "{entry}: {peer}");
            }
        }
    }
}
