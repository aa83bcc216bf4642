//! Questions about rosters.

use std::collections::{HashMap, HashSet};

use proto::BareJid;

use super::item::{RosterItem, RosterVersion};
use super::row::{COLUMNS, address, item};
use crate::storage::{Row, Storage, StorageError, assembled};

/// Accounts that one statement asks about.
const MOST_ACCOUNTS: usize = 64;
/// Contacts that one statement asks about.
const MOST_CONTACTS: usize = 256;

/// A roster with its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// Every contact, unlisted ones included.
    pub items: Vec<RosterItem>,
    /// The version.
    pub version: RosterVersion,
}

/// A contact that has changed since an older version (IM-25).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterChange {
    /// The contact.
    pub jid: BareJid,
    /// What it is now; nothing if it was removed.
    pub item: Option<RosterItem>,
    /// The version of that change.
    pub version: RosterVersion,
}

impl Storage {
    /// An account's roster.
    pub(in crate::services) async fn roster(
        &self,
        account: &BareJid,
    ) -> Result<Roster, StorageError> {
        // The version first: a change in between is then pushed with a newer one, never missed (IM-27).
        let version = self.roster_version(account).await?;
        let sql = format!(
            "SELECT {COLUMNS} FROM roster WHERE account = $1 AND removed = 0 ORDER BY contact"
        );
        let rows = self
            .database
            .rows(assembled(sql), vec![account.as_str().into()])
            .await?;
        let items: Result<Vec<_>, _> = rows
            .iter()
            .filter_map(|row| item(row).transpose())
            .collect();
        Ok(Roster {
            items: items?,
            version,
        })
    }

    /// The version of an account's roster.
    pub(in crate::services) async fn roster_version(
        &self,
        account: &BareJid,
    ) -> Result<RosterVersion, StorageError> {
        let sql = "SELECT epoch, version FROM roster_version WHERE account = $1";
        let row = self
            .database
            .row(sql, vec![account.as_str().into()])
            .await?;
        let version = row.map(|row| {
            Ok::<_, StorageError>(RosterVersion {
                epoch: row.text(0)?,
                counter: row.count(1)?,
            })
        });
        Ok(version.transpose()?.unwrap_or_else(RosterVersion::empty))
    }

    /// What has changed since a version, in the order of the changes. `None`: it is not a version of this
    /// roster, so the whole of it has to be sent.
    pub(in crate::services) async fn roster_changes(
        &self,
        account: &BareJid,
        since: &RosterVersion,
    ) -> Result<Option<Vec<RosterChange>>, StorageError> {
        let version = self.roster_version(account).await?;
        if version.epoch != since.epoch || since.counter > version.counter {
            return Ok(None);
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM roster WHERE account = $1 AND version > $2 AND version <= $3 ORDER BY version"
        );
        let values = vec![
            account.as_str().into(),
            since.counter.into(),
            version.counter.into(),
        ];
        let rows = self.database.rows(assembled(sql), values).await?;
        let change = |row: &Row| {
            let item = item(row)?.filter(|item| item.listed);
            Ok(RosterChange {
                jid: address(row, 0)?,
                item,
                version: version.clone().at(row.count(9)?),
            })
        };
        rows.iter().map(change).collect::<Result<_, _>>().map(Some)
    }

    /// One contact of an account.
    pub(in crate::services) async fn contact(
        &self,
        account: &BareJid,
        contact: &BareJid,
    ) -> Result<Option<RosterItem>, StorageError> {
        let sql = format!("SELECT {COLUMNS} FROM roster WHERE account = $1 AND contact = $2");
        let values = vec![account.as_str().into(), contact.as_str().into()];
        let row = self.database.row(assembled(sql), values).await?;
        row.map_or(Ok(None), |row| item(&row))
    }

    /// Those of the parties that the account has in its roster.
    pub(in crate::services) async fn contacts_among(
        &self,
        account: &BareJid,
        parties: &[BareJid],
    ) -> Result<HashSet<BareJid>, StorageError> {
        let mut found = HashSet::new();
        for chunk in parties.chunks(MOST_CONTACTS) {
            let names: Vec<_> = (2..chunk.len() + 2).map(|n| format!("${n}")).collect();
            let sql = format!(
                "SELECT contact FROM roster WHERE account = $1 AND removed = 0 AND listed = 1 AND contact IN ({})",
                names.join(", ")
            );
            let names = chunk.iter().map(|party| party.as_str().into());
            let values = [account.as_str().into()].into_iter().chain(names).collect();
            for row in self.database.rows(assembled(sql), values).await? {
                found.insert(address(&row, 0)?);
            }
        }
        Ok(found)
    }

    /// Who may see the account's presence (subscription `from` or `both`).
    pub(in crate::services) async fn subscribers(
        &self,
        account: &BareJid,
    ) -> Result<Vec<BareJid>, StorageError> {
        let sql = "SELECT contact FROM roster \
                   WHERE account = $1 AND removed = 0 AND subscription IN ('from', 'both') ORDER BY contact";
        let rows = self
            .database
            .rows(sql, vec![account.as_str().into()])
            .await?;
        rows.iter().map(|row| address(row, 0)).collect()
    }

    /// Whom the account has put into one of these groups.
    pub(in crate::services) async fn grouped(
        &self,
        account: &BareJid,
        groups: &[String],
        contact: Option<&BareJid>,
    ) -> Result<Vec<BareJid>, StorageError> {
        let sql = "SELECT contact, contact_groups FROM roster \
                   WHERE account = $1 AND removed = 0 AND (contact = $2 OR $2 = '')";
        let contact = contact.map_or("", BareJid::as_str);
        let values = vec![account.as_str().into(), contact.into()];
        let mut found = Vec::new();
        for row in &self.database.rows(sql, values).await? {
            let own: Vec<String> = serde_json::from_str(&row.text(1)?)
                .map_err(|_| StorageError::Damaged("a list of groups"))?;
            if own.iter().any(|group| groups.contains(group)) {
                found.push(address(row, 0)?);
            }
        }
        Ok(found)
    }

    /// Who may see the presence of each of many accounts; those that nobody may see are left out. Of an account that is
    /// gone, who could see it and has not heard of that.
    pub(in crate::services) async fn subscribers_of(
        &self,
        accounts: &[&BareJid],
    ) -> Result<HashMap<BareJid, Vec<BareJid>>, StorageError> {
        let mut found: HashMap<BareJid, Vec<BareJid>> = HashMap::new();
        for chunk in accounts.chunks(MOST_ACCOUNTS) {
            let names: Vec<_> = (1..=chunk.len()).map(|n| format!("${n}")).collect();
            let sql = format!(
                "SELECT account, contact FROM roster WHERE account IN ({0}) AND removed = 0 \
                 AND subscription IN ('from', 'both') UNION \
                 SELECT leaver, contact FROM departed_contact WHERE leaver IN ({0}) \
                 AND subscription IN ('from', 'both') ORDER BY 1, 2",
                names.join(", ")
            );
            let values = chunk.iter().map(|account| account.as_str().into());
            for row in self.database.rows(assembled(sql), values.collect()).await? {
                let contacts = found.entry(address(&row, 0)?).or_default();
                contacts.push(address(&row, 1)?);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::{Change, Subscription};
    use super::*;
    use crate::services::roster::settings::Quotas;
    use crate::storage::testing;

    fn jid(name: &str) -> BareJid {
        BareJid::new(&format!("{name}@example.org")).unwrap()
    }

    async fn put(
        storage: &Storage,
        account: &str,
        contact: &str,
        change: impl FnOnce(&mut RosterItem) + Send,
    ) {
        let decide = |item: Option<&RosterItem>| {
            let mut item = item
                .cloned()
                .unwrap_or_else(|| RosterItem::new(jid(contact)));
            item.listed = true;
            change(&mut item);
            Change::Put(item)
        };
        storage
            .update_contact(
                Quotas::default(),
                &jid(account),
                &jid(contact),
                None,
                decide,
            )
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn im_25_changes_since_a_version_come_once_each_in_their_order() {
        testing::each(async |storage| {
            let alice = jid("alice");
            put(&storage, "alice", "bob", |_| {}).await;
            let first = storage.roster_version(&alice).await.unwrap();
            put(&storage, "alice", "carol", |_| {}).await;
            put(&storage, "alice", "bob", |item| {
                item.name = Some("Bob".to_owned())
            })
            .await;
            put(&storage, "alice", "dora", |_| {}).await;
            storage
                .update_contact(Quotas::default(), &alice, &jid("dora"), None, |_| {
                    Change::Remove
                })
                .await
                .unwrap();

            let changes = storage
                .roster_changes(&alice, &first)
                .await
                .unwrap()
                .unwrap();
            let seen: Vec<_> = changes
                .iter()
                .map(|c| (c.jid.clone(), c.version.counter, c.item.is_some()))
                .collect();
            assert_eq!(
                seen,
                [
                    (jid("carol"), 2, true),
                    (jid("bob"), 3, true),
                    (jid("dora"), 5, false)
                ]
            );

            let foreign = RosterVersion {
                epoch: "x".to_owned(),
                counter: 1,
            };
            assert_eq!(
                storage.roster_changes(&alice, &foreign).await.unwrap(),
                None
            );
            let future = RosterVersion {
                counter: 9,
                ..first
            };
            assert_eq!(storage.roster_changes(&alice, &future).await.unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn who_sees_whom_is_asked_of_both_rosters() {
        testing::each(async |storage| {
            put(&storage, "alice", "bob", |item| {
                item.subscription = Subscription::Both
            })
            .await;
            put(&storage, "alice", "carol", |item| {
                item.subscription = Subscription::To
            })
            .await;
            put(&storage, "alice", "dora", |item| {
                item.subscription = Subscription::From
            })
            .await;
            put(&storage, "bob", "alice", |item| {
                item.subscription = Subscription::Both
            })
            .await;
            put(&storage, "carol", "alice", |item| {
                item.subscription = Subscription::To
            })
            .await;

            let alice = jid("alice");
            assert_eq!(
                storage.subscribers(&alice).await.unwrap(),
                [jid("bob"), jid("dora")]
            );
            assert_eq!(storage.contact(&alice, &jid("eve")).await.unwrap(), None);
            assert!(
                storage
                    .contact(&alice, &jid("dora"))
                    .await
                    .unwrap()
                    .unwrap()
                    .subscription
                    .from()
            );
        })
        .await;
    }
}
