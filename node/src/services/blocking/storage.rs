//! Blocklists: whom each account has blocked, and a number for each state of its list.
//!
//! # Invariants
//!
//! 1. A list has a row of its own if and only if somebody is in it, with their number and bytes: neither a change nor
//!    a look at the quota reads the list.
//! 2. A change that changes nothing leaves the number of the state alone, so that a repetition comes to the same.

use proto::payload::blocking::is_blockable;
use proto::{BareJid, Jid, ns};

use super::items::item;
use super::settings::Quotas;
use crate::hooks::Barrier;
use crate::storage::{
    Step, Storage, StorageError, Stored, Transaction, Value, assembled, numbered,
};

/// The tables.
pub const STORED: Stored = Stored {
    steps: &[Step::new(
        6,
        "CREATE TABLE blocklist (
    account TEXT NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL,
    entries BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);
CREATE TABLE blocked (
    account TEXT NOT NULL,
    jid TEXT NOT NULL,
    PRIMARY KEY (account, jid)
);",
    )],
    removals: &[
        "DELETE FROM blocklist WHERE account = $1",
        "DELETE FROM blocked WHERE account = $1",
    ],
};

/// So many addresses go into a statement.
const MOST_JIDS: usize = 64;
/// And so many accounts.
const MOST_ACCOUNTS: usize = 1_000;

/// What an account has as much of as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Full {
    /// Addresses.
    #[error("at most {0} addresses are blocked")]
    Number(u64),
    /// All of them.
    #[error("blocked addresses take at most {0} bytes together")]
    Bytes(u64),
}

impl From<Full> for StorageError {
    fn from(full: Full) -> Self {
        Self::Full(full.to_string())
    }
}

/// An account's list.
#[derive(Debug, Default, PartialEq)]
pub struct Blocklist {
    /// Its state; 0 = there is none.
    pub revision: u64,
    /// Who is in it, in order.
    pub jids: Vec<Jid>,
}

/// What became of a change.
#[derive(Debug, PartialEq)]
pub struct Changed {
    /// The state of the list before.
    pub found: u64,
    /// And behind it.
    pub left: u64,
    /// Who was not in it before, or is not in it any more.
    pub jids: Vec<Jid>,
}

/// What is counted of a list.
#[derive(Clone, Copy, Default)]
struct Counts {
    revision: u64,
    entries: u64,
    bytes: u64,
}

impl Storage {
    /// Whom the account has blocked.
    pub(super) async fn blocklist(&self, account: &BareJid) -> Result<Blocklist, StorageError> {
        let sql = "SELECT blocked.jid, blocklist.revision FROM blocklist \
                   JOIN blocked ON blocked.account = blocklist.account \
                   WHERE blocklist.account = $1 ORDER BY blocked.jid";
        let rows = self
            .database
            .rows(sql, vec![account.as_str().into()])
            .await?;
        let revision = rows.first().map_or(Ok(0), |row| row.count(1))?;
        let jids = rows.iter().map(|row| jid(&row.text(0)?));
        let jids = jids.collect::<Result<_, _>>()?;
        Ok(Blocklist { revision, jids })
    }

    /// The state of the account's list; 0 = there is none.
    pub(super) async fn blocklist_revision(&self, account: &BareJid) -> Result<u64, StorageError> {
        let sql = "SELECT revision FROM blocklist WHERE account = $1";
        let row = self
            .database
            .row(sql, vec![account.as_str().into()])
            .await?;
        row.map_or(Ok(0), |row| row.count(0))
    }

    /// The next accounts that have a list, with its state.
    pub(super) async fn blocklists_after(
        &self,
        after: Option<&BareJid>,
        most: u32,
    ) -> Result<Vec<(BareJid, u64)>, StorageError> {
        let sql = "SELECT account, revision FROM blocklist WHERE account > $1 \
                   ORDER BY account LIMIT 0 + $2";
        let after = after.map_or("", BareJid::as_str);
        let values = vec![after.into(), u64::from(most).into()];
        let rows = self.database.rows(sql, values).await?;
        let list = |row: &crate::storage::Row| {
            let account = jid(&row.text(0)?)?.bare();
            Ok((account, row.count(1)?))
        };
        rows.iter().map(list).collect()
    }

    /// Who of the two has blocked the other; the sender's own list comes first.
    pub(super) async fn barrier(
        &self,
        sender: &Jid,
        to: &Jid,
    ) -> Result<Option<Barrier>, StorageError> {
        let (own, other) = (sender.bare(), to.bare());
        let mut values = Vec::new();
        let mut clauses = Vec::new();
        for (account, peer) in [(&own, to), (&other, sender)] {
            if !is_blockable(account, peer) {
                continue;
            }
            values.push(Value::from(account.as_str()));
            let account = values.len();
            values.extend(peer.and_wider().map(Value::from));
            let jids = numbered(values.len() - account, account + 1);
            clauses.push(format!("(account = ${account} AND jid IN ({jids}))"));
        }
        if clauses.is_empty() {
            return Ok(None);
        }
        let clauses = clauses.join(" OR ");
        let sql = format!("SELECT account FROM blocked WHERE {clauses}");
        let rows = self.database.rows(assembled(sql), values).await?;
        let mut found = None;
        for row in &rows {
            match row.text(0)? == own.as_str() {
                true => return Ok(Some(Barrier::Own)),
                false => found = Some(Barrier::Other),
            }
        }
        Ok(found)
    }

    /// Which of the accounts have blocked the peer.
    pub(super) async fn blockers(
        &self,
        accounts: &[BareJid],
        peer: &Jid,
    ) -> Result<Vec<BareJid>, StorageError> {
        let mut found = Vec::new();
        for chunk in accounts.chunks(MOST_ACCOUNTS) {
            let mut values = Vec::from_iter(peer.and_wider().map(Value::from));
            let jids = numbered(values.len(), 1);
            let names = numbered(chunk.len(), values.len() + 1);
            values.extend(chunk.iter().map(|account| Value::from(account.as_str())));
            let sql = format!(
                "SELECT DISTINCT account FROM blocked WHERE account IN ({names}) AND jid IN ({jids})"
            );
            for row in &self.database.rows(assembled(sql), values).await? {
                found.push(jid(&row.text(0)?)?.bare());
            }
        }
        found.retain(|account| is_blockable(account, peer));
        Ok(found)
    }

    /// Blocks all of them, or none if there is no room for all. `revision` is a number for the state that follows.
    pub(super) async fn block(
        &self,
        quotas: &Quotas,
        account: &BareJid,
        revision: u64,
        jids: &[Jid],
    ) -> Result<Changed, StorageError> {
        let mut transaction = self.database.begin().await?;
        let before = counts(&mut transaction, account).await?;
        let mut added = Vec::new();
        for chunk in jids.chunks(MOST_JIDS) {
            let rows = transaction.placeholders(chunk.len(), 2);
            let sql = format!(
                "INSERT INTO blocked (account, jid) VALUES {rows} \
                 ON CONFLICT (account, jid) DO NOTHING RETURNING jid"
            );
            let values = chunk.iter();
            let values = values.flat_map(|jid| [account.as_str().into(), jid.as_str().into()]);
            let rows = transaction.rows(assembled(sql), values.collect()).await?;
            for row in &rows {
                added.push(jid(&row.text(0)?)?);
            }
        }
        let after = Counts {
            revision,
            entries: before.entries + added.len() as u64,
            bytes: before.bytes + size(&added),
        };
        if !added.is_empty() && after.entries > quotas.blocked_jids {
            return Err(Full::Number(quotas.blocked_jids).into());
        }
        if !added.is_empty() && after.bytes > quotas.blocked_bytes {
            return Err(Full::Bytes(quotas.blocked_bytes).into());
        }
        leave(transaction, account, before, after, added).await
    }

    /// Blocks them no longer; none of them = all. `revision` is a number for the state that follows.
    pub(super) async fn unblock(
        &self,
        account: &BareJid,
        revision: u64,
        jids: &[Jid],
    ) -> Result<Changed, StorageError> {
        let mut transaction = self.database.begin().await?;
        let before = counts(&mut transaction, account).await?;
        let mut removed = Vec::new();
        let chunks: Vec<&[Jid]> = match jids.is_empty() {
            true => vec![&[]],
            false => jids.chunks(MOST_JIDS).collect(),
        };
        for chunk in chunks {
            let which = match chunk.is_empty() {
                true => String::new(),
                false => format!(" AND jid IN ({})", numbered(chunk.len(), 2)),
            };
            let sql = format!("DELETE FROM blocked WHERE account = $1{which} RETURNING jid");
            let values = std::iter::once(account.as_str()).chain(chunk.iter().map(Jid::as_str));
            let values = values.map(Value::from).collect();
            let rows = transaction.rows(assembled(sql), values).await?;
            for row in &rows {
                removed.push(jid(&row.text(0)?)?);
            }
        }
        // Engines return them in no order of their own.
        removed.sort();
        let after = Counts {
            revision,
            entries: before.entries.saturating_sub(removed.len() as u64),
            bytes: before.bytes.saturating_sub(size(&removed)),
        };
        leave(transaction, account, before, after, removed).await
    }
}

/// An address that was prepared when it was stored.
fn jid(text: &str) -> Result<Jid, StorageError> {
    Jid::new(text).map_err(|_| StorageError::Damaged("a blocked address"))
}

/// Their bytes in an answer.
fn size(jids: &[Jid]) -> u64 {
    let mut xml = String::new();
    jids.iter()
        .for_each(|jid| item(jid).write(ns::BLOCKING, &mut xml));
    xml.len() as u64
}

/// Keeps other changes of the account's list out until the end of the transaction, and counts it.
async fn counts(transaction: &mut Transaction, account: &BareJid) -> Result<Counts, StorageError> {
    transaction.lock(account.as_str()).await?;
    let sql = "SELECT revision, entries, bytes FROM blocklist WHERE account = $1";
    let row = transaction.row(sql, vec![account.as_str().into()]).await?;
    let Some(row) = row else {
        return Ok(Counts::default());
    };
    Ok(Counts {
        revision: row.count(0)?,
        entries: row.count(1)?,
        bytes: row.count(2)?,
    })
}

/// Writes down what the list is from now on.
async fn leave(
    mut transaction: Transaction,
    account: &BareJid,
    before: Counts,
    after: Counts,
    jids: Vec<Jid>,
) -> Result<Changed, StorageError> {
    let (found, mut left) = (before.revision, before.revision);
    if !jids.is_empty() {
        left = match after.entries {
            0 => 0,
            _ => after.revision,
        };
        let mut values = vec![Value::from(account.as_str())];
        let sql = match after.entries {
            0 => "DELETE FROM blocklist WHERE account = $1",
            _ => {
                values.extend([left, after.entries, after.bytes].map(Value::from));
                "INSERT INTO blocklist (account, revision, entries, bytes) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (account) DO UPDATE SET revision = excluded.revision, \
                 entries = excluded.entries, bytes = excluded.bytes"
            }
        };
        transaction.execute(sql, values).await?;
        transaction.commit().await?;
    }
    Ok(Changed { found, left, jids })
}

#[cfg(test)]
mod tests;
