//! The two engines: how each is reached, and one way to run a statement on either.
//!
//! Both understand `$1`, `ON CONFLICT` and `RETURNING`, so a statement is written once. A transaction of
//! SQLite takes the write lock when it begins: one that read first and then wrote would fail whenever
//! another process wrote in between, and several nodes of a demo share one file.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::disk;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Pool, Postgres, SqlSafeStr, SqlStr, Sqlite,
};

use super::error::StorageError;
use super::health::Health;
use super::row::Row;
use super::value::{Value, postgres, sqlite};

/// How long a statement waits for a connection. Senders wait behind it, so it is short.
const ACQUIRE: Duration = Duration::from_secs(5);
/// How long a server may take to answer. It gives up by itself before that.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a statement of SQLite waits for another process's write.
const BUSY: Duration = Duration::from_secs(10);
/// Connections to PostgreSQL per node.
const POSTGRES_CONNECTIONS: u32 = 10;
/// Connections that read an SQLite file; the one that writes is apart.
const SQLITE_READERS: u32 = 4;

/// What the connection that writes keeps in memory of an SQLite file, in KiB: the ends of the archives of those who
/// chat. What does not fit is read for each row.
const SQLITE_CACHE: u32 = 16 << 10;
/// Pages of the write-ahead log, of 4 KiB, after which they are copied into the file. A page that is written again and
/// again is copied once in that time.
const SQLITE_CHECKPOINT: u32 = 8 << 10;

/// An open database of either engine.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    /// A file.
    Sqlite {
        /// The one connection that writes.
        writer: Pool<Sqlite>,
        /// Those that read; in memory the same.
        readers: Pool<Sqlite>,
    },
    /// A server.
    Postgres(Server),
}

/// Connections to a server, closed to statements until the tables are known to be up to date.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pool: Pool<Postgres>,
    open: Arc<AtomicBool>,
    health: Health,
}

impl Server {
    /// The connections, once statements may be run.
    fn pool(&self) -> Result<&Pool<Postgres>, StorageError> {
        match self.open.load(Ordering::Acquire) {
            true => Ok(&self.pool),
            false => Err(StorageError::NotYet),
        }
    }

    /// Has the server do something that needs a connection, and says why there is none.
    async fn asked<T>(
        &self,
        request: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StorageError> {
        let answer = answered(request).await;
        answer.map_err(|error| self.health.explained(error.into()))
    }
}

/// A statement for SQLite, whose plan follows a limit that is a bare parameter: it would prepare the statement anew
/// whenever a value is bound. `LIMIT 0 + $1` has one plan.
fn planned(sql: impl SqlSafeStr) -> SqlStr {
    let sql = sql.into_sql_str();
    debug_assert!(!sql.as_str().contains("LIMIT $"), "{}", sql.as_str());
    sql
}

impl Database {
    /// Opens a file, and makes it and its directory if need be, for its owner only (T-33).
    pub(crate) async fn sqlite(file: &Path) -> Result<Self, StorageError> {
        let failed = |source| StorageError::Open {
            path: file.to_owned(),
            source,
        };
        if let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            let private = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir);
            private.map_err(failed)?;
        }
        make_private(file).map_err(failed)?;
        for part in ["-wal", "-shm"] {
            let mut name = file.as_os_str().to_owned();
            name.push(part);
            disk::private_file(Path::new(&name)).map_err(failed)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            // Shards forget a pending row once it is stored: it must survive a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY);
        let writing = options
            .clone()
            .pragma("cache_size", format!("-{SQLITE_CACHE}"))
            // What a statement may have to take back is kept until it ends, and there is no need to write it anywhere.
            .pragma("temp_store", "MEMORY")
            .pragma("wal_autocheckpoint", SQLITE_CHECKPOINT.to_string());
        let writer = sqlite_pool(1).connect_lazy_with(writing);
        // The first connection sets the journal mode. SQLite does not wait for other processes there.
        let mut tries = 0;
        while let Err(error) = writer.acquire().await {
            let error = StorageError::from(error);
            tries += 1;
            if !error.is_temporary() || tries > 50 {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let readers = sqlite_pool(SQLITE_READERS).connect_lazy_with(options);
        Ok(Self::Sqlite { writer, readers })
    }

    /// A database that lives as long as this handle.
    #[cfg(test)]
    pub(crate) fn sqlite_in_memory() -> Result<Self, StorageError> {
        let options = SqliteConnectOptions::from_str("sqlite::memory:")?;
        let writer = sqlite_pool(1).connect_lazy_with(options);
        Ok(Self::Sqlite {
            readers: writer.clone(),
            writer,
        })
    }

    /// Connects to a server. It is tried once by itself: a pool would only say that it took too long.
    pub(crate) async fn postgres(url: &str) -> Result<Self, StorageError> {
        let (options, database) = Self::postgres_lazy(url, true)?;
        let attempt = tokio::time::timeout(ACQUIRE, options.connect()).await;
        let attempt = attempt.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        attempt.close().await?;
        Ok(database)
    }

    /// A server that is connected to when it is needed; `open`: its tables are up to date.
    pub(crate) fn postgres_lazy(
        url: &str,
        open: bool,
    ) -> Result<(PgConnectOptions, Self), StorageError> {
        let mut options = PgConnectOptions::from_str(url).map_err(|_| StorageError::Url)?;
        let host = options.get_host();
        let near = options.get_socket().is_some()
            || host.starts_with('/')
            || host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback());
        if !near && !url.contains("sslmode=") && !url.contains("ssl-mode=") {
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
        // A statement that hangs holds up a shard's effects; it fails and is repeated instead.
        let options = options
            .application_name("holdfast")
            .options([("statement_timeout", "15s")]);
        let pool = PoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(ACQUIRE);
        let server = Server {
            pool: pool.connect_lazy_with(options.clone()),
            open: Arc::new(AtomicBool::new(open)),
            health: Health::new(options.clone()),
        };
        Ok((options, Self::Postgres(server)))
    }

    /// The same database, whose tables are just being brought up to date.
    pub(crate) fn ahead(&self) -> Self {
        match self {
            Self::Sqlite { .. } => self.clone(),
            Self::Postgres(server) => Self::Postgres(Server {
                open: Arc::new(AtomicBool::new(true)),
                ..server.clone()
            }),
        }
    }

    /// Its tables are up to date: statements may be run.
    pub(crate) fn set_open(&self) {
        if let Self::Postgres(server) = self {
            server.open.store(true, Ordering::Release);
        }
    }

    /// The engine's name.
    pub(crate) fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    /// Whether it answers now.
    pub(crate) async fn probe(&self) -> Result<(), StorageError> {
        match self {
            Self::Sqlite { .. } => self.rows("SELECT 1", Vec::new()).await.map(drop),
            Self::Postgres(server) => server.health.look(server.pool()?).await,
        }
    }

    /// Whether it did not answer at the last probe.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Sqlite { .. } => false,
            Self::Postgres(server) => server.health.trouble().is_some(),
        }
    }

    /// Waits for what is under way and closes all connections.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(server) => server.pool.close().await,
        }
    }

    /// Reads.
    pub(crate) async fn rows(
        &self,
        sql: impl SqlSafeStr,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StorageError> {
        Ok(match self {
            Self::Sqlite { readers, .. } => {
                let rows = sqlx::query_with(planned(sql), sqlite(values)?)
                    .fetch_all(readers)
                    .await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(server) => {
                let pool = server.pool()?;
                let rows = server
                    .asked(sqlx::query_with(sql, postgres(values)?).fetch_all(pool))
                    .await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Reads one row, if there is one.
    pub(crate) async fn row(
        &self,
        sql: impl SqlSafeStr,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StorageError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Changes, in a transaction of its own. Says how many rows.
    pub(crate) async fn execute(
        &self,
        sql: impl SqlSafeStr,
        values: Vec<Value>,
    ) -> Result<u64, StorageError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => sqlx::query_with(planned(sql), sqlite(values)?)
                .execute(writer)
                .await?
                .rows_affected(),
            Self::Postgres(server) => server
                .asked(sqlx::query_with(sql, postgres(values)?).execute(server.pool()?))
                .await?
                .rows_affected(),
        })
    }

    /// Begins a transaction that is going to change something.
    pub(crate) async fn begin(&self) -> Result<Transaction, StorageError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => {
                Transaction::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            Self::Postgres(server) => {
                Transaction::Postgres(server.asked(server.pool()?.begin()).await?)
            }
        })
    }

    #[cfg(test)]
    pub(crate) async fn raw(&self, sql: String) -> Result<(), StorageError> {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite { writer, .. } => sqlx::raw_sql(sql).execute(writer).await.map(|_| ())?,
            Self::Postgres(server) => sqlx::raw_sql(sql).execute(&server.pool).await.map(|_| ())?,
        }
        Ok(())
    }
}

/// What a server says, unless it is silent for too long: one that was paused says nothing at all.
async fn answered<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let answer = tokio::time::timeout(ANSWER, work).await;
    answer.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

fn sqlite_pool(connections: u32) -> PoolOptions<Sqlite> {
    // Neither age nor idleness closes a connection: one in memory would take its data with it.
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        // A full disk may fail the end of a transaction. Nobody else must go on within it.
        .before_acquire(|connection: &mut sqlx::SqliteConnection, _| {
            let clean = !connection.is_in_transaction();
            Box::pin(async move { Ok(clean) })
        })
}

fn make_private(file: &Path) -> std::io::Result<()> {
    disk::open(fs::OpenOptions::new().append(true).create(true), file).map(drop)
}

/// A transaction of either engine. Dropped without [`Transaction::commit`] it has never been.
pub(crate) enum Transaction {
    /// It holds the write lock.
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    /// Read committed: rows are locked by the first statement that changes them.
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Transaction {
    /// Places for that many rows of that many values, which are all that the statement has.
    pub(crate) fn placeholders(&self, rows: usize, columns: usize) -> String {
        let naming = match self {
            Self::Sqlite(_) => Naming::Marks,
            Self::Postgres(_) => Naming::Numbers,
        };
        naming.placeholders(rows, columns)
    }

    /// The statement that adds so many rows, of so many values each, to the columns of a table, but for those that are
    /// there already. Its only values are theirs.
    ///
    /// SQLite copies what a statement changes if it may have to take back half of it, which is three quarters of what
    /// it writes: so nothing about this one may fail but the whole of it.
    pub(crate) fn insertion(&self, columns: &str, (rows, values): (usize, usize)) -> String {
        let places = self.placeholders(rows, values);
        match self {
            Self::Sqlite(_) => format!("INSERT OR IGNORE INTO {columns} VALUES {places}"),
            Self::Postgres(_) => {
                format!("INSERT INTO {columns} VALUES {places} ON CONFLICT DO NOTHING")
            }
        }
    }

    /// Reads, or changes with `RETURNING`.
    pub(crate) async fn rows(
        &mut self,
        sql: impl SqlSafeStr,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StorageError> {
        Ok(match self {
            Self::Sqlite(inner) => {
                let rows = sqlx::query_with(planned(sql), sqlite(values)?)
                    .fetch_all(&mut **inner)
                    .await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(inner) => {
                let rows =
                    answered(sqlx::query_with(sql, postgres(values)?).fetch_all(&mut **inner))
                        .await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Reads one row, if there is one.
    pub(crate) async fn row(
        &mut self,
        sql: impl SqlSafeStr,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StorageError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Changes. Says how many rows.
    pub(crate) async fn execute(
        &mut self,
        sql: impl SqlSafeStr,
        values: Vec<Value>,
    ) -> Result<u64, StorageError> {
        Ok(match self {
            Self::Sqlite(inner) => sqlx::query_with(planned(sql), sqlite(values)?)
                .execute(&mut **inner)
                .await?
                .rows_affected(),
            Self::Postgres(inner) => {
                answered(sqlx::query_with(sql, postgres(values)?).execute(&mut **inner))
                    .await?
                    .rows_affected()
            }
        })
    }

    /// Keeps out other transactions that lock the same name, until the end of this one.
    pub(crate) async fn lock(&mut self, name: &str) -> Result<(), StorageError> {
        match self {
            // It began with the lock of the whole file.
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(_) => {
                let sql = "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended($1, 0))";
                self.rows(sql, vec![name.into()]).await.map(drop)
            }
        }
    }

    /// Runs several statements without values.
    pub(crate) async fn script(&mut self, sql: &'static str) -> Result<(), StorageError> {
        match self {
            Self::Sqlite(inner) => sqlx::raw_sql(sql).execute(&mut **inner).await.map(|_| ())?,
            Self::Postgres(inner) => sqlx::raw_sql(sql).execute(&mut **inner).await.map(|_| ())?,
        }
        Ok(())
    }

    /// Makes it last.
    pub(crate) async fn commit(self) -> Result<(), StorageError> {
        match self {
            Self::Sqlite(inner) => inner.commit().await?,
            // Whether it was committed is open then; what is asked for again is there or is made.
            Self::Postgres(inner) => answered(inner.commit()).await?,
        }
        Ok(())
    }
}

/// So many names of values, from this number on: `$2, $3, …`
pub(crate) fn numbered(count: usize, first: usize) -> String {
    let names = (first..first + count).map(|number| format!("${number}"));
    names.collect::<Vec<_>>().join(", ")
}

/// Puts a statement together from parts that are all written in this program; values are bound.
pub(crate) fn assembled(sql: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql)
}

/// How an engine wants many values to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// `$1, $2`
    Numbers,
    /// `?, ?`. SQLite looks each name up among all others whenever it is bound, which takes longer than the rest of a
    /// statement with hundreds of them.
    Marks,
}

impl Naming {
    /// `($1, $2), ($3, $4)` for that many rows of that many values.
    fn placeholders(self, rows: usize, columns: usize) -> String {
        let row = |row: usize| match self {
            Self::Numbers => numbered(columns, row * columns + 1),
            Self::Marks => vec!["?"; columns].join(", "),
        };
        let rows = (0..rows).map(|number| format!("({})", row(number)));
        rows.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests;
