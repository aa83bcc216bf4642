//! What the statements about the archive have in common.

use cluster::{ArchiveId, Order};
use proto::stanza::{Packet, Stanza};
use proto::{BareJid, Element, ns};

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
    /// The stanza.
    pub packet: Packet,
}

pub(super) fn keyed(owner: &BareJid, mids: &[ArchiveId]) -> Vec<Value> {
    let mids = mids.iter().map(|mid| mid.to_string().into());
    [owner.as_str().into()].into_iter().chain(mids).collect()
}

/// Reads the columns `mid, stamp, stanza, place`.
pub(super) fn entry(row: &Row) -> Result<Entry, StorageError> {
    Ok(Entry {
        mid: mid(row, 0)?,
        stamp: row.count(1)?,
        order: Order(row.count(3)?),
        packet: packet(&row.text(2)?)?,
    })
}

/// Reads the columns `mid, stamp, FRONT, place`: all but what the message says. None if the start tag is longer.
pub(super) fn header(row: &Row) -> Result<Option<Entry>, StorageError> {
    let front = row.text(2)?;
    // The writer escapes this character wherever it does not end a tag.
    let Some((tag, _)) = front.split_once('>') else {
        return Ok(None);
    };
    let empty = format!("{}/>", tag.trim_end_matches('/'));
    Ok(Some(Entry {
        mid: mid(row, 0)?,
        stamp: row.count(1)?,
        order: Order(row.count(3)?),
        packet: packet(&empty)?,
    }))
}

pub(super) fn mid(row: &Row, index: usize) -> Result<ArchiveId, StorageError> {
    row.text(index)?
        .parse()
        .map_err(|_| StorageError::Damaged("an archive id"))
}

fn packet(xml: &str) -> Result<Packet, StorageError> {
    stanza(xml).map(|stanza| stanza.pack())
}

/// Reads the column `stanza`.
pub(super) fn stanza(xml: &str) -> Result<Stanza, StorageError> {
    let element = Element::parse_in(ns::CLIENT, xml)
        .ok()
        .and_then(|elements| elements.into_iter().next());
    let stanza = element.and_then(|element| Stanza::parse(element).ok());
    stanza.ok_or(StorageError::Damaged("a stanza"))
}
