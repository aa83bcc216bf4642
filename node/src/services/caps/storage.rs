//! What is behind verified hashes, for all accounts together.

use crate::storage::{Step, Storage, StorageError, Stored};

/// The table. It belongs to no account.
pub const STORED: Stored = Stored {
    steps: &[Step::new(
        7,
        "CREATE TABLE capabilities (
    hash TEXT NOT NULL PRIMARY KEY,
    nodes TEXT NOT NULL,
    stamp BIGINT NOT NULL
);
CREATE INDEX capabilities_stamp ON capabilities (stamp);",
    )],
    removals: &[],
};

/// Hashes that are kept. There are some hundreds of clients and versions in use; whoever makes up more of them
/// only has clients asked again.
const MOST_HASHES: u64 = if cfg!(test) { 50 } else { 5_000 };

impl Storage {
    /// The nodes that clients with this hash want to hear of, if it is known.
    pub(super) async fn capabilities(
        &self,
        hash: &str,
    ) -> Result<Option<Vec<Box<str>>>, StorageError> {
        let sql = "SELECT nodes FROM capabilities WHERE hash = $1";
        let row = self.database.row(sql, vec![hash.into()]).await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let nodes = serde_json::from_str(&row.text(0)?);
        nodes
            .map(Some)
            .map_err(|_| StorageError::Damaged("a list of nodes"))
    }

    /// Keeps what is behind a hash, in place of the oldest if there are too many.
    pub(super) async fn set_capabilities(
        &self,
        hash: &str,
        now: u64,
        nodes: &[Box<str>],
    ) -> Result<(), StorageError> {
        // Texts in a list can always be written.
        let nodes = serde_json::to_string(nodes).unwrap_or_default();
        let sql = "INSERT INTO capabilities (hash, nodes, stamp) VALUES ($1, $2, $3) \
                   ON CONFLICT (hash) DO NOTHING";
        let values = vec![hash.into(), nodes.into(), now.into()];
        self.database.execute(sql, values).await?;
        let sql = "DELETE FROM capabilities WHERE hash IN \
                   (SELECT hash FROM capabilities ORDER BY stamp DESC, hash LIMIT 100 OFFSET $1)";
        let values = vec![MOST_HASHES.into()];
        self.database.execute(sql, values).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing;

    #[tokio::test]
    async fn di_3_hashes_are_kept_and_the_oldest_give_way() {
        testing::each(async |storage| {
            let nodes: Vec<Box<str>> = vec!["urn:a".into(), "'b\n".into()];
            assert_eq!(storage.capabilities("sha-1:x").await.unwrap(), None);
            for _ in 0..2 {
                storage
                    .set_capabilities("sha-1:x", 1, &nodes)
                    .await
                    .unwrap();
            }
            assert_eq!(storage.capabilities("sha-1:x").await.unwrap(), Some(nodes));
        })
        .await;
        let storage = testing::in_memory().await;
        for n in 0..=MOST_HASHES {
            storage
                .set_capabilities(&n.to_string(), n, &[])
                .await
                .unwrap();
        }
        assert_eq!(storage.capabilities("0").await.unwrap(), None);
        assert!(storage.capabilities("1").await.unwrap().is_some());
    }
}
