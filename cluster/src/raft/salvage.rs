//! Reads what a stopped node has of each shard, and writes it anew so that this node votes alone.
//!
//! All entries of the log count, also those at its end that are not known to be committed: they may be, and then they
//! were acknowledged. What is written is a snapshot behind one more entry, in a later term, of which nothing but the
//! voters is said. It is the first entry of what the group is from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use openraft::storage::RaftLogStorage;
use openraft::{EntryPayload, Membership, StoredMembership as Stored};

use super::groups::group_of;
use super::known::Members;
use super::log::{GroupFound, Log, LogError, Options};
use super::replica::members;
use super::snapshot::{Loaded, SnapshotError, SnapshotFile};
use super::types::{LogId, RaftId, Seat, SnapshotMeta, Vote};
use crate::ShardId;
use crate::format::FormatError;
use crate::identity::Identity;
use crate::session::ShardState;

/// What is on the disk cannot be read, or not be written anew.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// An entry cannot be read.
    #[error("entry {index} of shard {shard} cannot be read: {source}")]
    Entry {
        /// The shard.
        shard: ShardId,
        /// The entry.
        index: u64,
        /// Why not.
        source: FormatError,
    },
    /// There are logs of shards that are not configured.
    #[error("there are {found} shards here, and {configured} are configured (cluster.shards)")]
    Shards {
        /// How many there are, at least.
        found: u64,
        /// How many should be.
        configured: u16,
    },
}

/// What a node has of a shard.
#[derive(Debug)]
pub struct Remains {
    /// The state after the last entry.
    pub state: ShardState,
    /// The last entry.
    pub last: LogId,
    /// The last entry that was known to be committed.
    pub committed: Option<LogId>,
    /// The last entry that a snapshot covers.
    pub snapshot: Option<LogId>,
    /// When the first entry was made that was not known to be committed, by the clock of its leader.
    pub unconfirmed_since: Option<u64>,
    /// What the node has promised.
    pub vote: Option<Vote>,
    /// The members, as of the last entry.
    pub members: Members,
}

/// The shards of a node, and none for those of which it has nothing.
pub type Found = BTreeMap<ShardId, Option<Remains>>;

/// Reads the log that is locked by now, or will be by the result. Blocks, and changes nothing.
pub fn log(dir: &Path) -> Result<(BTreeMap<u64, GroupFound>, File), LogError> {
    Log::read(&dir.join("log"))
}

/// Reads what a node has of each shard, of which this is the log. Blocks, and changes nothing.
pub fn read(
    dir: &Path,
    shards: u16,
    identity: &Identity,
    mut groups: BTreeMap<u64, GroupFound>,
) -> Result<Found, SalvageError> {
    let mut found = Found::new();
    for shard in (0..shards).map(ShardId) {
        let snapshots = dir.join("snapshots");
        let loaded = SnapshotFile::peek(&snapshots, (shard, shards), identity)?;
        let group = groups.remove(&group_of(shard)).unwrap_or_default();
        if group.purged > loaded.as_ref().and_then(|loaded| loaded.meta.last_log_id) {
            let file = SnapshotFile::path_of(&snapshots, shard);
            return Err(SnapshotError::Missing { file }.into());
        }
        found.insert(shard, remains((shard, shards), loaded, group)?);
    }
    match groups.keys().max() {
        Some(found) => Err(SalvageError::Shards {
            found: *found,
            configured: shards,
        }),
        None => Ok(found),
    }
}

/// Applies all that the log has to what the snapshot has.
fn remains(
    (shard, shards): (ShardId, u16),
    loaded: Option<Loaded>,
    group: GroupFound,
) -> Result<Option<Remains>, SalvageError> {
    let (meta, state) = match loaded {
        Some(loaded) => (loaded.meta, loaded.state),
        None => (SnapshotMeta::default(), ShardState::new(shard, shards)),
    };
    let snapshot = meta.last_log_id;
    let Some(last) = snapshot.max(group.last) else {
        return Ok(None);
    };
    let mut remains = Remains {
        state,
        last,
        committed: snapshot.max(group.committed).min(Some(last)),
        snapshot,
        unconfirmed_since: None,
        vote: group.vote,
        members: members(&meta.last_membership),
    };
    // A snapshot that is later than the log has taken its place; its entries may be of a leader that lost.
    let fits = group.last >= snapshot;
    let entries = group.entries.into_iter().filter(|_| fits);
    for entry in entries.filter(|entry| Some(entry.log_id.index) > snapshot.map(|id| id.index)) {
        match &entry.payload {
            EntryPayload::Normal(proposal) => {
                let read = proposal.batch();
                let (version, batch) = read.map_err(|source| SalvageError::Entry {
                    shard,
                    index: entry.log_id.index,
                    source,
                })?;
                if Some(entry.log_id) > remains.committed {
                    remains.unconfirmed_since.get_or_insert(batch.now);
                }
                // There is no connection left that could be told anything, and effects are in the state.
                drop(remains.state.apply_as(version, batch));
            }
            EntryPayload::Membership(now) => {
                let stored = Stored::new(Some(entry.log_id), now.clone());
                remains.members = members(&stored);
            }
            EntryPayload::Blank => {}
        }
    }
    Ok(Some(remains))
}

/// A shard as it is to be from now on.
#[derive(Debug)]
pub struct Renewed {
    /// The state.
    pub state: ShardState,
    /// The last entry that there was.
    pub last: Option<LogId>,
    /// The last vote that there was.
    pub vote: Option<Vote>,
}

impl From<Remains> for Renewed {
    fn from(remains: Remains) -> Self {
        Self {
            state: remains.state,
            last: Some(remains.last),
            vote: remains.vote,
        }
    }
}

/// Writes log and snapshots below `dir`, in which this node is the only voter of each shard. All is on disk when this
/// returns. Blocks.
pub async fn write(
    dir: &Path,
    identity: &Identity,
    seat: Seat,
    shards: Vec<Renewed>,
) -> Result<(), SalvageError> {
    let me: RaftId = identity.node().0;
    let count = shards.len() as u16;
    let log = Log::open(&dir.join("log"), Options::default())?;
    for shard in shards {
        let of_vote = shard.vote.map_or(0, |vote| vote.leader_id.term);
        let of_last = shard.last.map_or(0, |last| last.leader_id.term);
        let vote = Vote::new(of_vote.max(of_last) + 1, me);
        let next = shard.last.map_or(0, |last| last.index + 1);
        let begin = LogId::new(vote.leader_id, next);
        let alone = BTreeMap::from([(me, seat.clone())]);
        // One voter who is among the members is a membership.
        let membership = Membership::new(vec![BTreeSet::from([me])], alone)
            .unwrap_or_else(|_| unreachable!("its only voter is a member"));
        let meta = SnapshotMeta {
            last_log_id: Some(begin),
            last_membership: Stored::new(Some(begin), membership),
        };
        let id = shard.state.id();
        let owner = Some(identity.clone());
        let file = SnapshotFile::new(&dir.join("snapshots"), (id, count), owner)?;
        file.save(&meta, &shard.state)?;
        let mut group = log.group(group_of(id));
        let io = |source| LogError::Io {
            file: dir.join("log"),
            source,
        };
        group.purge(begin).await.map_err(io)?;
        // This waits for the disk, and so for what was written before.
        group.save_vote(&vote).await.map_err(io)?;
    }
    Ok(())
}
