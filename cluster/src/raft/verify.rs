//! Reads what a node keeps on disk as its start would, for `holdfast check`.

use std::path::Path;

use super::groups::group_of;
use super::log::{Log, LogError};
use super::snapshot::{SnapshotError, SnapshotFile};
use crate::ShardId;

/// A node with this on its disk would not start.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl Unusable {
    /// The node runs, and reads its files itself.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Log(LogError::Locked { .. }))
    }
}

/// Reads the log and the snapshots below `data_dir`; `false` if there are none yet. Blocks for as long as a start
/// would.
pub fn verify(data_dir: &Path, shards: u16) -> Result<bool, Unusable> {
    let (log, snapshots) = (data_dir.join("log"), data_dir.join("snapshots"));
    if !log.is_dir() {
        return Ok(false);
    }
    let (purged, _lock) = Log::verify(&log)?;
    for shard in (0..shards).map(ShardId) {
        let file = SnapshotFile::new(&snapshots, (shard, shards), None)?;
        let covered = file.load()?.and_then(|loaded| loaded.meta.last_log_id);
        if purged.get(&group_of(shard)).copied().flatten() > covered {
            return Err(file.missing().into());
        }
    }
    Ok(true)
}
