//! What the thread promises, on disks that fill up and among too many open files.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

use super::super::Log;
use super::super::faulty::Faulty;
use super::*;
use crate::raft::Fatal;
use crate::raft::types::{Entry, LogId, Proposal, TC, Vote};

const PATIENCE: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options {
        segment_bytes: 512,
        fsync: true,
        ..Options::default()
    }
}

fn id(index: u64) -> LogId {
    openraft::testing::log_id::<TC>(1, 1, index)
}

fn entry(index: u64, size: usize) -> Entry {
    let body = vec![0; size];
    Entry {
        log_id: id(index),
        payload: openraft::EntryPayload::Normal(Proposal(body.into())),
    }
}

fn segments(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir)
        .expect("lists")
        .map(|entry| entry.expect("entry").file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("wal-"))
        .count()
}

#[tokio::test]
async fn what_is_acknowledged_is_in_the_file() {
    let dir = tempfile::tempdir().expect("dir");
    let copy = tempfile::tempdir().expect("dir");
    let log = Log::open(dir.path(), options()).expect("opens");
    log.group(7)
        .save_vote(&Vote::new(4, 2))
        .await
        .expect("saves");
    // The process is gone at this point, as far as the copy is concerned.
    for entry in std::fs::read_dir(dir.path()).expect("lists") {
        let entry = entry.expect("entry");
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copies");
    }
    let found = Log::open(copy.path(), options()).expect("opens");
    assert_eq!(
        found.group(7).read_vote().await.expect("reads"),
        Some(Vote::new(4, 2))
    );
}

#[tokio::test]
async fn a_segment_goes_when_no_group_needs_it() {
    let dir = tempfile::tempdir().expect("dir");
    let log = Log::open(dir.path(), options()).expect("opens");
    let (mut one, mut two) = (log.group(1), log.group(2));
    two.blocking_append([entry(0, 10)]).await.expect("appends");
    for index in 0..30 {
        one.blocking_append([entry(index, 50)])
            .await
            .expect("appends");
    }
    one.purge(id(29)).await.expect("purges");
    one.save_vote(&Vote::new(1, 1)).await.expect("saves");
    // Usage is told after those who wait; the next frame comes after both.
    one.save_vote(&Vote::new(2, 1)).await.expect("saves");
    assert_eq!(
        log.pinned_by(),
        [2],
        "the other group's entry is in the oldest segment"
    );
    assert!(segments(dir.path()) > 3);
    two.purge(id(0)).await.expect("purges");
    two.save_vote(&Vote::new(1, 1)).await.expect("saves");
    // Files are freed after those who wait have been told.
    drop((one, two, log));
    assert_eq!(segments(dir.path()), 1);
    let log = Log::open(dir.path(), options()).expect("opens");
    assert_eq!(
        (log.group(1).last(), log.group(2).last()),
        (Some(id(29)), Some(id(0)))
    );
    assert_eq!(log.pinned_by(), [] as [u64; 0]);
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_after_a_while() {
    let dir = tempfile::tempdir().expect("dir");
    let log = Log::open(dir.path(), options()).expect("opens");
    let mut group = log.group(1);
    group
        .blocking_append([entry(0, 10)])
        .await
        .expect("appends");
    let before = std::fs::read(dir.path().join("wal-0000000000000001")).expect("reads");
    group.save_committed(Some(id(0))).await.expect("saves");
    let changed =
        || std::fs::read(dir.path().join("wal-0000000000000001")).expect("reads") != before;
    while !changed() {
        tokio::time::sleep(LINGER / 10).await;
    }
}

#[tokio::test]
async fn the_first_failure_stops_the_node_and_all_that_follows() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("log");
    let told = Arc::new(AtomicBool::new(false));
    let fatal = {
        let told = told.clone();
        Fatal::new(move |_| told.store(true, Ordering::SeqCst))
    };
    let log = Log::open(&path, Options { fatal, ..options() }).expect("opens");
    let mut group = log.group(1);
    group
        .blocking_append([entry(0, 10)])
        .await
        .expect("appends");
    std::fs::remove_dir_all(&path).expect("removes");
    // There is room in the segment for this one; the next needs a new segment.
    let mut result = Ok(());
    for index in 1..20 {
        result = group.blocking_append([entry(index, 100)]).await;
        if result.is_err() {
            break;
        }
    }
    assert!(result.is_err() && told.load(Ordering::SeqCst));
    assert!(group.save_vote(&Vote::new(9, 9)).await.is_err());
}

async fn await_shortage(log: &Log) {
    let lacks = async {
        while log.usage().lacks.is_none() {
            tokio::time::sleep(AGAIN / 10).await;
        }
    };
    let lacks = tokio::time::timeout(PATIENCE, lacks).await;
    lacks.expect("the disk is full");
}

#[tokio::test]
async fn f_19_a_full_disk_acknowledges_nothing_and_goes_on_by_itself() {
    let dir = tempfile::tempdir().expect("dir");
    let medium = Arc::new(Faulty::default());
    let options = Options {
        medium: medium.clone(),
        fatal: Fatal::new(|why| panic!("{why}")),
        ..options()
    };
    let log = Log::open(dir.path(), options).expect("opens");
    let mut group = log.group(1);
    group
        .blocking_append([entry(0, 10)])
        .await
        .expect("appends");
    medium.fill_up();
    let mut waits = group.clone();
    let written = Arc::new(AtomicU64::new(0));
    let count = written.clone();
    let appending = tokio::spawn(async move {
        for index in 1..20 {
            waits
                .blocking_append([entry(index, 100)])
                .await
                .expect("appends");
            count.store(index, Ordering::SeqCst);
        }
    });
    await_shortage(&log).await;
    let before = written.load(Ordering::SeqCst);
    tokio::time::sleep(2 * AGAIN).await;
    assert_eq!(
        (log.usage().lacks, written.load(Ordering::SeqCst)),
        (Some(Shortage::Full), before)
    );
    assert!(before < 19, "the disk was never full");
    medium.make_room();
    appending.await.expect("goes on");
    assert_eq!(log.usage().lacks, None);
    drop((group, log));
    let log = Log::open(dir.path(), self::options()).expect("opens");
    assert_eq!(log.group(1).last(), Some(id(19)));
}

#[tokio::test]
async fn f_19_a_log_without_room_can_be_closed() {
    let dir = tempfile::tempdir().expect("dir");
    let medium = Arc::new(Faulty::default());
    let options = Options {
        medium: medium.clone(),
        ..options()
    };
    let log = Log::open(dir.path(), options).expect("opens");
    let mut group = log.group(1);
    medium.fill_up();
    let refused = tokio::spawn(async move {
        let mut index = 0;
        while group.blocking_append([entry(index, 100)]).await.is_ok() {
            index += 1;
        }
        index
    });
    await_shortage(&log).await;
    log.writer.jobs.send(Job::Stop).expect("stops");
    let acknowledged = refused.await.expect("is told");
    drop(log);
    let log = Log::open(dir.path(), self::options()).expect("opens");
    assert_eq!(
        log.group(1).last().map(|last| last.index + 1).unwrap_or(0),
        acknowledged
    );
}

/// Runs in a process of its own: see the next.
#[tokio::test]
#[ignore = "takes all descriptors of its process"]
async fn t_16_alone_without_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let dir = tempfile::tempdir().expect("dir");
    let log = Log::open(dir.path(), options()).expect("opens");
    let mut group = log.group(1);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("reads");
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).expect("lowers");
    let mut taken = Vec::new();
    while let Ok(file) = File::open(dir.path()) {
        taken.push(file);
    }
    for index in 0..30 {
        let append = group.blocking_append([entry(index, 100)]);
        let appended = tokio::time::timeout(PATIENCE, append).await;
        appended.expect("the log goes on").expect("appends");
    }
    assert_eq!(log.usage().lacks, None);
}

#[test]
fn t_16_the_log_goes_on_when_no_file_can_be_opened() {
    let alone = "raft::log::writer::tests::t_16_alone_without_descriptors";
    let status = std::process::Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "--ignored", alone])
        .status();
    assert!(status.expect("starts").success());
}
