//! Watches whether the database is there.
//!
//! A node without its database stays ready: chat goes on, and users that it knows can log in. So without this module an
//! operator would not notice. Every node checks its database regularly, and logs when it is gone and when it is back
//! (F-29).

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::config::Config;
use crate::services;
use crate::storage::{Storage, StorageError, Upgrade};

/// How often a database that did not answer at the start is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How many checks in a row must fail before the database counts as gone: a server that restarts is away only for a
/// moment.
const LOST: u32 = 2;

/// The database, or one that is waited for while the node runs.
pub async fn open(config: &Config) -> Result<Storage, StorageError> {
    let (storage, upgrade) =
        Storage::open_soon(config.storage.url(), &services::needs().schema).await?;
    if let Some(upgrade) = upgrade {
        actix_rt::spawn(wait(upgrade));
    }
    Ok(storage)
}

/// Waits for a database that did not answer at the start. Until then nobody can log in whose account is not remembered.
async fn wait(upgrade: Upgrade) {
    let error = upgrade.error();
    tracing::error!(%error, "the node starts without its database: logins and archives wait for it");
    let mut said = error.to_string();
    loop {
        tokio::time::sleep(AGAIN).await;
        let Err(error) = upgrade.attempt().await else {
            return tracing::info!("the database answers");
        };
        // The same error is logged once (T-74).
        if error.to_string() != said {
            said = error.to_string();
            tracing::error!(%error, "the database still cannot be used");
        }
    }
}

/// Checks the database for as long as the node runs.
pub async fn watch(app: Arc<App>) {
    let mut looks = Looks::default();
    loop {
        let found = app.edge.storage.probe().await;
        app.metrics.database_up.set(found.is_ok().into());
        match looks.add(&found) {
            Some(News::Gone) => {
                let error = found.err().map(|error| error.to_string());
                tracing::error!(
                    error,
                    "the database has gone: chat goes on; archives, and logins of accounts that this node does not \
                     know by heart, wait"
                );
            }
            Some(News::Back) => tracing::info!("the database is back"),
            None => {}
        }
        cluster::beat(LOOK).await;
    }
}

/// Judges the results of the last checks. Pure.
#[derive(Debug, Default)]
struct Looks {
    failed: u32,
}

/// What is worth a line in the log.
#[derive(Debug, PartialEq)]
enum News {
    Gone,
    Back,
}

impl Looks {
    fn add(&mut self, found: &Result<(), StorageError>) -> Option<News> {
        match found {
            Ok(()) => (std::mem::take(&mut self.failed) >= LOST).then_some(News::Back),
            // The database is still waited for, which was logged before.
            Err(StorageError::NotYet) => None,
            Err(_) => {
                self.failed = self.failed.saturating_add(1);
                (self.failed == LOST).then_some(News::Gone)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_so_is_its_end() {
        let mut looks = Looks::default();
        let away = || Err(StorageError::Damaged("there"));
        for (found, news) in [
            (Err(StorageError::NotYet), None),
            (Ok(()), None),
            (away(), None),
            (Ok(()), None),
            (away(), None),
            (away(), Some(News::Gone)),
            (away(), None),
            (Ok(()), Some(News::Back)),
            (Ok(()), None),
        ] {
            assert_eq!(looks.add(&found), news);
        }
    }
}
