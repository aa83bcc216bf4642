//! An entry of the log, encoded, that every replica can be sent.

use bytes::Bytes;

use crate::bound::{self, TooLarge};
use crate::format::Version;
use crate::session::Batch;

/// The bytes of a [`Batch`]: no more than [`bound::ENTRY`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEntry(Bytes);

impl EncodedEntry {
    /// Encodes a batch. A backlog makes none that is too large, so an error is a mistake of ours, and it is found
    /// here rather than in a log that nobody can be sent.
    pub fn new(batch: &Batch, version: Version) -> Result<Self, TooLarge> {
        let bytes = batch.write(version);
        bound::check("an entry", bytes.len(), bound::ENTRY)?;
        Ok(Self(bytes.into()))
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proto::BareJid;

    use super::*;
    use crate::Mid;
    use crate::ShardId;
    use crate::session::{Command, Relay};

    fn batch(padding: usize) -> Batch {
        // One byte each: numbers below 251 are encoded as they are.
        let mids = vec![Mid(0); padding];
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
