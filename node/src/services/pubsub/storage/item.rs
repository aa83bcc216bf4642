//! What nodes hold.

use proto::payload::form::Form;
use proto::{BareJid, Element};

use super::super::config::{Config, Unfit};
use super::super::settings::Quotas;
use super::row::{Found, Full, count, find, make, names};
use crate::storage::{Row, Storage, StorageError, Transaction, Value, assembled, numbered};

/// So many ids go into a statement.
const MOST_IDS: usize = 64;
/// The most bytes of items that one answer has, unless one alone has more.
const MOST_BYTES: u64 = 192 << 10;

/// Something that was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its id.
    pub id: String,
    /// When it was published, in milliseconds since 1970.
    pub stamp: u64,
    /// What was published, if anything was.
    pub payload: Option<Element>,
}

/// Which items are asked for, the newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Only those with these ids.
    pub ids: Vec<String>,
    /// At most so many.
    pub most: Option<u64>,
    /// Only what is older than this one.
    pub after: Option<String>,
}

/// What is to be published.
pub struct Publishing<'a> {
    /// Where.
    pub node: &'a str,
    /// Under which id.
    pub id: &'a str,
    /// When.
    pub stamp: u64,
    /// What, as it is written.
    pub xml: &'a str,
    /// How the publisher wants the node to be (PE-4).
    pub options: Option<&'a Form>,
    /// The namespace of the payload.
    pub kind: &'a str,
}

/// What became of it.
#[derive(Debug, PartialEq)]
pub struct Published {
    /// How the node is configured.
    pub config: Config,
}

/// Why nothing was published.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// The node is not as the publisher wants it to be.
    Precondition,
}

fn item(row: &Row) -> Result<Item, StorageError> {
    Ok(Item {
        id: row.text(0)?,
        stamp: row.count(1)?,
        payload: payload(&row.text(2)?)?,
    })
}

/// What was published, as it was written.
pub(super) fn payload(xml: &str) -> Result<Option<Element>, StorageError> {
    if xml.is_empty() {
        return Ok(None);
    }
    let payload = Element::parse(xml.as_bytes()).map_err(|_| StorageError::Damaged("an item"))?;
    Ok(Some(payload))
}

/// The node as the publisher wants it to be, which may be made for that; none if it is another one.
async fn prepared(
    transaction: &mut Transaction,
    quotas: &Quotas,
    account: &BareJid,
    publishing: &Publishing<'_>,
) -> Result<Option<Found>, StorageError> {
    let wanted = |config: &Config| match publishing.options {
        Some(form) => config.with(form, quotas.pubsub_items),
        None => Ok::<_, Unfit>(config.clone()),
    };
    if let Some(found) = find(transaction, account, publishing.node).await? {
        let as_wanted = wanted(&found.config).as_ref() == Ok(&found.config);
        return Ok(as_wanted.then_some(found));
    }
    let default = Config {
        kind: publishing.kind.to_owned(),
        ..Config::default()
    };
    let Ok(config) = wanted(&default) else {
        return Ok(None);
    };
    let place = (account, publishing.node);
    make(transaction, quotas, place, &config, "")
        .await
        .map(Some)
}

/// Takes out the oldest items until at most so many are left.
pub(super) async fn trim(
    transaction: &mut Transaction,
    (account, node): (&BareJid, &str),
    found: &mut Found,
    most: u64,
) -> Result<(), StorageError> {
    if found.items <= most {
        return Ok(());
    }
    let sql = "DELETE FROM pubsub_item WHERE account = $1 AND node = $2 AND id IN \
               (SELECT id FROM pubsub_item WHERE account = $1 AND node = $2 \
               ORDER BY place LIMIT 0 + $3) RETURNING bytes";
    let mut values = names(account, node);
    values.push((found.items - most).into());
    for row in &transaction.rows(sql, values).await? {
        found.forget(row.count(0)?);
    }
    Ok(())
}

impl Found {
    fn forget(&mut self, bytes: u64) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Puts an item into a node, in place of one with the same id.
async fn put(
    transaction: &mut Transaction,
    quotas: &Quotas,
    account: &BareJid,
    publishing: &Publishing<'_>,
    found: &mut Found,
) -> Result<(), StorageError> {
    let Publishing { node, id, xml, .. } = publishing;
    let sql = "DELETE FROM pubsub_item WHERE account = $1 AND node = $2 AND id = $3 \
               RETURNING bytes";
    let mut values = names(account, node);
    values.push((*id).into());
    let mut before = 0;
    for row in &transaction.rows(sql, values).await? {
        before = row.count(0)?;
        found.forget(before);
    }
    let bytes = (id.len() + xml.len()) as u64;
    let most = found.config.most_items(quotas.pubsub_items);
    trim(transaction, (account, node), found, most.saturating_sub(1)).await?;
    found.items += 1;
    found.bytes += bytes;
    found.place += 1;
    let sql = "INSERT INTO pubsub_item (account, node, id, place, stamp, bytes, xml) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let mut values = names(account, node);
    values.extend([
        (*id).into(),
        found.place.into(),
        publishing.stamp.into(),
        bytes.into(),
        (*xml).into(),
    ]);
    transaction.execute(sql, values).await?;
    count(transaction, account, node, found).await?;
    // What takes no more than what it replaces always has room.
    if bytes > before {
        let sql =
            "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM pubsub_node WHERE account = $1";
        let row = transaction.row(sql, vec![account.as_str().into()]).await?;
        if row.map_or(Ok(0), |row| row.count(0))? > quotas.pubsub_bytes {
            return Err(Full::Bytes(quotas.pubsub_bytes).into());
        }
    }
    Ok(())
}

impl Storage {
    /// Publishes an item on a node, which is made if it is not there (PE-3).
    pub(in super::super) async fn publish(
        &self,
        quotas: &Quotas,
        account: &BareJid,
        publishing: &Publishing<'_>,
    ) -> Result<Result<Published, Refused>, StorageError> {
        let mut transaction = self.database.begin().await?;
        let found = prepared(&mut transaction, quotas, account, publishing).await?;
        let Some(mut found) = found else {
            return Ok(Err(Refused::Precondition));
        };
        if found.config.persist {
            put(&mut transaction, quotas, account, publishing, &mut found).await?;
        }
        transaction.commit().await?;
        Ok(Ok(Published {
            config: found.config,
        }))
    }

    /// Takes items out of a node; returns which of them were there, and how it is configured, if it is there.
    pub(in super::super) async fn retract(
        &self,
        account: &BareJid,
        node: &str,
        ids: &[String],
    ) -> Result<Option<(Config, Vec<String>)>, StorageError> {
        let mut transaction = self.database.begin().await?;
        let Some(mut found) = find(&mut transaction, account, node).await? else {
            return Ok(None);
        };
        let mut gone = Vec::new();
        for chunk in ids.chunks(MOST_IDS) {
            let sql = format!(
                "DELETE FROM pubsub_item WHERE account = $1 AND node = $2 AND id IN ({}) \
                 RETURNING id, bytes",
                numbered(chunk.len(), 3)
            );
            let mut values = names(account, node);
            values.extend(chunk.iter().map(|id| Value::from(id.as_str())));
            for row in &transaction.rows(assembled(sql), values).await? {
                gone.push(row.text(0)?);
                found.forget(row.count(1)?);
            }
        }
        count(&mut transaction, account, node, &found).await?;
        transaction.commit().await?;
        Ok(Some((found.config, gone)))
    }

    /// Items of a node, the newest first, as many as fit into an answer.
    pub(in super::super) async fn items(
        &self,
        account: &BareJid,
        node: &str,
        wanted: &Wanted,
    ) -> Result<Vec<Item>, StorageError> {
        let mut values = names(account, node);
        let mut which = String::from("account = $1 AND node = $2");
        if !wanted.ids.is_empty() {
            let ids = numbered(wanted.ids.len(), values.len() + 1);
            which.push_str(&format!(" AND id IN ({ids})"));
            values.extend(wanted.ids.iter().map(|id| Value::from(id.as_str())));
        }
        if let Some(after) = &wanted.after {
            values.push(after.as_str().into());
            which.push_str(&format!(
                " AND place < (SELECT place FROM pubsub_item \
                 WHERE account = $1 AND node = $2 AND id = ${})",
                values.len()
            ));
        }
        let most = wanted.most.unwrap_or(u64::from(u32::MAX));
        if most > 1 && wanted.ids.len() != 1 {
            let Some(oldest) = self.oldest(&which, values.clone(), most).await? else {
                return Ok(Vec::new());
            };
            values.push(oldest.into());
            which.push_str(&format!(" AND place >= ${}", values.len()));
        }
        values.push(most.into());
        let sql = format!(
            "SELECT id, stamp, xml FROM pubsub_item WHERE {which} ORDER BY place DESC LIMIT 0 + ${}",
            values.len()
        );
        let rows = self.database.rows(assembled(sql), values).await?;
        rows.iter().map(item).collect()
    }

    /// The next items of a node behind a place, the oldest first, with their places.
    pub(in super::super) async fn items_behind(
        &self,
        account: &BareJid,
        node: &str,
        place: u64,
        most: u32,
    ) -> Result<Vec<(u64, Item)>, StorageError> {
        let sql = "SELECT id, stamp, xml, place FROM pubsub_item \
                   WHERE account = $1 AND node = $2 AND place > $3 ORDER BY place LIMIT 0 + $4";
        let mut values = names(account, node);
        values.extend([place, u64::from(most)].map(Value::from));
        let rows = self.database.rows(sql, values).await?;
        let one = |row: &Row| Ok((row.count(3)?, item(row)?));
        rows.iter().map(one).collect()
    }

    /// The place of the oldest of some items that still fits into an answer: what does not is not even read.
    async fn oldest(
        &self,
        which: &str,
        mut values: Vec<Value>,
        most: u64,
    ) -> Result<Option<u64>, StorageError> {
        values.push(most.into());
        let sql = format!(
            "SELECT place, bytes FROM pubsub_item WHERE {which} ORDER BY place DESC LIMIT 0 + ${}",
            values.len()
        );
        let (mut oldest, mut bytes) = (None, 0);
        for row in &self.database.rows(assembled(sql), values).await? {
            bytes += row.count(1)? + 64;
            if bytes > MOST_BYTES && oldest.is_some() {
                break;
            }
            oldest = Some(row.count(0)?);
        }
        Ok(oldest)
    }
}
