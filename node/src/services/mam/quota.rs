//! How full archives are (`archive.quota_messages`).
//!
//! The number of an account's messages is asked of the database and remembered for a short while on the
//! node of whoever writes to it, which adds what it lets pass itself. So the bound is approximate: for as
//! long as a number is remembered, senders on other nodes may pass it too. What the account prefers not to
//! keep takes no room, which is looked at only where there is none left. While the database is away
//! everything passes, and waits in the shard.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Jid};

use super::settings::Archive;
use crate::hooks::{Edge, Hook, Message, Sender, Turn, at_once, fail, later};

/// For how long a number is remembered, in milliseconds.
const FRESH: u64 = 5_000;
/// Accounts that are remembered; when there are more, all are forgotten and asked for anew.
const REMEMBERED: usize = 20_000;

/// What is remembered.
pub struct ArchiveQuota {
    archive: Archive,
    // Sessions of all threads look here, each for the length of one look-up and never across an await.
    sizes: Mutex<HashMap<BareJid, Size>>,
}

#[derive(Clone, Copy)]
struct Size {
    messages: u64,
    at: u64,
}

impl Hook<Message> for ArchiveQuota {
    /// Refuses what an archive has no room for: to the sender, before the stanza is acknowledged (IM-62).
    fn turn<'a>(
        &'a self,
        sender: Sender<'a>,
        message: &'a mut Message,
    ) -> Turn<'a, Result<(), StanzaError>> {
        let traits = message.traits;
        let most = self.archive.quota_messages;
        if most == 0 || !(traits.archive_sent || traits.archive_received) {
            return at_once(Ok(()));
        }
        // In most cases all is remembered, and nothing needs to be waited for.
        let own = self.remembered(sender.edge, sender.account);
        if own != Some(true) {
            return later(self.check(sender, message, own));
        }
        if message.account == *sender.account {
            return at_once(Ok(()));
        }
        match self.remembered(sender.edge, &message.account) {
            Some(true) => at_once(Ok(())),
            other => later(self.check_other(sender, message, other)),
        }
    }
}

impl ArchiveQuota {
    /// Nothing is remembered yet.
    pub fn new(archive: Archive) -> Self {
        Self {
            archive,
            sizes: Mutex::default(),
        }
    }

    async fn check(
        &self,
        sender: Sender<'_>,
        message: &Message,
        own: Option<bool>,
    ) -> Result<(), StanzaError> {
        let account = Jid::from(&message.account);
        let to = message.stanza.header.to.as_ref().unwrap_or(&account);
        if !self.has_room(sender.edge, sender.account, to, own).await {
            return fail(Condition::ResourceConstraint);
        }
        if message.account == *sender.account {
            return Ok(());
        }
        let other = self.remembered(sender.edge, &message.account);
        self.check_other(sender, message, other).await
    }

    async fn check_other(
        &self,
        sender: Sender<'_>,
        message: &Message,
        other: Option<bool>,
    ) -> Result<(), StanzaError> {
        let (edge, account) = (sender.edge, &message.account);
        match self.has_room(edge, account, sender.session, other).await {
            true => Ok(()),
            false => fail(Condition::ServiceUnavailable),
        }
    }

    /// Whether the account's archive takes one more message exchanged with `with`. Counts it if so, unless it
    /// is remembered and hence counted already.
    async fn has_room(
        &self,
        edge: &Edge,
        account: &BareJid,
        with: &Jid,
        remembered: Option<bool>,
    ) -> bool {
        if let Some(room) = remembered {
            return room || !self.keeps(edge, account, with).await;
        }
        let most = self.archive.quota_messages;
        let Ok(messages) = edge.storage.archive_size(account, most).await else {
            return true;
        };
        let at = (edge.now)();
        self.remember(account, Size { messages, at });
        let room = self.remembered(edge, account);
        room.unwrap_or(true) || !self.keeps(edge, account, with).await
    }

    /// Whether there is room for one more, which is counted then; nothing if that is not known.
    fn remembered(&self, edge: &Edge, account: &BareJid) -> Option<bool> {
        let (most, now) = (self.archive.quota_messages, (edge.now)());
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
            .archive_keeps(account, with, self.archive.default);
        kept.await.unwrap_or(false)
    }

    fn sizes(&self) -> MutexGuard<'_, HashMap<BareJid, Size>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::settings::KeepByDefault;
    use super::super::storage::Preferences;
    use crate::router::testing::{Node, bare, edge_with, says, session};

    async fn small(most: u64) -> Node {
        edge_with(&[&format!("archive.quota_messages={most}")]).await
    }

    async fn say(edge: &Node, xml: &str) -> String {
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
