//! What an account's password is stored as.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::digest::Digest;
use super::password::FORMS;

/// What is stored instead of a password (RFC 5802 §3).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramKeys {
    /// Random, at least 16 bytes (ST-41).
    pub salt: Vec<u8>,
    /// How often the password was hashed.
    pub iterations: u32,
    /// Checks a client's proof.
    pub stored_key: Vec<u8>,
    /// Proves to a client that the server knows it.
    pub server_key: Vec<u8>,
    /// The same of other forms of the password ([`super::password`]): one less than it has.
    pub others: Vec<KeyPair>,
}

/// What one form of a password is checked with, and answered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPair {
    /// See [`ScramKeys::stored_key`].
    pub stored_key: Vec<u8>,
    /// See [`ScramKeys::server_key`].
    pub server_key: Vec<u8>,
}

impl KeyPair {
    fn derive(digest: Digest, password: &str, salt: &[u8], iterations: u32) -> Self {
        let salted = digest.salted_password(password, salt, iterations);
        Self::of(digest, &salted)
    }

    fn of(digest: Digest, salted: &[u8]) -> Self {
        Self {
            stored_key: digest.hash(&digest.hmac(salted, b"Client Key")),
            server_key: digest.hmac(salted, b"Server Key"),
        }
    }
}

impl ScramKeys {
    /// The keys of a password in its only form. Slow, as its purpose demands.
    pub fn derive(digest: Digest, password: &str, salt: &[u8], iterations: u32) -> Self {
        let pair = KeyPair::derive(digest, password, salt, iterations);
        Self::new(pair, salt.to_vec(), iterations)
    }

    /// The same, where the slow part has been done: `salted` is the SaltedPassword of RFC 5802 §3.
    pub fn from_salted(digest: Digest, salted: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        Self::new(KeyPair::of(digest, salted), salt, iterations)
    }

    fn new(pair: KeyPair, salt: Vec<u8>, iterations: u32) -> Self {
        let KeyPair {
            stored_key,
            server_key,
        } = pair;
        Self {
            salt,
            iterations,
            stored_key,
            server_key,
            others: Vec::new(),
        }
    }

    /// Has the password accepted in this form too. As slow as deriving.
    pub fn with_form(mut self, digest: Digest, password: &str) -> Self {
        let pair = KeyPair::derive(digest, password, &self.salt, self.iterations);
        self.others.push(pair);
        self
    }

    /// Whether one of these keys was derived from that form of a password. As slow as deriving.
    pub fn matches(&self, digest: Digest, password: &str) -> bool {
        let derived = KeyPair::derive(digest, password, &self.salt, self.iterations);
        let equal = |stored: &[u8]| derived.stored_key.ct_eq(stored);
        let others = self.others.iter().map(|pair| equal(&pair.stored_key));
        others
            .fold(equal(&self.stored_key), |any, one| any | one)
            .into()
    }

    /// Stored and server keys for as many forms as a password may have: every account takes the same steps,
    /// and none shows how its password is written.
    pub(super) fn tries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let first = (&*self.stored_key, &*self.server_key);
        let others = self.others.iter();
        let others = others.map(|pair| (&*pair.stored_key, &*pair.server_key));
        std::iter::once(first)
            .chain(others)
            .chain(std::iter::repeat(first))
            .take(FORMS)
    }
}

impl std::fmt::Debug for KeyPair {
    /// See [`ScramKeys`].
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPair(***)")
    }
}

impl std::fmt::Debug for ScramKeys {
    /// Keys never reach a log (T-73).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramKeys(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_73_keys_are_not_printed() {
        let keys = ScramKeys::derive(Digest::Sha1, "pencil", b"salt", 1);
        assert_eq!(format!("{keys:?}"), "ScramKeys(***)");
    }
}
