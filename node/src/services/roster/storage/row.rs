//! A row of the table of contacts.

use proto::BareJid;

use super::item::{RosterItem, Subscription};
use crate::storage::{Row, StorageError};

/// The columns of an item, in the order in which [`item`] reads them.
pub(super) const COLUMNS: &str =
    "contact, listed, name, subscription, ask, approved, contact_groups, request, removed, version";

/// Reads [`COLUMNS`]; nothing if the contact has been removed.
pub(super) fn item(row: &Row) -> Result<Option<RosterItem>, StorageError> {
    if row.truth(8)? {
        return Ok(None);
    }
    let groups = serde_json::from_str(&row.text(6)?)
        .map_err(|_| StorageError::Damaged("a list of groups"))?;
    Ok(Some(RosterItem {
        jid: address(row, 0)?,
        listed: row.truth(1)?,
        name: row.text_or_none(2)?,
        subscription: Subscription::parse(&row.text(3)?)
            .ok_or(StorageError::Damaged("a subscription"))?,
        ask: row.truth(4)?,
        approved: row.truth(5)?,
        groups,
        request: row.text_or_none(7)?,
    }))
}

pub(super) fn address(row: &Row, index: usize) -> Result<BareJid, StorageError> {
    BareJid::new(&row.text(index)?).map_err(|_| StorageError::Damaged("an address"))
}
