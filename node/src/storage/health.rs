//! Whether a server answers, and if not, why: what a statement alone cannot tell, because the pool that it waits for
//! says only that it waited.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Pool, Postgres};

use super::error::StorageError;

/// How long a server may take that is asked for nothing.
const ANSWER: Duration = Duration::from_secs(2);

/// What the last look has found. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Health {
    options: Arc<PgConnectOptions>,
    trouble: Arc<ArcSwapOption<String>>,
}

impl Health {
    /// All is well so far.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self {
            options: Arc::new(options),
            trouble: Arc::default(),
        }
    }

    /// Why the server does not answer, unless it does.
    pub(super) fn trouble(&self) -> Option<Arc<String>> {
        self.trouble.load_full()
    }

    /// Puts the reason in place of "the pool timed out", if it is known.
    pub(super) fn explained(&self, error: StorageError) -> StorageError {
        match (&error, self.trouble()) {
            (StorageError::Unavailable(sqlx::Error::PoolTimedOut), Some(trouble)) => {
                StorageError::Away(trouble)
            }
            _ => error,
        }
    }

    /// Asks the server for nothing, over a connection that is there, else over one of its own: connections that are
    /// all in use say nothing about the server.
    pub(super) async fn look(&self, pool: &Pool<Postgres>) -> Result<(), StorageError> {
        let idle = async {
            let mut idle = pool.try_acquire()?;
            sqlx::query("SELECT 1").execute(&mut *idle).await.ok()
        };
        let fresh = async { self.options.connect().await?.close().await };
        let found = match tokio::time::timeout(ANSWER, idle).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => match tokio::time::timeout(ANSWER, fresh).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("it says nothing for {} s", ANSWER.as_secs())),
            },
        };
        let trouble = found.err().map(Arc::new);
        self.trouble.store(trouble.clone());
        trouble.map_or(Ok(()), |trouble| Err(StorageError::Away(trouble)))
    }
}
