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
use std::time::Instant;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::Fatal;
use super::snapshot::{SnapshotError, SnapshotFile};
use super::types::{
    Entry, EntryResponder, GroupStopped, LogId, Proposal, Raft, Snapshot, SnapshotMeta,
    StoredMembership, TC,
};
use crate::ShardId;
use crate::format::Version;
use crate::session::{Applied, Batch, Notice, Output, ShardState};

pub use super::snapshot::SnapshotPolicy;

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
        shard: ShardId,
        shards: u16,
        dir: &Path,
        sink: Arc<dyn Sink>,
        fatal: Fatal,
    ) -> Result<Self, SnapshotError> {
        let file = SnapshotFile::new(dir, shard)?;
        let (meta, state) = match file.load()? {
            Some((meta, data)) => (meta, ShardState::read(&data).map_err(|_| file.damaged())?),
            None => (SnapshotMeta::default(), ShardState::new(shard, shards)),
        };
        let replica = Replica {
            state,
            applied: meta.last_log_id,
            membership: meta.last_membership,
            logged: 0,
            snapshot_at: Instant::now(),
        };
        Ok(Self {
            shard,
            replica: Arc::new(Mutex::new(replica)),
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
        replica.logged >= policy.bytes
            || (replica.logged > 0 && replica.snapshot_at.elapsed() >= policy.age)
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
        drop(replica);
        drop(stop);
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

/// The state at one moment, about to be written.
pub struct View {
    machine: Machine,
    meta: SnapshotMeta,
    state: Option<ShardState>,
}

impl RaftSnapshotBuilder<TC> for View {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let Some(state) = self.state.take() else {
            return Err(io::Error::other("a view is written once"));
        };
        let meta = self.meta.clone();
        let work = move |file: &SnapshotFile| {
            let data = Bytes::from(state.write());
            drop(state);
            file.save(&meta, &data)?;
            Ok(Snapshot {
                meta,
                snapshot: data,
            })
        };
        self.machine.on_disk(work).await
    }
}

impl RaftStateMachine<TC> for Machine {
    type SnapshotData = Bytes;
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
        replica.logged = 0;
        replica.snapshot_at = Instant::now();
        let meta = SnapshotMeta {
            last_log_id: replica.applied,
            last_membership: replica.membership.clone(),
        };
        View {
            machine: self.clone(),
            meta,
            state: Some(replica.state.clone()),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Bytes,
    ) -> Result<(), io::Error> {
        let kept = meta.clone();
        let work = move |file: &SnapshotFile| {
            let state = ShardState::read(&snapshot).map_err(|_| file.damaged())?;
            file.save(&kept, &snapshot)?;
            Ok(state)
        };
        let state = self.on_disk(work).await?;
        let mut replica = self.lock();
        replica.state = state;
        replica.applied = meta.last_log_id;
        replica.membership = meta.last_membership.clone();
        replica.logged = 0;
        replica.snapshot_at = Instant::now();
        drop(replica);
        self.sink.installed(self.shard);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let loaded = self.on_disk(SnapshotFile::load).await?;
        Ok(loaded.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use futures_util::stream;

    use super::*;
    use crate::session::Command;

    /// A sink that nobody listens to.
    pub(in crate::raft) struct Deaf;

    impl Sink for Deaf {
        fn outputs(&self, _: ShardId, _: Vec<Output>) {}
        fn notices(&self, _: ShardId, _: Vec<Notice>) {}
        fn applied(&self, _: ShardId, _: u64) {}
        fn installed(&self, _: ShardId) {}
    }

    #[derive(Default)]
    struct Ear {
        applied: AtomicU64,
        installed: AtomicU64,
    }

    impl Sink for Ear {
        fn outputs(&self, _: ShardId, _: Vec<Output>) {}
        fn notices(&self, _: ShardId, _: Vec<Notice>) {}

        fn applied(&self, _: ShardId, index: u64) {
            self.applied.store(index, Ordering::SeqCst);
        }

        fn installed(&self, _: ShardId) {
            self.installed.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn machine(dir: &Path) -> (Machine, Arc<Ear>, Arc<Mutex<String>>) {
        let ear = Arc::new(Ear::default());
        let last_words = Arc::<Mutex<String>>::default();
        let fatal = {
            let last_words = last_words.clone();
            Fatal::new(move |why| *last_words.lock().expect("lock") = why.to_owned())
        };
        let machine = Machine::open(ShardId(1), 3, dir, ear.clone(), fatal).expect("opens");
        (machine, ear, last_words)
    }

    fn tick(index: u64) -> EntryResponder {
        let batch = Batch {
            now: index * 1000,
            commands: vec![Command::Tick],
        };
        (entry(index, Proposal::new(&batch)), None)
    }

    fn entry(index: u64, proposal: Proposal) -> Entry {
        let log_id = openraft::testing::log_id::<TC>(1, 1, index);
        Entry {
            log_id,
            payload: EntryPayload::Normal(proposal),
        }
    }

    async fn apply(machine: &mut Machine, entries: Vec<EntryResponder>) -> io::Result<()> {
        machine
            .apply(stream::iter(entries.into_iter().map(Ok)))
            .await
    }

    #[tokio::test]
    async fn entries_change_the_state_and_the_sink_hears_of_it() {
        let dir = tempfile::tempdir().expect("dir");
        let (mut machine, ear, _) = machine(dir.path());
        let before = machine.lock().state.clone();
        apply(&mut machine, vec![tick(0), tick(1)])
            .await
            .expect("applies");
        assert_eq!(ear.applied.load(Ordering::SeqCst), 1);
        assert_ne!(machine.lock().state, before);
        assert_eq!(machine.lock().applied.map(|id| id.index), Some(1));
    }

    #[tokio::test]
    async fn an_entry_that_cannot_be_read_stops_the_node() {
        let dir = tempfile::tempdir().expect("dir");
        let (mut machine, ear, last_words) = machine(dir.path());
        let broken = (entry(0, Proposal(Bytes::from_static(b"\xff"))), None);
        assert!(apply(&mut machine, vec![broken, tick(1)]).await.is_err());
        assert!(
            last_words
                .lock()
                .expect("lock")
                .contains("of shard 1 cannot be read")
        );
        assert_eq!(
            (machine.lock().applied, ear.applied.load(Ordering::SeqCst)),
            (None, 0)
        );
    }

    #[tokio::test]
    async fn a_snapshot_brings_the_state_back_after_a_restart() {
        let dir = tempfile::tempdir().expect("dir");
        let (mut first, ..) = machine(dir.path());
        apply(&mut first, vec![tick(0), tick(1)])
            .await
            .expect("applies");
        let mut view = first.get_snapshot_builder().await;
        // What happens after the view was taken is not in the snapshot.
        let then = first.lock().state.clone();
        apply(&mut first, vec![tick(2)]).await.expect("applies");
        view.build_snapshot().await.expect("builds");
        let (second, ..) = machine(dir.path());
        assert_eq!(second.lock().state, then);
        assert_eq!(second.lock().applied.map(|id| id.index), Some(1));
        assert!(
            second
                .covers(Some(openraft::testing::log_id::<TC>(1, 1, 1)))
                .is_ok()
        );
        assert!(
            second
                .covers(Some(openraft::testing::log_id::<TC>(1, 1, 2)))
                .is_err()
        );
    }

    #[tokio::test]
    async fn an_installed_snapshot_replaces_the_state() {
        let (from, to) = (
            tempfile::tempdir().expect("dir"),
            tempfile::tempdir().expect("dir"),
        );
        let (mut leader, ..) = machine(from.path());
        apply(&mut leader, vec![tick(0), tick(1)])
            .await
            .expect("applies");
        let sent = leader
            .get_snapshot_builder()
            .await
            .build_snapshot()
            .await
            .expect("builds");
        let (mut follower, ear, last_words) = machine(to.path());
        follower
            .install_snapshot(&sent.meta, sent.snapshot)
            .await
            .expect("installs");
        assert_eq!(follower.lock().state, leader.lock().state);
        assert_eq!(ear.installed.load(Ordering::SeqCst), 1);
        let kept = follower
            .get_current_snapshot()
            .await
            .expect("loads")
            .expect("is there");
        assert_eq!(kept.meta, sent.meta);
        // One that makes no sense is not installed.
        assert!(
            follower
                .install_snapshot(&sent.meta, Bytes::from_static(b"?"))
                .await
                .is_err()
        );
        assert!(last_words.lock().expect("lock").contains("damaged"));
        assert_eq!(follower.lock().state, leader.lock().state);
    }

    #[tokio::test]
    async fn a_snapshot_is_due_by_bytes_or_by_age_with_changes() {
        let dir = tempfile::tempdir().expect("dir");
        let (mut machine, ..) = machine(dir.path());
        let by_bytes = SnapshotPolicy {
            bytes: 1,
            age: Duration::from_secs(600),
        };
        let by_age = SnapshotPolicy {
            bytes: u64::MAX,
            age: Duration::ZERO,
        };
        assert!(
            !machine.snapshot_due(&SnapshotPolicy { bytes: 1, ..by_age }),
            "nothing has changed"
        );
        apply(&mut machine, vec![tick(0)]).await.expect("applies");
        assert!(machine.snapshot_due(&by_bytes) && machine.snapshot_due(&by_age));
        assert!(!machine.snapshot_due(&SnapshotPolicy::default()));
        machine.get_snapshot_builder().await;
        assert!(!machine.snapshot_due(&by_bytes) && !machine.snapshot_due(&by_age));
    }
}
