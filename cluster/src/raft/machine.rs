//! Applies committed entries to a shard's state and reports what follows to an observer.
//!
//! All decisions are made by [`ShardState::apply`]. The state is in memory, and a restart rebuilds it from a snapshot
//! and the log.
//!
//! # Invariants
//!
//! 1. Entries are applied in order, each once. An entry that cannot be decoded stops the node: to skip it would make
//!    this replica differ from the others for ever.
//! 2. The observer hears of an entry's outputs before its proposer hears of the outcomes.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{Stream, TryStreamExt};
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::proposed::Proposed;
use super::snapshot::{Loaded, SnapshotData, SnapshotError, SnapshotFile};
use super::types::{
    Entry, EntryResponder, GroupStopped, LogId, Proposal, Raft, Snapshot, SnapshotMeta,
    StoredMembership, TC,
};
use super::{Fatal, dissent};
use crate::ShardId;
use crate::clock;
use crate::format::Version;
use crate::identity::Identity;
use crate::session::{Applied, Batch, Notice, Output, ShardState};

pub use super::snapshot::SnapshotPolicy;

/// How long to wait after a snapshot that could not be made.
const REST: Duration = Duration::from_secs(60);

/// Observes what follows from applied entries. Its methods are called on the runtime of consensus and must not block.
pub trait Observer: Send + Sync {
    /// Outputs for the owners of sessions, in order.
    fn outputs(&self, shard: ShardId, outputs: Vec<Output>);
    /// Notices of what happened to sessions, in order.
    fn notices(&self, shard: ShardId, notices: Vec<Notice>);
    /// Everything up to this index has been applied.
    fn applied(&self, shard: ShardId, index: u64);
    /// A snapshot has replaced entries, whose outputs will never come.
    fn installed(&self, shard: ShardId);
}

/// One shard's state on this node, and how far it has applied the log.
#[derive(Debug)]
pub struct Replica {
    /// The state.
    pub state: ShardState,
    /// The last entry that it has applied.
    pub applied: Option<LogId>,
    /// The voters and learners as of then.
    pub membership: StoredMembership,
    /// Bytes applied since the last snapshot.
    logged: u64,
    /// When the last snapshot was taken.
    snapshot_at: Instant,
    /// How many bytes the last snapshot has.
    snapshot_bytes: u64,
    /// Set after a snapshot has failed: none is taken before this time.
    rest_until: Option<Instant>,
}

impl Replica {
    /// A state that was loaded, to which nothing has been applied yet.
    fn new(loaded: Loaded) -> Self {
        Self {
            state: loaded.state,
            applied: loaded.meta.last_log_id,
            membership: loaded.meta.last_membership,
            logged: 0,
            snapshot_at: clock::instant(),
            snapshot_bytes: loaded.length,
            rest_until: None,
        }
    }

    fn rests(&self) -> bool {
        self.rest_until
            .is_some_and(|until| clock::instant() < until)
    }
}

/// The state machine of one shard, as openraft drives it. Clones share the state.
#[derive(Clone)]
pub struct Machine {
    shard: ShardId,
    // A lock, since threads of readers share it; each holds it briefly. Only `apply` and `install_snapshot` change the
    // state, and openraft never calls them at the same time.
    replica: Arc<Mutex<Replica>>,
    file: SnapshotFile,
    proposed: Proposed,
    observer: Arc<dyn Observer>,
    fatal: Fatal,
}

impl Machine {
    /// The state as of the snapshot in `dir`, or an empty one. Blocks.
    pub fn open(
        (shard, shards): (ShardId, u16),
        dir: &Path,
        identity: Option<Identity>,
        observer: Arc<dyn Observer>,
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
            proposed: Proposed::default(),
            observer,
            fatal,
        })
    }

    /// Where to put what this node proposes, so that it need not be read from the entry.
    pub fn proposed(&self) -> &Proposed {
        &self.proposed
    }

    /// The state, for readers. They must release the lock quickly, as `apply` waits for it.
    pub fn replica(&self) -> Arc<Mutex<Replica>> {
        self.replica.clone()
    }

    /// Refuses a log whose beginning was purged beyond this state: the snapshot that covered it must be gone.
    pub fn covers(&self, purged: Option<LogId>) -> Result<(), SnapshotError> {
        match purged <= self.lock().applied {
            true => Ok(()),
            false => Err(self.file.missing()),
        }
    }

    /// Whether the policy asks for a snapshot.
    pub fn snapshot_due(&self, policy: &SnapshotPolicy) -> bool {
        let replica = self.lock();
        let since = clock::instant() - replica.snapshot_at;
        !replica.rests() && policy.is_due(replica.logged, replica.snapshot_bytes, since)
    }

    /// Whether the policy may soon ask for one.
    pub fn snapshot_nears(&self, policy: &SnapshotPolicy) -> bool {
        let replica = self.lock();
        policy.is_near(replica.logged, replica.snapshot_bytes)
    }

    /// Whether the last snapshot has failed a short while ago.
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
                let batch = match self.proposed.take(&proposal.0) {
                    Some(own) => own,
                    None => self.decode(proposal, log_id)?,
                };
                (Some(batch), proposal.0.len())
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

    /// Runs work on the disk on a thread that may block.
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

    /// Handles a snapshot that could not be made. Log and older snapshot stay as they are. The result is an empty
    /// snapshot and not an error, which would stop the group.
    fn snapshot_failed(&self, logged: u64, why: &SnapshotError) -> Snapshot {
        tracing::error!(
            "shard {}: no snapshot: {why}; its log is kept, and the next attempt comes in {REST:?}",
            self.shard
        );
        let mut replica = self.lock();
        replica.logged += logged;
        replica.rest_until = Some(clock::instant() + REST);
        Snapshot {
            meta: SnapshotMeta::default(),
            snapshot: SnapshotData::Nothing,
        }
    }
}

/// Ends the process if `apply` panics, because the state may be half changed and would differ from the other replicas.
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

/// The state at one moment, which is about to be written. It shares with the live state what has not changed since.
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
        // The view is dropped on that thread too, as freeing what is no longer shared takes time.
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
            self.observer.outputs(self.shard, applied.outputs);
            self.observer.notices(self.shard, applied.notices);
            if let Some(responder) = responder {
                responder.send(applied.outcomes);
            }
            self.observer.applied(self.shard, index);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> View {
        let mut replica = self.lock();
        let logged = std::mem::take(&mut replica.logged);
        replica.snapshot_at = clock::instant();
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
        // Freeing a large state takes long, so it happens in the background.
        tokio::task::spawn_blocking(move || drop(old));
        self.observer.installed(self.shard);
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
