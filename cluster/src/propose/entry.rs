//! An encoded entry of the log that is small enough to be sent to every replica.

use bytes::Bytes;

use crate::bound::{self, TooLarge};
use crate::format::Version;
use crate::session::Batch;

/// Bytes of an entry beside its commands, at most: the version, the time, and how many commands there are.
const HEAD: usize = 32;

/// A [`Batch`] and its bytes: no more than [`bound::ENTRY`].
#[derive(Debug)]
pub struct EncodedEntry {
    bytes: Bytes,
    version: Version,
    batch: Batch,
}

impl EncodedEntry {
    /// Encodes a batch. The backlog makes none that is too large, so an error is a bug. It is found here, before the
    /// entry is in a log from which it could not be sent to others.
    /// `size` is what its commands take, in bytes.
    pub fn new(batch: Batch, version: Version, size: usize) -> Result<Self, TooLarge> {
        let mut bytes = batch.write_sized(version, size + HEAD);
        bound::check("an entry", bytes.len(), bound::ENTRY)?;
        // It stays in memory until a snapshot covers it.
        bytes.shrink_to_fit();
        let bytes = bytes.into();
        Ok(Self {
            bytes,
            version,
            batch,
        })
    }

    /// The encoded batch.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The encoded batch, the version that it was written in, and the batch itself.
    pub fn into_parts(self) -> (Bytes, Version, Batch) {
        (self.bytes, self.version, self.batch)
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
        let at = |bytes: usize| EncodedEntry::new(batch(bytes - overhead), Version::CURRENT, 0);
        for fits in [bound::ENTRY - 1, bound::ENTRY] {
            assert_eq!(at(fits).map(|entry| entry.bytes().len()), Ok(fits));
        }
        let over = at(bound::ENTRY + 1).expect_err("too large");
        assert_eq!((over.bytes, over.most), (bound::ENTRY + 1, bound::ENTRY));
    }
}
