//! Files that earlier builds wrote, read by this one.
//!
//! `golden/v1` was captured from the last build of version 1: a log, a snapshot with a state in which nothing is
//! empty, what that state was, and frames. `golden/v2` is what the present build writes: entries, the records of a
//! state in which nothing is empty, and frames with a greeting. Whoever changes a byte of it changes the format: with
//! `HOLDFAST_WRITE_GOLDEN=1` the tests write these files anew, which may be done only until the version is released.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use openraft::{EntryPayload, RaftLogReader};

use super::{FormatError, Version, Versions};
use crate::link::frame::{self, Frame, Kind, Role};
use crate::link::hello::{Body, Hello};
use crate::raft::Fatal;
use crate::raft::log::{Log, Options};
use crate::raft::machine::Machine;
use crate::raft::machine::tests::Deaf;
use crate::raft::types::*;
use crate::session::{Batch, Command, Disorder, Record, Settings, ShardState, fixture, invariant};
use crate::{BootId, NodeId, ShardId};

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/format/golden/v1")
}

/// What this build writes is what the file holds.
#[track_caller]
fn check_written(name: &str, written: &[u8]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/format/golden/v2");
    let file = dir.join(name);
    if std::env::var_os("HOLDFAST_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(&dir).expect("makes");
        fs::write(&file, written).expect("writes");
    }
    let known = fs::read(&file).expect("reads");
    let differs = known.iter().zip(written).position(|(a, b)| a != b);
    assert!(
        known == written,
        "{name}: {} bytes and {}, which differ at {differs:?}",
        known.len(),
        written.len()
    );
}

#[test]
fn entries_of_version_2_are_what_they_were() {
    let batch = Batch {
        now: 1_700_000_000_000,
        commands: fixture::commands()
            .into_iter()
            .chain(fixture::later_commands())
            .collect(),
    };
    let written = batch.write(Version::V2);
    check_written("entry.bin", &written);
    let read = Batch::read(&written).expect("reads");
    assert_eq!(read, (Version::V2, batch));
}

#[test]
fn records_of_snapshots_of_version_2_are_what_they_were() {
    let state = fixture::state();
    let records: Vec<_> = state.records().collect();
    let written = crate::codec::encode(&records);
    check_written("records.bin", &written);
    let read: Vec<Record> = crate::codec::decode(&written).expect("reads");
    let restored = ShardState::restore(read.into_iter().map(Ok::<_, Disorder>));
    assert_eq!(restored, Ok(state));
}

#[test]
fn frames_and_greetings_of_version_2_are_what_they_were() {
    let hello = Hello {
        speaks: Versions {
            oldest: Version::V2,
            newest: Version::V2,
        },
        body: Body {
            cluster_name: String::from("name"),
            shards: 3,
            seat: 2,
            node: NodeId(u64::MAX),
            boot: BootId(7),
            ..Body::default()
        },
        zone: String::new(),
    };
    let propose = crate::codec::encode(&fixture::later_commands());
    let frame = |kind, role, id, payload: Vec<u8>| Frame {
        version: Version::V2,
        kind,
        role,
        id,
        group: 4,
        payload: payload.into(),
    };
    let frames = [
        frame(Kind::Hello, Role::Request, 1, hello.encode()),
        frame(Kind::Ping, Role::Request, 2, Vec::new()),
        frame(Kind::Propose, Role::Request, 3, propose),
        frame(Kind::ReadIndex, Role::Refusal, 4, Vec::new()),
    ];
    let mut written = Vec::new();
    for one in &frames {
        frame::encode(one, &mut written);
    }
    check_written("frames.bin", &written);
    let mut bytes = BytesMut::from(&written[..]);
    for known in frames {
        let read = frame::decode(&mut bytes).expect("is well formed");
        let read = read.expect("is whole");
        assert_eq!(
            (read.kind, read.role, read.id),
            (known.kind, known.role, known.id)
        );
        assert_eq!((read.version, read.payload), (known.version, known.payload));
    }
    let read = Hello::decode(&hello.encode()).expect("reads");
    assert_eq!(read, hello);
}

/// A copy, because to open something may change it.
fn copied(dir: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for file in fs::read_dir(dir).expect("is there") {
        let file = file.expect("lists").path();
        if file.is_file() {
            fs::copy(&file, to.join(file.file_name().expect("has one"))).expect("copies");
        }
    }
}

/// What the log held: a command of each kind, under the settings of its leader, and an empty batch.
fn batches() -> [Batch; 2] {
    let settings = |settings| std::iter::once(Command::Settings(settings));
    [
        Batch {
            now: 1_700_000_000_000,
            commands: settings(fixture::settings())
                .chain(fixture::commands())
                .collect(),
        },
        Batch {
            now: 0,
            commands: settings(Settings::default()).collect(),
        },
    ]
}

#[track_caller]
fn check_entries(entries: &[Entry]) {
    assert!(matches!(entries[0].payload, EntryPayload::Membership(_)));
    assert!(matches!(entries[1].payload, EntryPayload::Blank));
    for (entry, batch) in entries[2..].iter().zip(batches()) {
        let EntryPayload::Normal(proposal) = &entry.payload else {
            panic!("entry {} is no batch", entry.log_id);
        };
        assert_eq!(proposal.batch().expect("reads"), (Version::V1, batch));
    }
    assert_eq!(entries.len(), 4);
}

#[tokio::test]
async fn a_log_of_version_1_opens_with_every_command() {
    let dir = tempfile::tempdir().expect("dir");
    copied(&files().join("log"), dir.path());
    let options = Options {
        segment_bytes: 1 << 14,
        ..Options::default()
    };
    let log = Log::open(dir.path(), options).expect("opens");
    let mut group = log.group(1);
    assert_eq!(
        group.read_vote().await.expect("reads"),
        Some(Vote::new(3, 13))
    );
    check_entries(&group.limited_get_log_entries(0, 9).await.expect("reads"));
}

#[test]
fn frames_of_version_1_are_known_for_what_they_are() {
    let wire = fs::read(files().join("frames.bin")).expect("reads");
    let mut bytes = BytesMut::from(&wire[..]);
    let mut frames = Vec::new();
    while let Some(frame) = frame::decode(&mut bytes).expect("is well formed") {
        frames.push(frame);
    }
    let kinds: Vec<_> = frames.iter().map(|f| (f.kind, f.role, f.id)).collect();
    let expect = [
        (Kind::Hello, Role::Request, 1),
        (Kind::Ping, Role::Request, 2),
        (Kind::Append, Role::Request, 3),
        (Kind::Propose, Role::Request, 4),
        (Kind::ReadIndex, Role::Refusal, 5),
    ];
    assert_eq!(kinds, expect);
    assert!(frames.iter().all(|frame| frame.version == Version::V1));
    let hello = Hello::decode(&frames[0].payload).expect("reads");
    let v1 = Versions {
        oldest: Version::V1,
        newest: Version::V1,
    };
    assert_eq!(hello.speaks, v1);
    let append: AppendRequest = crate::codec::decode(&frames[2].payload).expect("reads");
    check_entries(&append.entries);
}

#[test]
fn a_snapshot_of_version_1_becomes_a_state_that_is_whole() {
    let dir = tempfile::tempdir().expect("dir");
    copied(&files(), dir.path());
    let deaf = std::sync::Arc::new(Deaf);
    let machine =
        Machine::open((ShardId(0), 1), dir.path(), None, deaf, Fatal::abort()).expect("opens");
    let replica = machine.replica();
    let replica = replica.lock().expect("lock");
    assert_eq!(replica.applied.map(|id| id.index), Some(1));
    assert_eq!(replica.membership.membership().voter_ids().count(), 3);
    let state = &replica.state;
    assert_eq!(invariant::broken(state), None);
    assert_eq!((state.id(), state.format()), (ShardId(0), Version::V1));
    assert_eq!(*state.settings(), fixture::settings());
    let totals = state.totals();
    assert_eq!((totals.sessions, totals.hibernated), (4, 2));
    assert_eq!((totals.old, totals.effects), (2, state.pending_count()));
    assert!(totals.queued > 30 && totals.undelivered == 5, "{totals:?}");
}

#[test]
fn an_entry_of_a_later_version_is_refused_by_its_name() {
    let mut bytes = batches()[1].write(Version::CURRENT);
    bytes[1] = Version::CURRENT.0 + 1;
    let error = Batch::read(&bytes).expect_err("is refused");
    assert!(matches!(error, FormatError::Version(Version(3))), "{error}");
    assert_eq!(
        error.to_string(),
        "it has format 3, and this build reads 1 to 2"
    );
}

#[test]
fn what_is_written_today_is_read_today() {
    for batch in batches() {
        let read = Batch::read(&batch.write(Version::CURRENT)).expect("reads");
        assert_eq!(read, (Version::CURRENT, batch));
    }
}
