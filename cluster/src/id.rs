//! Identifiers, each of a type of its own, so that none can be passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The id of a node, which names one data directory for ever. It is no ordinal and no address: an emptied disk gets a
/// new one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeId(pub u64);

/// One run of a node's process. A restarted process owns none of its predecessor's connections.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BootId(pub u64);

/// One connection of one process; unique within its [`BootId`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ConnId(pub u64);

/// A Raft group that owns a set of slots.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ShardId(pub u16);

/// A pending effect of one shard; numbers rise and are never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EffectId(pub u64);

/// One stretch of a session's life with an owner, or without one: rises whenever it gets one or loses it, so that what
/// an earlier owner says is known for late.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

/// The place of a message among those of its shard, which is its place in an archive too: rises with each of them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Order(pub u64);

/// The identifier that `<resume/>` names (SM-11). Opaque; at least 128 random bits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SmId(pub Box<str>);

/// Never the identifier itself: it opens a session (T-73).
impl fmt::Debug for SmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmId(***)")
    }
}

/// The archive id of a message: its XEP-0359 stanza-id and its id in MAM.
///
/// 48 bits of milliseconds since 1970 and 80 random ones, so that ids sort by time of entry and cannot
/// be guessed. Written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ArchiveId(pub u128);

impl ArchiveId {
    /// An id for a message that entered at `now` (milliseconds since 1970); `random` fills the low 80 bits.
    pub fn new(now: u64, random: u128) -> Self {
        Self((u128::from(now) << 80) | (random & ((1 << 80) - 1)))
    }
}

impl fmt::Display for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an archive id")]
pub struct NotAMid;

impl FromStr for ArchiveId {
    type Err = NotAMid;

    fn from_str(s: &str) -> Result<Self, NotAMid> {
        let plain = s.len() == 32
            && s.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !plain {
            return Err(NotAMid);
        }
        u128::from_str_radix(s, 16).map(Self).map_err(|_| NotAMid)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The connection that acts for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The node that holds the connection.
    pub node: NodeId,
    /// The run of that node's process.
    pub boot: BootId,
    /// The connection.
    pub conn: ConnId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_id_survives_its_text() {
        let mid = ArchiveId::new(1_700_000_000_123, u128::MAX);
        assert_eq!(mid.to_string().parse(), Ok(mid));
        assert!("+f".repeat(16).parse::<ArchiveId>().is_err());
    }
}
