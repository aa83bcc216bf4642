//! The write-ahead log of a node, shared by all of its groups.
//!
//! One thread collects what was handed to it since the last sync, writes it as one frame, syncs once, and then tells
//! everyone who waits: a group commit across all shards. Entries stay in memory until they are purged, so files are
//! read only at the start.
//!
//! - `files` manages the files; `segment` is their format; `record` is what a frame consists of; `memory` is one
//!   group's log in memory;
//! - `gauge` knows what the log takes up; `medium` writes to disk; `synced` notes how much was promised; `replay` reads
//!   the files at the start; `writer` is the thread; `store` is what openraft calls.

use std::collections::{BTreeMap, btree_map};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use self::gauge::Gauge;
use self::memory::{Marks, MemoryLog};
use self::writer::Writer;
use super::Fatal;
use crate::disk;
use crate::identity::ANEW;
use crate::metrics::Metrics;
use crate::raft::types::{Entry, LogId, Vote};
use crate::room::{Budget, Room, Shortage};

pub use self::gauge::Pressure;
pub use self::medium::{Disk, Medium};
pub use self::store::GroupLog;

#[cfg(test)]
mod faulty;
mod files;
mod gauge;
mod medium;
mod memory;
mod record;
mod replay;
mod segment;
mod store;
mod synced;
mod writer;

/// The file by which one process at a time has a log.
pub(crate) const LOCK: &str = "lock";
/// A segment takes at most one part in so many of its file system, but at least [`SMALLEST`].
const PART: u64 = 128;
/// Smaller segments cost more than they save.
const SMALLEST: u64 = 1 << 20;

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of one file, at most: it is less on a small file system.
    pub segment_bytes: u64,
    /// Whether to wait for the disk. If not, acknowledged stanzas survive the death of processes but not a loss of
    /// power, after which the log may also turn out to be damaged.
    pub fsync: bool,
    /// Called when a write or a sync fails.
    pub fatal: Fatal,
    /// Where it is written to.
    pub medium: Arc<dyn Medium>,
    /// Where it is counted how long syncs take.
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            fsync: true,
            fatal: Fatal::abort(),
            medium: Arc::new(Disk),
            metrics: Metrics::default(),
        }
    }
}

/// Why the log cannot be read or written. The node must not go on, and must not vote.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file is not what was written, and not just at its unsynced end. Nothing was changed.
    #[error(
        "log file {} is damaged at byte {offset}; {ANEW}",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the first unreadable byte is.
        offset: u64,
    },
    /// A file in between is missing, or the first ones are although their entries are needed.
    #[error("log file {} is missing; {ANEW}", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// Written by another version.
    #[error("log file {} has format {found}, which this version does not know", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Another process has it open.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The disk is full.
    #[error("no space left for log file {}; enlarge the volume or free space on it", file.display())]
    NoSpace {
        /// The file.
        file: PathBuf,
    },
    /// Too many files are open.
    #[error("log file {} cannot be opened, too many files are: raise the limit of open files", file.display())]
    NoDescriptor {
        /// The file.
        file: PathBuf,
    },
    /// The operating system refused.
    #[error("log file {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl LogError {
    /// Makes an error of what the operating system said about a file.
    fn io(file: &Path, source: io::Error) -> Self {
        let file = file.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { file },
            _ if disk::lacks_descriptors(&source) => Self::NoDescriptor { file },
            _ => Self::Io { file, source },
        }
    }

    /// Makes an error of a failed sync. It is final, whatever it was: written bytes may be lost, and a second sync
    /// would not tell.
    fn sync(file: &Path, source: io::Error) -> Self {
        let file = file.to_owned();
        Self::Io { file, source }
    }

    /// What is lacking, if the same call may succeed later. Nothing is lost then.
    fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::NoSpace { .. } => Some(Shortage::Full),
            Self::NoDescriptor { .. } => Some(Shortage::Descriptors),
            Self::Damaged { .. }
            | Self::Missing { .. }
            | Self::Version { .. }
            | Self::Locked { .. }
            | Self::Io { .. } => None,
        }
    }
}

/// What the log takes up, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in files that hold entries.
    pub bytes: u64,
    /// The groups whose entries keep the oldest files from being freed.
    pub pinned_by: Vec<Pin>,
    /// What the log waits for, if anything. Nothing is acknowledged meanwhile.
    pub lacks: Option<Shortage>,
}

/// A group's entries that keep the oldest files from being freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The group.
    pub group: u64,
    /// The last of these entries. Once it is purged, this group no longer keeps the files.
    pub upto: u64,
}

/// What the log of a stopped node has of a group.
#[derive(Clone, Debug, Default)]
pub struct GroupFound {
    /// The last vote.
    pub vote: Option<Vote>,
    /// Entries up to this one were known to be committed.
    pub committed: Option<LogId>,
    /// Entries up to this one were purged.
    pub purged: Option<LogId>,
    /// The last entry.
    pub last: Option<LogId>,
    /// The entries that are left.
    pub entries: Vec<Entry>,
}

/// The size of a segment on a file system with that much room; at most `most`.
pub(crate) fn segment_bytes(room: Room, most: u64) -> u64 {
    most.min((room.total / PART).max(SMALLEST))
}

/// The log of this node. Clones share it; the last one to go, groups included, waits for the disk.
#[derive(Clone)]
pub struct Log {
    writer: Arc<Writer>,
    groups: Arc<Mutex<BTreeMap<u64, Arc<Mutex<MemoryLog>>>>>,
    gauge: Arc<Gauge>,
    segment_bytes: u64,
    new: bool,
}

impl Log {
    /// Opens the log in `dir`, or makes one. Reads all of it; blocks.
    pub fn open(dir: &Path, mut options: Options) -> Result<Self, LogError> {
        disk::private_dir(dir).map_err(|source| LogError::io(dir, source))?;
        let room = Room::at(dir).map_err(|source| LogError::io(dir, source))?;
        options.segment_bytes = segment_bytes(room, options.segment_bytes);
        let (mut replayed, lock) = replay::open(dir, &options)?;
        let new = replayed.groups.is_empty();
        let mut groups = BTreeMap::new();
        let mut marks = BTreeMap::new();
        for (id, group) in std::mem::take(&mut replayed.groups) {
            marks.insert(id, group.marks());
            groups.insert(id, Arc::new(Mutex::new(group)));
        }
        let segment_bytes = options.segment_bytes;
        let gauge = Arc::new(Gauge::new(Budget::unknown(segment_bytes)));
        let writer = Writer::start(replayed, marks, lock, options, gauge.clone())?;
        Ok(Self {
            writer: Arc::new(writer),
            groups: Arc::new(Mutex::new(groups)),
            gauge,
            segment_bytes,
            new,
        })
    }

    /// Reads the log in `dir` as [`open`](Self::open) would, and changes nothing; blocks. Returns up to where each
    /// group is purged, and a lock that keeps others from opening it.
    pub fn verify(dir: &Path) -> Result<(BTreeMap<u64, Option<LogId>>, File), LogError> {
        let (groups, lock) = replay::read_only(dir, &Options::default())?;
        let purged = |(id, group): (u64, MemoryLog)| (id, group.marks().purged);
        Ok((groups.into_iter().map(purged).collect(), lock))
    }

    /// Reads what the log in `dir` has of each group, and changes nothing; blocks. Also returns a lock that keeps
    /// others from opening it.
    pub fn read(dir: &Path) -> Result<(BTreeMap<u64, GroupFound>, File), LogError> {
        let (groups, lock) = replay::read_only(dir, &Options::default())?;
        let found = |(id, group): (u64, MemoryLog)| {
            let Marks {
                vote,
                committed,
                purged,
                last,
            } = group.marks();
            let entries = group.range(.., usize::MAX);
            let found = GroupFound {
                vote,
                committed,
                purged,
                last,
                entries,
            };
            (id, found)
        };
        Ok((groups.into_iter().map(found).collect(), lock))
    }

    /// The log of one group; empty if nothing was ever written to it.
    pub fn group(&self, id: u64) -> GroupLog {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = match groups.entry(id) {
            btree_map::Entry::Occupied(known) => known.get().clone(),
            btree_map::Entry::Vacant(free) => free.insert(Arc::default()).clone(),
        };
        GroupLog::new(id, group, self.writer.clone())
    }

    /// Whether it was empty when it was opened.
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// What the log takes up, and what it waits for.
    pub fn usage(&self) -> Usage {
        self.gauge.usage()
    }

    /// The size of a segment.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Sets what the log may take up from now on.
    pub fn set_budget(&self, budget: Budget) {
        self.gauge.set_budget(budget);
    }

    /// How the log stands to its budget, and its changes.
    pub fn pressure(&self) -> watch::Receiver<Pressure> {
        self.gauge.pressure()
    }

    /// Waits for at most `within` until entries may be appended; false if they still may not.
    pub async fn takes_entries(&self, within: Duration) -> bool {
        let mut pressure = self.pressure();
        let room = pressure.wait_for(|now| *now != Pressure::Full);
        timeout(within, room).await.is_ok()
    }

    /// The groups whose entries keep the oldest files from being freed.
    #[cfg(test)]
    pub fn pinned_by(&self) -> Vec<u64> {
        let pins = self.usage().pinned_by;
        pins.into_iter().map(|pin| pin.group).collect()
    }
}
