//! The state machine between its log, its snapshots and its observer.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;

use super::*;
use crate::session::Command;

/// An observer that does nothing.
pub(crate) struct Deaf;

impl Observer for Deaf {
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

impl Observer for Ear {
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
    let machine = Machine::open((ShardId(1), 3), dir, None, ear.clone(), fatal).expect("opens");
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
async fn a_view_stays_as_it_was_and_shares_what_does_not_change() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut first, ..) = machine(dir.path());
    apply(&mut first, vec![tick(0)]).await.expect("applies");
    let view = first.get_snapshot_builder().await;
    let then: Vec<_> = first.lock().state.records().collect();
    apply(&mut first, vec![tick(1)]).await.expect("applies");
    let now: Vec<_> = first.lock().state.records().collect();
    let kept = view.state.as_ref().expect("is there").records();
    assert!(kept.eq(then.iter().cloned()) && then != now);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_proven_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut machine, _, last_words) = machine(dir.path());
    apply(&mut machine, vec![tick(0)]).await.expect("applies");
    let view = &mut machine.get_snapshot_builder().await;
    let good = view.build_snapshot().await.expect("builds").meta;
    apply(&mut machine, vec![tick(1)]).await.expect("applies");
    let due = SnapshotPolicy {
        bytes: 0,
        ..SnapshotPolicy::default()
    };
    assert!(machine.snapshot_due(&due));
    // What reaches the disk is not what was written to it.
    machine.file.spoil();
    let view = &mut machine.get_snapshot_builder().await;
    let none = view.build_snapshot().await.expect("is no end of the group");
    // openraft forgets no entry for one that covers none.
    assert_eq!(none.meta, SnapshotMeta::default());
    assert!(matches!(none.snapshot, SnapshotData::Nothing));
    assert_eq!(*last_words.lock().expect("lock"), "");
    let kept = machine.file.load().expect("loads").expect("is there");
    assert_eq!(kept.meta, good);
    assert!(
        machine.lock().logged > 0,
        "what it would have covered still counts"
    );
    assert!(!machine.snapshot_due(&due), "the next attempt waits");
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
            .install_snapshot(&sent.meta, SnapshotData::Nothing)
            .await
            .is_err()
    );
    assert!(last_words.lock().expect("lock").contains("missing"));
    assert_eq!(follower.lock().state, leader.lock().state);
}

#[tokio::test]
async fn a_snapshot_is_due_by_bytes_or_by_age_with_changes() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut machine, ..) = machine(dir.path());
    let by_bytes = SnapshotPolicy {
        bytes: 1,
        age: Duration::from_secs(600),
        stretch: 1.0,
    };
    let by_age = SnapshotPolicy {
        bytes: u64::MAX,
        age: Duration::ZERO,
        stretch: 1.0,
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
