//! The batch that this node has just proposed, beside the entry that it was written into.
//!
//! A leader applies what it has made itself. To read it out of the entry again would cost a fifth of all that consensus
//! costs it. There is one place, because a leader has one entry of a shard under way; what does not find its batch here is
//! read from the entry, as on every other node.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::format::Version;
use crate::session::Batch;

/// See the module. Clones share the place.
#[derive(Clone, Default)]
pub struct Proposed(Arc<Mutex<Option<(Bytes, Version, Batch)>>>);

impl Proposed {
    /// Keeps a batch until its entry is applied, or the next one is proposed.
    pub fn put(&self, entry: Bytes, version: Version, batch: Batch) {
        // Nothing that panics runs under this lock.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((entry, version, batch));
    }

    /// The batch of this very entry: not of equal bytes, but of the same ones.
    pub fn take(&self, entry: &Bytes) -> Option<(Version, Batch)> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, version, batch) = place.take_if(|(known, ..)| {
            (known.as_ptr(), known.len()) == (entry.as_ptr(), entry.len())
        })?;
        drop(place);
        // Other replicas apply what they read, so it must be the same.
        debug_assert_eq!(
            Batch::read(entry).map_err(|e| e.to_string()),
            Ok((version, batch.clone()))
        );
        Some((version, batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Command;

    #[test]
    fn a_batch_is_given_once_and_only_for_its_own_entry() {
        let proposed = Proposed::default();
        let batch = Batch {
            now: 7,
            commands: vec![Command::Tick],
        };
        let entry = Bytes::from(batch.write(Version::CURRENT));
        proposed.put(entry.clone(), Version::CURRENT, batch.clone());
        let equal = Bytes::copy_from_slice(&entry);
        assert_eq!(proposed.take(&equal), None);
        assert_eq!(proposed.take(&entry), Some((Version::CURRENT, batch)));
        assert_eq!(proposed.take(&entry), None);
    }
}
