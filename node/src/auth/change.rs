//! What is done to accounts, whoever orders it: an operator at the command line or an administrator's client.
//!
//! The database holds what an account is. Sessions that rest on what it was end on whichever node they are
//! ([`super::revoke`]).

use proto::BareJid;
use tokio::sync::Semaphore;

use super::store::{Rejected, derive_keys};
use crate::storage::{AccountKeys, Ends, Storage, StorageError};

/// Passwords that are hashed at a time, besides those of clients that log in: it is slow on purpose.
static HASHING: Semaphore = Semaphore::const_new(2);

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is such an account.
    #[error("{0} exists already")]
    Exists(BareJid),
    /// There is no such account.
    #[error("there is no account {0}")]
    Missing(BareJid),
    /// The password cannot be one.
    #[error(transparent)]
    Password(#[from] Rejected),
    /// The process ends.
    #[error("the process ends")]
    Interrupted,
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Makes an account.
pub async fn add(
    storage: &Storage,
    jid: &BareJid,
    password: String,
    now: u64,
) -> Result<(), AccountError> {
    let keys = hashed(password).await?;
    match storage.create_account(jid, &keys, now).await? {
        true => Ok(()),
        false => Err(AccountError::Exists(jid.clone())),
    }
}

/// Gives an account a new password. Its sessions end as `ends` says.
pub async fn set_password(
    storage: &Storage,
    jid: &BareJid,
    password: String,
    ends: Ends<'_>,
) -> Result<(), AccountError> {
    let keys = hashed(password).await?;
    there(jid, storage.set_account_keys(jid, &keys, ends).await?)
}

/// Removes an account with all that is its own. Its sessions end as `ends` says.
pub async fn remove(
    storage: &Storage,
    jid: &BareJid,
    now: u64,
    ends: Ends<'_>,
) -> Result<(), AccountError> {
    there(jid, storage.remove_account(jid, now, ends).await?)
}

/// Locks or unlocks an account.
pub async fn set_disabled(
    storage: &Storage,
    jid: &BareJid,
    disabled: bool,
) -> Result<(), AccountError> {
    there(jid, storage.set_account_disabled(jid, disabled).await?)
}

fn there(jid: &BareJid, found: bool) -> Result<(), AccountError> {
    match found {
        true => Ok(()),
        false => Err(AccountError::Missing(jid.clone())),
    }
}

async fn hashed(password: String) -> Result<AccountKeys, AccountError> {
    let _turn = HASHING
        .acquire()
        .await
        .map_err(|_| AccountError::Interrupted)?;
    let keys = tokio::task::spawn_blocking(move || derive_keys(&password)).await;
    Ok(keys.map_err(|_| AccountError::Interrupted)??)
}
