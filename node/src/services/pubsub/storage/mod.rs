//! Nodes of accounts: how they are configured, and how much they hold.
//!
//! # Invariants
//!
//! 1. A node's row has the number and bytes of its items, and the place of the newest one that it has ever had: no
//!    change looks at all items.
//! 2. A place is given once. The order of places is the order of publication (PE-12).
//! 3. All changes of an account's nodes are made one after the other.

mod item;
mod last;
mod party;
mod row;
#[cfg(test)]
mod tests;

use proto::BareJid;

pub use item::{Item, Publishing, Wanted};
pub use last::Last;
pub use party::{Affiliation, Parties};

use self::row::{config, count, find, make, names, on_presence, written};
use super::config::Config;
use super::settings::Quotas;
use crate::storage::{Row, Step, Storage, StorageError, Stored};

/// The tables. Names of accounts and nodes are in the order of their bytes in either engine, since what is read in
/// pages goes on behind a name.
pub const STORED: Stored = Stored {
    steps: &[Step::of_each(
        7,
        include_str!("7.sqlite.sql"),
        include_str!("7.postgres.sql"),
    )],
    removals: &[
        "DELETE FROM pubsub_node WHERE account = $1",
        "DELETE FROM pubsub_item WHERE account = $1",
        "DELETE FROM pubsub_affiliation WHERE account = $1",
        "DELETE FROM pubsub_subscription WHERE account = $1",
    ],
};

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// How it is configured.
    pub config: Config,
    /// How many items it holds.
    pub items: u64,
}

impl Storage {
    /// The node, if it is there.
    pub(super) async fn node(
        &self,
        account: &BareJid,
        node: &str,
    ) -> Result<Option<Node>, StorageError> {
        let sql = "SELECT config, items FROM pubsub_node WHERE account = $1 AND node = $2";
        let row = self.database.row(sql, names(account, node)).await?;
        let node = row.map(|row| {
            Ok(Node {
                config: config(&row, 0)?,
                items: row.count(1)?,
            })
        });
        node.transpose()
    }

    /// All nodes of the account, in the order of their names.
    pub(super) async fn nodes(
        &self,
        account: &BareJid,
    ) -> Result<Vec<(String, Config)>, StorageError> {
        let sql = "SELECT node, config FROM pubsub_node WHERE account = $1 ORDER BY node";
        let values = vec![account.as_str().into()];
        let rows = self.database.rows(sql, values).await?;
        let node = |row: &Row| Ok((row.text(0)?, config(row, 1)?));
        rows.iter().map(node).collect()
    }

    /// Makes a node; returns whether it is there because of this request, which `made_by` names.
    pub(super) async fn create_node(
        &self,
        quotas: &Quotas,
        (account, node): (&BareJid, &str),
        config: &Config,
        made_by: &str,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.database.begin().await?;
        if let Some(found) = find(&mut transaction, account, node).await? {
            return Ok(found.made_by == made_by);
        }
        make(&mut transaction, quotas, (account, node), config, made_by).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Configures a node; returns what it was before and is now. What it may hold no longer goes.
    pub(super) async fn configure_node<E>(
        &self,
        quotas: &Quotas,
        (account, node): (&BareJid, &str),
        change: impl FnOnce(&Config) -> Result<Config, E>,
    ) -> Result<Option<Result<Config, E>>, StorageError> {
        let mut transaction = self.database.begin().await?;
        let Some(mut found) = find(&mut transaction, account, node).await? else {
            return Ok(None);
        };
        let config = match change(&found.config) {
            Ok(config) => config,
            Err(unfit) => return Ok(Some(Err(unfit))),
        };
        let sql = "UPDATE pubsub_node SET config = $3, on_presence = $4 \
                   WHERE account = $1 AND node = $2";
        let mut values = names(account, node);
        values.extend([written(&config).into(), on_presence(&config)]);
        transaction.execute(sql, values).await?;
        let most = match config.persist {
            true => config.most_items(quotas.pubsub_items),
            false => 0,
        };
        item::trim(&mut transaction, (account, node), &mut found, most).await?;
        count(&mut transaction, account, node, &found).await?;
        transaction.commit().await?;
        Ok(Some(Ok(config)))
    }

    /// Deletes a node with all that belongs to it; returns how it was configured, if it was there.
    pub(super) async fn delete_node(
        &self,
        account: &BareJid,
        node: &str,
    ) -> Result<Option<Config>, StorageError> {
        let mut transaction = self.database.begin().await?;
        let Some(found) = find(&mut transaction, account, node).await? else {
            return Ok(None);
        };
        for sql in [
            "DELETE FROM pubsub_item WHERE account = $1 AND node = $2",
            "DELETE FROM pubsub_affiliation WHERE account = $1 AND node = $2",
            "DELETE FROM pubsub_subscription WHERE account = $1 AND node = $2",
            "DELETE FROM pubsub_node WHERE account = $1 AND node = $2",
        ] {
            transaction.execute(sql, names(account, node)).await?;
        }
        transaction.commit().await?;
        Ok(Some(found.config))
    }

    /// Deletes all items of a node; returns how it is configured, if it is there.
    pub(super) async fn purge_node(
        &self,
        account: &BareJid,
        node: &str,
    ) -> Result<Option<Config>, StorageError> {
        let mut transaction = self.database.begin().await?;
        let Some(mut found) = find(&mut transaction, account, node).await? else {
            return Ok(None);
        };
        item::trim(&mut transaction, (account, node), &mut found, 0).await?;
        count(&mut transaction, account, node, &found).await?;
        transaction.commit().await?;
        Ok(Some(found.config))
    }
}
