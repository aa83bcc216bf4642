//! An encoded entry of the log that is small enough to be sent to every replica.

use bytes::Bytes;

use crate::bound::{self, TooLarge};
use crate::format::Version;
use crate::session::Batch;

/// The bytes of a [`Batch`]: no more than [`bound::ENTRY`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEntry(Bytes);

impl EncodedEntry {
    /// Encodes a batch. The backlog makes none that is too large, so an error is a bug. It is found here, before the
    /// entry is in a log from which it could not be sent to others.
    pub fn new(batch: &Batch, version: Version) -> Result<Self, TooLarge> {
        let mut bytes = batch.write(version);
        bound::check("an entry", bytes.len(), bound::ENTRY)?;
        // It stays in memory until a snapshot covers it.
        bytes.shrink_to_fit();
        Ok(Self(bytes.into()))
    }

    /// The encoded batch.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proto::BareJid;

    use super::*;
    use crate::ArchiveId;
    use crate::ShardId;
    use crate::session::{Command, Relay};

    fn batch(padding: usize) -> Batch {
        // One byte each: numbers below 251 are encoded as they are.
        let mids = vec![ArchiveId(0); padding];
        let account = BareJid::new("a@b").expect("valid");
        let items = vec![Relay::Hidden { account, mids }];
        let from = ShardId(0);
        Batch {
            now: 0,
            commands: vec![Command::Relay {
                from,
                first: 1,
                items,
            }],
        }
    }

    #[test]
    fn an_entry_fills_its_bound_and_not_a_byte_more() {
        let overhead = batch(1 << 19).write(Version::CURRENT).len() - (1 << 19);
        let at = |bytes: usize| EncodedEntry::new(&batch(bytes - overhead), Version::CURRENT);
        for fits in [bound::ENTRY - 1, bound::ENTRY] {
            assert_eq!(at(fits).map(|entry| entry.into_bytes().len()), Ok(fits));
        }
        let over = at(bound::ENTRY + 1).expect_err("too large");
        assert_eq!((over.bytes, over.most), (bound::ENTRY + 1, bound::ENTRY));
    }
}
