//! Small things that users keep: a vCard, private XML, and when they were last here.

use proto::BareJid;

use super::Storage;
use super::error::StorageError;

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

    /// Replaces a private element of the account.
    pub async fn set_private(
        &self,
        account: &BareJid,
        key: &str,
        xml: &str,
    ) -> Result<(), StorageError> {
        let sql = "INSERT INTO private_xml (account, name, xml) VALUES ($1, $2, $3) \
                   ON CONFLICT (account, name) DO UPDATE SET xml = excluded.xml";
        let values = vec![account.as_str().into(), key.into(), xml.into()];
        self.database.execute(sql, values).await.map(drop)
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

    /// Notes that a session of the account has ended. An older time than the one noted changes nothing.
    pub async fn set_last_activity(
        &self,
        account: &BareJid,
        stamp: u64,
        status: Option<&str>,
    ) -> Result<(), StorageError> {
        let sql = "INSERT INTO last_activity (account, stamp, status) VALUES ($1, $2, $3) \
                   ON CONFLICT (account) DO UPDATE SET stamp = excluded.stamp, status = excluded.status \
                   WHERE last_activity.stamp <= excluded.stamp";
        let values = vec![
            account.as_str().into(),
            stamp.into(),
            status.map(str::to_owned).into(),
        ];
        self.database.execute(sql, values).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    async fn the_latest_logout_counts() {
        testing::each(async |storage| {
            storage
                .set_last_activity(&alice(), 20, Some("bye"))
                .await
                .unwrap();
            storage.set_last_activity(&alice(), 10, None).await.unwrap();
            let expect = LastActivity {
                stamp: 20,
                status: Some("bye".to_owned()),
            };
            assert_eq!(storage.last_activity(&alice()).await.unwrap(), Some(expect));
        })
        .await;
    }
}
