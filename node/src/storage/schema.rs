//! The tables, and how an older set of them becomes the present one.
//!
//! All missing steps run in one transaction, and only one process runs them: nodes that start together
//! may share a database.

use super::database::{Database, Transaction};
use super::error::StorageError;

/// The steps in order, for each engine. A step that has been released is never changed.
const STEPS: &[Step] = &[
    Step {
        sqlite: include_str!("schema/1.sqlite.sql"),
        postgres: include_str!("schema/1.postgres.sql"),
    },
    // The words of these are the same in both.
    Step {
        sqlite: include_str!("schema/2.sql"),
        postgres: include_str!("schema/2.sql"),
    },
    Step {
        sqlite: include_str!("schema/3.sql"),
        postgres: include_str!("schema/3.sql"),
    },
    Step {
        sqlite: include_str!("schema/4.sql"),
        postgres: include_str!("schema/4.sql"),
    },
    Step {
        sqlite: include_str!("schema/5.sqlite.sql"),
        postgres: include_str!("schema/5.postgres.sql"),
    },
];

struct Step {
    sqlite: &'static str,
    postgres: &'static str,
}

/// Names the lock that keeps others out meanwhile. Any number that nobody else uses.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7402105222)";

/// Brings the tables up to date.
pub(super) async fn upgrade(database: &Database) -> Result<(), StorageError> {
    let mut transaction = database.begin().await?;
    // BEGIN IMMEDIATE is SQLite's lock.
    if let Transaction::Postgres(_) = transaction {
        transaction.script(LOCK).await?;
    }
    transaction
        .script("CREATE TABLE IF NOT EXISTS holdfast_schema (version BIGINT NOT NULL)")
        .await?;
    let row = transaction
        .row("SELECT max(version) FROM holdfast_schema", Vec::new())
        .await?;
    let found = row
        .map(|row| row.number_or_none(0))
        .transpose()?
        .flatten()
        .unwrap_or(0);
    let known = STEPS.len() as i64;
    if found > known {
        return Err(StorageError::NewerSchema { found, known });
    }
    let done = usize::try_from(found).map_err(|_| StorageError::Damaged("a schema version"))?;
    for (index, step) in STEPS.iter().enumerate().skip(done) {
        let script = match transaction {
            Transaction::Sqlite(_) => step.sqlite,
            Transaction::Postgres(_) => step.postgres,
        };
        transaction.script(script).await?;
        let version = index as i64 + 1;
        transaction
            .execute(
                "INSERT INTO holdfast_schema (version) VALUES ($1)",
                vec![version.into()],
            )
            .await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StorageUrl;
    use crate::storage::{Storage, testing};

    #[tokio::test]
    async fn an_upgrade_may_be_repeated_but_a_newer_schema_is_left_alone() {
        testing::each(async |storage| {
            upgrade(&storage.database).await.unwrap();
            storage
                .database
                .execute("INSERT INTO holdfast_schema VALUES (99)", Vec::new())
                .await
                .unwrap();
            let error = upgrade(&storage.database).await.unwrap_err();
            assert!(matches!(error, StorageError::NewerSchema { found: 99, .. }));
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_that_start_together_share_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let url = StorageUrl::Sqlite(dir.path().join("shared.db"));
        let opening: Vec<_> = (0..6)
            .map(|_| {
                let url = url.clone();
                tokio::spawn(async move { Storage::open(&url).await })
            })
            .collect();
        for opened in opening {
            opened.await.unwrap().unwrap();
        }
    }
}
