//! Accounts that go, with all that is theirs.

use proto::BareJid;

use super::Storage;
use super::account::name;
use super::database::Transaction;
use super::error::StorageError;
use super::revocation::{Ends, revoke};

/// How long nobody gets the name of a removed account who registers by himself, in milliseconds: whoever knew its last
/// owner must not take the next one for him (RE-3).
const RETIRED: u64 = 30 * 86_400 * 1000;

impl Storage {
    /// Removes an account and all that is its own. `false` if there is no such account.
    pub async fn remove_account(
        &self,
        jid: &BareJid,
        now: u64,
        ends: Ends<'_>,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.database.begin().await?;
        let sql = "DELETE FROM account WHERE localpart = $1 AND domain = $2";
        let removed = transaction.execute(sql, name(jid)).await? == 1;
        self.wipe(&mut transaction, jid).await?;
        if removed {
            revoke(&mut transaction, jid, ends).await?;
            retire(&mut transaction, jid, now).await?;
        }
        transaction.commit().await?;
        Ok(removed)
    }

    /// Removes what has come for an account after it was removed. `false` if there is such an account: it may be another
    /// one by now.
    pub async fn wipe_removed(&self, jid: &BareJid) -> Result<bool, StorageError> {
        let mut transaction = self.database.begin().await?;
        let sql = "SELECT 1 FROM account WHERE localpart = $1 AND domain = $2";
        let gone = transaction.row(sql, name(jid)).await?.is_none();
        if gone {
            self.wipe(&mut transaction, jid).await?;
        }
        transaction.commit().await?;
        Ok(gone)
    }

    /// Removes everything that belongs to a name.
    pub(super) async fn wipe(
        &self,
        transaction: &mut Transaction,
        jid: &BareJid,
    ) -> Result<(), StorageError> {
        for sql in self.schema.removals() {
            transaction.execute(*sql, vec![jid.as_str().into()]).await?;
        }
        Ok(())
    }
}

async fn retire(
    transaction: &mut Transaction,
    jid: &BareJid,
    now: u64,
) -> Result<(), StorageError> {
    // There are no more of them than accounts that were removed within that time.
    let sql = "DELETE FROM retired_name WHERE until <= $1";
    transaction.execute(sql, vec![now.into()]).await?;
    let sql = "INSERT INTO retired_name (jid, until) VALUES ($1, $2) \
               ON CONFLICT (jid) DO UPDATE SET until = excluded.until";
    let until = now.saturating_add(RETIRED);
    let values = vec![jid.as_str().into(), until.into()];
    transaction.execute(sql, values).await.map(drop)
}

/// Whether the name is one of an account that was removed not long ago.
pub(super) async fn is_retired(
    transaction: &mut Transaction,
    jid: &BareJid,
    now: u64,
) -> Result<bool, StorageError> {
    let sql = "SELECT 1 FROM retired_name WHERE jid = $1 AND until > $2";
    let values = vec![jid.as_str().into(), now.into()];
    Ok(transaction.row(sql, values).await?.is_some())
}

/// The name is in use again: an operator has given it away.
pub(super) async fn unretire(
    transaction: &mut Transaction,
    jid: &BareJid,
) -> Result<(), StorageError> {
    let sql = "DELETE FROM retired_name WHERE jid = $1";
    let values = vec![jid.as_str().into()];
    transaction.execute(sql, values).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{AccountKeys, Registered, testing};

    #[tokio::test]
    async fn re_3_the_name_of_a_removed_account_is_the_operator_s_to_give_for_thirty_days() {
        testing::each(async |storage| {
            let alice = BareJid::new("alice@example.org").unwrap();
            let keys = AccountKeys::default();
            storage.create_account(&alice, &keys, 5).await.unwrap();
            let remove = storage.remove_account(&alice, 5, Ends::ALL);
            assert!(remove.await.unwrap());
            for (now, expect) in [
                (5, Registered::Taken),
                (5 + RETIRED - 1, Registered::Taken),
                (5 + RETIRED, Registered::Made),
            ] {
                let registered = storage.register(&alice, &keys, now, None);
                assert_eq!(registered.await.unwrap(), expect, "{now}");
            }
            assert!(storage.remove_account(&alice, 9, Ends::ALL).await.unwrap());
            assert!(storage.create_account(&alice, &keys, 9).await.unwrap());
        })
        .await;
    }

    #[tokio::test]
    async fn re_3_what_comes_for_a_removed_account_is_removed_too() {
        testing::each(async |storage| {
            let alice = BareJid::new("alice@example.org").unwrap();
            let keys = AccountKeys::default();
            let late = async || {
                let sql = "INSERT INTO vcard (account, xml) VALUES ('alice@example.org', '<v/>')";
                storage.database.raw(sql.to_owned()).await.unwrap();
            };
            let left = async || {
                let rows = storage.database.rows("SELECT xml FROM vcard", Vec::new());
                rows.await.unwrap().len()
            };
            late().await;
            assert!(storage.wipe_removed(&alice).await.unwrap());
            assert_eq!(left().await, 0);
            storage.create_account(&alice, &keys, 5).await.unwrap();
            late().await;
            assert!(!storage.wipe_removed(&alice).await.unwrap());
            assert_eq!(left().await, 1);
        })
        .await;
    }
}
