//! All of an archive, as it leaves the server and comes back.

use cluster::Order;
use cluster::session::ArchiveRow;
use proto::BareJid;

use super::name::OWNER;
use super::preference::Fate;
use super::row::{Entry, entry};
use crate::storage::{Storage, StorageError, Value, assembled};

impl Storage {
    /// The next messages of an archive behind a place, in order: those that it shows, or those that wait out of sight.
    pub(in crate::services) async fn archive_of(
        &self,
        owner: &BareJid,
        hidden: bool,
        behind: Option<Order>,
        max: u32,
    ) -> Result<Vec<Entry>, StorageError> {
        let hidden = i64::from(hidden);
        let sql = format!(
            "SELECT mid, stamp, stanza, place FROM archive WHERE owner = {OWNER} AND hidden = {hidden} AND place > $2 \
             ORDER BY place LIMIT {max}"
        );
        let behind = behind.map_or(Value::from(-1_i64), |order| order.0.into());
        let values = vec![owner.as_str().into(), behind];
        let rows = self.database.rows(assembled(sql), values).await?;
        rows.iter().map(entry).collect()
    }

    /// Adds messages to an archive whatever its owner prefers now: it has shown them before.
    pub(in crate::services) async fn archive_anew(
        &self,
        rows: &[ArchiveRow],
    ) -> Result<(), StorageError> {
        let rows: Vec<_> = rows.iter().map(|row| (row, Fate::Shown)).collect();
        self.write(&rows, &[]).await.map(drop)
    }
}
