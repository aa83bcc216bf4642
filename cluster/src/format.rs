//! Versions of what is written to disks and sent to other nodes.
//!
//! Encoded values do not describe themselves, so whatever contains them names a version: each entry, each piece of a
//! snapshot, each frame and each greeting. A build reads its own version and the one before, on disk and from others;
//! what it writes is the newest that every member reads ([`Versions::common`]), so that nodes of two neighbouring
//! versions work together while an upgrade is under way.
//!
//! A new version is needed for anything that another build would read or *apply* differently: a new variant or field,
//! but also a change of what an existing command does. `Command::since` says which version introduced a command. If a
//! command is proposed before all members can apply it, it is refused ([`Outcome::NotYet`]).
//!
//! | version | differs from the one before |
//! |---|---|
//! | 1 | named by nothing: bare values; entries carry the leader's settings |
//! | 2 | named by all; settings are a command; shards compare hashes of their states |
//!
//! To make the next version, move the present types into a frozen mirror beside
//! `session::format::v1`, write its conversions and its files of examples
//! (`golden`), and raise [`Version::CURRENT`].
//!
//! [`Outcome::NotYet`]: crate::session::Outcome::NotYet

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::CodecError;

#[cfg(test)]
mod golden;

/// The first byte of everything that names its version. No value of version 1 begins with it, as the codec never begins
/// a number with this byte.
const MARK: u8 = 0xff;

/// A version of the formats: 1 to 127, one for all of them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version(pub u8);

impl Version {
    /// What was written before anything named its version.
    pub const V1: Self = Self(1);
    /// The first version that is named in what is written.
    pub const V2: Self = Self(2);
    /// What this build writes if all members read it.
    pub const CURRENT: Self = Self::V2;
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The versions that a build reads: all from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The first of them.
    pub oldest: Version,
    /// The last of them.
    pub newest: Version,
}

impl Versions {
    /// What this build reads from its own disk.
    pub const STORED: Self = Self {
        oldest: Version::V1,
        newest: Version::CURRENT,
    };
    /// What this build speaks with others: it reads and writes each of them. Nodes of version 1 could not
    /// be told that there is another.
    pub const SPOKEN: Self = Self {
        oldest: Version::V2,
        newest: Version::CURRENT,
    };

    /// Whether it is one of them.
    pub fn contains(self, version: Version) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }

    /// The newest version that both understand.
    pub fn common(self, other: Self) -> Option<Version> {
        let newest = self.newest.min(other.newest);
        (self.contains(newest) && other.contains(newest)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.oldest, self.newest)
    }
}

/// A value that this build cannot read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Another build wrote it.
    #[error("it has format {0}, and this build reads {reads}", reads = Versions::STORED)]
    Version(Version),
    /// Its bytes are not those of such a value in its version.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl From<FormatError> for std::io::Error {
    fn from(error: FormatError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// The two bytes that name the version before a value.
pub fn head(version: Version) -> [u8; 2] {
    [MARK, version.0]
}

/// Splits bytes into the version that they name and the bytes of the value. Bytes of version 1 name none, so all of
/// them belong to the value.
pub fn split(bytes: &[u8]) -> (Version, &[u8]) {
    match bytes {
        [MARK, version, value @ ..] => (Version(*version), value),
        _ => (Version::V1, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn versions(oldest: u8, newest: u8) -> Versions {
        Versions {
            oldest: Version(oldest),
            newest: Version(newest),
        }
    }

    #[test]
    fn neighbours_find_a_common_version_and_strangers_do_not() {
        let check = |ours: Versions, theirs: Versions, expect: Option<u8>| {
            assert_eq!(ours.common(theirs), expect.map(Version));
            assert_eq!(theirs.common(ours), expect.map(Version));
        };
        check(versions(2, 2), versions(2, 2), Some(2));
        check(versions(2, 3), versions(2, 2), Some(2));
        check(versions(2, 3), versions(3, 4), Some(3));
        check(versions(2, 3), versions(4, 5), None);
        check(versions(2, 2), versions(1, 1), None);
    }

    #[test]
    fn no_number_of_version_1_looks_like_a_version() {
        for number in [0, 250, 251, u64::from(u16::MAX) + 1, u64::MAX] {
            let bytes = codec::encode(&number);
            assert_eq!(split(&bytes), (Version::V1, &bytes[..]));
        }
        assert_eq!(split(&head(Version(9))), (Version(9), &[][..]));
    }
}
