//! Accounts that are made piece by piece, from a file.
//!
//! # Invariants
//!
//! 1. An account is noted as unfinished from the moment it is made until all of it is there; nobody can use it
//!    meanwhile, and to others it does not exist.
//! 2. What is noted so is not an account that an import leaves as it is: it is made anew, with nothing of what was there.

use proto::BareJid;

use super::Storage;
use super::account::{AccountKeys, key_values, name};
use super::error::StorageError;

impl Storage {
    /// Makes an account that [`Storage::finish_import`] finishes, in place of one that nobody has finished. `false` if
    /// there is another one of that name.
    pub async fn begin_import(&self, jid: &BareJid, now: u64) -> Result<bool, StorageError> {
        let mut transaction = self.database.begin().await?;
        let account = || vec![jid.as_str().into()];
        let noted = "SELECT 1 FROM unfinished_account WHERE account = $1";
        if transaction.row(noted, account()).await?.is_some() {
            let sql = "DELETE FROM account WHERE localpart = $1 AND domain = $2";
            transaction.execute(sql, name(jid)).await?;
        }
        let keys = AccountKeys::default();
        // This also removes what was there of it, and the note.
        if !self.insert(&mut transaction, jid, &keys, now).await? {
            return Ok(false);
        }
        let sql = "UPDATE account SET disabled = 1 WHERE localpart = $1 AND domain = $2";
        transaction.execute(sql, name(jid)).await?;
        let sql = "INSERT INTO unfinished_account (account) VALUES ($1)";
        transaction.execute(sql, account()).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// All of the account is there: from now on it can be used, unless it is locked. `false` if it is gone meanwhile.
    pub async fn finish_import(
        &self,
        jid: &BareJid,
        keys: &AccountKeys,
        disabled: bool,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.database.begin().await?;
        let sql = "UPDATE account SET disabled = $3, \
                   sha1_salt = $4, sha1_iterations = $5, sha1_stored = $6, sha1_server = $7, sha1_others = $8, \
                   sha256_salt = $9, sha256_iterations = $10, sha256_stored = $11, sha256_server = $12, sha256_others = $13, \
                   sha512_salt = $14, sha512_iterations = $15, sha512_stored = $16, sha512_server = $17, sha512_others = $18 \
                   WHERE localpart = $1 AND domain = $2";
        let mut values = name(jid);
        values.push(disabled.into());
        values.extend(key_values(keys));
        let made = transaction.execute(sql, values).await? == 1;
        let sql = "DELETE FROM unfinished_account WHERE account = $1";
        transaction.execute(sql, vec![jid.as_str().into()]).await?;
        transaction.commit().await?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::derive_keys;
    use crate::storage::{Ends, testing};

    #[tokio::test]
    async fn what_nobody_has_finished_is_no_account_and_is_made_anew() {
        testing::each(async |storage| {
            let alice = BareJid::new("alice@example.org").unwrap();
            let keys = derive_keys("secret").unwrap();
            let exists = async || storage.account_exists(&alice).await.unwrap();
            let vcards = async || {
                let rows = storage.database.rows("SELECT xml FROM vcard", Vec::new());
                rows.await.unwrap().len()
            };
            assert!(storage.begin_import(&alice, 1).await.unwrap());
            let part = "INSERT INTO vcard (account, xml) VALUES ('alice@example.org', '<v/>')";
            storage.database.raw(part.to_owned()).await.unwrap();
            assert!(!exists().await);
            assert!(storage.begin_import(&alice, 2).await.unwrap());
            assert!(!exists().await && vcards().await == 0);
            let finished = storage.finish_import(&alice, &keys, false);
            assert!(finished.await.unwrap() && exists().await);
            let stored = storage.account_keys("alice", "example.org").await.unwrap();
            assert_eq!(stored.unwrap().keys, keys);
            // It is one like all others now.
            assert!(!storage.begin_import(&alice, 3).await.unwrap());
            assert!(exists().await);
        })
        .await;
    }

    #[tokio::test]
    async fn what_an_operator_takes_as_it_is_is_an_account() {
        testing::each(async |storage| {
            let alice = BareJid::new("alice@example.org").unwrap();
            assert!(storage.begin_import(&alice, 1).await.unwrap());
            let enabled = storage.set_account_disabled(&alice, false);
            assert!(enabled.await.unwrap());
            assert!(!storage.begin_import(&alice, 2).await.unwrap());
            // One that was removed is made, and is to be finished as any.
            let removed = storage.remove_account(&alice, 3, Ends::ALL);
            assert!(removed.await.unwrap());
            assert!(storage.begin_import(&alice, 4).await.unwrap());
            assert!(storage.begin_import(&alice, 5).await.unwrap());
        })
        .await;
    }
}
