//! What the statements about the archive have in common.

use cluster::session::Fetched;
use cluster::{ArchiveId, Order};
use proto::BareJid;
use proto::stanza::Packet;

use super::written::{self, Written};
use crate::storage::{Row, StorageError, Value};

/// Archive ids in one statement.
pub(super) const MOST_IDS: usize = 256;

/// The column that [`header`] reads: the start tag of nearly every stanza.
pub(super) const FRONT: &str = "substr(stanza, 1, 8192)";

/// An archived message.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its archive id.
    pub mid: ArchiveId,
    /// When it was handled, milliseconds since 1970.
    pub stamp: u64,
    /// Its place in the archive: the order that the shard gave it.
    pub order: Order,
    /// The message.
    pub stanza: Written,
}

/// The value of an id. Its bytes are in the order of the ids.
pub(super) fn key(mid: ArchiveId) -> Value {
    mid.0.to_be_bytes().to_vec().into()
}

pub(super) fn keyed(owner: &BareJid, mids: &[ArchiveId]) -> Vec<Value> {
    let mids = mids.iter().map(|mid| key(*mid));
    [owner.as_str().into()].into_iter().chain(mids).collect()
}

/// Reads the columns `mid, stamp, stanza, place`.
pub(super) fn entry(row: &Row) -> Result<Entry, StorageError> {
    Ok(Entry {
        mid: mid(row, 0)?,
        stamp: row.count(1)?,
        order: Order(row.count(3)?),
        stanza: Written::new(row.text(2)?)?,
    })
}

/// Reads the columns `mid, stamp, stanza, place, hidden`.
pub(super) fn fetched(row: &Row) -> Result<Option<Fetched>, StorageError> {
    fetched_as(row, Written::new(row.text(2)?)?.packet()?).map(Some)
}

/// Reads the columns `mid, stamp, FRONT, place, hidden`: all but what the message says. None if the start tag is longer.
pub(super) fn header(row: &Row) -> Result<Option<Fetched>, StorageError> {
    let front = row.text(2)?;
    // The writer escapes this character wherever it does not end a tag.
    let Some((tag, _)) = front.split_once('>') else {
        return Ok(None);
    };
    fetched_as(row, written::header(tag)?).map(Some)
}

fn fetched_as(row: &Row, packet: Packet) -> Result<Fetched, StorageError> {
    Ok(Fetched {
        mid: mid(row, 0)?,
        stamp: row.count(1)?,
        archived: !row.truth(4)?,
        packet,
    })
}

pub(super) fn mid(row: &Row, index: usize) -> Result<ArchiveId, StorageError> {
    let bytes = row.array(index)?;
    Ok(ArchiveId(u128::from_be_bytes(bytes)))
}

/// The name of an account.
pub(super) fn account(text: &str) -> Result<BareJid, StorageError> {
    BareJid::new(text).map_err(|_| StorageError::Damaged("an account"))
}
