//! The start: reads the files and works out what each group's log is.
//!
//! Only the unsynced tail of the last segment may be unreadable: it is overwritten, because nobody was
//! told that it was kept. Anything else that does not fit is damage, and the node must not vote
//! with a log that lacks what it once promised.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::path::Path;

use super::files::{Active, Files, Found};
use super::group::Group;
use super::record::{self, Record};
use super::segment::{self, BadHeader, HEADER, Header};
use super::{LogError, Options};

/// A segment that holds something.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) bytes: u64,
    /// For each group, the highest entry in it.
    pub(super) highest: BTreeMap<u64, u64>,
}

/// The files of the log, ready for more.
#[derive(Debug)]
pub(super) struct Segments {
    pub(super) files: Files,
    /// Oldest first; the last one is the active one.
    pub(super) live: VecDeque<Segment>,
    pub(super) active: Active,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) groups: BTreeMap<u64, Group>,
    pub(super) segments: Segments,
    /// The number of the next frame.
    pub(super) next: u64,
}

/// Reads the log in `dir`, or makes one; also returns the lock on it.
pub(super) fn open(dir: &Path, options: &Options) -> Result<(Replayed, File), LogError> {
    let Found {
        mut files,
        segments: found,
        lock,
    } = Files::open(dir, options)?;
    let mut reading = Reading::default();
    for (at, (seq, path)) in found.iter().enumerate() {
        let bytes = fs::read(path).map_err(|source| LogError::io(path, source))?;
        if at > 0 && found[at - 1].0 + 1 != *seq {
            return Err(LogError::Missing {
                file: files.path_of(seq - 1),
            });
        }
        reading.segment(*seq, path, &bytes, at + 1 == found.len())?;
    }
    let Reading {
        groups,
        live,
        next,
        end,
        ..
    } = reading;
    if let Some(oldest) = live.front()
        && !groups.values().all(Group::is_whole)
    {
        return Err(LogError::Missing {
            file: files.path_of(oldest.header.seq.saturating_sub(1)),
        });
    }
    let mut live = live;
    let active = match live.back() {
        Some(last) => files.reopen(&last.header, end)?,
        None => {
            let header = Header {
                seq: 1,
                first: 0,
                nonce: rand::random(),
            };
            live.push_back(Segment {
                header,
                bytes: options.segment_bytes,
                highest: BTreeMap::new(),
            });
            files.create(&header)?
        }
    };
    Ok((
        Replayed {
            groups,
            segments: Segments {
                files,
                live,
                active,
            },
            next,
        },
        lock,
    ))
}

#[derive(Default)]
struct Reading {
    groups: BTreeMap<u64, Group>,
    live: VecDeque<Segment>,
    /// The number of the next frame.
    next: u64,
    /// Where the last segment's readable frames end.
    end: u64,
    previous: std::path::PathBuf,
}

impl Reading {
    fn segment(&mut self, seq: u64, path: &Path, bytes: &[u8], last: bool) -> Result<(), LogError> {
        let damaged = |offset: usize| LogError::Damaged {
            file: path.to_owned(),
            offset: offset as u64,
        };
        let header = Header::decode(bytes).map_err(|bad| match bad {
            BadHeader::Damaged => damaged(0),
            BadHeader::Version(found) => LogError::Version {
                file: path.to_owned(),
                found,
            },
        })?;
        if header.seq != seq {
            return Err(damaged(0));
        }
        if self.live.is_empty() {
            self.next = header.first;
        } else if header.first != self.next {
            // The segment before this one was full and synced when this one was made.
            return Err(LogError::Damaged {
                file: self.previous.clone(),
                offset: self.end,
            });
        }
        self.live.push_back(Segment {
            header,
            bytes: bytes.len() as u64,
            highest: BTreeMap::new(),
        });
        let seed = header.seed();
        let mut at = HEADER;
        while let Some((payload, after)) = segment::frame_at(bytes, at, seed, self.next) {
            self.frame(payload).ok_or_else(|| damaged(at))?;
            self.next += 1;
            at = after;
        }
        if last && segment::later_frame(bytes, at, seed, self.next) {
            return Err(damaged(at));
        }
        self.end = at as u64;
        self.previous = path.to_owned();
        Ok(())
    }

    /// `None`: the frame makes no sense after what precedes it.
    fn frame(&mut self, mut payload: &[u8]) -> Option<()> {
        while !payload.is_empty() {
            let (id, record) = record::take(&mut payload).ok()?;
            if let Record::Marks(marks) = record {
                self.marks(id, marks)?;
                continue;
            }
            let group = self.groups.entry(id).or_default();
            match record {
                Record::Vote(vote) => group.vote = Some(vote),
                Record::Committed(committed) => group.committed = committed,
                Record::Truncate(last) => group.truncate_after(last),
                Record::Purge(upto) => group.purge(upto),
                Record::Entry(entry) => {
                    let index = entry.log_id.index;
                    group.append(entry).ok()?;
                    let highest = self.live.back_mut()?.highest.entry(id).or_default();
                    *highest = index.max(*highest);
                }
                Record::Marks(_) => {}
            }
        }
        Some(())
    }

    /// In the oldest segment marks stand for what is gone; later ones repeat what was read.
    fn marks(&mut self, id: u64, marks: super::group::Marks) -> Option<()> {
        if self.live.len() == 1 {
            self.groups.insert(id, Group::from_marks(marks));
            return Some(());
        }
        let known = self.groups.get(&id).map(Group::marks).unwrap_or_default();
        (known == marks).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

    use super::super::{GroupLog, Log};
    use super::*;
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
        for cut in last_frame_at(&file)..good.iter().rposition(|byte| *byte != 0).expect("bytes") {
            fs::write(&file, &good[..cut]).expect("writes");
            let log = Log::open(dir.path(), small()).expect("opens");
            assert_eq!(log.group(1).last(), Some(id(9)), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn t_70_a_flipped_byte_is_refused_or_cuts_the_last_frame_only() {
        let dir = tempfile::tempdir().expect("dir");
        fill(dir.path(), 10).await;
        let files = segments(dir.path());
        assert!(files.len() > 2, "damage in the middle wants a middle");
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
}
