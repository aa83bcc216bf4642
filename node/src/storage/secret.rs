//! Random values that all nodes must agree on.

use super::Storage;
use super::error::StorageError;

impl Storage {
    /// The value of that name: what was proposed first, by whichever node.
    pub async fn shared_secret(
        &self,
        name: &str,
        proposed: [u8; 32],
    ) -> Result<Vec<u8>, StorageError> {
        let values = vec![name.into(), Some(proposed.to_vec()).into()];
        let sql = "INSERT INTO secret (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        self.database.execute(sql, values).await?;
        let row = self
            .database
            .row(
                "SELECT value FROM secret WHERE name = $1",
                vec![name.into()],
            )
            .await?;
        let value = row.map(|row| row.bytes_or_none(0)).transpose()?.flatten();
        value
            .filter(|value| value.len() >= 16)
            .ok_or(StorageError::Damaged("a secret"))
    }
}

#[cfg(test)]
mod tests {
    use crate::storage::testing;

    #[tokio::test]
    async fn t_24_all_nodes_get_the_secret_that_was_first() {
        testing::each(async |storage| {
            let first = storage.shared_secret("s", [1; 32]).await.unwrap();
            assert_eq!(storage.shared_secret("s", [2; 32]).await.unwrap(), first);
            assert_ne!(storage.shared_secret("t", [2; 32]).await.unwrap(), first);
        })
        .await;
    }
}
