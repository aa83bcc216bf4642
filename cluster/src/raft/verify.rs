//! Reads what a node keeps on disk as its start would, for `holdfast check`.

use std::path::Path;

use super::groups::group_of;
use super::log::{LOCK, Log, LogError};
use super::snapshot::{SnapshotError, SnapshotFile};
use crate::ShardId;
use crate::identity::{Identity, IdentityError};
use crate::recover::refuse_unfinished;

/// Why a node would not start with what is on its disk.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Unusable {
    /// Whether a running node has the files, so that they cannot be read now.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Log(LogError::Locked { .. }))
    }
}

/// Reads the identity, the log and the snapshots below `data_dir`; `false` if there are none yet. Blocks for as long
/// as a start would.
pub fn verify(data_dir: &Path, seat: u64, shards: u16) -> Result<bool, Unusable> {
    refuse_unfinished(data_dir)?;
    let (log, snapshots) = (data_dir.join("log"), data_dir.join("snapshots"));
    // A directory of that name that no node has made is left as it is.
    if !log.join(LOCK).is_file() {
        identity(data_dir, (seat, shards), true)?;
        return Ok(false);
    }
    let (purged, _lock) = Log::verify(&log)?;
    identity(data_dir, (seat, shards), purged.is_empty())?;
    for shard in (0..shards).map(ShardId) {
        let file = SnapshotFile::new(&snapshots, (shard, shards), None)?;
        let covered = file.load()?.and_then(|loaded| loaded.meta.last_log_id);
        if purged.get(&group_of(shard)).copied().flatten() > covered {
            return Err(file.missing().into());
        }
    }
    Ok(true)
}

/// Reads the identity, if there is one, and compares what must never change.
fn identity(dir: &Path, (seat, shards): (u64, u16), is_new: bool) -> Result<(), IdentityError> {
    match Identity::peek(dir, seat, is_new)? {
        Some(identity) => identity.check_shards(shards),
        None => Ok(()),
    }
}
