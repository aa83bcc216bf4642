//! Logs that come back, and logs that are refused (I-18).

use std::fs;
use std::path::PathBuf;

use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

use super::super::faulty::Faulty;
use super::super::{GroupLog, Log};
use super::*;
use crate::raft::Fatal;
use crate::raft::types::{Entry, LogId, Proposal, TC, Vote};

fn small() -> Options {
    Options {
        segment_bytes: 512,
        fsync: false,
        ..Options::default()
    }
}

fn id(index: u64) -> LogId {
    openraft::testing::log_id::<TC>(1, 1, index)
}

fn entry(index: u64) -> Entry {
    let body = vec![index as u8; 30];
    Entry {
        log_id: id(index),
        payload: openraft::EntryPayload::Normal(Proposal(body.into())),
    }
}

async fn indexes(group: &mut GroupLog) -> Vec<u64> {
    let entries = group.try_get_log_entries(..).await.expect("reads");
    for found in &entries {
        assert_eq!(*found, entry(found.log_id.index), "another content");
    }
    entries.iter().map(|entry| entry.log_id.index).collect()
}

/// A vote and entries 0 to `last` of group 1, a frame each.
async fn fill(dir: &Path, last: u64) {
    let log = Log::open(dir, small()).expect("opens");
    let mut group = log.group(1);
    group.save_vote(&Vote::new(1, 1)).await.expect("saves");
    for index in 0..=last {
        group
            .blocking_append([entry(index)])
            .await
            .expect("appends");
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir)
        .expect("lists")
        .map(|entry| entry.expect("entry").path());
    let mut found: Vec<_> = names
        .filter(|path| path.to_string_lossy().contains("wal-"))
        .collect();
    found.sort();
    found
}

/// As if the process had ended before the last sync was over.
fn forget_the_last_sync(dir: &Path) {
    let (synced, frames) = Synced::open(dir, true).expect("opens");
    synced.note(frames - 1).expect("notes");
}

fn last_frame_at(file: &Path) -> usize {
    let bytes = fs::read(file).expect("reads");
    let header = Header::decode(&bytes).expect("header");
    let (mut at, mut number, mut last) = (HEADER, header.first, HEADER);
    while let Some((_, next)) = segment::frame_at(&bytes, at, header.seed(), number) {
        (last, at, number) = (at, next, number + 1);
    }
    last
}

#[tokio::test]
async fn everything_comes_back() {
    let dir = tempfile::tempdir().expect("dir");
    {
        let log = Log::open(dir.path(), small()).expect("opens");
        assert!(log.is_new());
        let (mut one, mut two) = (log.group(1), log.group(2));
        one.save_vote(&Vote::new(3, 7)).await.expect("saves");
        for index in 0..20 {
            one.blocking_append([entry(index)]).await.expect("appends");
            two.blocking_append([entry(index)]).await.expect("appends");
        }
        one.truncate_after(Some(id(17))).await.expect("truncates");
        one.purge(id(4)).await.expect("purges");
        two.save_committed(Some(id(9))).await.expect("saves");
    }
    let log = Log::open(dir.path(), small()).expect("opens");
    assert!(!log.is_new());
    let (mut one, mut two) = (log.group(1), log.group(2));
    assert_eq!(one.read_vote().await.expect("reads"), Some(Vote::new(3, 7)));
    assert_eq!(two.read_vote().await.expect("reads"), None);
    assert_eq!(indexes(&mut one).await, (5..=17).collect::<Vec<_>>());
    assert_eq!(one.purged(), Some(id(4)));
    assert_eq!(indexes(&mut two).await, (0..20).collect::<Vec<_>>());
    assert_eq!(two.read_committed().await.expect("reads"), Some(id(9)));
}

#[tokio::test]
async fn a_torn_tail_is_cut_wherever_it_was_torn() {
    let dir = tempfile::tempdir().expect("dir");
    fill(dir.path(), 10).await;
    let file = segments(dir.path()).pop().expect("a segment");
    let good = fs::read(&file).expect("reads");
    let from = last_frame_at(&file);
    let used = good.iter().rposition(|byte| *byte != 0).expect("bytes") + 1;
    for cut in from..used {
        let mut torn = good.clone();
        torn[cut..].fill(0);
        fs::write(&file, &torn).expect("writes");
        forget_the_last_sync(dir.path());
        {
            let log = Log::open(dir.path(), small()).expect("opens");
            let mut group = log.group(1);
            assert_eq!(group.last(), Some(id(9)), "cut at {cut}");
            group.blocking_append([entry(10)]).await.expect("appends");
        }
        let log = Log::open(dir.path(), small()).expect("opens");
        assert_eq!(
            indexes(&mut log.group(1)).await,
            (0..=10).collect::<Vec<_>>(),
            "cut at {cut}"
        );
    }
}

#[tokio::test]
async fn a_file_that_ends_early_is_a_torn_tail() {
    let dir = tempfile::tempdir().expect("dir");
    fill(dir.path(), 10).await;
    let file = segments(dir.path()).pop().expect("a segment");
    let good = fs::read(&file).expect("reads");
    forget_the_last_sync(dir.path());
    for cut in last_frame_at(&file)..good.iter().rposition(|byte| *byte != 0).expect("bytes") {
        fs::write(&file, &good[..cut]).expect("writes");
        let log = Log::open(dir.path(), small()).expect("opens");
        assert_eq!(log.group(1).last(), Some(id(9)), "cut at {cut}");
    }
}

#[tokio::test]
async fn t_70_a_synced_end_that_is_gone_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    fill(dir.path(), 10).await;
    let files = segments(dir.path());
    let last = &files[files.len() - 1];
    let good = fs::read(last).expect("reads");
    let refused = |what: &str| match Log::open(dir.path(), small()).err() {
        Some(LogError::Damaged { file, .. }) => assert!(files.contains(&file), "{what}"),
        other => panic!("{what}: {other:?}"),
    };
    for cut in (HEADER..=last_frame_at(last)).step_by(16) {
        fs::write(last, &good[..cut]).expect("writes");
        refused("a shorter file");
        let mut zeroed = good.clone();
        zeroed[cut..].fill(0);
        fs::write(last, &zeroed).expect("writes");
        refused("zeros");
        zeroed[cut..].fill(0xA5);
        fs::write(last, &zeroed).expect("writes");
        refused("garbage");
    }
    fs::remove_file(last).expect("removes");
    refused("a missing file");
    fs::write(last, &good).expect("writes");
    assert!(Log::open(dir.path(), small()).is_ok());
    files
        .iter()
        .for_each(|file| fs::remove_file(file).expect("removes"));
    let error = Log::open(dir.path(), small()).err().expect("is refused");
    assert!(matches!(error, LogError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn t_70_a_flipped_byte_is_refused_or_is_in_the_unsynced_frame() {
    let dir = tempfile::tempdir().expect("dir");
    fill(dir.path(), 10).await;
    let files = segments(dir.path());
    assert!(files.len() > 2, "damage in the middle wants a middle");
    forget_the_last_sync(dir.path());
    let tail = last_frame_at(&files[files.len() - 1]);
    let (mut refused, mut cut) = (0, 0);
    for file in &files {
        let good = fs::read(file).expect("reads");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            fs::write(file, &bad).expect("writes");
            match Log::open(dir.path(), small()) {
                Err(LogError::Damaged { file: named, .. }) => {
                    assert!(files.contains(&named));
                    refused += 1;
                }
                Err(other) => panic!("byte {at} of {}: {other}", file.display()),
                Ok(log) => {
                    let found = indexes(&mut log.group(1)).await;
                    assert_eq!(
                        log.group(1).read_vote().await.expect("reads"),
                        Some(Vote::new(1, 1))
                    );
                    let lost = 11 - found.len();
                    let in_tail = Some(file) == files.last() && at >= tail;
                    assert!(
                        lost == 0 || (lost == 1 && in_tail),
                        "byte {at} of {} lost {lost}",
                        file.display()
                    );
                    cut += lost;
                }
            }
        }
        fs::write(file, &good).expect("writes");
    }
    assert!(refused > 500 && cut > 30, "{refused} refused, {cut} cut");
}

#[tokio::test]
async fn t_70_a_missing_segment_is_named() {
    let dir = tempfile::tempdir().expect("dir");
    fill(dir.path(), 20).await;
    let files = segments(dir.path());
    for gone in &files[..files.len() - 1] {
        let bytes = fs::read(gone).expect("reads");
        fs::remove_file(gone).expect("removes");
        let error = Log::open(dir.path(), small()).err().expect("is refused");
        assert!(
            matches!(&error, LogError::Missing { file } if file == gone),
            "{error}"
        );
        fs::write(gone, bytes).expect("writes");
    }
    assert!(Log::open(dir.path(), small()).is_ok());
}

#[tokio::test]
async fn a_recycled_segment_shows_nothing_of_its_previous_life() {
    let dir = tempfile::tempdir().expect("dir");
    let mut expected = Vec::new();
    for round in 0..8u64 {
        let log = Log::open(dir.path(), small()).expect("opens");
        let mut group = log.group(1);
        assert_eq!(indexes(&mut group).await, expected, "round {round}");
        for index in round * 10..round * 10 + 10 {
            group
                .blocking_append([entry(index)])
                .await
                .expect("appends");
            if index > 2 {
                group.purge(id(index - 2)).await.expect("purges");
            }
        }
        expected = (round * 10 + 8..round * 10 + 10).collect();
    }
    assert!(segments(dir.path()).len() <= 3, "segments are freed");
}

#[tokio::test]
async fn entries_larger_than_a_segment_fit() {
    let dir = tempfile::tempdir().expect("dir");
    let large = |index| Entry {
        log_id: id(index),
        payload: openraft::EntryPayload::Normal(Proposal(vec![7; 2000].into())),
    };
    {
        let mut group = Log::open(dir.path(), small()).expect("opens").group(1);
        for index in 0..3 {
            group
                .blocking_append([large(index)])
                .await
                .expect("appends");
        }
    }
    let mut group = Log::open(dir.path(), small()).expect("opens").group(1);
    let found = group.try_get_log_entries(..).await.expect("reads");
    assert_eq!(found, [large(0), large(1), large(2)]);
}

/// One sync fails, the process ends and starts again, and later the power is lost. What was read at the start,
/// and what others may have been promised on the strength of it, is there; `trusts` makes it a build that
/// takes what it reads for durable.
async fn fail_and_lose_power(trusts: bool) -> Result<(Option<Vote>, Vec<u64>), LogError> {
    let dir = tempfile::tempdir().expect("dir");
    let medium = std::sync::Arc::new(Faulty::default());
    let options = || Options {
        segment_bytes: 512,
        medium: medium.clone(),
        fatal: Fatal::new(|_| {}),
        ..Options::default()
    };
    {
        let mut group = Log::open(dir.path(), options()).expect("opens").group(1);
        for index in 0..7 {
            group
                .blocking_append([entry(index)])
                .await
                .expect("appends");
        }
        medium.fail_once();
        let failed = group.save_vote(&Vote::new(2, 1)).await;
        assert!(failed.is_err(), "a failed sync promises nothing");
    }
    if trusts {
        let (synced, frames) = Synced::open(dir.path(), true).expect("opens");
        synced.note(frames + 1).expect("notes");
    }
    {
        let mut group = Log::open(dir.path(), options()).expect("opens").group(1);
        assert_eq!(
            group.read_vote().await.expect("reads"),
            Some(Vote::new(2, 1))
        );
        group.blocking_append([entry(7)]).await.expect("appends");
    }
    medium.lose_power(dir.path());
    let mut group = Log::open(dir.path(), options())?.group(1);
    let vote = group.read_vote().await.expect("reads");
    Ok((vote, indexes(&mut group).await))
}

#[tokio::test]
async fn f_20_what_a_failed_sync_left_in_the_cache_is_written_again_before_it_counts() {
    let found = fail_and_lose_power(false).await.expect("opens");
    assert_eq!(found, (Some(Vote::new(2, 1)), (0..8).collect()));
}

#[tokio::test]
async fn f_20_a_build_that_trusts_the_cache_is_caught() {
    let found = fail_and_lose_power(true).await;
    assert!(matches!(found, Err(LogError::Damaged { .. })), "{found:?}");
}
