//! The thread that writes: all that has been handed to it since the last sync, one write, one sync, then
//! everyone who waits is told.
//!
//! # Invariants
//!
//! 1. A frame is begun only when the one before it is synced. So changes that nobody waits for are not
//!    written by themselves: they go along with the next that somebody does, or after [`LINGER`].
//! 2. A segment goes only after the purges that make it superfluous are synced, and the oldest first.
//! 3. After the first error nothing is written any more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::group::Marks;
use super::record::{self, Kind};
use super::replay::{Replayed, Segment, Segments};
use super::segment::{self, FRAME, HEADER, Header};
use super::synced::Synced;
use super::{LogError, Options, Usage};
use crate::raft::types::IoFlushed;

/// How long a change that nobody waits for may stay in memory.
const LINGER: Duration = Duration::from_millis(50);
/// A frame takes in no more changes when it has so many bytes.
const FRAME_BYTES: usize = 8 << 20;

/// Who waits for a change.
pub(super) enum Done {
    /// openraft, for entries.
    Flushed(IoFlushed),
    /// The caller, for a vote.
    Saved(oneshot::Sender<io::Result<()>>),
    /// Nobody.
    Unawaited,
}

impl Done {
    fn call(self, result: io::Result<()>) {
        match self {
            Self::Flushed(flushed) => flushed.io_completed(result),
            // Who no longer waits need not know.
            Self::Saved(waiting) => drop(waiting.send(result)),
            Self::Unawaited => {}
        }
    }
}

/// A change of one group's log.
pub(super) struct Change {
    pub(super) group: u64,
    /// Encoded by [`record::put`].
    pub(super) records: Vec<u8>,
    /// What the group is after it.
    pub(super) marks: Marks,
    /// The last of the entries in it.
    pub(super) highest: Option<u64>,
    pub(super) done: Done,
}

#[expect(
    clippy::large_enum_variant,
    reason = "all jobs but the last are changes"
)]
enum Job {
    Change(Change),
    Stop,
}

/// The way to the thread. When it goes, everything handed over is written first.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
    usage: Arc<Mutex<Usage>>,
}

impl Writer {
    pub(super) fn start(
        replayed: Replayed,
        marks: BTreeMap<u64, Marks>,
        lock: File,
        options: Options,
    ) -> Result<Self, LogError> {
        let (jobs, queue) = mpsc::channel();
        let usage = Arc::<Mutex<Usage>>::default();
        let path = replayed.segments.active.path.clone();
        let mut thread = Thread {
            queue,
            segments: replayed.segments,
            synced: replayed.synced,
            next: replayed.next,
            marks,
            options,
            usage: usage.clone(),
            waiting: Vec::new(),
            buffer: Vec::new(),
            failed: false,
            _lock: lock,
        };
        thread.tell_usage();
        let thread = thread::Builder::new()
            .name("wal".into())
            .spawn(move || thread.run())
            .map_err(|source| LogError::io(&path, source))?;
        Ok(Self {
            jobs,
            thread: Some(thread),
            usage,
        })
    }

    pub(super) fn write(&self, change: Change) -> io::Result<()> {
        self.jobs.send(Job::Change(change)).map_err(|_| stopped())
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The thread may have ended already; then there is nothing to wait for.
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = self
            .thread
            .take()
            .filter(|t| t.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the log has stopped")
}

struct Thread {
    queue: Receiver<Job>,
    segments: Segments,
    synced: Synced,
    next: u64,
    /// Of each group, as of the last frame.
    marks: BTreeMap<u64, Marks>,
    options: Options,
    usage: Arc<Mutex<Usage>>,
    /// Changes for the next frame.
    waiting: Vec<Change>,
    buffer: Vec<u8>,
    failed: bool,
    _lock: File,
}

impl Thread {
    fn run(&mut self) {
        let mut more = true;
        while more {
            more = self.collect();
            self.commit();
        }
    }

    /// Takes changes until it is time to write them. Returns whether more may come.
    fn collect(&mut self) -> bool {
        let Ok(mut job) = self.queue.recv() else {
            return false;
        };
        let deadline = Instant::now() + LINGER;
        let (mut awaited, mut bytes) = (false, 0);
        loop {
            let Job::Change(change) = job else {
                return false;
            };
            awaited |= !matches!(change.done, Done::Unawaited);
            bytes += change.records.len();
            self.waiting.push(change);
            let wait = match awaited {
                true => Duration::ZERO,
                false => deadline.saturating_duration_since(Instant::now()),
            };
            if bytes > FRAME_BYTES {
                return true;
            }
            job = match self.queue.recv_timeout(wait) {
                Ok(next) => next,
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => return true,
            };
        }
    }

    /// Writes what waits and tells those who wait for it.
    fn commit(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return;
        }
        let written = match self.failed {
            true => Err(None),
            false => self.write(&waiting).map_err(Some),
        };
        if let Err(error) = written {
            self.failed = true;
            if let Some(error) = error {
                self.options.fatal.call(error);
            }
            waiting
                .into_iter()
                .for_each(|change| change.done.call(Err(stopped())));
            return;
        }
        let purged = waiting.iter().any(|change| {
            self.marks.get(&change.group).and_then(|marks| marks.purged) != change.marks.purged
        });
        for change in waiting {
            self.marks.insert(change.group, change.marks);
            change.done.call(Ok(()));
        }
        if purged {
            self.free();
        }
    }

    /// One write, one sync.
    fn write(&mut self, waiting: &[Change]) -> Result<(), LogError> {
        let size: usize = waiting.iter().map(|change| change.records.len()).sum();
        let after = self.segments.active.at + segment::frame_len(size) as u64;
        if after > self.options.segment_bytes && self.segments.active.at > HEADER as u64 {
            self.roll()?;
        }
        self.buffer.clear();
        self.buffer.resize(FRAME, 0);
        if self.segments.active.at == HEADER as u64 {
            for (group, marks) in &self.marks {
                record::put(Kind::Marks, *group, marks, &mut self.buffer);
            }
        }
        for change in waiting {
            self.buffer.extend_from_slice(&change.records);
        }
        let active = &mut self.segments.active;
        segment::finish_frame(&mut self.buffer, active.seed, self.next);
        let mut written = active.file.write_all_at(&self.buffer, active.at);
        if self.options.fsync {
            written = written.and_then(|()| active.file.sync_data());
        }
        written
            .and_then(|()| self.synced.note(self.next + 1))
            .map_err(|source| LogError::io(&active.path, source))?;
        active.at += self.buffer.len() as u64;
        self.next += 1;
        // One huge frame must not cost memory for ever.
        self.buffer.shrink_to(FRAME_BYTES);
        self.written(waiting);
        Ok(())
    }

    fn written(&mut self, waiting: &[Change]) {
        let at = self.segments.active.at;
        if let Some(segment) = self.segments.live.back_mut() {
            segment.bytes = segment.bytes.max(at);
            for change in waiting {
                if let Some(index) = change.highest {
                    let highest = segment.highest.entry(change.group).or_default();
                    *highest = index.max(*highest);
                }
            }
        }
        if at > self.options.segment_bytes / 2 {
            self.segments.files.prepare();
        }
    }

    /// Begins a new segment. All frames of the old one are synced.
    fn roll(&mut self) -> Result<(), LogError> {
        let seq = self
            .segments
            .live
            .back()
            .map_or(1, |last| last.header.seq + 1);
        let header = Header {
            seq,
            first: self.next,
            nonce: rand::random(),
        };
        self.segments.active = self.segments.files.create(&header)?;
        let bytes = self.options.segment_bytes;
        self.segments.live.push_back(Segment {
            header,
            bytes,
            highest: BTreeMap::new(),
        });
        self.tell_usage();
        Ok(())
    }

    /// Lets go of the oldest segments that no group needs.
    fn free(&mut self) {
        while self.segments.live.len() > 1 && self.pinned_by().is_empty() {
            let Some(oldest) = self.segments.live.pop_front() else {
                break;
            };
            let path = self.segments.files.path_of(oldest.header.seq);
            if let Err(error) = self.segments.files.free(&path) {
                // Renames and removals are promises too: a gap would look like damage.
                self.failed = true;
                self.options.fatal.call(error);
                return;
            }
        }
        self.tell_usage();
    }

    /// Groups with entries in the oldest segment that are not purged; none while that is the active one.
    fn pinned_by(&self) -> Vec<u64> {
        let Some(oldest) = self
            .segments
            .live
            .front()
            .filter(|_| self.segments.live.len() > 1)
        else {
            return Vec::new();
        };
        let purged = |group| {
            self.marks
                .get(group)
                .and_then(|marks| marks.purged)
                .map(|id| id.index)
        };
        let needed = oldest
            .highest
            .iter()
            .filter(|(group, highest)| purged(group) < Some(**highest));
        needed.map(|(group, _)| *group).collect()
    }

    fn tell_usage(&mut self) {
        let bytes = self.segments.live.iter().map(|segment| segment.bytes).sum();
        let usage = Usage {
            bytes,
            pinned_by: self.pinned_by(),
        };
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = usage;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

    use super::super::Log;
    use super::*;
    use crate::raft::Fatal;
    use crate::raft::types::{Entry, LogId, Proposal, TC, Vote};

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
}
