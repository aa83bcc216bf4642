//! What has grown too old (`archive.retention`), and how much there is (`archive.quota_messages`).

use cluster::ArchiveId;
use proto::BareJid;

use super::name::{OWNER, forget_parties};
use super::row::{MOST_IDS, account, key, keyed, mid};
use crate::storage::{Storage, StorageError, assembled, numbered};

/// A row that is older than rows may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Whose.
    pub owner: BareJid,
    /// Which.
    pub mid: ArchiveId,
    /// From when, in milliseconds since 1970.
    pub stamp: u64,
}

impl Storage {
    /// Archived messages older than `before`, the oldest first, behind the one that is named; at most `max`.
    /// Hidden ones still wait for their user.
    pub(in crate::services) async fn expired_archive(
        &self,
        before: u64,
        behind: Option<&Expired>,
        max: u32,
    ) -> Result<Vec<Expired>, StorageError> {
        // An id begins with the time when its message entered, before it was handled.
        let end = ArchiveId::new(before, 0);
        let (last, owner) = match behind {
            Some(last) => (last.mid, last.owner.as_str()),
            None => (ArchiveId(0), ""),
        };
        let sql = format!(
            "SELECT name.owner, mid, stamp FROM archive JOIN archive_name AS name ON name.id = archive.owner \
             WHERE hidden = 0 AND mid < $2 AND stamp < $3 \
             AND (mid, archive.owner) > ($4, coalesce({OWNER}, 0)) ORDER BY mid, archive.owner LIMIT {max}"
        );
        let values = vec![owner.into(), key(end), before.into(), key(last)];
        let rows = self.database.rows(assembled(sql), values).await?;
        let expired = rows.iter().map(|row| {
            Ok(Expired {
                owner: account(&row.text(0)?)?,
                mid: mid(row, 1)?,
                stamp: row.count(2)?,
            })
        });
        expired.collect()
    }

    /// Deletes messages from an account's archive; says how many there were.
    pub(in crate::services) async fn delete_archived(
        &self,
        owner: &BareJid,
        mids: &[ArchiveId],
    ) -> Result<u64, StorageError> {
        let mut deleted = 0;
        let mut transaction = self.database.begin().await?;
        for chunk in mids.chunks(MOST_IDS) {
            let ids = numbered(chunk.len(), 2);
            let sql = format!(
                "DELETE FROM archive WHERE owner = {OWNER} AND hidden = 0 AND mid IN ({ids})"
            );
            let values = keyed(owner, chunk);
            deleted += transaction.execute(assembled(sql), values).await?;
        }
        if deleted > 0 {
            forget_parties(&mut transaction, owner).await?;
        }
        transaction.commit().await?;
        Ok(deleted)
    }

    /// How many messages an account's archive shows, counted up to `most`.
    pub(in crate::services) async fn archive_size(
        &self,
        owner: &BareJid,
        most: u64,
    ) -> Result<u64, StorageError> {
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM archive WHERE owner = {OWNER} AND hidden = 0 LIMIT 0 + $2) AS found"
        );
        let values = vec![owner.as_str().into(), most.into()];
        let row = self.database.row(assembled(sql), values).await?;
        row.map_or(Ok(0), |row| row.count(0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{alice, row};
    use super::*;
    use crate::services::mam::settings::KeepByDefault;
    use crate::storage::testing;
    use cluster::session::ArchiveRow;

    #[tokio::test]
    async fn retention_finds_what_is_old_in_pages_and_spares_what_is_hidden() {
        testing::each(async |storage| {
            let mut rows: Vec<_> = (1..=9).map(|n| row(n, "bob@x")).collect();
            rows[1].hidden = true;
            // The same moment, another owner.
            rows.push(ArchiveRow {
                owner: "eve@example.org".parse().unwrap(),
                ..row(3, "bob@x")
            });
            let all: Vec<_> = rows.iter().collect();
            storage.archive(&all, KeepByDefault::Always).await.unwrap();
            let mut found: Vec<Expired> = Vec::new();
            loop {
                let page = storage.expired_archive(5000, found.last(), 2).await;
                let page = page.unwrap();
                if page.is_empty() {
                    break;
                }
                found.extend(page);
            }
            let stamps: Vec<_> = found.iter().map(|expired| expired.stamp).collect();
            assert_eq!(stamps, [1000, 3000, 3000, 4000]);
            let mids: Vec<_> = rows[..3].iter().map(|row| row.mid).collect();
            assert_eq!(storage.delete_archived(&alice(), &mids).await.unwrap(), 2);
            assert_eq!(storage.archive_size(&alice(), 100).await.unwrap(), 6);
            assert_eq!(storage.archive_size(&alice(), 4).await.unwrap(), 4);
            assert_eq!(storage.fetch(&alice(), &mids).await.unwrap().len(), 1);
        })
        .await;
    }
}
