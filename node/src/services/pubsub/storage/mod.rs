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
#[cfg(test)]
mod tests;

use proto::payload::form::{Form, FormType};
use proto::{BareJid, Element};

pub use item::{Item, Publishing, Wanted};
pub use last::Last;
pub use party::{Affiliation, Parties};

use super::config::{Config, SendLast};
use super::settings::Quotas;
use crate::storage::{Row, Step, Storage, StorageError, Stored, Transaction, Value};

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

/// What an account has as much of as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Full {
    /// Nodes.
    #[error("an account has at most {0} nodes")]
    Nodes(u64),
    /// All items.
    #[error("the items of an account take at most {0} bytes together")]
    Bytes(u64),
    /// Affiliations or subscriptions of a node.
    #[error("a node has at most {0} affiliations, and as many subscriptions")]
    Parties(u64),
}

impl From<Full> for StorageError {
    fn from(full: Full) -> Self {
        Self::Full(full.to_string())
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// How it is configured.
    pub config: Config,
    /// How many items it holds.
    pub items: u64,
}

/// A node's row, as a change finds it.
struct Found {
    config: Config,
    made_by: String,
    items: u64,
    bytes: u64,
    place: u64,
}

/// What names a node to statements.
fn names(account: &BareJid, node: &str) -> Vec<Value> {
    vec![account.as_str().into(), node.into()]
}

/// As a configuration is stored.
fn written(config: &Config) -> String {
    config.form(FormType::Submit).to_element().to_xml("")
}

/// A configuration that was stored, perhaps under other quotas.
fn config(row: &Row, index: usize) -> Result<Config, StorageError> {
    let xml = row.text(index)?;
    let form = Element::parse(xml.as_bytes()).ok();
    let form = form.and_then(|form| Form::parse(&form));
    let config = form.and_then(|form| Config::default().with_known(&form, u64::MAX).ok());
    config.ok_or(StorageError::Damaged("the configuration of a node"))
}

fn on_presence(config: &Config) -> Value {
    (config.send_last == SendLast::OnSubAndPresence).into()
}

/// The node, and nobody else changes a node of the account until the end of the transaction.
async fn find(
    transaction: &mut Transaction,
    account: &BareJid,
    node: &str,
) -> Result<Option<Found>, StorageError> {
    transaction.lock(account.as_str()).await?;
    let sql = "SELECT config, made_by, items, bytes, place FROM pubsub_node \
               WHERE account = $1 AND node = $2";
    let row = transaction.row(sql, names(account, node)).await?;
    let found = row.map(|row| {
        Ok(Found {
            config: config(&row, 0)?,
            made_by: row.text(1)?,
            items: row.count(2)?,
            bytes: row.count(3)?,
            place: row.count(4)?,
        })
    });
    found.transpose()
}

/// Makes a node that is not there, if there is room for it.
async fn make(
    transaction: &mut Transaction,
    quotas: &Quotas,
    (account, node): (&BareJid, &str),
    config: &Config,
    made_by: &str,
) -> Result<Found, StorageError> {
    let sql = "SELECT COUNT(*) FROM pubsub_node WHERE account = $1";
    let row = transaction.row(sql, vec![account.as_str().into()]).await?;
    if row.map_or(Ok(0), |row| row.count(0))? >= quotas.pubsub_nodes {
        return Err(Full::Nodes(quotas.pubsub_nodes).into());
    }
    let sql = "INSERT INTO pubsub_node \
               (account, node, config, on_presence, made_by, items, bytes, place) \
               VALUES ($1, $2, $3, $4, $5, 0, 0, 0)";
    let mut values = names(account, node);
    values.extend([written(config).into(), on_presence(config), made_by.into()]);
    transaction.execute(sql, values).await?;
    Ok(Found {
        config: config.clone(),
        made_by: made_by.to_owned(),
        items: 0,
        bytes: 0,
        place: 0,
    })
}

/// Writes down what a node holds from now on.
async fn count(
    transaction: &mut Transaction,
    account: &BareJid,
    node: &str,
    found: &Found,
) -> Result<(), StorageError> {
    let sql = "UPDATE pubsub_node SET items = $3, bytes = $4, place = $5 \
               WHERE account = $1 AND node = $2";
    let mut values = names(account, node);
    values.extend([found.items, found.bytes, found.place].map(Value::from));
    transaction.execute(sql, values).await.map(drop)
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
