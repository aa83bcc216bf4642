//! The write-ahead log of a node, shared by all of its groups.
//!
//! One thread writes whatever has been handed to it since the last sync as one frame, syncs once, and
//! then tells everyone who waits: a group commit across all shards. Entries stay in memory until they are
//! purged, so the files are read at the start only.
//!
//! - `files`: which there are; `segment`: their frames; `record`: what is in a frame; `group`: what a group's
//!   records amount to;
//! - `synced`: how much of it was promised; `replay`: files to groups, at the start; `writer`: the thread; `store`: what openraft calls.

use std::collections::{BTreeMap, btree_map};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use self::group::Group;
use self::writer::Writer;
use super::Fatal;

pub use self::store::GroupLog;

mod files;
mod group;
mod record;
mod replay;
mod segment;
mod store;
mod synced;
mod writer;

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of one file.
    pub segment_bytes: u64,
    /// Wait for the disk. Without it, acknowledged stanzas survive the death of processes but not a loss
    /// of power, after which the log may also be found damaged.
    pub fsync: bool,
    /// Called when a write or a sync fails.
    pub fatal: Fatal,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            fsync: true,
            fatal: Fatal::abort(),
        }
    }
}

/// Why the log cannot be read or written. The node must not go on, and must not vote.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file is not what was written, and not just at its unsynced end. Nothing was changed.
    #[error(
        "log file {} is damaged at byte {offset}; restore the data directory, or empty it to join anew under a new id",
        file.display()
    )]
    Damaged {
        /// Which.
        file: PathBuf,
        /// Where the first unreadable byte is.
        offset: u64,
    },
    /// A file between the first and the last is gone, or the first ones are and their entries are needed.
    #[error("log file {} is missing; restore the data directory, or empty it to join anew under a new id", file.display())]
    Missing {
        /// Which.
        file: PathBuf,
    },
    /// Written by another version.
    #[error("log file {} has format {found}, which this version does not know", file.display())]
    Version {
        /// Which.
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
        /// Which.
        file: PathBuf,
    },
    /// The operating system refused.
    #[error("log file {}: {source}", file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl LogError {
    /// What the operating system said about a file.
    fn io(file: &Path, source: io::Error) -> Self {
        let file = file.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { file },
            _ => Self::Io { file, source },
        }
    }
}

/// What the log takes up, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in files that hold entries.
    pub bytes: u64,
    /// Groups without whose entries the oldest file could be freed. A snapshot of them helps.
    pub pinned_by: Vec<u64>,
}

/// The log of this node. Clones share it; the last one to go, groups included, waits for the disk.
#[derive(Clone)]
pub struct Log {
    writer: Arc<Writer>,
    groups: Arc<Mutex<BTreeMap<u64, Arc<Mutex<Group>>>>>,
    new: bool,
}

impl Log {
    /// Opens the log in `dir`, or makes one. Reads all of it; blocks.
    pub fn open(dir: &Path, options: Options) -> Result<Self, LogError> {
        let (mut replayed, lock) = replay::open(dir, &options)?;
        let new = replayed.groups.is_empty();
        let mut groups = BTreeMap::new();
        let mut marks = BTreeMap::new();
        for (id, group) in std::mem::take(&mut replayed.groups) {
            marks.insert(id, group.marks());
            groups.insert(id, Arc::new(Mutex::new(group)));
        }
        let writer = Writer::start(replayed, marks, lock, options)?;
        Ok(Self {
            writer: Arc::new(writer),
            groups: Arc::new(Mutex::new(groups)),
            new,
        })
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

    /// Nothing had ever been written to it when it was opened.
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// What it takes up. Past 1 GiB, the groups that pin the oldest file should make a snapshot.
    pub fn usage(&self) -> Usage {
        self.writer.usage()
    }

    /// Groups without whose entries the oldest file could be freed.
    pub fn pinned_by(&self) -> Vec<u64> {
        self.usage().pinned_by
    }
}
