//! How full archives are (`archive.quota_messages`).
//!
//! The number of an account's messages is asked of the database and remembered for a short while on the
//! node of whoever writes to it, which adds what it lets pass itself. So the bound is approximate: for as
//! long as a number is remembered, senders on other nodes may pass it too. What the account prefers not to
//! keep takes no room, which is looked at only where there is none left. While the database is away
//! everything passes, and waits in the shard.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::{BareJid, Jid};

use crate::hooks::Edge;

/// For how long a number is remembered, in milliseconds.
const FRESH: u64 = 5_000;
/// Accounts that are remembered; when there are more, all are forgotten and asked for anew.
const REMEMBERED: usize = 20_000;

/// What is remembered.
#[derive(Default)]
pub struct Quota {
    // Sessions of all threads look here, each for the length of one look-up and never across an await.
    sizes: Mutex<HashMap<BareJid, Size>>,
}

#[derive(Clone, Copy)]
struct Size {
    messages: u64,
    at: u64,
}

impl Quota {
    /// Whether the account's archive takes one more message exchanged with `with`. Counts it if so.
    pub async fn has_room(&self, edge: &Edge, account: &BareJid, with: &Jid) -> bool {
        let most = edge.archive.quota_messages;
        if most == 0 {
            return true;
        }
        let now = (edge.now)();
        if let Some(room) = self.remembered(account, most, now) {
            return room || !self.keeps(edge, account, with).await;
        }
        let Ok(messages) = edge.storage.archive_size(account, most).await else {
            return true;
        };
        self.remember(account, Size { messages, at: now });
        let room = self.remembered(account, most, now);
        room.unwrap_or(true) || !self.keeps(edge, account, with).await
    }

    fn remembered(&self, account: &BareJid, most: u64, now: u64) -> Option<bool> {
        let mut sizes = self.sizes();
        let fresh = |size: &&mut Size| now.abs_diff(size.at) < FRESH;
        let size = sizes.get_mut(account).filter(fresh)?;
        let room = size.messages < most;
        size.messages += u64::from(room);
        Some(room)
    }

    fn remember(&self, account: &BareJid, size: Size) {
        let mut sizes = self.sizes();
        if sizes.len() >= REMEMBERED {
            sizes.clear();
        }
        sizes.insert(account.clone(), size);
    }

    async fn keeps(&self, edge: &Edge, account: &BareJid, with: &Jid) -> bool {
        let kept = edge
            .storage
            .archive_keeps(account, with, edge.archive.default);
        kept.await.unwrap_or(false)
    }

    fn sizes(&self) -> MutexGuard<'_, HashMap<BareJid, Size>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::config::KeepByDefault;
    use crate::router::testing::{bare, edge, says, session};
    use crate::storage::Preferences;

    async fn small(most: u64) -> Arc<Edge> {
        let edge = edge().await;
        let mut edge = Arc::into_inner(edge).unwrap();
        edge.archive.quota_messages = most;
        Arc::new(edge)
    }

    async fn say(edge: &Arc<Edge>, xml: &str) -> String {
        let alice = session(edge, "alice@example.org/desk");
        says(&alice, xml).await.concat()
    }

    #[tokio::test]
    async fn im_62_a_full_archive_answers_the_sender() {
        let edge = small(2).await;
        let message = "<message to='bob@example.org' type='chat' id='1'><body>b</body></message>";
        for _ in 0..2 {
            assert!(say(&edge, message).await.starts_with("message "));
        }
        let refusal = say(&edge, message).await;
        // Her own archive is as full as his.
        assert!(refusal.contains("<resource-constraint "), "{refusal}");
        let carol = session(&edge, "carol@example.org/x");
        let refusal = says(&carol, message).await.concat();
        assert!(refusal.contains("<service-unavailable "), "{refusal}");
        // What no archive keeps needs no room.
        let typing = "<message to='bob@example.org' type='chat'>\
                      <composing xmlns='http://jabber.org/protocol/chatstates'/></message>";
        assert!(say(&edge, typing).await.starts_with("message "));
    }

    #[tokio::test]
    async fn im_86_who_keeps_nothing_is_never_full() {
        let edge = small(1).await;
        let message = "<message to='bob@example.org' type='chat' id='1'><body>b</body></message>";
        assert!(say(&edge, message).await.starts_with("message "));
        for account in ["alice@example.org", "bob@example.org"] {
            let never = Preferences {
                fallback: KeepByDefault::Never,
                always: BTreeSet::new(),
                never: BTreeSet::new(),
            };
            let account = bare(account);
            let set = edge.storage.set_archive_preferences(&account, &never);
            set.await.unwrap();
        }
        assert!(say(&edge, message).await.starts_with("message "));
    }
}
