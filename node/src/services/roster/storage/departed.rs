//! The contacts of accounts that are gone, until they have heard of it.

use proto::BareJid;

use super::super::subscription::State;
use super::item::Subscription;
use super::row::address;
use crate::storage::{Storage, StorageError, assembled};

impl Storage {
    /// Up to `max` contacts of an account that is gone, and how the two stood to each other, seen from the account.
    pub(in crate::services) async fn departed(
        &self,
        leaver: &BareJid,
        max: u32,
    ) -> Result<Vec<(BareJid, State)>, StorageError> {
        let sql = "SELECT contact, subscription, ask, pending FROM departed_contact \
                   WHERE leaver = $1 ORDER BY contact LIMIT 0 + $2";
        let values = vec![leaver.as_str().into(), i64::from(max).into()];
        let rows = self.database.rows(sql, values).await?;
        let contact = rows.iter().map(|row| {
            let subscription = Subscription::parse(&row.text(1)?);
            let subscription = subscription.ok_or(StorageError::Damaged("a subscription"))?;
            let (to, from) = (subscription.to(), subscription.from());
            let state = State::new(to, from, row.truth(2)?, row.truth(3)?);
            Ok((address(row, 0)?, state))
        });
        contact.collect()
    }

    /// These have heard of it.
    pub(in crate::services) async fn forget_departed(
        &self,
        leaver: &BareJid,
        contacts: &[BareJid],
    ) -> Result<(), StorageError> {
        let names: Vec<_> = (2..contacts.len() + 2).map(|n| format!("${n}")).collect();
        let names = names.join(", ");
        let sql =
            format!("DELETE FROM departed_contact WHERE leaver = $1 AND contact IN ({names})");
        let contacts = contacts.iter().map(|contact| contact.as_str().into());
        let values = [leaver.as_str().into()].into_iter().chain(contacts);
        let values = values.collect();
        self.database
            .execute(assembled(sql), values)
            .await
            .map(drop)
    }
}
