//! Accounts whose open sessions no longer stand on valid credentials.
//!
//! Whoever changes an account may be another process than the nodes that have its sessions, or one that
//! cannot reach them. So the change leaves a note, in the same transaction, and the nodes look for notes.

use proto::BareJid;

use super::Storage;
use super::database::Transaction;
use super::error::StorageError;
use super::row::Row;
use crate::clock;

/// A note that an account's sessions are to end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revocation {
    id: String,
    /// The account.
    pub account: BareJid,
}

impl Storage {
    /// Up to `max` notes.
    pub async fn revocations(&self, max: u32) -> Result<Vec<Revocation>, StorageError> {
        let sql = "SELECT id, account FROM revocation ORDER BY id LIMIT $1";
        let rows = self.database.rows(sql, vec![i64::from(max).into()]);
        rows.await?.iter().map(revocation).collect()
    }

    /// The sessions are ended.
    pub async fn revoked(&self, revocation: &Revocation) -> Result<(), StorageError> {
        let sql = "DELETE FROM revocation WHERE id = $1";
        let values = vec![revocation.id.as_str().into()];
        self.database.execute(sql, values).await.map(drop)
    }
}

/// Leaves a note, which counts if the change does.
pub(super) async fn revoke(
    transaction: &mut Transaction,
    account: &BareJid,
) -> Result<(), StorageError> {
    let sql = "INSERT INTO revocation (id, account) VALUES ($1, $2)";
    let id = format!("{:032x}", clock::random());
    let values = vec![id.into(), account.as_str().into()];
    transaction.execute(sql, values).await.map(drop)
}

fn revocation(row: &Row) -> Result<Revocation, StorageError> {
    let account = BareJid::new(&row.text(1)?);
    Ok(Revocation {
        id: row.text(0)?,
        account: account.map_err(|_| StorageError::Damaged("an address"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{AccountKeys, testing};

    #[tokio::test]
    async fn each_change_of_an_account_that_exists_leaves_a_note() {
        testing::each(async |storage| {
            let (alice, bob) = ("alice@example.org", "bob@example.org");
            let [alice, bob] = [alice, bob].map(|name| BareJid::new(name).unwrap());
            let keys = AccountKeys::default();
            storage.create_account(&alice, &keys, 0).await.unwrap();
            assert_eq!(storage.revocations(10).await.unwrap(), []);
            assert!(storage.set_account_keys(&alice, &keys).await.unwrap());
            assert!(!storage.set_account_keys(&bob, &keys).await.unwrap());
            assert!(storage.set_account_disabled(&alice, true).await.unwrap());
            assert!(storage.set_account_disabled(&alice, false).await.unwrap());
            assert!(storage.remove_account(&alice).await.unwrap());
            assert!(!storage.remove_account(&alice).await.unwrap());
            let notes = storage.revocations(10).await.unwrap();
            assert_eq!(notes.len(), 3);
            assert_eq!(storage.revocations(2).await.unwrap().len(), 2);
            for note in &notes {
                assert_eq!(note.account, alice);
                storage.revoked(note).await.unwrap();
            }
            assert_eq!(storage.revocations(10).await.unwrap(), []);
        })
        .await;
    }
}
