//! What outlives sessions: the database, and the accounts in it.
//!
//! [`Storage`] is one handle over two engines, SQLite and PostgreSQL. Each service has its tables and statements, which
//! both engines understand, in a file of its own ([`Stored`]); `database` holds what differs between them.
//! Whatever shards ask for may be asked again after a failover, so every change can be repeated.
//!
//! # Invariants
//!
//! 1. A value reaches a statement as a bound parameter, never as text (T-72).
//! 2. A change is one transaction: it has happened or it has not.
//! 3. No password is ever stored (T-33).

mod account;
mod census;
mod database;
mod error;
mod health;
mod import;
mod invitation;
mod names;
mod registration;
mod removal;
mod revocation;
mod row;
mod schema;
mod secret;
mod token;
mod value;

pub use account::{AccountKeys, StoredKeys};
pub(crate) use database::{Database, Transaction, assembled, numbered};
pub use error::StorageError;
pub use invitation::{Added, Invitation, Purpose};
pub(crate) use names::{Names, Numbers};
pub use registration::Registered;
pub use revocation::{Ends, Revocation};
pub(crate) use row::Row;
pub use schema::{Schema, Step, Stored};
pub use token::{StoredToken, TokenChange};
pub(crate) use value::Value;

use std::sync::Arc;

use crate::config::StorageUrl;

/// The database. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Storage {
    pub(crate) database: Database,
    /// The numbers of names in the tables of the archive.
    pub(crate) names: Arc<Names>,
    schema: Arc<Schema>,
}

impl Storage {
    /// Connects, and brings the schema up to date.
    pub async fn open(url: &StorageUrl, schema: &Schema) -> Result<Self, StorageError> {
        let database = connect(url).await?;
        schema::upgrade(&database, schema).await?;
        Ok(Self::over(database, schema))
    }

    /// The same, for a node that is to start whether the server answers or not: until it does, everything
    /// that is asked of it fails as if it were away. Returns what there is to wait for, if anything.
    pub async fn open_soon(
        url: &StorageUrl,
        schema: &Schema,
    ) -> Result<(Self, Option<Upgrade>), StorageError> {
        let (error, url) = match (Self::open(url, schema).await, url) {
            (Ok(storage), _) => return Ok((storage, None)),
            (Err(error), StorageUrl::Postgres(url)) if error.is_temporary() => (error, url),
            (Err(error), _) => return Err(error),
        };
        let (_, database) = Database::postgres_lazy(url.reveal(), false)?;
        let storage = Self::over(database, schema);
        let upgrade = Upgrade {
            storage: storage.clone(),
            error,
        };
        Ok((storage, Some(upgrade)))
    }

    /// Connects and changes nothing; only good for [`Storage::ping`].
    pub async fn connect(url: &StorageUrl) -> Result<Self, StorageError> {
        Ok(Self::over(connect(url).await?, &Schema::default()))
    }

    fn over(database: Database, schema: &Schema) -> Self {
        Self {
            database,
            names: Arc::default(),
            schema: Arc::new(schema.clone()),
        }
    }

    /// An empty database in memory.
    #[cfg(test)]
    pub(crate) async fn in_memory(schema: &Schema) -> Result<Self, StorageError> {
        let database = Database::sqlite_in_memory()?;
        schema::upgrade(&database, schema).await?;
        Ok(Self::over(database, schema))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StorageError> {
        self.database.rows("SELECT 1", Vec::new()).await.map(drop)
    }

    /// The same for whoever looks again and again, and keeps the reason for those who wait for it meanwhile.
    pub async fn probe(&self) -> Result<(), StorageError> {
        self.database.probe().await
    }

    /// Whether it did not answer when it was looked at last.
    pub fn is_away(&self) -> bool {
        self.database.is_away()
    }

    /// Which engine this is, for people.
    pub fn engine(&self) -> &'static str {
        self.database.engine()
    }

    /// Waits for what is under way and closes all connections.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

async fn connect(url: &StorageUrl) -> Result<Database, StorageError> {
    match url {
        StorageUrl::Sqlite(file) => Database::sqlite(file).await,
        StorageUrl::Postgres(url) => Database::postgres(url.reveal()).await,
    }
}

/// A database that did not answer when its node started.
pub struct Upgrade {
    storage: Storage,
    error: StorageError,
}

impl Upgrade {
    /// Why it could not be used.
    pub fn error(&self) -> &StorageError {
        &self.error
    }

    /// Tries once more to bring the schema up to date; afterwards the database can be used.
    pub async fn attempt(&self) -> Result<(), StorageError> {
        let Storage {
            database, schema, ..
        } = &self.storage;
        schema::upgrade(&database.ahead(), schema).await?;
        database.set_open();
        Ok(())
    }
}

/// Runs a test on an empty database of each engine. PostgreSQL takes part when `HOLDFAST_TEST_POSTGRES`
/// names a server; each test gets a schema of its own there, so that tests do not meet.
#[cfg(test)]
pub(crate) mod testing {
    use std::cell::Cell;

    use super::*;
    use crate::services;

    thread_local! {
        static STATEMENTS: Cell<usize> = const { Cell::new(0) };
    }

    /// Notes that a statement is made.
    pub(in crate::storage) fn count() {
        STATEMENTS.set(STATEMENTS.get() + 1);
    }

    /// How many statements this thread has made.
    pub(crate) fn statements() -> usize {
        STATEMENTS.get()
    }

    /// An empty database in memory, with all tables.
    pub(crate) async fn in_memory() -> Storage {
        let schema = services::needs().schema;
        Storage::in_memory(&schema).await.unwrap()
    }

    pub(crate) async fn each(test: impl AsyncFn(Storage)) {
        test(in_memory().await).await;
        let schema = services::needs().schema;

        let dir = tempfile::tempdir().unwrap();
        let url = StorageUrl::Sqlite(dir.path().join("test.db"));
        test(Storage::open(&url, &schema).await.unwrap()).await;

        if let Ok(server) = std::env::var("HOLDFAST_TEST_POSTGRES") {
            let name = format!("test_{:016x}", rand::random::<u64>());
            let database = Database::postgres(&server).await.unwrap();
            database.raw(format!("CREATE SCHEMA {name}")).await.unwrap();
            let joint = if server.contains('?') { '&' } else { '?' };
            let own = format!("{server}{joint}options=-c%20search_path%3D{name}");
            let url = StorageUrl::Postgres(crate::config::Secret::new(own));
            test(Storage::open(&url, &schema).await.unwrap()).await;
            database
                .raw(format!("DROP SCHEMA {name} CASCADE"))
                .await
                .unwrap();
        }
    }
}
