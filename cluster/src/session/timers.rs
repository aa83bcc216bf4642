//! What is due when, in order, on the shard's scale of time.

use serde::{Deserialize, Serialize};

use super::clock::ShardTime;
use super::cow::Map;

/// Each thing once for each time that it is set to. A copy shares what neither changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Serialize + Ord + Clone",
    deserialize = "K: Deserialize<'de> + Ord + Clone"
))]
pub(super) struct Timers<K: Ord + Clone>(Map<(ShardTime, K), ()>);

impl<K: Ord + Clone> Default for Timers<K> {
    fn default() -> Self {
        Self(Map::default())
    }
}

impl<K: Ord + Clone> Timers<K> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn set(&mut self, at: ShardTime, key: K) {
        self.0.insert((at, key), ());
    }

    pub(super) fn cancel(&mut self, at: ShardTime, key: K) {
        self.0.remove(&(at, key));
    }

    #[cfg(test)]
    pub(super) fn is_set(&self, at: ShardTime, key: K) -> bool {
        self.0.find(&(at, key)).is_some()
    }

    /// When the first is due.
    pub(super) fn next(&self) -> Option<ShardTime> {
        self.0.first().map(|((at, _), ())| *at)
    }

    /// The first, if it is due at `time`. It stays set.
    pub(super) fn due(&self, time: ShardTime) -> Option<(ShardTime, K)> {
        let ((at, key), ()) = self.0.first()?;
        (*at <= time).then(|| (*at, key.clone()))
    }
}
