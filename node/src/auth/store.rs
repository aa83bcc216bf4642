//! Looks accounts up: the credentials for a login, and whether an account exists for a stanza.
//!
//! The database is asked first, so that a changed password or a removed account counts at once. Its answers are
//! remembered, within a bound, so that known users can log in while it does not answer. The answer for an unknown name
//! looks like that for a known one (T-24).

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::BareJid;
use proto::sasl::{Credentials, Digest, ScramKeys, password};
use proto::stream::Agent;
use tokio::sync::OnceCell;

use crate::clock;
use crate::storage::{AccountKeys, Storage, StorageError, StoredKeys};

/// How often a password is hashed (ST-41). The number is the same for all accounts, so that it reveals nothing (T-24).
pub(super) const ITERATIONS: u32 = 10_000;
/// Bytes of salt (ST-41).
const SALT: usize = 16;
/// How long it is remembered that an account exists before the database is asked again, in milliseconds.
const FRESH: u64 = 60_000;
/// How long to wait for the database before what is remembered is used.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);
/// How long to wait, in milliseconds, before the database is asked again then.
const RETRY: u64 = 5_000;
/// How many accounts are remembered. When there are more, all are forgotten and looked up again.
const REMEMBERED: usize = 50_000;

/// The accounts. Clones share what is remembered.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    storage: Storage,
    clock: fn() -> u64,
    secret: OnceCell<Vec<u8>>,
    clients: OnceCell<Vec<u8>>,
    // Locks, as many sessions share these maps; each holds one for a look-up and never across an await.
    known: Mutex<HashMap<BareJid, u64>>,
    credentials: Mutex<HashMap<BareJid, Credentials>>,
}

impl Accounts {
    /// The accounts of a database; `clock` tells milliseconds since 1970.
    pub fn new(storage: Storage, clock: fn() -> u64) -> Self {
        Self(Arc::new(Inner {
            storage,
            clock,
            secret: OnceCell::new(),
            clients: OnceCell::new(),
            known: Mutex::default(),
            credentials: Mutex::default(),
        }))
    }

    /// The credentials of an account, or made-up ones if there is none; `local` and `domain` are prepared.
    pub async fn credentials(
        &self,
        local: &str,
        domain: &str,
    ) -> Result<Credentials, StorageError> {
        let name = BareJid::from_parts(Some(local), domain).ok();
        let remembered = || {
            let name = name.as_ref()?;
            lock(&self.0.credentials).get(name).cloned()
        };
        // The client would give up before a database that is away times out.
        if self.0.storage.is_away()
            && let Some(known) = remembered()
        {
            return Ok(known);
        }
        // This is computed for known names too, so that both take the same time.
        let made_up = self.made_up(local, domain).await;
        match self.0.storage.account_keys(local, domain).await {
            Ok(Some(stored)) => {
                let credentials = with_stand_ins(stored.into(), made_up?);
                if let Some(name) = &name {
                    remember(&self.0.credentials, name.clone(), credentials.clone());
                }
                Ok(credentials)
            }
            Ok(None) => {
                if let Some(name) = &name {
                    lock(&self.0.credentials).remove(name);
                }
                made_up
            }
            Err(error) if error.is_temporary() => remembered().ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Whether these credentials are what the database has now.
    pub async fn are_current(
        &self,
        account: &BareJid,
        checked: &Credentials,
    ) -> Result<bool, StorageError> {
        let local = account.local().unwrap_or_default();
        let stored = self.0.storage.account_keys(local, account.domain()).await?;
        Ok(stored.is_some_and(|stored| Credentials::from(stored).agrees_with(checked)))
    }

    /// Whether there is such an account. A yes may be a minute old, and older while the database is away.
    pub async fn exists(&self, account: &BareJid) -> Result<bool, StorageError> {
        let now = (self.0.clock)();
        let seen = lock(&self.0.known).get(account).copied();
        if seen.is_some_and(|seen| now.abs_diff(seen) < FRESH) {
            return Ok(true);
        }
        let asked = self.0.storage.account_exists(account);
        let answer = match seen {
            // Chat goes on while the database is away, with what is remembered.
            Some(_) => match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Err(error)) if !error.is_temporary() => Err(error),
                Ok(Ok(exists)) => Ok(exists),
                Ok(Err(_)) | Err(_) => {
                    let retry = now.saturating_sub(FRESH.saturating_sub(RETRY));
                    remember(&self.0.known, account.clone(), retry);
                    return Ok(true);
                }
            },
            None => asked.await,
        };
        match answer {
            Ok(true) => {
                remember(&self.0.known, account.clone(), now);
                Ok(true)
            }
            Ok(false) => {
                lock(&self.0.known).remove(account);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The account has changed: what is known of it is asked for anew.
    pub fn forget(&self, account: &BareJid) {
        lock(&self.0.known).remove(account);
        lock(&self.0.credentials).remove(account);
    }

    /// The last part of the resources of one client of an account: always the same, on every node, and it tells
    /// nobody who the client is (BI-3).
    pub async fn client_name(
        &self,
        account: &BareJid,
        agent: &Agent,
    ) -> Result<String, StorageError> {
        let storage = &self.0.storage;
        let proposed = || storage.shared_secret("clients", clock::bytes());
        let secret = self.0.clients.get_or_try_init(proposed).await?;
        let input = [account.as_str(), agent.as_str()].join("\0");
        let name = Digest::Sha256.hmac(secret, input.as_bytes());
        Ok(name[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Keys that nobody has a password for: always the same for the same name, on every node.
    async fn made_up(&self, local: &str, domain: &str) -> Result<Credentials, StorageError> {
        let storage = &self.0.storage;
        let proposed = || storage.shared_secret("unknown accounts", clock::bytes());
        let secret = self.0.secret.get_or_try_init(proposed).await?;
        let keys = |digest: Digest| {
            // What is made up for a hash never changes, as that would tell a made-up account from a real one.
            let wide = match digest {
                Digest::Sha1 | Digest::Sha256 => Digest::Sha256,
                Digest::Sha512 => Digest::Sha512,
            };
            let part = |what: &str| {
                let input = format!("{what}\0{}\0{local}\0{domain}", digest.bytes());
                wide.hmac(secret, input.as_bytes())
            };
            let cut = |mut bytes: Vec<u8>, length| {
                bytes.truncate(length);
                bytes
            };
            Some(ScramKeys {
                salt: cut(part("salt"), SALT),
                iterations: ITERATIONS,
                stored_key: cut(part("stored"), digest.bytes()),
                server_key: cut(part("server"), digest.bytes()),
                others: Vec::new(),
            })
        };
        Ok(Credentials {
            sha1: keys(Digest::Sha1),
            sha256: keys(Digest::Sha256),
            sha512: keys(Digest::Sha512),
            stand_ins: Vec::new(),
            real: false,
        })
    }
}

impl From<StoredKeys> for Credentials {
    fn from(stored: StoredKeys) -> Self {
        let AccountKeys {
            sha1,
            sha256,
            sha512,
        } = stored.keys;
        Self {
            sha1,
            sha256,
            sha512,
            stand_ins: Vec::new(),
            real: !stored.disabled,
        }
    }
}

/// Made-up keys for each hash that an account has none for: it answers as an account does that is not there.
fn with_stand_ins(mut own: Credentials, made_up: Credentials) -> Credentials {
    let pairs = [
        (Digest::Sha1, &own.sha1, made_up.sha1),
        (Digest::Sha256, &own.sha256, made_up.sha256),
        (Digest::Sha512, &own.sha512, made_up.sha512),
    ];
    let lacking = pairs.into_iter().filter(|(_, own, _)| own.is_none());
    let stand_ins = lacking.filter_map(|(digest, _, keys)| Some((digest, keys?)));
    own.stand_ins = stand_ins.collect();
    own
}

/// Derives what is stored for a password. It is slow on purpose.
pub fn derive_keys(password: &str) -> Result<AccountKeys, Rejected> {
    if password.is_empty() {
        return Err(Rejected::Empty);
    }
    let forms = password::forms(password);
    let (first, others) = forms.split_first().ok_or(Rejected::Characters)?;
    let keys = |digest| Some(derive(digest, first, others));
    Ok(AccountKeys {
        sha1: keys(Digest::Sha1),
        sha256: keys(Digest::Sha256),
        sha512: keys(Digest::Sha512),
    })
}

/// The keys for SCRAM-SHA-512 of a password that is known to be an account's. As slow.
pub fn derive_sha512(password: &str) -> Option<ScramKeys> {
    let forms = password::forms(password);
    let (first, others) = forms.split_first()?;
    Some(derive(Digest::Sha512, first, others))
}

fn derive(digest: Digest, first: &str, others: &[impl Deref<Target = String>]) -> ScramKeys {
    let salt: [u8; SALT] = clock::bytes();
    let keys = ScramKeys::derive(digest, first, &salt, ITERATIONS);
    let all = others.iter();
    all.fold(keys, |keys, form| keys.with_form(digest, form))
}

/// Why a password is refused.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// There is none.
    #[error("the password is empty")]
    Empty,
    /// It holds characters that cannot be typed alike everywhere (RFC 4013, RFC 8265 §4).
    #[error("the password holds characters that are not allowed in one")]
    Characters,
}

fn remember<V>(map: &Mutex<HashMap<BareJid, V>>, name: BareJid, value: V) {
    let mut map = lock(map);
    if map.len() >= REMEMBERED && !map.contains_key(&name) {
        map.clear();
    }
    map.insert(name, value);
}

/// A poisoned lock is usable: the map is whole after each operation.
fn lock<V>(map: &Mutex<HashMap<BareJid, V>>) -> MutexGuard<'_, HashMap<BareJid, V>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Ends, testing};

    fn alice() -> BareJid {
        BareJid::new("alice@example.org").unwrap()
    }

    async fn accounts() -> (Accounts, Storage) {
        let storage = testing::in_memory().await;
        storage
            .create_account(&alice(), &derive_keys("secret").unwrap(), 0)
            .await
            .unwrap();
        (Accounts::new(storage.clone(), || 0), storage)
    }

    #[tokio::test]
    async fn t_24_an_unknown_account_looks_like_a_known_one_everywhere_and_always() {
        let (accounts, storage) = accounts().await;
        let real = accounts.credentials("alice", "example.org").await.unwrap();
        let unknown = accounts
            .credentials("mallory", "example.org")
            .await
            .unwrap();
        assert!(real.real && !unknown.real);
        for (real, unknown) in [
            (real.sha1, unknown.sha1.clone()),
            (real.sha256, unknown.sha256.clone()),
            (real.sha512, unknown.sha512.clone()),
        ] {
            let (real, unknown) = (real.unwrap(), unknown.unwrap());
            assert_eq!(real.iterations, unknown.iterations);
            assert_eq!(real.salt.len(), unknown.salt.len());
            assert_eq!(real.stored_key.len(), unknown.stored_key.len());
            assert_eq!(real.server_key.len(), unknown.server_key.len());
        }
        let other_node = Accounts::new(storage, || 0);
        let again = other_node
            .credentials("mallory", "example.org")
            .await
            .unwrap();
        assert_eq!(
            (again.sha1, again.sha256.clone()),
            (unknown.sha1, unknown.sha256)
        );
        let another = other_node
            .credentials("mallory", "example.net")
            .await
            .unwrap();
        assert_ne!(again.sha256, another.sha256);
    }

    #[tokio::test]
    async fn t_24_an_account_without_keys_for_a_hash_looks_like_an_unknown_one() {
        let (accounts, storage) = accounts().await;
        let bob = BareJid::new("bob@example.org").unwrap();
        let old = AccountKeys {
            sha512: None,
            ..derive_keys("secret").unwrap()
        };
        storage.create_account(&bob, &old, 0).await.unwrap();
        let asked = async || {
            let found = accounts.credentials("bob", "example.org").await.unwrap();
            found.keys(Digest::Sha512).unwrap()
        };
        let (keys, real) = asked().await;
        assert!(!real);
        assert_eq!((keys.iterations, keys.salt.len()), (ITERATIONS, SALT));
        assert_eq!(asked().await, (keys.clone(), false));
        storage.remove_account(&bob, 7, Ends::ALL).await.unwrap();
        assert_eq!(asked().await, (keys, false));
    }

    #[tokio::test]
    async fn who_is_known_can_log_in_while_the_database_is_away() {
        let (accounts, storage) = accounts().await;
        assert!(
            accounts
                .credentials("alice", "example.org")
                .await
                .unwrap()
                .real
        );
        assert!(accounts.exists(&alice()).await.unwrap());
        storage.close().await;
        assert!(
            accounts
                .credentials("alice", "example.org")
                .await
                .unwrap()
                .real
        );
        assert!(accounts.exists(&alice()).await.unwrap());
        let unknown = accounts
            .credentials("bob", "example.org")
            .await
            .unwrap_err();
        assert!(unknown.is_temporary());
        let unknown = accounts
            .exists(&BareJid::new("bob@example.org").unwrap())
            .await
            .unwrap_err();
        assert!(unknown.is_temporary());
    }

    #[tokio::test]
    async fn a_new_password_and_a_lock_count_at_once() {
        let (accounts, storage) = accounts().await;
        let old = accounts.credentials("alice", "example.org").await.unwrap();
        storage
            .set_account_keys(&alice(), &derive_keys("other").unwrap(), Ends::ALL)
            .await
            .unwrap();
        let new = accounts.credentials("alice", "example.org").await.unwrap();
        assert_ne!(old.sha256, new.sha256);
        storage.set_account_disabled(&alice(), true).await.unwrap();
        assert!(
            !accounts
                .credentials("alice", "example.org")
                .await
                .unwrap()
                .real
        );
    }

    #[tokio::test]
    async fn bi_3_a_client_has_the_same_name_everywhere_and_it_is_not_its_id() {
        let (accounts, storage) = accounts().await;
        let id = "9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b11";
        let agent = Agent::parse(id).unwrap();
        let other = Agent::parse("9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b12").unwrap();
        let name = accounts.client_name(&alice(), &agent).await.unwrap();
        assert!(name.len() >= 12 && !id.contains(&name[..4]), "{name}");
        let other_node = Accounts::new(storage, || 0);
        assert_eq!(
            other_node.client_name(&alice(), &agent).await.unwrap(),
            name
        );
        assert_ne!(accounts.client_name(&alice(), &other).await.unwrap(), name);
        let bob = BareJid::new("bob@example.org").unwrap();
        assert_ne!(accounts.client_name(&bob, &agent).await.unwrap(), name);
    }

    #[test]
    fn t_33_a_password_becomes_keys_with_a_salt_of_its_own() {
        let (one, other) = (
            derive_keys("secret").unwrap(),
            derive_keys("secret").unwrap(),
        );
        // Each has a salt of its own (ST-41).
        assert_ne!(one, other);
        assert!(one.sha256.unwrap().matches(Digest::Sha256, "secret"));
        assert!(one.sha1.unwrap().matches(Digest::Sha1, "secret"));
        let both = derive_keys("ﬁsh①").unwrap().sha256.unwrap();
        assert!(["ﬁsh①", "fish1"].map(|form| both.matches(Digest::Sha256, form)) == [true; 2]);
        assert!(matches!(derive_keys(""), Err(Rejected::Empty)));
        assert!(matches!(derive_keys("a\u{7}b"), Err(Rejected::Characters)));
    }
}
