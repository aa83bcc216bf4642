//! Tokens for fast authentication (XEP-0484): made, found, renewed and given up.
//!
//! The database has a random seed for each token, and every node computes the token from it. So any node accepts what
//! another has given out, and whoever reads the table of seeds alone has no token. What the tokens are computed with is
//! a secret in another table of the same database, and, if the operator has made one, a key in a file that is the same
//! on all nodes: with it, a copy of the whole database holds no token either.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::BareJid;
use proto::payload::delay;
use proto::sasl::ht::{self, TokenMechanism};
use proto::sasl::{Credentials, Digest};
use proto::stream::{Agent, GivenToken};
use tokio::sync::OnceCell;

use crate::clock;
use crate::storage::{Storage, StorageError, StoredToken, TokenChange};

/// A token that is older is renewed when it is used (FA-6).
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a seed.
const SEED: usize = 16;
/// The shortest key that may be in a file.
const KEY: usize = 32;

/// See the module.
pub struct Tokens {
    storage: Storage,
    now: fn() -> u64,
    lifetime: Duration,
    key: Vec<u8>,
    secret: OnceCell<Vec<u8>>,
}

/// The tokens that a client may have used.
#[derive(Clone, Debug, Default)]
pub struct Known {
    stored: Vec<StoredToken>,
}

/// What a client that has logged in wants of its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenWish {
    /// It used the token in this place.
    pub used: Option<usize>,
    /// It gives up what it has.
    pub invalidate: bool,
    /// It wants one for this mechanism.
    pub wanted: Option<TokenMechanism>,
}

impl Tokens {
    /// The tokens in a database; they live for so long, and `key` is what the operator's file holds. `now` tells
    /// milliseconds since 1970.
    pub fn new(storage: Storage, lifetime: Duration, key: Vec<u8>, now: fn() -> u64) -> Self {
        Self {
            storage,
            now,
            lifetime,
            key,
            secret: OnceCell::new(),
        }
    }

    /// The tokens of a client for a mechanism, the newest first. What was found is needed again by [`Self::settle`].
    pub async fn find(
        &self,
        account: &BareJid,
        agent: &Agent,
        mechanism: TokenMechanism,
    ) -> Result<(Known, Vec<ht::Token>), StorageError> {
        let asked = self
            .storage
            .tokens(account, agent.as_str(), mechanism.name());
        let stored = asked.await?;
        let mut tokens = Vec::with_capacity(stored.len());
        for token in &stored {
            let secret = self.text(account, agent, token).await?;
            tokens.push(ht::Token::new(secret, token.expires <= (self.now)()));
        }
        Ok((Known { stored }, tokens))
    }

    /// Carries out what a client wants that was checked against these keys. What it gets is in the database by then, so
    /// that every node knows it (FA-11).
    pub async fn settle(
        &self,
        account: &BareJid,
        agent: &Agent,
        checked: &Credentials,
        known: &Known,
        wish: TokenWish,
    ) -> Result<Option<GivenToken>, StorageError> {
        let now = (self.now)();
        let used = wish.used.and_then(|at| known.stored.get(at)).cloned();
        let is_stale = |used: &&StoredToken| {
            u128::from(now.saturating_sub(used.issued)) > FRESH.as_millis() && !wish.invalidate
        };
        let renewed = used.as_ref().filter(is_stale);
        let renewed = renewed.and_then(|used| TokenMechanism::parse(&used.mechanism));
        let wanted = wish.wanted.or(renewed);
        let wanted = wanted.filter(|_| !self.lifetime.is_zero());
        let given = wanted.map(|mechanism| {
            let lifetime = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX);
            let seed = clock::bytes::<SEED>().to_vec();
            StoredToken::new(mechanism.name(), seed, now, now.saturating_add(lifetime))
        });
        let change = TokenChange {
            used,
            invalidate: wish.invalidate,
            given,
        };
        if change.is_empty() {
            return Ok(None);
        }
        let agent_id = agent.as_str();
        let changed = self
            .storage
            .change_tokens(account, agent_id, checked, &change);
        match (changed.await?, &change.given) {
            (true, Some(given)) => Ok(Some(GivenToken {
                secret: self.text(account, agent, given).await?,
                expiry: delay::stamp(given.expires),
            })),
            _ => Ok(None),
        }
    }

    /// The token that comes of a seed.
    async fn text(
        &self,
        account: &BareJid,
        agent: &Agent,
        token: &StoredToken,
    ) -> Result<String, StorageError> {
        let storage = &self.storage;
        let proposed = || storage.shared_secret("tokens", clock::bytes());
        let secret = self.secret.get_or_try_init(proposed).await?;
        let key = Digest::Sha256.hmac(&self.key, secret);
        let parts = [account.as_str(), agent.as_str(), &token.mechanism].join("\0");
        let input = [parts.as_bytes(), b"\0", &token.seed].concat();
        let bytes = Digest::Sha256.hmac(&key, &input);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// What the operator's file holds.
pub fn read_key(file: &Path) -> io::Result<Vec<u8>> {
    let key = fs::read(file)?.trim_ascii().to_vec();
    if key.len() < KEY {
        let short = format!("it holds less than {KEY} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, short));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing;
    use std::sync::atomic::{AtomicU64, Ordering};

    const DAY: u64 = 24 * 3600 * 1000;
    const MECHANISM: TokenMechanism = TokenMechanism::Unbound;

    fn alice() -> BareJid {
        BareJid::new("alice@example.org").unwrap()
    }

    fn agent() -> Agent {
        Agent::parse("9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b11").unwrap()
    }

    async fn storage() -> (Storage, Credentials) {
        let storage = testing::in_memory().await;
        let keys = crate::auth::derive_keys("secret").unwrap();
        storage.create_account(&alice(), &keys, 0).await.unwrap();
        let stored = storage.account_keys("alice", "example.org").await.unwrap();
        (storage, stored.unwrap().into())
    }

    fn tokens(storage: &Storage, key: &[u8], now: fn() -> u64) -> Tokens {
        let lifetime = Duration::from_secs(21 * 24 * 3600);
        Tokens::new(storage.clone(), lifetime, key.to_vec(), now)
    }

    const WANTED: TokenWish = TokenWish {
        used: None,
        invalidate: false,
        wanted: Some(MECHANISM),
    };

    #[tokio::test]
    async fn fa_11_every_node_with_the_same_key_accepts_a_token_and_no_other_does() {
        let (storage, checked) = storage().await;
        let nodes = [b"one key", b"one key", b"another"].map(|key| tokens(&storage, key, || 5));
        let known = Known::default();
        let given = nodes[0]
            .settle(&alice(), &agent(), &checked, &known, WANTED)
            .await;
        let given = given.unwrap().unwrap();
        assert_eq!(given.expiry, "1970-01-22T00:00:00.005Z");
        let mut same = Vec::new();
        for node in &nodes {
            let (_, found) = node.find(&alice(), &agent(), MECHANISM).await.unwrap();
            same.push(*found[0].secret == given.secret);
        }
        assert_eq!(same, [true, true, false]);
        let other = TokenMechanism::Exporter;
        let (_, found) = nodes[0].find(&alice(), &agent(), other).await.unwrap();
        assert!(found.is_empty(), "FA-4");
    }

    #[tokio::test]
    async fn fa_6_a_token_is_renewed_after_a_day_and_ends_after_three_weeks() {
        static NOW: AtomicU64 = AtomicU64::new(0);
        let (storage, checked) = storage().await;
        let node = tokens(&storage, b"", || NOW.load(Ordering::Relaxed));
        let known = Known::default();
        let first = node
            .settle(&alice(), &agent(), &checked, &known, WANTED)
            .await;
        let first = first.unwrap().unwrap();
        let used = TokenWish {
            used: Some(0),
            ..TokenWish::default()
        };
        for (at, renews) in [(DAY, false), (DAY + 1, true)] {
            NOW.store(at, Ordering::Relaxed);
            let (known, found) = node.find(&alice(), &agent(), MECHANISM).await.unwrap();
            assert_eq!((&*found[0].secret, found.len()), (&first.secret, 1));
            let given = node
                .settle(&alice(), &agent(), &checked, &known, used)
                .await;
            assert_eq!(given.unwrap().is_some(), renews, "{at}");
        }
        for (at, expired) in [(21 * DAY - 1, false), (21 * DAY, true)] {
            NOW.store(at, Ordering::Relaxed);
            let (_, found) = node.find(&alice(), &agent(), MECHANISM).await.unwrap();
            assert_eq!(*found[1].secret, first.secret);
            assert_eq!(found[1].is_expired, expired);
            assert!(!found[0].is_expired);
        }
    }

    #[test]
    fn a_key_that_is_too_short_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        fs::write(&file, "x".repeat(31) + "\n").unwrap();
        assert!(read_key(&file).is_err());
        fs::write(&file, "x".repeat(32) + "\n").unwrap();
        assert_eq!(read_key(&file).unwrap().len(), 32);
    }
}
