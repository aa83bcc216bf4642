//! Snapshot files: what is proven, and what is refused.

use std::sync::atomic::Ordering;

use super::pieces::VERSION;
use super::*;
use crate::NodeId;
use crate::id::{BootId, ConnId, Owner};
use crate::identity::ClusterId;
use crate::session::{Batch, Bind, Command};

const SHARD: (ShardId, u16) = (ShardId(1), 3);

impl SnapshotFile {
    /// From now on the disk damages the next file that is written.
    pub fn spoil(&self) {
        self.spoiled.store(true, Ordering::SeqCst);
    }

    pub(super) fn spoil_if_asked(&self, file: &File, length: u64) {
        if self.spoiled.swap(false, Ordering::SeqCst) {
            file.write_all_at(b"?!", length / 2).expect("writes");
        }
    }
}

/// A place for a snapshot.
pub fn place() -> (tempfile::TempDir, SnapshotFile) {
    let dir = tempfile::tempdir().expect("dir");
    let file = SnapshotFile::new(dir.path(), SHARD, None).expect("file");
    (dir, file)
}

/// A state with these accounts, each with a session.
fn state(accounts: impl Iterator<Item = String>) -> ShardState {
    let mut state = ShardState::new(SHARD.0, SHARD.1);
    let commands = accounts.map(|account| {
        let session = proto::Jid::new(&format!("{account}@example.org/r")).expect("valid");
        let owner = Owner {
            node: NodeId(1),
            boot: BootId(1),
            conn: ConnId(1),
        };
        Command::Bind(Bind { session, owner })
    });
    state.apply(Batch {
        now: 1,
        commands: commands.collect(),
    });
    state
}

fn small() -> ShardState {
    state(std::iter::once(String::from("bob")))
}

/// A state that takes several pieces.
pub fn large() -> ShardState {
    state((0..4000).map(|n| format!("{n:0>200}")))
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(openraft::testing::log_id::<crate::raft::types::TC>(
            1, 1, index,
        )),
        ..SnapshotMeta::default()
    }
}

#[test]
fn the_newest_snapshot_is_the_only_one() {
    let (dir, file) = place();
    assert!(file.load().expect("loads").is_none());
    for (index, state) in [(1, small()), (2, large())] {
        file.save(&meta(index), &state).expect("saves");
    }
    let loaded = file.load().expect("loads").expect("is there");
    assert_eq!((loaded.meta, loaded.state), (meta(2), large()));
    assert!(loaded.length > 3 * (256 << 10), "{}", loaded.length);
    assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
}

#[test]
fn an_older_snapshot_does_not_take_the_place_of_a_newer() {
    let (dir, file) = place();
    file.save(&meta(2), &large()).expect("saves");
    file.save(&meta(1), &small()).expect("is not needed");
    let again = SnapshotFile::new(dir.path(), SHARD, None).expect("file");
    assert_eq!(
        again.load().expect("loads").expect("is there").meta,
        meta(2)
    );
    again.save(&meta(1), &small()).expect("is not needed");
    assert_eq!(file.load().expect("loads").expect("is there").meta, meta(2));
}

#[test]
fn an_unfinished_snapshot_does_not_count_and_goes() {
    let (dir, file) = place();
    file.save(&meta(1), &small()).expect("saves");
    let left = file.path.with_extension("0123456789abcdef");
    fs::write(&left, b"HFSN").expect("writes");
    let other = dir.path().join("shard-11.snapshot");
    fs::write(&other, b"").expect("writes");
    let file = SnapshotFile::new(dir.path(), SHARD, None).expect("file");
    assert_eq!(
        file.load().expect("loads").expect("is there").state,
        small()
    );
    assert!(!left.exists() && other.exists());
}

#[test]
fn a_file_that_is_being_sent_stays_whole_when_a_newer_one_comes() {
    let (_dir, file) = place();
    file.save(&meta(1), &large()).expect("saves");
    let before = fs::read(file.path()).expect("reads");
    let (_, stored) = file.stored().expect("opens").expect("is there");
    file.save(&meta(2), &small()).expect("saves");
    let mut sent = Vec::new();
    while (sent.len() as u64) < stored.length() {
        sent.extend(stored.read(sent.len() as u64, 1000).expect("reads"));
    }
    assert!(sent == before, "another file was sent");
}

/// Loading is refused, and the file is named.
#[track_caller]
fn refused(file: &SnapshotFile, bytes: &[u8]) -> SnapshotError {
    fs::write(&file.path, bytes).expect("writes");
    // Without the state, which is long.
    let loaded = file.load().map(|loaded| loaded.map(|loaded| loaded.meta));
    let error = loaded.expect_err("is refused");
    let name = file.path.display().to_string();
    assert!(error.to_string().contains(&name), "{error}");
    error
}

#[test]
fn t_70_every_flipped_byte_and_every_cut_is_refused_by_name() {
    let (_dir, file) = place();
    file.save(&meta(1), &small()).expect("saves");
    let good = fs::read(&file.path).expect("reads");
    for n in 0..good.len() {
        let mut flipped = good.clone();
        flipped[n] ^= 0x10;
        match refused(&file, &flipped) {
            SnapshotError::Damaged { offset, .. } => assert!(offset <= n as u64),
            SnapshotError::Version { found: 0x12, .. } => assert_eq!(n, 7),
            error => panic!("byte {n}: {error}"),
        }
        let error = refused(&file, &good[..n]);
        assert!(
            matches!(error, SnapshotError::Damaged { .. }),
            "cut at {n}: {error}"
        );
    }
    let more = [&good[..], b"?"].concat();
    assert!(matches!(
        refused(&file, &more),
        SnapshotError::Damaged { .. }
    ));
}

/// Where the pieces of a file begin.
fn pieces(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![8];
    while let Some(last) = starts.last().copied().filter(|last| *last < bytes.len()) {
        let length = bytes[last + 1..last + 5].try_into().map(u32::from_le_bytes);
        starts.push(last + 9 + length.expect("four bytes") as usize);
    }
    starts
}

#[test]
fn t_70_a_piece_that_is_missing_doubled_or_of_another_file_is_refused() {
    let (_dir, file) = place();
    file.save(&meta(1), &large()).expect("saves");
    let good = fs::read(&file.path).expect("reads");
    file.save(&meta(2), &large()).expect("saves");
    let other = fs::read(&file.path).expect("reads");
    let at = pieces(&good);
    assert!(at.len() > 5, "{at:?}");
    let (second, third) = (&good[at[1]..at[2]], &good[at[2]..at[3]]);
    let with = |middle: &[&[u8]]| [&good[..at[1]], &middle.concat(), &good[at[3]..]].concat();
    assert!(with(&[second, third]) == good);
    for bad in [
        with(&[second]),
        with(&[third]),
        with(&[third, second]),
        with(&[second, second, third]),
        with(&[second, &other[at[2]..at[3]]]),
    ] {
        assert!(matches!(
            refused(&file, &bad),
            SnapshotError::Damaged { .. }
        ));
    }
}

#[test]
fn a_snapshot_of_another_shard_cluster_or_version_is_refused() {
    let (dir, file) = place();
    file.save(&meta(1), &small()).expect("saves");
    let good = fs::read(&file.path).expect("reads");
    for shard in [(ShardId(2), 3), (ShardId(1), 4)] {
        let other = SnapshotFile::new(dir.path(), shard, None).expect("file");
        assert!(matches!(
            refused(&other, &good),
            SnapshotError::Foreign { .. }
        ));
    }
    let named = |cluster| {
        let dir = tempfile::tempdir().expect("dir");
        let identity = Identity::open(dir.path(), 1, true).expect("opens");
        identity.join(ClusterId(cluster)).expect("joins");
        let file = SnapshotFile::new(dir.path(), SHARD, Some(identity)).expect("file");
        (dir, file)
    };
    let ((_ours, ours), (_theirs, theirs)) = (named(1), named(2));
    ours.save(&meta(1), &small()).expect("saves");
    assert_eq!(
        ours.load().expect("loads").expect("is there").state,
        small()
    );
    let foreign = fs::read(&ours.path).expect("reads");
    assert!(matches!(
        refused(&theirs, &foreign),
        SnapshotError::Foreign { .. }
    ));
    let mut newer = good.clone();
    newer[7] = 3;
    let error = refused(&file, &newer);
    assert!(error.to_string().contains("format 3 at byte 7"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_back_does_not_take_the_place_of_a_good_one() {
    let (dir, file) = place();
    file.save(&meta(1), &small()).expect("saves");
    file.spoil();
    let error = file.save(&meta(2), &large()).expect_err("is no proof");
    assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
    assert_eq!(file.load().expect("loads").expect("is there").meta, meta(1));
    assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    file.save(&meta(2), &large()).expect("saves");
}

#[test]
fn what_reads_otherwise_than_it_was_written_is_no_proof() {
    let (_dir, file) = place();
    file.save(&meta(1), &large()).expect("saves");
    let header = file.header(&meta(1));
    assert!(prove(&file.path, &header, &large()).is_ok());
    assert!(prove(&file.path, &header, &small()).is_err());
    assert!(prove(&file.path, &file.header(&meta(2)), &large()).is_err());
}

#[test]
fn a_file_of_the_previous_version_is_read_and_replaced() {
    let old = include_bytes!("../../format/golden/v1/shard-0.snapshot");
    let dir = tempfile::tempdir().expect("dir");
    let file = SnapshotFile::new(dir.path(), (ShardId(0), 1), None).expect("file");
    fs::write(&file.path, old).expect("writes");
    let first = file.load().expect("loads").expect("is there");
    let second = file.load().expect("loads").expect("is there");
    assert_eq!((first.meta, first.state), (second.meta, second.state));
    assert_eq!(fs::read(&file.path).expect("reads")[7], VERSION);
    let mut flipped = old.to_vec();
    flipped[100] ^= 1;
    let error = refused(&file, &flipped);
    assert!(
        matches!(error, SnapshotError::Damaged { offset: 0, .. }),
        "{error}"
    );
    let other = SnapshotFile::new(dir.path(), SHARD, None).expect("file");
    assert!(matches!(
        refused(&other, old),
        SnapshotError::Foreign { .. }
    ));
}
