//! The thread that writes the log: it takes all changes that were handed to it since the last sync, writes and syncs
//! them once, and then tells everyone who waits.
//!
//! # Invariants
//!
//! 1. A frame is begun only when the one before it is synced. So changes that nobody waits for are not written by
//!    themselves: they go with the next one that somebody waits for, or after [`LINGER`].
//! 2. A segment goes only after the purges that make it superfluous are synced, and the oldest first.
//! 3. After the first error nothing is written any more. A lack of disk space or file descriptors is no such error: the
//!    write is repeated until it succeeds, and nobody gets an answer meanwhile (F-19).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::gauge::Gauge;
use super::memory::Marks;
use super::record::{self, Kind};
use super::replay::{Replayed, Segment, Segments};
use super::segment::{self, FRAME, HEADER, Header};
use super::synced::Synced;
use super::{LogError, Options, Pin, Usage};
use crate::clock;
use crate::disk::AGAIN;
use crate::raft::types::IoFlushed;
use crate::room::Shortage;

/// How long a change that nobody waits for may stay in memory.
const LINGER: Duration = Duration::from_millis(50);
/// A frame with so many bytes takes no more changes.
const FRAME_BYTES: usize = 8 << 20;

/// Who waits until a change is on disk.
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
            // The caller may have stopped waiting.
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
    /// The marks of the group after it.
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

/// A handle to the thread. When it is dropped, everything that was handed over is written first.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        replayed: Replayed,
        marks: BTreeMap<u64, Marks>,
        lock: File,
        options: Options,
        gauge: Arc<Gauge>,
    ) -> Result<Self, LogError> {
        let (jobs, queue) = mpsc::channel();
        let path = replayed.segments.active.path.clone();
        let mut thread = Thread {
            queue,
            segments: replayed.segments,
            synced: replayed.synced,
            next: replayed.next,
            marks,
            options,
            gauge,
            waiting: Vec::new(),
            buffer: Vec::new(),
            failed: false,
            lacks: None,
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
        })
    }

    pub(super) fn write(&self, change: Change) -> io::Result<()> {
        self.jobs.send(Job::Change(change)).map_err(|_| stopped())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // If the thread has ended already there is nothing to wait for.
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

/// Fails changes after an error: nobody may rely on them.
fn refuse(changes: Vec<Change>) {
    for change in changes {
        change.done.call(Err(stopped()));
    }
}

struct Thread {
    queue: Receiver<Job>,
    segments: Segments,
    synced: Synced,
    next: u64,
    /// The marks of each group, as of the last frame.
    marks: BTreeMap<u64, Marks>,
    options: Options,
    gauge: Arc<Gauge>,
    /// Changes for the next frame.
    waiting: Vec<Change>,
    buffer: Vec<u8>,
    failed: bool,
    /// What is lacking to write the changes in `waiting`.
    lacks: Option<Shortage>,
    _lock: File,
}

impl Thread {
    fn run(&mut self) {
        let mut more = true;
        while more {
            more = match self.lacks {
                None => self.collect(),
                Some(_) => self.hold(),
            };
            self.commit();
        }
        refuse(std::mem::take(&mut self.waiting));
    }

    /// Takes changes until it is time to write them. Returns whether more may come.
    fn collect(&mut self) -> bool {
        let Ok(mut job) = self.queue.recv() else {
            return false;
        };
        let deadline = clock::instant() + LINGER;
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
                false => deadline.saturating_duration_since(clock::instant()),
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

    /// Takes changes until it is time to try again. Returns whether more may come. They are bounded: meanwhile a leader
    /// proposes nothing, and a follower is sent nothing beyond what it has confirmed.
    fn hold(&mut self) -> bool {
        let until = clock::instant() + AGAIN;
        loop {
            let wait = until.saturating_duration_since(clock::instant());
            match self.queue.recv_timeout(wait) {
                Ok(Job::Change(change)) => self.waiting.push(change),
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => return true,
            }
        }
    }

    /// Writes what waits and tells those who wait for it.
    fn commit(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return;
        }
        if self.failed {
            refuse(waiting);
            return;
        }
        if let Err(error) = self.write(&waiting) {
            match error.shortage() {
                Some(lacks) => {
                    self.waiting = waiting;
                    self.go_without(lacks, &error);
                }
                None => {
                    self.failed = true;
                    // The process ends before anybody is told and could act on it.
                    self.options.fatal.call(&error);
                    refuse(waiting);
                }
            }
            return;
        }
        if self.lacks.take().is_some() {
            tracing::debug!("the log goes on");
            self.tell_usage();
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

    /// Keeps the changes until there is room for them. `room` reports the shortage.
    fn go_without(&mut self, lacks: Shortage, error: &LogError) {
        if self.lacks != Some(lacks) {
            tracing::debug!("{error}; nothing is acknowledged until then");
            self.lacks = Some(lacks);
            self.tell_usage();
        }
    }

    /// Writes the changes as one frame, and syncs it.
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
        let medium = &self.options.medium;
        medium
            .write(&active.file, &self.buffer, active.at)
            .map_err(|source| LogError::io(&active.path, source))?;
        if self.options.fsync {
            let begun = clock::instant();
            medium
                .sync(&active.file)
                .map_err(|source| LogError::sync(&active.path, source))?;
            let took = clock::instant().saturating_duration_since(begun);
            self.options.metrics.fsync.observe(took.as_secs_f64());
        }
        let noted = self.synced.note(self.next + 1);
        noted.map_err(|source| LogError::sync(&active.path, source))?;
        active.at += self.buffer.len() as u64;
        self.next += 1;
        // A single huge frame must not keep its memory for ever.
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

    /// Begins a new segment, when all frames of the old one are synced.
    fn roll(&mut self) -> Result<(), LogError> {
        let seq = self
            .segments
            .live
            .back()
            .map_or(1, |last| last.header.seq + 1);
        let header = Header {
            seq,
            first: self.next,
            nonce: clock::random(),
        };
        self.segments.active = self.segments.files.create(&header)?;
        // The old segment's file is closed now, so a descriptor is free.
        self.segments.files.open_ahead();
        let bytes = self.options.segment_bytes;
        self.segments.live.push_back(Segment {
            header,
            bytes,
            highest: BTreeMap::new(),
        });
        self.tell_usage();
        Ok(())
    }

    /// Frees the oldest segments that no group needs.
    fn free(&mut self) {
        while self.segments.live.len() > 1 && self.pinned_by(1).is_empty() {
            let Some(oldest) = self.segments.live.pop_front() else {
                break;
            };
            let path = self.segments.files.path_of(oldest.header.seq);
            if let Err(error) = self.segments.files.free(&path) {
                // After a failed rename or removal nothing is certain any more: a gap would look like damage.
                self.failed = true;
                self.options.fatal.call(error);
                return;
            }
        }
        self.tell_usage();
    }

    /// The groups with unpurged entries in the oldest segments, without the active one.
    fn pinned_by(&self, segments: usize) -> Vec<Pin> {
        let live = &self.segments.live;
        let mut needed = BTreeMap::new();
        for segment in live.iter().take(segments.min(live.len() - 1)) {
            for (group, highest) in &segment.highest {
                let marks = self.marks.get(group);
                let purged = marks.and_then(|marks| marks.purged).map(|id| id.index);
                if purged < Some(*highest) {
                    let upto = needed.entry(*group).or_default();
                    *upto = *highest.max(upto);
                }
            }
        }
        let pins = needed.into_iter();
        pins.map(|(group, upto)| Pin { group, upto }).collect()
    }

    fn tell_usage(&mut self) {
        let bytes: u64 = self.segments.live.iter().map(|segment| segment.bytes).sum();
        // Twice the excess has to go, so that snapshots are not needed all the time.
        let soft = self.gauge.budget().soft;
        let mut over = if bytes > soft { bytes - soft / 2 } else { 0 };
        let mut segments = 0;
        for segment in &self.segments.live {
            segments += usize::from(over > 0);
            over = over.saturating_sub(segment.bytes);
        }
        self.gauge.tell(Usage {
            bytes,
            pinned_by: self.pinned_by(segments.max(1)),
            lacks: self.lacks,
        });
    }
}

#[cfg(test)]
mod tests;
