//! The tables, and how an older set of them becomes the present one.
//!
//! Each part of the server brings its own ([`Stored`]): services do so when they attach themselves, and what everything
//! rests on, the accounts, is here. Steps are numbered through all parts. All that are missing run in one transaction,
//! and only one process runs them: nodes that start together may share a database.

use super::database::{Database, Transaction};
use super::error::StorageError;

/// What a part of the server keeps in the database.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// How its tables have come to be.
    pub steps: &'static [Step],
    /// Statements that delete all that belongs to the account whose name is `$1`.
    pub removals: &'static [&'static str],
}

/// One step of the tables. A step that has been released is never changed.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    number: i64,
    sqlite: &'static str,
    postgres: &'static str,
}

impl Step {
    /// A step that both engines understand. Its number is the next one that no release has: a database that has done
    /// the steps of a number does not come back to it.
    pub const fn new(number: i64, sql: &'static str) -> Self {
        Self::of_each(number, sql, sql)
    }

    /// The same with words of its own for each engine.
    pub const fn of_each(number: i64, sqlite: &'static str, postgres: &'static str) -> Self {
        Self {
            number,
            sqlite,
            postgres,
        }
    }
}

/// The accounts, what nodes have to agree on, and whose sessions are to end.
const OWN: Stored = Stored {
    steps: &[
        Step::of_each(
            1,
            include_str!("schema/1.sqlite.sql"),
            include_str!("schema/1.postgres.sql"),
        ),
        Step::new(4, include_str!("schema/4.sql")),
        Step::of_each(
            5,
            include_str!("schema/5.sqlite.sql"),
            include_str!("schema/5.postgres.sql"),
        ),
        Step::of_each(
            7,
            include_str!("schema/7.sqlite.sql"),
            include_str!("schema/7.postgres.sql"),
        ),
    ],
    // The account itself has a statement of its own, which says whether there was one. The note that its sessions are
    // to end stays for whoever has them.
    removals: &[
        "DELETE FROM fast_token WHERE account = $1",
        "DELETE FROM unfinished_account WHERE account = $1",
        "DELETE FROM invitation WHERE contact = $1 OR inviter = $1",
    ],
};

/// All tables.
#[derive(Clone, Debug)]
pub struct Schema {
    steps: Vec<Step>,
    removals: Vec<&'static str>,
}

impl Default for Schema {
    /// Only what everything rests on.
    fn default() -> Self {
        let mut schema = Self {
            steps: Vec::new(),
            removals: Vec::new(),
        };
        schema.add(&OWN);
        schema
    }
}

impl Schema {
    /// Adds what one more part keeps.
    pub fn add(&mut self, stored: &Stored) {
        self.steps.extend(stored.steps);
        // Those of one number keep the order of their parts.
        self.steps.sort_by_key(|step| step.number);
        self.removals.extend(stored.removals);
    }

    /// What deletes all that belongs to an account.
    pub(super) fn removals(&self) -> &[&'static str] {
        &self.removals
    }
}

/// Names the lock that keeps others out meanwhile. Any number that nobody else uses.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7402105222)";

/// Brings the tables up to date.
pub(super) async fn upgrade(database: &Database, schema: &Schema) -> Result<(), StorageError> {
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
    let known = schema.steps.last().map_or(0, |step| step.number);
    if found > known {
        return Err(StorageError::NewerSchema { found, known });
    }
    let done = schema.steps.partition_point(|step| step.number <= found);
    for steps in schema.steps[done..].chunk_by(|one, next| one.number == next.number) {
        for step in steps {
            let script = match transaction {
                Transaction::Sqlite(_) => step.sqlite,
                Transaction::Postgres(_) => step.postgres,
            };
            transaction.script(script).await?;
        }
        let number = steps[0].number;
        let sql = "INSERT INTO holdfast_schema (version) VALUES ($1)";
        transaction.execute(sql, vec![number.into()]).await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests;
