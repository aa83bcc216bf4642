//! What fits into a roster (T-52): the owner's contacts, strangers' requests, and the memory of removed ones.

use proto::BareJid;

use super::item::{RosterItem, RosterVersion, new_epoch};
use crate::services::roster::settings::Quotas;
use crate::storage::{StorageError, Transaction};

/// Removed contacts that are remembered, so that clients can be told of the removal alone.
const REMOVED: i64 = 1_000;
/// Those of so many last changes stay when the others are forgotten: a change may still be repeated.
const RECENT: u64 = 100;

/// What an item of the roster takes around its address when it is written.
const ITEM: usize = 38;
/// What a name takes more, and each of the words that an item may have.
const NAME: usize = 8;
const WORD: usize = 16;
/// What groups take more, and each of them.
const GROUPS: usize = 6;
const GROUP: usize = 15;

/// What a roster has as much of as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Full {
    /// Contacts.
    #[error("a roster holds at most {0} contacts")]
    Contacts(u64),
    /// All contacts with their names and groups.
    #[error("a roster holds at most {0} bytes")]
    Roster(u64),
    /// Requests of others.
    #[error("at most {0} subscription requests wait for an answer")]
    Requests(u64),
}

impl From<Full> for StorageError {
    fn from(full: Full) -> Self {
        Self::Full(full.to_string())
    }
}

impl RosterItem {
    /// What it takes in a roster that is sent, at most.
    pub(super) fn size(&self) -> usize {
        if !self.listed {
            return 0;
        }
        let groups = self.groups.iter().map(|group| escaped(group) + GROUP);
        let groups = groups.sum::<usize>() + usize::from(!self.groups.is_empty()) * GROUPS;
        let name = self.name.as_deref().map_or(0, |name| NAME + escaped(name));
        let words = usize::from(self.ask) + usize::from(self.approved);
        ITEM + escaped(self.jid.as_str()) + name + words * WORD + groups
    }
}

/// The length of a text once it is written: some characters stand for themselves only inside of the server.
fn escaped(text: &str) -> usize {
    let more = text.bytes().map(|byte| match byte {
        b'\'' | b'"' => 6,
        b'&' => 5,
        b'<' | b'>' => 4,
        // White space would be taken for another one in an attribute.
        b'\t' | b'\n' | b'\r' => 5,
        _ => 1,
    });
    more.sum()
}

/// Refuses a change that the roster has no room for. One that takes nothing more always has room.
pub(super) async fn check(
    transaction: &mut Transaction,
    account: &BareJid,
    before: Option<&RosterItem>,
    after: Option<&RosterItem>,
    quotas: Quotas,
) -> Result<(), StorageError> {
    let Some(after) = after else { return Ok(()) };
    let listed = |item: Option<&RosterItem>| item.is_some_and(|item| item.listed);
    let (size, size_before) = (after.size(), before.map_or(0, RosterItem::size));
    let asked = |item: &RosterItem| item.request.is_some();
    let new_contact = after.listed && !listed(before);
    let new_request = asked(after) && !before.is_some_and(asked);
    if !new_contact && !new_request && size <= size_before {
        return Ok(());
    }
    let sql = "SELECT count(*), CAST(COALESCE(sum(listed), 0) AS BIGINT), \
               CAST(COALESCE(sum(bytes), 0) AS BIGINT), count(request) \
               FROM roster WHERE account = $1 AND contact <> $2 AND removed = 0";
    let values = vec![account.as_str().into(), after.jid.as_str().into()];
    let row = transaction.row(sql, values).await?;
    let row = row.ok_or(StorageError::Damaged("a roster's size"))?;
    let (contacts, bytes, requests) = (row.count(1)?, row.count(2)?, row.count(3)?);
    if new_contact && contacts >= quotas.roster_contacts {
        return Err(Full::Contacts(quotas.roster_contacts).into());
    }
    if size > size_before && bytes + size as u64 > quotas.roster_bytes {
        return Err(Full::Roster(quotas.roster_bytes).into());
    }
    if new_request && requests >= quotas.roster_requests {
        return Err(Full::Requests(quotas.roster_requests).into());
    }
    Ok(())
}

/// Forgets who was removed long ago once there are too many of them. Versions of before are then no versions
/// of this roster any more: their clients are sent the whole of it.
pub(super) async fn forget_removed(
    transaction: &mut Transaction,
    account: &BareJid,
    version: &mut RosterVersion,
) -> Result<(), StorageError> {
    let sql = "SELECT count(*) FROM roster WHERE account = $1 AND removed = 1";
    let row = transaction.row(sql, vec![account.as_str().into()]).await?;
    if row.map(|row| row.number(0)).transpose()?.unwrap_or(0) <= REMOVED {
        return Ok(());
    }
    let upto = version.counter.saturating_sub(RECENT);
    let sql = "DELETE FROM roster WHERE account = $1 AND removed = 1 AND version < $2";
    let values = vec![account.as_str().into(), upto.into()];
    transaction.execute(sql, values).await?;
    version.epoch = new_epoch();
    let sql = "UPDATE roster_version SET epoch = $2 WHERE account = $1";
    let values = vec![account.as_str().into(), version.epoch.clone().into()];
    transaction.execute(sql, values).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::item::{Change, Subscription};
    use super::*;
    use crate::services::roster::entry::Entry;
    use crate::services::roster::item::element;
    use crate::storage::{Storage, testing};
    use proto::ns;

    fn jid(name: &str) -> BareJid {
        BareJid::new(&format!("{name}@example.org")).unwrap()
    }

    fn named(contact: &str, name: &str) -> RosterItem {
        RosterItem {
            listed: true,
            name: Some(name.to_owned()),
            ..RosterItem::new(jid(contact))
        }
    }

    async fn put_within(
        quotas: Quotas,
        storage: &Storage,
        item: RosterItem,
    ) -> Result<(), StorageError> {
        let (alice, contact) = (jid("alice"), item.jid.clone());
        let put = |_: Option<&RosterItem>| Change::Put(item);
        let done = storage
            .update_contact(quotas, &alice, &contact, None, put)
            .await;
        done.map(drop)
    }

    async fn put(storage: &Storage, item: RosterItem) -> Result<(), StorageError> {
        put_within(Quotas::default(), storage, item).await
    }

    async fn remove(storage: &Storage, contact: &str) {
        let (alice, contact) = (jid("alice"), jid(contact));
        let gone = storage.update_contact(Quotas::default(), &alice, &contact, None, |_| {
            Change::Remove
        });
        gone.await.unwrap();
    }

    fn request(contact: &str) -> RosterItem {
        RosterItem {
            request: Some("<presence/>".to_owned()),
            ..RosterItem::new(jid(contact))
        }
    }

    fn full(result: Result<(), StorageError>) -> Option<String> {
        match result {
            Ok(()) => None,
            Err(StorageError::Full(full)) => Some(full),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn no_item_is_written_longer_than_it_counts() {
        let plain = RosterItem {
            listed: true,
            ..RosterItem::new(jid("bob"))
        };
        let full = RosterItem {
            subscription: Subscription::From,
            ask: true,
            approved: true,
            groups: vec!["<&'\">\t\n".to_owned(), "b".repeat(100)],
            ..named("oneil", "''''&&&&<<<<>>>>\t\r\n\"")
        };
        for item in [plain, named("bob", "Bob"), full] {
            let written = element(&item.jid, &Entry::from(&item)).to_xml(ns::ROSTER);
            let (written, size) = (written.len(), item.size());
            assert!(
                (written..written + 20).contains(&size),
                "{size} for {written}"
            );
        }
    }

    #[tokio::test]
    async fn t_52_contacts_are_counted_and_those_that_are_there_may_change() {
        testing::each(async |storage| {
            let quotas = Quotas {
                roster_contacts: 3,
                ..Quotas::default()
            };
            let put = async |item| put_within(quotas, &storage, item).await;
            for contact in ["a", "b"] {
                put(named(contact, "x")).await.unwrap();
            }
            put(named("c", "x")).await.unwrap();
            let refused = put(named("d", "x")).await;
            assert_eq!(full(refused), Some(Full::Contacts(3).to_string()));
            put(named("c", "another name")).await.unwrap();
            remove(&storage, "a").await;
            put(named("d", "x")).await.unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn t_52_a_roster_s_bytes_are_counted_as_they_are_written() {
        let (one, two) = (named("a", "''''"), named("b", "x"));
        let both = (one.size() + two.size()) as u64;
        for (limit, fits) in [(both - 1, false), (both, true), (both + 1, true)] {
            testing::each(async |storage| {
                let quotas = Quotas {
                    roster_bytes: limit,
                    ..Quotas::default()
                };
                let put = async |item| put_within(quotas, &storage, item).await;
                put(one.clone()).await.unwrap();
                let refused = put(two.clone()).await;
                assert_eq!(
                    full(refused),
                    (!fits).then(|| Full::Roster(limit).to_string())
                );
                // What takes less is always possible.
                put(named("a", "")).await.unwrap();
            })
            .await;
        }
    }

    #[tokio::test]
    async fn t_52_strangers_requests_are_counted_apart() {
        testing::each(async |storage| {
            let quotas = Quotas {
                roster_requests: 2,
                roster_contacts: 1,
                ..Quotas::default()
            };
            let put = async |item| put_within(quotas, &storage, item).await;
            for contact in ["a", "b"] {
                put(request(contact)).await.unwrap();
            }
            let refused = put(request("c")).await;
            assert_eq!(full(refused), Some(Full::Requests(2).to_string()));
            // The owner's own contacts have their room.
            put(named("c", "x")).await.unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn whoever_was_removed_takes_no_room_for_ever() {
        let storage = testing::in_memory().await;
        let alice = jid("alice");
        put(&storage, named("stays", "x")).await.unwrap();
        let before = storage.roster_version(&alice).await.unwrap();
        for n in 0..REMOVED + 2 {
            let contact = format!("c{n}");
            put(&storage, named(&contact, "x")).await.unwrap();
            remove(&storage, &contact).await;
        }
        let sql = "SELECT count(*) FROM roster WHERE removed = 1";
        let row = storage.database.row(sql, Vec::new()).await.unwrap();
        assert!(row.unwrap().number(0).unwrap() < REMOVED);
        // Who knows the roster of before is sent the whole of it.
        assert_eq!(storage.roster_changes(&alice, &before).await.unwrap(), None);
        let now = storage.roster_version(&alice).await.unwrap();
        assert_eq!(
            storage.roster_changes(&alice, &now).await.unwrap(),
            Some(Vec::new())
        );
        assert_eq!(storage.roster(&alice).await.unwrap().items.len(), 1);
    }
}
