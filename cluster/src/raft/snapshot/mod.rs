//! Snapshots on disk: one file per shard, replaced as a whole.
//!
//! A snapshot is written beside its final name, synced, read back and compared, and renamed; then the directory is
//! synced. So the name always stands for a complete snapshot, and no entry is forgotten before the snapshot that covers
//! it has been read successfully. Files are written and read piece by piece (`pieces`), so a shard may be of any size.
//! A damaged file stops the start, and the error names it: to go on without it would be to forget what was promised
//! (T-70).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use self::pieces::{Header, ReadError, Reader, Writer};
use super::types::{LogId, SnapshotMeta};
use crate::ShardId;
use crate::clock;
use crate::disk;
use crate::identity::{ANEW, Identity};
use crate::session::ShardState;

pub use self::policy::SnapshotPolicy;

pub mod incoming;
mod pieces;
mod policy;
mod previous;
#[cfg(test)]
mod tests;

/// Why a snapshot cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is not what was written. Nothing of it was used.
    #[error("snapshot {} is damaged at byte {offset}; {ANEW}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the piece begins that cannot be read.
        offset: u64,
    },
    /// Written by a version that this one does not know.
    #[error("snapshot {} has format {found} at byte 7, which this version does not know", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u8,
    },
    /// The file is good but belongs to another shard or cluster.
    #[error("snapshot {} is of another shard or cluster", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// What was read back differs from what was written.
    #[error("snapshot {} reads otherwise than it was written", file.display())]
    Unproven {
        /// The file.
        file: PathBuf,
    },
    /// The beginning of the log was purged because a snapshot covers it, but there is no such snapshot.
    #[error("snapshot {} is missing or older than the log that it replaces", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The operating system refused.
    #[error("snapshot {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl SnapshotError {
    fn io(file: &Path) -> impl Fn(io::Error) -> Self + Copy + use<'_> {
        |source| Self::Io {
            file: file.to_owned(),
            source,
        }
    }

    fn read(file: &Path) -> impl Fn(ReadError) -> Self + Copy + use<'_> {
        |error| {
            let file = file.to_owned();
            match error {
                ReadError::Damaged(offset) => Self::Damaged { file, offset },
                ReadError::Version(found) => Self::Version { file, found },
                ReadError::Io(source) => Self::Io { file, source },
            }
        }
    }
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        let kind = match &error {
            SnapshotError::Damaged { .. }
            | SnapshotError::Version { .. }
            | SnapshotError::Foreign { .. }
            | SnapshotError::Unproven { .. } => io::ErrorKind::InvalidData,
            SnapshotError::Missing { .. } => io::ErrorKind::NotFound,
            SnapshotError::Io { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

/// A temporary file, which is removed when this is dropped unless it was renamed.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Temporary {
    fn create(path: PathBuf) -> io::Result<(Self, File)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = disk::open(&mut options, &path)?;
        Ok((Self(path), file))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // The next start removes it in any case.
        let _ = fs::remove_file(&self.0);
    }
}

/// The data of a snapshot, as openraft passes it around.
#[derive(Debug)]
pub enum SnapshotData {
    /// This node's snapshot, which is to be sent.
    Stored(Stored),
    /// A received snapshot, which is to be installed.
    Received(Received),
    /// No snapshot: none could be made.
    Nothing,
}

/// A snapshot file. It can be read to its end even if a newer one has taken its name.
#[derive(Clone, Debug)]
pub struct Stored {
    file: Arc<File>,
    length: u64,
}

impl Stored {
    /// The size of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads at most `most` bytes from `offset` on. Blocks.
    pub fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let rest = self.length.saturating_sub(offset);
        let length = usize::try_from(rest).map_or(most, |rest| rest.min(most));
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// Held while a snapshot is written, if there is room for one only.
pub type Turn = Arc<tokio::sync::Mutex<()>>;

/// A file that was received from another node. It is on disk and was read once.
#[derive(Debug)]
pub struct Received {
    file: Temporary,
    /// Released when the file has replaced the older one.
    _turn: Option<OwnedMutexGuard<()>>,
    state: Box<ShardState>,
    length: u64,
}

/// A state that was read from a snapshot.
#[derive(Debug)]
pub struct Loaded {
    /// The last entry and the membership.
    pub meta: SnapshotMeta,
    /// The state.
    pub state: ShardState,
    /// Bytes of its file.
    pub length: u64,
}

/// The snapshot file of one shard.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    shard: ShardId,
    shards: u16,
    identity: Option<Identity>,
    // The last entry that the file covers. A snapshot may be installed while another is written, so this is locked
    // while a file gets its name: an older one must not replace a newer one.
    newest: Arc<Mutex<Option<LogId>>>,
    /// Set by a test that wants the next file to be damaged on disk.
    #[cfg(test)]
    spoiled: Arc<std::sync::atomic::AtomicBool>,
}

impl SnapshotFile {
    /// The file of a shard in `dir`, which is created if necessary. Unfinished files of earlier processes are removed.
    pub fn new(
        dir: &Path,
        (shard, shards): (ShardId, u16),
        identity: Option<Identity>,
    ) -> Result<Self, SnapshotError> {
        let io = SnapshotError::io(dir);
        disk::private_dir(dir).map_err(io)?;
        let name = format!("shard-{shard}.");
        for entry in fs::read_dir(dir).map_err(io)? {
            let file = entry.map_err(io)?.file_name();
            let rest = file.to_str().and_then(|file| file.strip_prefix(&name));
            if rest.is_some_and(|rest| rest != "snapshot") {
                fs::remove_file(dir.join(&file)).map_err(io)?;
            }
        }
        // An earlier process may have renamed the snapshot without syncing the directory.
        disk::sync_dir(dir).map_err(io)?;
        Ok(Self::named(dir, (shard, shards), identity))
    }

    fn named(dir: &Path, (shard, shards): (ShardId, u16), identity: Option<Identity>) -> Self {
        Self {
            path: Self::path_of(dir, shard),
            shard,
            shards,
            identity,
            newest: Arc::default(),
            #[cfg(test)]
            spoiled: Arc::default(),
        }
    }

    /// Where the snapshot of a shard in `dir` is, if there is one.
    pub fn path_of(dir: &Path, shard: ShardId) -> PathBuf {
        dir.join(format!("shard-{shard}.snapshot"))
    }

    /// Reads the snapshot of a shard in `dir`, if there is one, and changes nothing. Blocks.
    pub fn peek(
        dir: &Path,
        shard: (ShardId, u16),
        identity: &Identity,
    ) -> Result<Option<Loaded>, SnapshotError> {
        let this = Self::named(dir, shard, Some(identity.clone()));
        let Some(file) = this.open()? else {
            return Ok(None);
        };
        let loaded = match this.read(&file, &this.path) {
            Err(SnapshotError::Version { found: 1, .. }) => this.read_previous()?,
            read => read?,
        };
        Ok(Some(loaded))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn header(&self, meta: &SnapshotMeta) -> Header {
        Header {
            cluster: self.identity.as_ref().and_then(Identity::cluster),
            shard: self.shard,
            shards: self.shards,
            meta: meta.clone(),
        }
    }

    fn is_ours(&self, header: &Header) -> bool {
        let own = self.header(&header.meta);
        let clusters = own.cluster.zip(header.cluster);
        clusters.is_none_or(|(ours, theirs)| ours == theirs)
            && (own.shard, own.shards) == (header.shard, header.shards)
    }

    /// Replaces the snapshot. Blocks until it is on disk and was read back, and also while there is no room for it:
    /// until then the log keeps its entries.
    pub fn save(&self, meta: &SnapshotMeta, state: &ShardState) -> Result<Stored, SnapshotError> {
        let header = self.header(meta);
        let write = || {
            // After a failure the file is removed, as others need its room.
            let (fresh, file) = self.temporary()?;
            let mut writer = Writer::new(&file, &header)?;
            for record in state.records() {
                writer.record(&record)?;
            }
            let length = writer.finish()?;
            file.sync_all()?;
            Ok((fresh, file, length))
        };
        let written = disk::until_there_is_room(&self.path, write);
        let (fresh, file, length) = written.map_err(SnapshotError::io(&self.path))?;
        #[cfg(test)]
        self.spoil_if_asked(&file, length);
        prove(&fresh.0, &header, state)?;
        self.rename(&fresh, meta)?;
        let file = Arc::new(file);
        Ok(Stored { file, length })
    }

    /// Creates a new file beside the snapshot.
    fn temporary(&self) -> io::Result<(Temporary, File)> {
        let name = format!("{:016x}", clock::random::<u64>());
        Temporary::create(self.path.with_extension(name))
    }

    /// Renames a file to the snapshot's name, unless the present snapshot covers more.
    fn rename(&self, fresh: &Temporary, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        // A poisoned lock is usable: a holder that panicked has changed nothing.
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if *newest > meta.last_log_id {
            return Ok(());
        }
        let rename = || {
            fs::rename(&fresh.0, &self.path)?;
            match self.path.parent() {
                Some(dir) => disk::sync_dir(dir),
                None => Ok(()),
            }
        };
        rename().map_err(SnapshotError::io(&self.path))?;
        *newest = meta.last_log_id;
        Ok(())
    }

    /// Reads the snapshot, if there is one. Blocks.
    pub fn load(&self) -> Result<Option<Loaded>, SnapshotError> {
        let Some(file) = self.open()? else {
            return Ok(None);
        };
        let loaded = match self.read(&file, &self.path) {
            Err(SnapshotError::Version { found: 1, .. }) => self.convert()?,
            read => read?,
        };
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = loaded.meta.last_log_id;
        Ok(Some(loaded))
    }

    /// Reads a file of the previous version and replaces it by one of this version.
    fn convert(&self) -> Result<Loaded, SnapshotError> {
        let old = self.read_previous()?;
        let length = self.save(&old.meta, &old.state)?.length;
        Ok(Loaded { length, ..old })
    }

    /// Reads a file of the previous version.
    fn read_previous(&self) -> Result<Loaded, SnapshotError> {
        let bytes = fs::read(&self.path).map_err(SnapshotError::io(&self.path))?;
        let damaged = || SnapshotError::Damaged {
            file: self.path.clone(),
            offset: 0,
        };
        let (meta, state) = previous::parse(&bytes).ok_or_else(damaged)?;
        if state.id() != self.shard {
            let file = self.path.clone();
            return Err(SnapshotError::Foreign { file });
        }
        Ok(Loaded {
            meta,
            state,
            length: bytes.len() as u64,
        })
    }

    fn open(&self) -> Result<Option<File>, SnapshotError> {
        match disk::open(OpenOptions::new().read(true), &self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SnapshotError::io(&self.path)(source)),
        }
    }

    /// Opens a snapshot of this shard for reading.
    fn begin<R: Read>(&self, input: R, path: &Path) -> Result<(Header, Reader<R>), SnapshotError> {
        let (header, reader) = Reader::open(input).map_err(SnapshotError::read(path))?;
        match self.is_ours(&header) {
            true => Ok((header, reader)),
            false => Err(SnapshotError::Foreign {
                file: path.to_owned(),
            }),
        }
    }

    fn read(&self, file: &File, path: &Path) -> Result<Loaded, SnapshotError> {
        let (header, reader) = self.begin(file, path)?;
        let state = ShardState::restore(reader).map_err(SnapshotError::read(path))?;
        let length = file.metadata().map_err(SnapshotError::io(path))?.len();
        Ok(Loaded {
            meta: header.meta,
            state,
            length,
        })
    }

    /// Opens the snapshot to be sent, if there is one. Blocks.
    pub fn stored(&self) -> Result<Option<(SnapshotMeta, Stored)>, SnapshotError> {
        let Some(file) = self.open()? else {
            return Ok(None);
        };
        let (header, _) = self.begin(&file, &self.path)?;
        let length = file
            .metadata()
            .map_err(SnapshotError::io(&self.path))?
            .len();
        let file = Arc::new(file);
        Ok(Some((header.meta, Stored { file, length })))
    }

    /// Syncs and reads a file that has arrived completely. Blocks.
    fn receive(
        &self,
        fresh: Temporary,
        turn: Option<OwnedMutexGuard<()>>,
    ) -> Result<(SnapshotMeta, Received), SnapshotError> {
        let io = SnapshotError::io(&fresh.0);
        let file = File::open(&fresh.0).map_err(io)?;
        file.sync_all().map_err(io)?;
        let Loaded {
            meta,
            state,
            length,
        } = self.read(&file, &fresh.0)?;
        let received = Received {
            file: fresh,
            _turn: turn,
            state: Box::new(state),
            length,
        };
        Ok((meta, received))
    }

    /// Replaces the snapshot by one that was received. Blocks.
    pub fn adopt(&self, meta: SnapshotMeta, data: SnapshotData) -> Result<Loaded, SnapshotError> {
        let (state, length) = match data {
            SnapshotData::Received(received) => {
                self.rename(&received.file, &meta)?;
                (*received.state, received.length)
            }
            SnapshotData::Stored(stored) => {
                let start = Cursor(&stored, 0);
                let (header, reader) = self.begin(start, &self.path)?;
                let state = ShardState::restore(reader).map_err(SnapshotError::read(&self.path))?;
                self.save(&header.meta, &state)?;
                (state, stored.length)
            }
            SnapshotData::Nothing => return Err(self.missing()),
        };
        Ok(Loaded {
            meta,
            state,
            length,
        })
    }

    /// The error for a file that is missing.
    pub(super) fn missing(&self) -> SnapshotError {
        SnapshotError::Missing {
            file: self.path.clone(),
        }
    }
}

/// Reads all of a file that was written, and compares it with what should be in it.
fn prove(path: &Path, header: &Header, state: &ShardState) -> Result<(), SnapshotError> {
    let failed = SnapshotError::read(path);
    let file = File::open(path).map_err(SnapshotError::io(path))?;
    let (found, mut reader) = Reader::open(&file).map_err(failed)?;
    let mut same = found == *header;
    for record in state.records() {
        let found = reader.next().transpose().map_err(failed)?;
        same &= found.is_some_and(|found| found == record);
    }
    if reader.next().transpose().map_err(failed)?.is_some() || !same {
        let file = path.to_owned();
        return Err(SnapshotError::Unproven { file });
    }
    Ok(())
}

/// Reads a stored file from its beginning, whoever else does.
struct Cursor<'a>(&'a Stored, u64);

impl Read for Cursor<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.0.file.read_at(out, self.1)?;
        self.1 += read as u64;
        Ok(read)
    }
}
