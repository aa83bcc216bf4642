//! The row of a node, as changes find it and leave it.

use proto::payload::form::{Form, FormType};
use proto::{BareJid, Element};

use super::super::config::{Config, SendLast};
use super::super::settings::Quotas;
use crate::storage::{Row, StorageError, Transaction, Value};

/// What an account has as much of as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
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

/// A node's row, as a change finds it.
pub(super) struct Found {
    pub(super) config: Config,
    pub(super) made_by: String,
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) place: u64,
}

/// What names a node to statements.
pub(super) fn names(account: &BareJid, node: &str) -> Vec<Value> {
    vec![account.as_str().into(), node.into()]
}

/// As a configuration is stored.
pub(super) fn written(config: &Config) -> String {
    config.form(FormType::Submit).to_element().to_xml("")
}

/// A configuration that was stored, perhaps under other quotas.
pub(super) fn config(row: &Row, index: usize) -> Result<Config, StorageError> {
    let xml = row.text(index)?;
    let form = Element::parse(xml.as_bytes()).ok();
    let form = form.and_then(|form| Form::parse(&form));
    let config = form.and_then(|form| Config::default().with_known(&form, u64::MAX).ok());
    config.ok_or(StorageError::Damaged("the configuration of a node"))
}

/// Whether the last item goes to whoever comes, as it is stored.
pub(super) fn on_presence(config: &Config) -> Value {
    (config.send_last == SendLast::OnSubAndPresence).into()
}

/// The node, and nobody else changes a node of the account until the end of the transaction.
pub(super) async fn find(
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
pub(super) async fn make(
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
pub(super) async fn count(
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
