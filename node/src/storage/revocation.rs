//! Accounts whose open sessions no longer stand on valid credentials.
//!
//! Whoever changes an account may be another process than the nodes that have its sessions, or one that
//! cannot reach them. So the change leaves a note, in the same transaction, and the nodes look for notes.

use std::time::Duration;

use proto::{BareJid, Jid};

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
    /// One that goes on.
    pub spared: Option<Jid>,
    /// How long the others have yet.
    pub grace: Duration,
}

/// Which sessions of a changed account end, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends<'a> {
    /// One that goes on: its client has made the change.
    pub spared: Option<&'a Jid>,
    /// How long the others have yet, so that a client hears the answer to its wish.
    pub grace: Duration,
}

impl Ends<'_> {
    /// All of them, at once.
    pub const ALL: Self = Self {
        spared: None,
        grace: Duration::ZERO,
    };
}

impl Storage {
    /// Up to `max` notes.
    pub async fn revocations(&self, max: u32) -> Result<Vec<Revocation>, StorageError> {
        let sql = "SELECT id, account, spared, grace FROM revocation ORDER BY id LIMIT 0 + $1";
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
    ends: Ends<'_>,
) -> Result<(), StorageError> {
    let sql = "INSERT INTO revocation (id, account, spared, grace) VALUES ($1, $2, $3, $4)";
    let id = format!("{:032x}", clock::random());
    let spared = ends.spared.map(|session| session.as_str().to_owned());
    let grace = u64::try_from(ends.grace.as_millis()).unwrap_or(u64::MAX);
    let values = vec![
        id.into(),
        account.as_str().into(),
        spared.into(),
        grace.into(),
    ];
    transaction.execute(sql, values).await.map(drop)
}

fn revocation(row: &Row) -> Result<Revocation, StorageError> {
    let damaged = |_| StorageError::Damaged("an address");
    let spared = row.text_or_none(2)?;
    let spared = spared.map(|session| Jid::new(&session)).transpose();
    Ok(Revocation {
        id: row.text(0)?,
        account: BareJid::new(&row.text(1)?).map_err(damaged)?,
        spared: spared.map_err(damaged)?,
        grace: Duration::from_millis(row.count(3)?),
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
            assert!(
                storage
                    .set_account_keys(&alice, &keys, Ends::ALL)
                    .await
                    .unwrap()
            );
            assert!(
                !storage
                    .set_account_keys(&bob, &keys, Ends::ALL)
                    .await
                    .unwrap()
            );
            assert!(storage.set_account_disabled(&alice, true).await.unwrap());
            assert!(storage.set_account_disabled(&alice, false).await.unwrap());
            assert!(storage.remove_account(&alice, 7, Ends::ALL).await.unwrap());
            assert!(!storage.remove_account(&alice, 7, Ends::ALL).await.unwrap());
            let notes = storage.revocations(10).await.unwrap();
            assert_eq!(notes.len(), 3);
            assert_eq!(storage.revocations(2).await.unwrap().len(), 2);
            for note in &notes {
                assert_eq!((&note.account, note.grace), (&alice, Duration::ZERO));
                assert_eq!(note.spared, None);
                storage.revoked(note).await.unwrap();
            }
            assert_eq!(storage.revocations(10).await.unwrap(), []);
        })
        .await;
    }

    #[tokio::test]
    async fn re_2_a_note_says_which_session_goes_on_and_how_long_the_others_do() {
        testing::each(async |storage| {
            let session = Jid::new("alice@example.org/desk").unwrap();
            let (alice, keys) = (session.bare(), AccountKeys::default());
            storage.create_account(&alice, &keys, 0).await.unwrap();
            let ends = Ends {
                spared: Some(&session),
                grace: Duration::from_millis(9),
            };
            assert!(storage.set_account_keys(&alice, &keys, ends).await.unwrap());
            let notes = storage.revocations(10).await.unwrap();
            assert_eq!((notes[0].grace.as_millis(), notes.len()), (9, 1));
            assert_eq!(notes[0].spared.as_ref(), Some(&session));
        })
        .await;
    }
}
