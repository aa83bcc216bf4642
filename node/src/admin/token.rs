//! The token that guards what the admin interface changes or reveals.
//!
//! It is made at the first start, lies in the data directory for its owner alone, and travels as
//! `Authorization: Bearer …` over an interface that listens on loopback unless told otherwise.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use cluster::disk;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::clock;

/// The token's file in the data directory.
pub const FILE: &str = "admin.token";
/// The fewest bytes of a token; a shorter one could be guessed.
const MIN_BYTES: usize = 16;
/// The most bytes that are read, as a wrong file may be of any size.
const MAX_BYTES: u64 = 4096;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file is there and cannot be read.
    #[error("cannot read the admin token {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("cannot write the admin token {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file holds no token.
    #[error("the admin token {} must be one line of at least {MIN_BYTES} printable characters; delete it to get a new one", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

/// The token, which a caller of the admin interface must know.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    /// A token never reaches a log (T-73).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

impl Token {
    /// Reads the token, or makes one if there is none. A file that other users could read is closed to them.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        disk::private_file(path).map_err(|source| TokenError::Write {
            path: path.to_owned(),
            source,
        })?;
        match Self::read(path) {
            Err(TokenError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::make(path)
            }
            result => result,
        }
    }

    /// Reads the token of a node that has been started.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
        read.map_err(|source| TokenError::Read {
            path: path.to_owned(),
            source,
        })?;
        let token = text.trim();
        let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.len() < MIN_BYTES || !printable {
            return Err(TokenError::Unusable {
                path: path.to_owned(),
            });
        }
        Ok(Self(token.to_owned()))
    }

    /// Makes a token. It is written to another file and renamed, so that a crash leaves no half token.
    fn make(path: &Path) -> Result<Self, TokenError> {
        let token = clock::hex::<32>();
        let partial = path.with_extension("new");
        let write = || {
            let mut file = disk::create(&partial)?;
            writeln!(file, "{token}")?;
            file.sync_all()?;
            std::fs::rename(&partial, path)
        };
        write().map_err(|source| TokenError::Write {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self(token))
    }

    /// Whether `presented` is the token. It takes as long for a near miss as for a far one.
    pub fn matches(&self, presented: &str) -> bool {
        let hash = |text: &str| Sha256::digest(text.as_bytes());
        hash(&self.0).ct_eq(&hash(presented)).into()
    }

    /// The token itself, for the request that carries it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let made = Token::open(&path).unwrap();
        assert_eq!(Token::open(&path).unwrap(), made);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let other = Token::open(&dir.path().join("other")).unwrap();
        assert_ne!(made, other);
    }

    #[test]
    fn only_the_token_matches() {
        let token = Token("0123456789abcdef".to_owned());
        assert!(token.matches("0123456789abcdef"));
        for wrong in ["", "0", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!token.matches(wrong), "{wrong}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn a_file_without_a_token_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for wrong in ["", "short", "sixteen letters and\nanother line"] {
            std::fs::write(&path, wrong).unwrap();
            let error = Token::open(&path).unwrap_err();
            assert!(error.to_string().contains(FILE), "{error}");
        }
    }
}
