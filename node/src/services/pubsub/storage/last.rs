//! What was published last, of many accounts at a time.

use proto::BareJid;

use super::super::config::Config;
use super::item::{Item, payload};
use super::row::config as stored_config;
use crate::storage::{Row, Storage, StorageError, Value, assembled, numbered};

/// Accounts that go into a statement.
const MOST_ACCOUNTS: usize = 1_000;

/// The newest item of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Last {
    /// Whose node.
    pub account: BareJid,
    /// Which.
    pub node: String,
    /// How it is configured.
    pub config: Config,
    /// The item.
    pub item: Item,
}

fn last(row: &Row) -> Result<Last, StorageError> {
    Ok(Last {
        account: BareJid::new(&row.text(0)?).map_err(|_| StorageError::Damaged("an account"))?,
        node: row.text(1)?,
        config: stored_config(row, 2)?,
        item: Item {
            id: row.text(3)?,
            stamp: row.count(4)?,
            payload: payload(&row.text(5)?)?,
        },
    })
}

impl Storage {
    /// The newest item of each of these nodes of each of these accounts, where it is told to those who become
    /// available: at most so many, in the order of accounts and nodes, and behind these. `accounts` are in order.
    pub(in super::super) async fn last_items(
        &self,
        accounts: &[BareJid],
        nodes: &[Box<str>],
        after: Option<&(BareJid, Box<str>)>,
        most: usize,
    ) -> Result<Vec<Last>, StorageError> {
        let begun = after.map_or(0, |(last, _)| {
            accounts.partition_point(|account| account < last)
        });
        let mut found: Vec<Last> = Vec::new();
        for chunk in accounts[begun..].chunks(MOST_ACCOUNTS) {
            let left = most - found.len();
            if left == 0 || nodes.is_empty() {
                break;
            }
            let (account, node) = match after {
                Some((account, node)) => (account.as_str(), &**node),
                None => ("", ""),
            };
            let mut values: Vec<Value> = vec![account.into(), node.into(), (left as u64).into()];
            let wanted = numbered(nodes.len(), values.len() + 1);
            values.extend(nodes.iter().map(|node| Value::from(&**node)));
            let owners = numbered(chunk.len(), values.len() + 1);
            values.extend(chunk.iter().map(|account| Value::from(account.as_str())));
            let sql = format!(
                "SELECT n.account, n.node, n.config, i.id, i.stamp, i.xml FROM pubsub_node n \
                 JOIN pubsub_item i ON i.account = n.account AND i.node = n.node AND i.place = \
                 (SELECT MAX(place) FROM pubsub_item WHERE account = n.account AND node = n.node) \
                 WHERE n.account IN ({owners}) AND n.node IN ({wanted}) AND n.on_presence = 1 \
                 AND (n.account > $1 OR (n.account = $1 AND n.node > $2)) \
                 ORDER BY n.account, n.node LIMIT 0 + $3"
            );
            for row in &self.database.rows(assembled(sql), values).await? {
                found.push(last(row)?);
            }
        }
        Ok(found)
    }
}
