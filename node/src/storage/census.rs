//! Which account there is of a name, and how many there are.

use proto::BareJid;

use super::Storage;
use super::account::{Account, account, name};
use super::error::StorageError;

impl Storage {
    /// One account.
    pub async fn find_account(&self, jid: &BareJid) -> Result<Option<Account>, StorageError> {
        let sql = "SELECT localpart, domain, created, disabled FROM account \
                   WHERE localpart = $1 AND domain = $2";
        let row = self.database.row(sql, name(jid)).await?;
        row.map(|row| account(&row)).transpose()
    }

    /// How many accounts a domain has.
    pub async fn count_accounts(&self, domain: &str) -> Result<u64, StorageError> {
        let sql = "SELECT count(*) FROM account WHERE domain = $1";
        let row = self.database.row(sql, vec![domain.into()]).await?;
        row.map_or(Ok(0), |row| row.count(0))
    }
}
