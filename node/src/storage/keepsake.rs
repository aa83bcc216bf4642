//! Small things that users keep: a vCard, private XML, and when they were last here.

use proto::BareJid;

use super::Storage;
use super::database::{assembled, placeholders};
use super::error::{Full, StorageError};

/// Rows in one statement.
const MOST_ROWS: usize = 64;

/// When an account's last session ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastActivity {
    /// Milliseconds since 1970.
    pub stamp: u64,
    /// The text of its last presence.
    pub status: Option<String>,
}

impl Storage {
    /// The account's vCard, written (XEP-0054).
    pub async fn vcard(&self, account: &BareJid) -> Result<Option<String>, StorageError> {
        let sql = "SELECT xml FROM vcard WHERE account = $1";
        let row = self
            .database
            .row(sql, vec![account.as_str().into()])
            .await?;
        row.map(|row| row.text(0)).transpose()
    }

    /// Replaces the account's vCard.
    pub async fn set_vcard(&self, account: &BareJid, xml: &str) -> Result<(), StorageError> {
        let sql = "INSERT INTO vcard (account, xml) VALUES ($1, $2) \
                   ON CONFLICT (account) DO UPDATE SET xml = excluded.xml";
        self.database
            .execute(sql, vec![account.as_str().into(), xml.into()])
            .await
            .map(drop)
    }

    /// A private element of the account by its key, written (XEP-0049).
    pub async fn private(
        &self,
        account: &BareJid,
        key: &str,
    ) -> Result<Option<String>, StorageError> {
        let sql = "SELECT xml FROM private_xml WHERE account = $1 AND name = $2";
        let row = self
            .database
            .row(sql, vec![account.as_str().into(), key.into()])
            .await?;
        row.map(|row| row.text(0)).transpose()
    }

    /// Replaces a private element of the account, if there is room for it. One that takes no more than the
    /// one before always has room.
    pub async fn set_private(
        &self,
        account: &BareJid,
        key: &str,
        xml: &str,
    ) -> Result<(), StorageError> {
        let mut transaction = self.database.begin().await?;
        transaction.lock(account.as_str()).await?;
        // Their sizes are compared as they are counted: keys are texts of the client's as well.
        let sql = "SELECT name, CAST(octet_length(name) + octet_length(xml) AS BIGINT) \
                   FROM private_xml WHERE account = $1";
        let rows = transaction.rows(sql, vec![account.as_str().into()]).await?;
        let (mut elements, mut bytes, mut own) = (0, 0, None);
        for row in &rows {
            let size = row.count(1)?;
            match row.text(0)? == key {
                true => own = Some(size),
                false => (elements, bytes) = (elements + 1, bytes + size),
            }
        }
        let (size, quotas) = ((key.len() + xml.len()) as u64, &self.quotas);
        if own.is_none() && elements >= quotas.private_elements {
            return Err(Full::PrivateElements(quotas.private_elements).into());
        }
        if own.is_none_or(|own| size > own) && bytes + size > quotas.private_bytes {
            return Err(Full::PrivateBytes(quotas.private_bytes).into());
        }
        let sql = "INSERT INTO private_xml (account, name, xml) VALUES ($1, $2, $3) \
                   ON CONFLICT (account, name) DO UPDATE SET xml = excluded.xml";
        let values = vec![account.as_str().into(), key.into(), xml.into()];
        transaction.execute(sql, values).await?;
        transaction.commit().await
    }

    /// When the account's last session ended, if one ever has (XEP-0012).
    pub async fn last_activity(
        &self,
        account: &BareJid,
    ) -> Result<Option<LastActivity>, StorageError> {
        let sql = "SELECT stamp, status FROM last_activity WHERE account = $1";
        let row = self
            .database
            .row(sql, vec![account.as_str().into()])
            .await?;
        row.map(|row| {
            Ok(LastActivity {
                stamp: row.count(0)?,
                status: row.text_or_none(1)?,
            })
        })
        .transpose()
    }

    /// Notes that sessions of these accounts have ended, of each account once, and what they said. An older
    /// time than the one noted changes nothing.
    pub async fn set_last_activity(
        &self,
        stamp: u64,
        accounts: &[(&BareJid, Option<String>)],
    ) -> Result<(), StorageError> {
        let mut transaction = self.database.begin().await?;
        for chunk in accounts.chunks(MOST_ROWS) {
            let sql = format!(
                "INSERT INTO last_activity (account, stamp, status) VALUES {} \
                 ON CONFLICT (account) DO UPDATE SET stamp = excluded.stamp, status = excluded.status \
                 WHERE last_activity.stamp <= excluded.stamp",
                placeholders(chunk.len(), 3)
            );
            let values = chunk.iter().flat_map(|(account, status)| {
                [account.as_str().into(), stamp.into(), status.clone().into()]
            });
            transaction
                .execute(assembled(sql), values.collect())
                .await?;
        }
        transaction.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Quotas;
    use crate::storage::testing;

    fn alice() -> BareJid {
        BareJid::new("alice@example.org").unwrap()
    }

    #[tokio::test]
    async fn a_vcard_is_replaced() {
        testing::each(async |storage| {
            assert_eq!(storage.vcard(&alice()).await.unwrap(), None);
            for xml in ["<a/>", "<b/>"] {
                storage.set_vcard(&alice(), xml).await.unwrap();
                assert_eq!(storage.vcard(&alice()).await.unwrap().as_deref(), Some(xml));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn t_72_a_hostile_key_is_only_a_key() {
        testing::each(async |storage| {
            let hostile = "'; DROP TABLE account; -- %_\u{1F600}";
            storage
                .set_private(&alice(), hostile, "<x/>")
                .await
                .unwrap();
            storage
                .set_private(&alice(), "other", "<y/>")
                .await
                .unwrap();
            assert_eq!(
                storage.private(&alice(), hostile).await.unwrap().as_deref(),
                Some("<x/>")
            );
            assert_eq!(storage.private(&alice(), "%").await.unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn t_54_private_elements_are_bounded_in_number_and_bytes() {
        for (bytes, fits) in [(9, false), (10, true), (11, true)] {
            testing::each(async |storage| {
                let storage = storage.with_quotas(&Quotas {
                    private_bytes: bytes,
                    private_elements: 2,
                    ..Quotas::default()
                });
                let set = async |key: &str, xml: &str| match storage
                    .set_private(&alice(), key, xml)
                    .await
                {
                    Ok(()) => None,
                    Err(StorageError::Full(full)) => Some(full),
                    Err(other) => panic!("{other}"),
                };
                assert_eq!(set("1", "<a/>").await, None);
                let refused = (!fits).then_some(Full::PrivateBytes(bytes));
                assert_eq!(set("2", "<b/>").await, refused);
                // What takes no more than what was there.
                assert_eq!(set("1", "<c/>").await, None);
                if fits {
                    assert_eq!(set("3", "").await, Some(Full::PrivateElements(2)));
                }
            })
            .await;
        }
    }

    #[tokio::test]
    async fn the_latest_logout_counts() {
        testing::each(async |storage| {
            let alice = alice();
            let said = [(&alice, Some("bye".to_owned()))];
            storage.set_last_activity(20, &said).await.unwrap();
            let nothing = [(&alice, None)];
            storage.set_last_activity(10, &nothing).await.unwrap();
            let expect = LastActivity {
                stamp: 20,
                status: Some("bye".to_owned()),
            };
            assert_eq!(storage.last_activity(&alice).await.unwrap(), Some(expect));
        })
        .await;
    }
}
