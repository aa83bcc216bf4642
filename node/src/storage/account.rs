//! Accounts and the keys they log in with.

use proto::BareJid;
use proto::sasl::{Digest, KeyPair, ScramKeys};

use super::Storage;
use super::database::Transaction;
use super::error::StorageError;
use super::removal::unretire;
use super::revocation::{Ends, revoke};
use super::row::Row;
use super::token::forget_tokens;
use super::value::Value;

/// What an account's password was turned into; the password itself is never stored (T-33).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountKeys {
    /// For SCRAM-SHA-1.
    pub sha1: Option<ScramKeys>,
    /// For SCRAM-SHA-256.
    pub sha256: Option<ScramKeys>,
    /// For SCRAM-SHA-512. Accounts of older releases have none until their password is seen again.
    pub sha512: Option<ScramKeys>,
}

/// The keys of an account, and whether it may use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKeys {
    /// The keys.
    pub keys: AccountKeys,
    /// An operator has locked the account.
    pub disabled: bool,
}

/// An account as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its address.
    pub jid: BareJid,
    /// When it was made, milliseconds since 1970.
    pub created: u64,
    /// An operator has locked it.
    pub disabled: bool,
}

impl Storage {
    /// Makes an account. `false` if there is one of that name.
    pub async fn create_account(
        &self,
        jid: &BareJid,
        keys: &AccountKeys,
        now: u64,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.database.begin().await?;
        let made = self.insert(&mut transaction, jid, keys, now).await?;
        transaction.commit().await?;
        Ok(made)
    }

    /// The same within a transaction.
    pub(super) async fn insert(
        &self,
        transaction: &mut Transaction,
        jid: &BareJid,
        keys: &AccountKeys,
        now: u64,
    ) -> Result<bool, StorageError> {
        let sql = "INSERT INTO account (localpart, domain, created, \
                   sha1_salt, sha1_iterations, sha1_stored, sha1_server, sha1_others, \
                   sha256_salt, sha256_iterations, sha256_stored, sha256_server, sha256_others, \
                   sha512_salt, sha512_iterations, sha512_stored, sha512_server, sha512_others) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) \
                   ON CONFLICT (domain, localpart) DO NOTHING";
        let mut values = name(jid);
        values.push(now.into());
        values.extend(key_values(keys));
        let made = transaction.execute(sql, values).await? == 1;
        if made {
            // A message that was on its way when the name's last owner was removed may have been kept since.
            self.wipe(transaction, jid).await?;
            unretire(transaction, jid).await?;
        }
        Ok(made)
    }

    /// Replaces an account's keys, and its sessions end as `ends` says. `false` if there is no such account.
    pub async fn set_account_keys(
        &self,
        jid: &BareJid,
        keys: &AccountKeys,
        ends: Ends<'_>,
    ) -> Result<bool, StorageError> {
        let sql = "UPDATE account SET \
                   sha1_salt = $3, sha1_iterations = $4, sha1_stored = $5, sha1_server = $6, sha1_others = $7, \
                   sha256_salt = $8, sha256_iterations = $9, sha256_stored = $10, sha256_server = $11, sha256_others = $12, \
                   sha512_salt = $13, sha512_iterations = $14, sha512_stored = $15, sha512_server = $16, sha512_others = $17 \
                   WHERE localpart = $1 AND domain = $2";
        let mut values = name(jid);
        values.extend(key_values(keys));
        self.change(jid, sql, values, Some(ends)).await
    }

    /// Changes one account; its sessions end if they rest on what was. `false` if there is no such account.
    async fn change(
        &self,
        jid: &BareJid,
        sql: &'static str,
        values: Vec<Value>,
        ends: Option<Ends<'_>>,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.database.begin().await?;
        let changed = transaction.execute(sql, values).await? == 1;
        if let Some(ends) = ends.filter(|_| changed) {
            forget_tokens(&mut transaction, jid).await?;
            revoke(&mut transaction, jid, ends).await?;
        }
        transaction.commit().await?;
        Ok(changed)
    }

    /// Locks or unlocks an account. `false` if there is no such account.
    pub async fn set_account_disabled(
        &self,
        jid: &BareJid,
        disabled: bool,
    ) -> Result<bool, StorageError> {
        let sql = "UPDATE account SET disabled = $3 WHERE localpart = $1 AND domain = $2";
        if !disabled {
            // Who unlocks what an import has left takes it as it is.
            let sql = "DELETE FROM unfinished_account WHERE account = $1";
            let account = vec![jid.as_str().into()];
            self.database.execute(sql, account).await?;
        }
        let mut values = name(jid);
        values.push(disabled.into());
        let ends = disabled.then_some(Ends::ALL);
        self.change(jid, sql, values, ends).await
    }

    /// What an account logs in with.
    pub async fn account_keys(
        &self,
        local: &str,
        domain: &str,
    ) -> Result<Option<StoredKeys>, StorageError> {
        let row = self
            .database
            .row(KEYS, vec![local.into(), domain.into()])
            .await?;
        row.map(|row| stored_keys(&row)).transpose()
    }

    /// Adds the keys for SCRAM-SHA-512 to an account that has none. Of its others, `checked` must be the strongest still.
    /// Its sessions stay: the password is the same.
    pub async fn add_sha512_keys(
        &self,
        jid: &BareJid,
        checked: &ScramKeys,
        sha512: ScramKeys,
    ) -> Result<bool, StorageError> {
        let sql = "UPDATE account SET sha512_salt = $3, sha512_iterations = $4, \
                   sha512_stored = $5, sha512_server = $6, sha512_others = $7 \
                   WHERE localpart = $1 AND domain = $2 AND sha512_stored IS NULL \
                   AND (sha256_stored = $8 OR (sha256_stored IS NULL AND sha1_stored = $8))";
        let mut values = name(jid);
        values.extend(values_of(&Some(sha512)));
        values.push(Some(checked.stored_key.clone()).into());
        self.change(jid, sql, values, None).await
    }

    /// Whether some account has no keys for SCRAM-SHA-512, and others with which its user can log in.
    pub async fn lacks_sha512_keys(&self) -> Result<bool, StorageError> {
        let sql = "SELECT 1 FROM account WHERE sha512_stored IS NULL \
                   AND (sha256_stored IS NOT NULL OR sha1_stored IS NOT NULL) LIMIT 1";
        Ok(self.database.row(sql, Vec::new()).await?.is_some())
    }

    /// Whether there is such an account and it is not locked: to others a locked one does not exist (IM-9).
    pub async fn account_exists(&self, jid: &BareJid) -> Result<bool, StorageError> {
        let sql = "SELECT 1 FROM account WHERE localpart = $1 AND domain = $2 AND disabled = 0";
        Ok(self.database.row(sql, name(jid)).await?.is_some())
    }

    /// Up to `max` accounts of a domain, by name, behind `after`.
    pub async fn accounts(
        &self,
        domain: &str,
        after: &str,
        max: u32,
    ) -> Result<Vec<Account>, StorageError> {
        let sql = "SELECT localpart, domain, created, disabled FROM account \
                   WHERE domain = $1 AND localpart > $2 ORDER BY localpart LIMIT 0 + $3";
        let values = vec![domain.into(), after.into(), i64::from(max).into()];
        let rows = self.database.rows(sql, values).await?;
        rows.iter().map(account).collect()
    }

    /// Every domain that accounts have.
    pub async fn account_domains(&self) -> Result<Vec<String>, StorageError> {
        let rows = self
            .database
            .rows(
                "SELECT DISTINCT domain FROM account ORDER BY domain",
                Vec::new(),
            )
            .await?;
        rows.iter().map(|row| row.text(0)).collect()
    }
}

pub(super) fn name(jid: &BareJid) -> Vec<Value> {
    vec![jid.local().unwrap_or_default().into(), jid.domain().into()]
}

pub(super) fn account(row: &Row) -> Result<Account, StorageError> {
    let jid = format!("{}@{}", row.text(0)?, row.text(1)?);
    let jid = BareJid::new(&jid).map_err(|_| StorageError::Damaged("an address"))?;
    Ok(Account {
        jid,
        created: row.count(2)?,
        disabled: row.truth(3)?,
    })
}

/// What an account logs in with.
const KEYS: &str = "SELECT disabled, sha1_salt, sha1_iterations, sha1_stored, sha1_server, sha1_others, \
    sha256_salt, sha256_iterations, sha256_stored, sha256_server, sha256_others, \
    sha512_salt, sha512_iterations, sha512_stored, sha512_server, sha512_others \
    FROM account WHERE localpart = $1 AND domain = $2";

fn stored_keys(row: &Row) -> Result<StoredKeys, StorageError> {
    let keys = AccountKeys {
        sha1: keys(row, 1, Digest::Sha1)?,
        sha256: keys(row, 6, Digest::Sha256)?,
        sha512: keys(row, 11, Digest::Sha512)?,
    };
    Ok(StoredKeys {
        keys,
        disabled: row.truth(0)?,
    })
}

/// The same within a transaction.
pub(super) async fn keys_within(
    transaction: &mut Transaction,
    jid: &BareJid,
) -> Result<Option<StoredKeys>, StorageError> {
    let row = transaction.row(KEYS, name(jid)).await?;
    row.map(|row| stored_keys(&row)).transpose()
}

pub(super) fn key_values(keys: &AccountKeys) -> impl Iterator<Item = Value> + '_ {
    [&keys.sha1, &keys.sha256, &keys.sha512]
        .into_iter()
        .flat_map(values_of)
}

fn values_of(keys: &Option<ScramKeys>) -> [Value; 5] {
    let part =
        |part: fn(&ScramKeys) -> &Vec<u8>| keys.as_ref().map(|keys| part(keys).clone()).into();
    [
        part(|keys| &keys.salt),
        Value::Number(keys.as_ref().map(|keys| i64::from(keys.iterations))),
        part(|keys| &keys.stored_key),
        part(|keys| &keys.server_key),
        keys.as_ref().and_then(joined).into(),
    ]
}

/// The keys of other forms of a password in one value, or nothing.
fn joined(keys: &ScramKeys) -> Option<Vec<u8>> {
    let pairs = keys.others.iter();
    let bytes = pairs.flat_map(|pair| [&*pair.stored_key, &*pair.server_key].concat());
    Some(bytes.collect()).filter(|bytes: &Vec<u8>| !bytes.is_empty())
}

fn pairs(joined: &[u8], digest: Digest) -> Result<Vec<KeyPair>, StorageError> {
    let pairs = joined.chunks_exact(2 * digest.bytes());
    if !pairs.remainder().is_empty() {
        return Err(StorageError::Damaged("the keys of an account"));
    }
    let pair = |bytes: &[u8]| {
        let (stored_key, server_key) = bytes.split_at(digest.bytes());
        KeyPair {
            stored_key: stored_key.to_vec(),
            server_key: server_key.to_vec(),
        }
    };
    Ok(pairs.map(pair).collect())
}

fn keys(row: &Row, first: usize, digest: Digest) -> Result<Option<ScramKeys>, StorageError> {
    let (salt, iterations) = (row.bytes_or_none(first)?, row.number_or_none(first + 1)?);
    let (stored, server) = (row.bytes_or_none(first + 2)?, row.bytes_or_none(first + 3)?);
    let (Some(salt), Some(iterations), Some(stored_key), Some(server_key)) =
        (salt, iterations, stored, server)
    else {
        return Ok(None);
    };
    let iterations =
        u32::try_from(iterations).map_err(|_| StorageError::Damaged("an iteration count"))?;
    Ok(Some(ScramKeys {
        salt,
        iterations,
        stored_key,
        server_key,
        others: pairs(&row.bytes_or_none(first + 4)?.unwrap_or_default(), digest)?,
    }))
}

#[cfg(test)]
mod tests;
