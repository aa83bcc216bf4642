//! Rosters: who an account's contacts are, and who sees whose presence (RFC 6121 §2, §3).
//!
//! What a subscription stanza does to an item is decided elsewhere, by a function that is given to
//! [`Storage::update_contact`]; here it is applied in one transaction per account at a time.
//!
//! # Invariants
//!
//! 1. The version of a roster rises exactly with what clients are pushed (IM-26).
//! 2. A change that bears the name of the item's last change is computed again from the same item and
//!    written no second time, so that a repeat after a failover comes to the same.

mod audience;
mod departed;
mod item;
mod read;
mod room;
mod row;

pub use self::item::{Change, RosterItem, RosterVersion, Subscription, Updated};
pub use self::read::Roster;

use proto::BareJid;

use self::item::new_epoch;
use self::row::item;
use super::settings::Quotas;
use crate::storage::{Step, Storage, StorageError, Stored, Transaction, Value};

/// The tables.
pub const STORED: Stored = Stored {
    steps: &[
        Step::new(1, include_str!("../schema/1.sql")),
        Step::new(3, include_str!("../schema/3.sql")),
        Step::new(7, include_str!("../schema/7.sql")),
    ],
    removals: &[
        // Those who have yet to hear of it.
        "INSERT INTO departed_contact (leaver, contact, subscription, ask, pending) \
         SELECT account, contact, subscription, ask, CASE WHEN request IS NULL THEN 0 ELSE 1 END FROM roster \
         WHERE account = $1 AND removed = 0 AND (subscription <> 'none' OR ask = 1 OR request IS NOT NULL) \
         ON CONFLICT (leaver, contact) DO NOTHING",
        "DELETE FROM roster WHERE account = $1",
        "DELETE FROM roster_version WHERE account = $1",
    ],
};

impl Storage {
    /// Changes one contact of an account, as `decide` says when it sees the present item.
    ///
    /// `repeat` names the change if it may be asked for twice. Changes of one account wait for each other.
    pub(in crate::services) async fn update_contact(
        &self,
        quotas: Quotas,
        account: &BareJid,
        contact: &BareJid,
        repeat: Option<&str>,
        decide: impl FnOnce(Option<&RosterItem>) -> Change + Send,
    ) -> Result<Updated, StorageError> {
        let mut transaction = self.database.begin().await?;
        let version = lock(&mut transaction, account).await?;
        let stored = stored(&mut transaction, account, contact).await?;

        let repeated = stored
            .as_ref()
            .is_some_and(|s| repeat.is_some() && s.last_change.as_deref() == repeat);
        let (before, version_then) = match stored {
            Some(stored) if repeated => (stored.before, stored.version),
            Some(stored) => (stored.item, stored.version),
            None => (None, 0),
        };
        let after = decide(before.as_ref()).applied(before.as_ref(), contact);
        let pushed = RosterItem::shown(before.as_ref()) != RosterItem::shown(after.as_ref());
        let mut version = match (pushed, repeated) {
            (true, true) => version.at(version_then),
            (true, false) => version.next(),
            (false, _) => version,
        };
        if !repeated {
            let (was, is) = (before.as_ref(), after.as_ref());
            room::check(&mut transaction, account, was, is, quotas).await?;
            let change = Written {
                contact,
                before: &before,
                after: &after,
                version: if pushed {
                    version.counter
                } else {
                    version_then
                },
                repeat,
            };
            // What was nothing and stays nothing leaves no trace: strangers could fill the roster.
            let something = before.is_some() || after.is_some();
            if before != after || (repeat.is_some() && something) {
                write(&mut transaction, account, change).await?;
            }
            if pushed {
                let sql = "UPDATE roster_version SET version = $2 WHERE account = $1";
                let values = vec![account.as_str().into(), version.counter.into()];
                transaction.execute(sql, values).await?;
            }
            if before.is_some() && after.is_none() {
                room::forget_removed(&mut transaction, account, &mut version).await?;
            }
            transaction.commit().await?;
        }
        Ok(Updated {
            before,
            after,
            version,
            pushed,
            repeated,
        })
    }
}

/// Keeps other changes of the account's roster out until the end of the transaction.
async fn lock(
    transaction: &mut Transaction,
    account: &BareJid,
) -> Result<RosterVersion, StorageError> {
    let epoch = new_epoch();
    let sql = "INSERT INTO roster_version (account, epoch, version) VALUES ($1, $2, 0) \
               ON CONFLICT (account) DO UPDATE SET version = roster_version.version RETURNING epoch, version";
    let row = transaction
        .row(sql, vec![account.as_str().into(), epoch.into()])
        .await?;
    let row = row.ok_or(StorageError::Damaged("a roster version"))?;
    Ok(RosterVersion {
        epoch: row.text(0)?,
        counter: row.count(1)?,
    })
}

/// A row of the table.
struct Found {
    item: Option<RosterItem>,
    version: u64,
    last_change: Option<String>,
    before: Option<RosterItem>,
}

async fn stored(
    transaction: &mut Transaction,
    account: &BareJid,
    contact: &BareJid,
) -> Result<Option<Found>, StorageError> {
    let sql = "SELECT contact, listed, name, subscription, ask, approved, contact_groups, request, removed, version, \
               last_change, before FROM roster WHERE account = $1 AND contact = $2";
    let row = transaction
        .row(sql, vec![account.as_str().into(), contact.as_str().into()])
        .await?;
    row.map(|row| {
        let before = row.text_or_none(11)?;
        let before = before.map(|json| {
            serde_json::from_str(&json).map_err(|_| StorageError::Damaged("a contact"))
        });
        Ok(Found {
            item: item(&row)?,
            version: row.count(9)?,
            last_change: row.text_or_none(10)?,
            before: before.transpose()?,
        })
    })
    .transpose()
}

/// What a change leaves behind.
struct Written<'a> {
    contact: &'a BareJid,
    before: &'a Option<RosterItem>,
    after: &'a Option<RosterItem>,
    version: u64,
    repeat: Option<&'a str>,
}

async fn write(
    transaction: &mut Transaction,
    account: &BareJid,
    change: Written<'_>,
) -> Result<(), StorageError> {
    let sql = "INSERT INTO roster (account, contact, listed, name, subscription, ask, approved, contact_groups, \
               request, removed, version, last_change, before, bytes) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
               ON CONFLICT (account, contact) DO UPDATE SET \
               listed = excluded.listed, name = excluded.name, subscription = excluded.subscription, \
               ask = excluded.ask, approved = excluded.approved, contact_groups = excluded.contact_groups, \
               request = excluded.request, removed = excluded.removed, version = excluded.version, \
               last_change = excluded.last_change, before = excluded.before, bytes = excluded.bytes";
    let removed = change.after.is_none();
    let item = change
        .after
        .clone()
        .unwrap_or_else(|| RosterItem::new(change.contact.clone()));
    let bytes = if removed { 0 } else { item.size() as u64 };
    let json = |error| StorageError::Refused(sqlx::Error::Encode(Box::new(error)));
    let groups = serde_json::to_string(&item.groups).map_err(json)?;
    let before = change.before.as_ref().filter(|_| change.repeat.is_some());
    let before = before
        .map(serde_json::to_string)
        .transpose()
        .map_err(json)?;
    let values: Vec<Value> = vec![
        account.as_str().into(),
        change.contact.as_str().into(),
        item.listed.into(),
        item.name.into(),
        item.subscription.name().into(),
        item.ask.into(),
        item.approved.into(),
        groups.into(),
        item.request.into(),
        removed.into(),
        change.version.into(),
        change.repeat.map(str::to_owned).into(),
        before.into(),
        bytes.into(),
    ];
    transaction.execute(sql, values).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing;

    fn jid(name: &str) -> BareJid {
        BareJid::new(&format!("{name}@example.org")).unwrap()
    }

    fn contact(subscription: Subscription) -> RosterItem {
        RosterItem {
            listed: true,
            subscription,
            ..RosterItem::new(jid("bob"))
        }
    }

    #[tokio::test]
    async fn im_26_the_version_rises_only_with_what_clients_are_pushed() {
        testing::each(async |storage| {
            let put = |item: RosterItem| move |_: Option<&RosterItem>| Change::Put(item);
            let (alice, bob) = (jid("alice"), jid("bob"));
            let request = RosterItem {
                request: Some("<x/>".to_owned()),
                ..RosterItem::new(bob.clone())
            };
            let hidden = storage
                .update_contact(Quotas::default(), &alice, &bob, None, put(request))
                .await
                .unwrap();
            assert!(!hidden.pushed);
            assert_eq!(hidden.version.counter, 0);
            let item = RosterItem {
                groups: vec!["ü".to_owned()],
                ..contact(Subscription::To)
            };
            let shown = storage
                .update_contact(Quotas::default(), &alice, &bob, None, put(item.clone()))
                .await
                .unwrap();
            assert!(shown.pushed);
            assert_eq!(
                (shown.version.counter, shown.after.as_ref()),
                (1, Some(&item))
            );
            let same = storage
                .update_contact(Quotas::default(), &alice, &bob, None, |_| Change::Keep)
                .await
                .unwrap();
            assert_eq!((same.version.counter, same.before), (1, Some(item)));
            let gone = storage
                .update_contact(Quotas::default(), &alice, &bob, None, |_| Change::Remove)
                .await
                .unwrap();
            assert_eq!(
                (gone.version.counter, gone.pushed, gone.after),
                (2, true, None)
            );
            let roster = storage.roster(&alice).await.unwrap();
            assert_eq!((roster.items.len(), roster.version), (0, gone.version));
        })
        .await;
    }

    #[tokio::test]
    async fn a_repeat_of_the_last_change_comes_to_the_same_and_is_not_written() {
        testing::each(async |storage| {
            let (alice, bob) = (jid("alice"), jid("bob"));
            // A decision that would go on if it saw its own result.
            let step = |item: Option<&RosterItem>| match item.map(|item| item.subscription) {
                None => Change::Put(contact(Subscription::To)),
                Some(Subscription::To) => Change::Put(contact(Subscription::Both)),
                Some(_) => Change::Remove,
            };
            for effect in ["0/1", "0/2", "0/3"] {
                let first = storage
                    .update_contact(Quotas::default(), &alice, &bob, Some(effect), step)
                    .await
                    .unwrap();
                let again = storage
                    .update_contact(Quotas::default(), &alice, &bob, Some(effect), step)
                    .await
                    .unwrap();
                assert!(again.repeated && !first.repeated);
                assert_eq!((first.before, first.after), (again.before, again.after));
                assert_eq!((first.version, first.pushed), (again.version, again.pushed));
            }
            assert!(storage.roster(&alice).await.unwrap().items.is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn another_change_forgets_the_name_of_the_last() {
        testing::each(async |storage| {
            let (alice, bob) = (jid("alice"), jid("bob"));
            let put = |_: Option<&RosterItem>| Change::Put(contact(Subscription::To));
            storage
                .update_contact(Quotas::default(), &alice, &bob, Some("a"), put)
                .await
                .unwrap();
            storage
                .update_contact(Quotas::default(), &alice, &bob, None, |_| Change::Remove)
                .await
                .unwrap();
            let again = storage
                .update_contact(Quotas::default(), &alice, &bob, Some("a"), put)
                .await
                .unwrap();
            assert!(!again.repeated && again.pushed);
        })
        .await;
    }

    #[tokio::test]
    async fn changes_of_one_roster_at_a_time_lose_nothing() {
        testing::each(async |storage| {
            let alice = jid("alice");
            let changes = (0..20).map(|n| {
                let (storage, alice) = (storage.clone(), alice.clone());
                tokio::spawn(async move {
                    let bob = jid(&format!("bob{}", n % 2));
                    let more = |item: Option<&RosterItem>| {
                        let mut item = item.cloned().unwrap_or_else(|| contact(Subscription::None));
                        item.groups.push(n.to_string());
                        Change::Put(item)
                    };
                    storage
                        .update_contact(Quotas::default(), &alice, &bob, None, more)
                        .await
                        .unwrap();
                })
            });
            for change in changes.collect::<Vec<_>>() {
                change.await.unwrap();
            }
            let roster = storage.roster(&alice).await.unwrap();
            assert_eq!(roster.version.counter, 20);
            assert_eq!(
                roster
                    .items
                    .iter()
                    .map(|item| item.groups.len())
                    .sum::<usize>(),
                20
            );
        })
        .await;
    }
}
