//! Which mechanisms clients are offered.
//!
//! A client takes the strongest one and, if that fails, believes that the password is wrong. So SCRAM-SHA-512 is offered
//! only while every account has keys for it: those of older releases get them with their next password, when they log in
//! by PLAIN, or from a client that upgrades its mechanisms (SA-12), which is offered for as long as an account lacks them.
//! The offer is the same for all, as it would otherwise tell which accounts there are (SA-4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::sasl::{Digest, Mechanism};
use proto::stream::{Settings, Upgrade};

use super::store::ITERATIONS;
use crate::app::App;
use crate::storage::Storage;

/// How often it is looked whether an account lacks keys.
const LOOK: Duration = Duration::from_secs(60);

/// The settings of client streams, with SCRAM-SHA-512 and without.
pub struct StreamSettings {
    all: Arc<Settings>,
    without: Arc<Settings>,
    is_complete: AtomicBool,
}

impl StreamSettings {
    /// Settings as they are configured. Nothing is known of accounts yet.
    pub fn new(all: Settings) -> Self {
        let is_new = |mechanism: &Mechanism| mechanism.digest() == Some(Digest::Sha512);
        let mut without = all.clone();
        without.mechanisms.retain(|mechanism| !is_new(mechanism));
        if without.mechanisms.is_empty() {
            without.mechanisms.clone_from(&all.mechanisms);
        } else if all.mechanisms.iter().any(is_new) {
            without.upgrade = Some(Upgrade {
                digest: Digest::Sha512,
                iterations: ITERATIONS,
            });
        }
        Self {
            all: Arc::new(all),
            without: Arc::new(without),
            is_complete: AtomicBool::new(false),
        }
    }

    /// What a stream that begins now offers.
    pub fn current(&self) -> Arc<Settings> {
        match self.is_complete.load(Ordering::Relaxed) {
            true => self.all.clone(),
            false => self.without.clone(),
        }
    }

    /// Looks whether every account has all keys. While that cannot be known the offer stays as it is.
    pub async fn look(&self, storage: &Storage) {
        match storage.lacks_sha512_keys().await {
            Ok(lacks) => {
                if self.is_complete.swap(!lacks, Ordering::Relaxed) == lacks {
                    tracing::info!(offered = !lacks, "SCRAM-SHA-512");
                }
            }
            Err(error) => tracing::debug!(%error, "accounts cannot be looked at"),
        }
    }
}

/// Runs for as long as the node does.
pub async fn run(app: Arc<App>) {
    loop {
        app.stream_settings.look(&app.edge.storage).await;
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::derive_keys;
    use crate::storage::{AccountKeys, Ends, testing};
    use proto::BareJid;

    #[tokio::test]
    async fn st_39_sha_512_is_offered_once_every_account_has_keys_for_it() {
        let storage = testing::in_memory().await;
        let settings = StreamSettings::new(Settings::default());
        let offers = || {
            let current = settings.current();
            let offered = current.mechanisms.contains(&Mechanism::ScramSha512);
            assert_eq!(current.upgrade.is_none(), offered, "SA-12");
            offered
        };
        assert!(!offers());
        settings.look(&storage).await;
        assert!(offers());
        let alice = BareJid::new("alice@example.org").unwrap();
        let old = AccountKeys {
            sha512: None,
            ..derive_keys("secret").unwrap()
        };
        storage.create_account(&alice, &old, 0).await.unwrap();
        settings.look(&storage).await;
        assert!(!offers());
        let new = derive_keys("other").unwrap();
        storage
            .set_account_keys(&alice, &new, Ends::ALL)
            .await
            .unwrap();
        settings.look(&storage).await;
        assert!(offers());
        storage.close().await;
        settings.look(&storage).await;
        assert!(offers());
    }

    #[test]
    fn sa_12_no_keys_are_asked_for_that_no_mechanism_needs() {
        let upgrade = |mechanisms: &[Mechanism]| {
            let all = Settings {
                mechanisms: mechanisms.to_vec(),
                ..Settings::default()
            };
            StreamSettings::new(all).current().upgrade
        };
        assert!(upgrade(&Mechanism::ALL).is_some());
        assert_eq!(upgrade(&[Mechanism::ScramSha256]), None);
        // Nobody could prove an older password either.
        assert_eq!(upgrade(&[Mechanism::ScramSha512]), None);
    }
}
