//! What tokens for fast authentication are made of (XEP-0484). The tokens themselves are not stored.
//!
//! Each client of an account has two places. A token that was given out goes into the new place; when it is used it
//! moves into the current one, and what was there is gone. So an answer that was lost costs nobody a token (FA-5).
//!
//! # Invariants
//!
//! 1. An account has at most [`MOST`] tokens.
//! 2. A token is given out only while the account's keys are those that its client was checked against.

use proto::BareJid;
use proto::sasl::Credentials;

use super::Storage;
use super::account::{keys_within, name};
use super::database::Transaction;
use super::error::StorageError;
use super::row::Row;

/// The most tokens of an account. One more takes the place of the oldest.
pub const MOST: u32 = 64;

/// The place of the token that a client uses.
const CURRENT: i64 = 0;
/// The place of one that it was given and has not used.
const NEW: i64 = 1;

/// One token of a client.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredToken {
    slot: i64,
    /// What it is for.
    pub mechanism: String,
    /// What it is made of.
    pub seed: Vec<u8>,
    /// When it was given out, in milliseconds since 1970.
    pub issued: u64,
    /// When it ends.
    pub expires: u64,
}

/// What becomes of the tokens of a client that has logged in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenChange {
    /// It used this one.
    pub used: Option<StoredToken>,
    /// It wants those that it has to be worth nothing.
    pub invalidate: bool,
    /// It gets this one.
    pub given: Option<StoredToken>,
}

impl StoredToken {
    /// One to be given out.
    pub fn new(mechanism: &str, seed: Vec<u8>, issued: u64, expires: u64) -> Self {
        Self {
            slot: NEW,
            mechanism: mechanism.to_owned(),
            seed,
            issued,
            expires,
        }
    }
}

impl std::fmt::Debug for StoredToken {
    /// What a token is made of reaches no log either (T-73).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredToken(***)")
    }
}

impl TokenChange {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        let moves = self.used.as_ref().is_some_and(|used| used.slot == NEW);
        !(moves || self.invalidate || self.given.is_some())
    }
}

impl Storage {
    /// The tokens of a client for a mechanism, the newest first.
    pub async fn tokens(
        &self,
        account: &BareJid,
        agent: &str,
        mechanism: &str,
    ) -> Result<Vec<StoredToken>, StorageError> {
        let sql = "SELECT slot, mechanism, seed, issued, expires FROM fast_token \
                   WHERE account = $1 AND agent = $2 AND mechanism = $3 ORDER BY slot DESC";
        let values = vec![account.as_str().into(), agent.into(), mechanism.into()];
        let rows = self.database.rows(sql, values).await?;
        rows.iter().map(token).collect()
    }

    /// Changes the tokens of a client whose account was checked against these keys. False if it has others by now: then
    /// nothing is given out.
    pub async fn change_tokens(
        &self,
        account: &BareJid,
        agent: &str,
        checked: &Credentials,
        change: &TokenChange,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.database.begin().await?;
        // Whoever changes the password waits for this row, and then finds the token; or was first, and is found here.
        let lock = "UPDATE account SET disabled = disabled WHERE localpart = $1 AND domain = $2";
        transaction.execute(lock, name(account)).await?;
        let stored = keys_within(&mut transaction, account).await?;
        if !stored.is_some_and(|stored| Credentials::from(stored).agrees_with(checked)) {
            return Ok(false);
        }
        if change.invalidate {
            let sql = "DELETE FROM fast_token WHERE account = $1 AND agent = $2";
            let values = vec![account.as_str().into(), agent.into()];
            transaction.execute(sql, values).await?;
        } else if let Some(used) = change.used.as_ref().filter(|used| used.slot == NEW) {
            confirm(&mut transaction, account, agent, used).await?;
        }
        if let Some(given) = &change.given {
            give(&mut transaction, account, agent, given).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }
}

/// Deletes every token of an account whose keys change.
pub(super) async fn forget_tokens(
    transaction: &mut Transaction,
    account: &BareJid,
) -> Result<(), StorageError> {
    let sql = "DELETE FROM fast_token WHERE account = $1";
    let values = vec![account.as_str().into()];
    transaction.execute(sql, values).await.map(drop)
}

/// A new token was used: it is the current one from now on, unless another login was faster.
async fn confirm(
    transaction: &mut Transaction,
    account: &BareJid,
    agent: &str,
    used: &StoredToken,
) -> Result<(), StorageError> {
    let whose = || {
        vec![
            account.as_str().into(),
            agent.into(),
            Some(used.seed.clone()).into(),
        ]
    };
    let sql = "DELETE FROM fast_token WHERE account = $1 AND agent = $2 AND slot = 0 AND EXISTS \
               (SELECT 1 FROM fast_token WHERE account = $1 AND agent = $2 AND slot = 1 AND seed = $3)";
    transaction.execute(sql, whose()).await?;
    let sql = "UPDATE fast_token SET slot = 0 \
               WHERE account = $1 AND agent = $2 AND slot = 1 AND seed = $3";
    transaction.execute(sql, whose()).await.map(drop)
}

async fn give(
    transaction: &mut Transaction,
    account: &BareJid,
    agent: &str,
    given: &StoredToken,
) -> Result<(), StorageError> {
    let sql = "INSERT INTO fast_token (account, agent, slot, mechanism, seed, issued, expires) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (account, agent, slot) DO UPDATE SET \
               mechanism = excluded.mechanism, seed = excluded.seed, \
               issued = excluded.issued, expires = excluded.expires";
    let values = vec![
        account.as_str().into(),
        agent.into(),
        given.slot.into(),
        given.mechanism.as_str().into(),
        Some(given.seed.clone()).into(),
        given.issued.into(),
        given.expires.into(),
    ];
    transaction.execute(sql, values).await?;
    let sql = "DELETE FROM fast_token WHERE account = $1 AND (agent, slot) NOT IN \
               (SELECT agent, slot FROM fast_token WHERE account = $1 \
               ORDER BY issued DESC, agent, slot LIMIT 0 + $2)";
    let values = vec![account.as_str().into(), i64::from(MOST).into()];
    transaction.execute(sql, values).await.map(drop)
}

fn token(row: &Row) -> Result<StoredToken, StorageError> {
    let slot = row.number(0)?;
    if slot != CURRENT && slot != NEW {
        return Err(StorageError::Damaged("a token"));
    }
    Ok(StoredToken {
        slot,
        mechanism: row.text(1)?,
        seed: row.bytes_or_none(2)?.unwrap_or_default(),
        issued: row.count(3)?,
        expires: row.count(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{AccountKeys, Ends, testing};
    use proto::sasl::ScramKeys;

    const HT: &str = "HT-SHA-256-NONE";

    fn alice() -> BareJid {
        BareJid::new("alice@example.org").unwrap()
    }

    fn keys(byte: u8) -> AccountKeys {
        let keys = ScramKeys {
            salt: vec![byte; 16],
            iterations: 10_000,
            stored_key: vec![byte; 32],
            server_key: vec![byte; 32],
            others: Vec::new(),
        };
        AccountKeys {
            sha256: Some(keys),
            ..AccountKeys::default()
        }
    }

    async fn checked(storage: &Storage) -> Credentials {
        let stored = storage.account_keys("alice", "example.org").await.unwrap();
        stored.unwrap().into()
    }

    async fn give(storage: &Storage, agent: &str, byte: u8, at: u64) -> bool {
        let change = TokenChange {
            given: Some(StoredToken::new(HT, vec![byte; 16], at, at + 100)),
            ..TokenChange::default()
        };
        let checked = checked(storage).await;
        let changed = storage
            .change_tokens(&alice(), agent, &checked, &change)
            .await;
        changed.unwrap()
    }

    async fn seeds(storage: &Storage, agent: &str) -> Vec<u8> {
        let tokens = storage.tokens(&alice(), agent, HT).await.unwrap();
        tokens.iter().map(|token| token.seed[0]).collect()
    }

    async fn with_account(test: impl AsyncFn(&Storage)) {
        testing::each(async |storage| {
            storage.create_account(&alice(), &keys(1), 5).await.unwrap();
            test(&storage).await;
        })
        .await;
    }

    #[tokio::test]
    async fn fa_5_the_old_token_lives_until_the_new_one_is_used() {
        with_account(async |storage| {
            let used = async |at: usize| {
                let tokens = storage.tokens(&alice(), "a", HT).await.unwrap();
                let change = TokenChange {
                    used: Some(tokens[at].clone()),
                    ..TokenChange::default()
                };
                let checked = checked(storage).await;
                let changed = storage
                    .change_tokens(&alice(), "a", &checked, &change)
                    .await;
                assert!(changed.unwrap());
                change.is_empty()
            };
            assert!(give(storage, "a", 1, 1).await);
            assert!(!used(0).await);
            assert!(give(storage, "a", 2, 2).await);
            assert_eq!(seeds(storage, "a").await, [2, 1]);
            assert!(used(1).await);
            assert_eq!(seeds(storage, "a").await, [2, 1]);
            // The answer was lost, and another one is given in its place.
            assert!(give(storage, "a", 3, 3).await);
            assert_eq!(seeds(storage, "a").await, [3, 1]);
            used(0).await;
            assert_eq!(seeds(storage, "a").await, [3]);
            let other = "HT-SHA-256-EXPR";
            assert_eq!(storage.tokens(&alice(), "a", other).await.unwrap(), []);
            assert!(seeds(storage, "b").await.is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn fa_7_a_client_gives_its_tokens_up_and_keeps_those_of_others() {
        with_account(async |storage| {
            give(storage, "a", 1, 1).await;
            give(storage, "b", 2, 1).await;
            let checked = checked(storage).await;
            let change = TokenChange {
                invalidate: true,
                given: Some(StoredToken::new(HT, vec![3; 16], 1, 2)),
                ..TokenChange::default()
            };
            let changed = storage
                .change_tokens(&alice(), "a", &checked, &change)
                .await;
            assert!(changed.unwrap());
            assert_eq!(seeds(storage, "a").await, [3]);
            assert_eq!(seeds(storage, "b").await, [2]);
        })
        .await;
    }

    #[tokio::test]
    async fn fa_7_tokens_go_with_the_password_and_with_the_account() {
        with_account(async |storage| {
            for round in 0..3 {
                give(storage, "a", 1, 1).await;
                assert_eq!(seeds(storage, "a").await, [1]);
                match round {
                    0 => storage
                        .set_account_keys(&alice(), &keys(2), Ends::ALL)
                        .await
                        .unwrap(),
                    1 => {
                        let changed = storage.set_account_disabled(&alice(), true).await;
                        storage.set_account_disabled(&alice(), false).await.unwrap();
                        changed.unwrap()
                    }
                    _ => storage
                        .remove_account(&alice(), 7, Ends::ALL)
                        .await
                        .unwrap(),
                };
                assert!(seeds(storage, "a").await.is_empty(), "{round}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn fa_7_no_token_is_given_for_a_password_that_has_changed_meanwhile() {
        with_account(async |storage| {
            let before = checked(storage).await;
            storage
                .set_account_keys(&alice(), &keys(2), Ends::ALL)
                .await
                .unwrap();
            let change = TokenChange {
                given: Some(StoredToken::new(HT, vec![1; 16], 1, 2)),
                ..TokenChange::default()
            };
            let changed = storage.change_tokens(&alice(), "a", &before, &change).await;
            assert!(!changed.unwrap());
            assert!(seeds(storage, "a").await.is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn fa_4_an_account_has_a_bounded_number_of_tokens_and_the_oldest_go() {
        with_account(async |storage| {
            for number in 0..MOST + 3 {
                let at = u64::from(number);
                assert!(give(storage, &format!("agent {number}"), 7, at).await);
            }
            let rows = storage
                .database
                .rows("SELECT agent FROM fast_token", Vec::new());
            assert_eq!(rows.await.unwrap().len(), MOST as usize);
            assert!(seeds(storage, "agent 2").await.is_empty());
            assert_eq!(seeds(storage, "agent 3").await, [7]);
        })
        .await;
    }
}
