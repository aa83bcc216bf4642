//! Applies committed entries to a shard's state and tells the node what follows.
//!
//! It decides nothing: [`ShardState::apply`] does. The state lives in memory; snapshots and the log
//! bring it back after a restart.
//!
//! # Invariants
//!
//! 1. Entries are applied in order, each once. One that cannot be decoded stops the node: to skip it
//!    would make this replica differ from the others for ever.
//! 2. The sink hears of an entry's outputs before its proposer hears of the outcomes.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{Stream, TryStreamExt};
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::snapshot::{Loaded, SnapshotData, SnapshotError, SnapshotFile};
use super::types::{
    Entry, EntryResponder, GroupStopped, LogId, Proposal, Raft, Snapshot, SnapshotMeta,
    StoredMembership, TC,
};
use super::{Fatal, dissent};
use crate::ShardId;
use crate::format::Version;
use crate::identity::Identity;
use crate::session::{Applied, Batch, Notice, Output, ShardState};

pub use super::snapshot::SnapshotPolicy;

/// How long a snapshot waits after one that could not be made.
const REST: Duration = Duration::from_secs(60);

/// Hears what follows from applied entries. Called from the consensus runtime; must not block.
pub trait Sink: Send + Sync {
    /// What owners are to be told, in order.
    fn outputs(&self, shard: ShardId, outputs: Vec<Output>);
    /// What happened to sessions, in order.
    fn notices(&self, shard: ShardId, notices: Vec<Notice>);
    /// Everything up to this index is applied.
    fn applied(&self, shard: ShardId, index: u64);
    /// A snapshot took the place of entries: their outputs will never come.
    fn installed(&self, shard: ShardId);
}

/// One shard's state on this node, and how far it is.
#[derive(Debug)]
pub struct Replica {
    /// The state.
    pub state: ShardState,
    /// The last entry that it contains.
    pub applied: Option<LogId>,
    /// The voters and learners as of then.
    pub membership: StoredMembership,
    /// Bytes applied since the last snapshot.
    logged: u64,
    /// When that was.
    snapshot_at: Instant,
    /// Bytes that it has.
    snapshot_bytes: u64,
    /// Before that none is taken: the last one failed.
    rest_until: Option<Instant>,
}

impl Replica {
    /// Until now nothing was applied to it.
    fn new(loaded: Loaded) -> Self {
        Self {
            state: loaded.state,
            applied: loaded.meta.last_log_id,
            membership: loaded.meta.last_membership,
            logged: 0,
            snapshot_at: Instant::now(),
            snapshot_bytes: loaded.length,
            rest_until: None,
        }
    }

    fn rests(&self) -> bool {
        self.rest_until.is_some_and(|until| Instant::now() < until)
    }
}

/// The state machine of one shard, as openraft drives it. Clones share the state.
#[derive(Clone)]
pub struct Machine {
    shard: ShardId,
    // Shared with readers on other threads, which hold it for one look each; only `apply` and
    // `install_snapshot` change it, and they are never called at the same time.
    replica: Arc<Mutex<Replica>>,
    file: SnapshotFile,
    sink: Arc<dyn Sink>,
    fatal: Fatal,
}

impl Machine {
    /// The state as of the snapshot in `dir`, or an empty one. Blocks.
    pub fn open(
        (shard, shards): (ShardId, u16),
        dir: &Path,
        identity: Option<Identity>,
        sink: Arc<dyn Sink>,
        fatal: Fatal,
    ) -> Result<Self, SnapshotError> {
        let file = SnapshotFile::new(dir, (shard, shards), identity)?;
        let loaded = file.load()?.unwrap_or_else(|| Loaded {
            meta: SnapshotMeta::default(),
            state: ShardState::new(shard, shards),
            length: 0,
        });
        Ok(Self {
            shard,
            replica: Arc::new(Mutex::new(Replica::new(loaded))),
            file,
            sink,
            fatal,
        })
    }

    /// The state, for readers. They must let go of it at once: `apply` waits.
    pub fn replica(&self) -> Arc<Mutex<Replica>> {
        self.replica.clone()
    }

    /// Refuses a log that was cut further than the state reaches: the snapshot that covers it is gone.
    pub fn covers(&self, purged: Option<LogId>) -> Result<(), SnapshotError> {
        match purged <= self.lock().applied {
            true => Ok(()),
            false => Err(self.file.missing()),
        }
    }

    /// Whether a snapshot is worth its while.
    pub fn snapshot_due(&self, policy: &SnapshotPolicy) -> bool {
        let replica = self.lock();
        let since = replica.snapshot_at.elapsed();
        !replica.rests() && policy.is_due(replica.logged, replica.snapshot_bytes, since)
    }

    /// Whether the last one could not be made, a short while ago.
    pub fn snapshot_rests(&self) -> bool {
        self.lock().rests()
    }

    /// Bytes of the last snapshot.
    pub fn snapshot_bytes(&self) -> u64 {
        self.lock().snapshot_bytes
    }

    /// Where its snapshots are.
    pub fn file(&self) -> &SnapshotFile {
        &self.file
    }

    /// Asks for a snapshot if one is due. Returns whether it was.
    pub async fn snapshot_if_due(
        &self,
        raft: &Raft,
        policy: &SnapshotPolicy,
    ) -> Result<bool, GroupStopped> {
        let due = self.snapshot_due(policy);
        if due {
            raft.trigger().snapshot().await?;
        }
        Ok(due)
    }

    /// A poisoned lock means that `apply` has panicked, which ends the process by itself.
    fn lock(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply_entry(&self, entry: Entry) -> io::Result<Applied> {
        let log_id = entry.log_id;
        let stop = StopIfUnwound {
            machine: self,
            at: log_id,
        };
        let (batch, size) = match &entry.payload {
            EntryPayload::Normal(proposal) => {
                (Some(self.decode(proposal, log_id)?), proposal.0.len())
            }
            EntryPayload::Blank | EntryPayload::Membership(_) => (None, 0),
        };
        let mut replica = self.lock();
        let applied = batch
            .map(|(version, batch)| replica.state.apply_as(version, batch))
            .unwrap_or_default();
        if let EntryPayload::Membership(membership) = entry.payload {
            replica.membership = StoredMembership::new(Some(log_id), membership);
        }
        replica.applied = Some(log_id);
        replica.logged += size as u64;
        let (state, membership) = (&replica.state, &replica.membership);
        let judged = dissent::judge(self.shard, log_id, state, membership, &applied.dissents);
        drop(replica);
        drop(stop);
        judged.map_err(|outvoted| {
            self.fatal.call(&outvoted);
            io::Error::other(outvoted)
        })?;
        Ok(applied)
    }

    fn decode(&self, proposal: &Proposal, at: LogId) -> io::Result<(Version, Batch)> {
        proposal.batch().map_err(|error| {
            self.fatal.call(format_args!(
                "committed entry {at} of shard {} cannot be read: {error}",
                self.shard
            ));
            error.into()
        })
    }

    /// Runs something that touches the disk where it may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SnapshotFile) -> Result<T, SnapshotError> + Send + 'static,
    ) -> io::Result<T> {
        let file = self.file.clone();
        let done = tokio::task::spawn_blocking(move || work(&file)).await;
        let done = done.map_err(io::Error::other)?;
        done.map_err(|error| {
            self.fatal.call(&error);
            error.into()
        })
    }

    /// What a snapshot that could not be made leaves behind: all as it was, log and older snapshot too. The
    /// group goes on, which it would not do after an error.
    fn snapshot_failed(&self, logged: u64, why: &SnapshotError) -> Snapshot {
        tracing::error!(
            "shard {}: no snapshot: {why}; its log is kept, and the next attempt comes in {REST:?}",
            self.shard
        );
        let mut replica = self.lock();
        replica.logged += logged;
        replica.rest_until = Some(Instant::now() + REST);
        Snapshot {
            meta: SnapshotMeta::default(),
            snapshot: SnapshotData::Nothing,
        }
    }
}

/// Ends the process when `apply` panics: the state may be half changed, and other replicas are not.
struct StopIfUnwound<'a> {
    machine: &'a Machine,
    at: LogId,
}

impl Drop for StopIfUnwound<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.machine.fatal.call(format_args!(
                "applying entry {} of shard {} failed",
                self.at, self.machine.shard
            ));
        }
    }
}

/// The state at one moment, about to be written. It shares all that has not changed since.
pub struct View {
    machine: Machine,
    meta: SnapshotMeta,
    state: Option<ShardState>,
    logged: u64,
}

impl RaftSnapshotBuilder<TC> for View {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let Some(state) = self.state.take() else {
            return Err(io::Error::other("a view is written once"));
        };
        let (file, meta) = (self.machine.file.clone(), self.meta.clone());
        // What nobody else shares any more is taken apart there, too.
        let save = tokio::task::spawn_blocking(move || file.save(&meta, &state));
        let stored = match save.await.map_err(io::Error::other)? {
            Ok(stored) => stored,
            Err(why) => return Ok(self.machine.snapshot_failed(self.logged, &why)),
        };
        self.machine.lock().snapshot_bytes = stored.length();
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: SnapshotData::Stored(stored),
        })
    }
}

impl RaftStateMachine<TC> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = View;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let replica = self.lock();
        Ok((replica.applied, replica.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let index = entry.log_id.index;
            let applied = self.apply_entry(entry)?;
            self.sink.outputs(self.shard, applied.outputs);
            self.sink.notices(self.shard, applied.notices);
            if let Some(responder) = responder {
                responder.send(applied.outcomes);
            }
            self.sink.applied(self.shard, index);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> View {
        let mut replica = self.lock();
        let logged = std::mem::take(&mut replica.logged);
        replica.snapshot_at = Instant::now();
        let meta = SnapshotMeta {
            last_log_id: replica.applied,
            last_membership: replica.membership.clone(),
        };
        View {
            machine: self.clone(),
            meta,
            state: Some(replica.state.clone()),
            logged,
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let adopted = meta.clone();
        let adopt = move |file: &SnapshotFile| file.adopt(adopted, snapshot);
        let new = Replica::new(self.on_disk(adopt).await?);
        let old = std::mem::replace(&mut *self.lock(), new);
        // To take a large state apart takes long, and nobody need wait for it.
        tokio::task::spawn_blocking(move || drop(old));
        self.sink.installed(self.shard);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let stored = self.on_disk(SnapshotFile::stored).await?;
        Ok(stored.map(|(meta, stored)| Snapshot {
            meta,
            snapshot: SnapshotData::Stored(stored),
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests;
