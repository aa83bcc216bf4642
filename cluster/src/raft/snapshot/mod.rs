//! Snapshots on disk: one file per shard, replaced as a whole.
//!
//! Written beside its final name, synced, read back and compared, renamed, and the rename synced too: at
//! every instant the name stands for a complete snapshot, and no entry is forgotten before it is proven that
//! the one which covers it can be read. Everything goes piece by piece (`pieces`), so there is no limit to
//! what a shard may hold. A damaged file stops the start and is named: to go on without it would be to
//! forget what was promised (T-70).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use self::pieces::{Header, ReadError, Reader, Writer};
use super::types::{LogId, SnapshotMeta};
use crate::ShardId;
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

/// Why a snapshot can be neither read nor written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is not what was written. Nothing of it was used.
    #[error("snapshot {} is damaged at byte {offset}; {ANEW}", file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// Where the piece begins that cannot be read.
        offset: u64,
    },
    /// Written by a version that this one does not know.
    #[error("snapshot {} has format {found} at byte 7, which this version does not know", file.display())]
    Version {
        /// Which.
        file: PathBuf,
        /// Its format.
        found: u8,
    },
    /// A good file in the wrong place.
    #[error("snapshot {} is of another shard or cluster", file.display())]
    Foreign {
        /// Which.
        file: PathBuf,
    },
    /// What was written is not what is read back.
    #[error("snapshot {} reads otherwise than it was written", file.display())]
    Unproven {
        /// Which.
        file: PathBuf,
    },
    /// The log was cut because a snapshot covers it, and there is no such snapshot.
    #[error("snapshot {} is missing or older than the log that it replaces", file.display())]
    Missing {
        /// Which.
        file: PathBuf,
    },
    /// The operating system refused.
    #[error("snapshot {}: {source}", file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
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

/// A file that is gone with this value, unless it got another name.
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
        // What is left is removed at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

/// What openraft hands around as a snapshot.
#[derive(Debug)]
pub enum SnapshotData {
    /// This node's, to be sent.
    Stored(Stored),
    /// Another node's, to be installed.
    Received(Received),
    /// None was made.
    Nothing,
}

/// A file on disk. It can be read to its end even when a newer one takes its name.
#[derive(Clone, Debug)]
pub struct Stored {
    file: Arc<File>,
    length: u64,
}

impl Stored {
    /// Bytes in the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes from `offset` on, at most `most`. Blocks.
    pub fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let rest = self.length.saturating_sub(offset);
        let length = usize::try_from(rest).map_or(most, |rest| rest.min(most));
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// Held by whoever writes a snapshot where there is room for one only.
pub type Turn = Arc<tokio::sync::Mutex<()>>;

/// A file that has come from another node, is on disk and was read once.
#[derive(Debug)]
pub struct Received {
    file: Temporary,
    /// Given back when the file has taken the place of the older one.
    _turn: Option<OwnedMutexGuard<()>>,
    state: Box<ShardState>,
    length: u64,
}

/// A state and what belongs to it.
#[derive(Debug)]
pub struct Loaded {
    /// The last entry and the membership.
    pub meta: SnapshotMeta,
    /// The state.
    pub state: ShardState,
    /// Bytes of its file.
    pub length: u64,
}

/// The place of one shard's snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    shard: ShardId,
    shards: u16,
    identity: Option<Identity>,
    // What the file covers. One is installed while another is written: held to give a file its name, so that
    // the older one does not take the place of the newer.
    newest: Arc<Mutex<Option<LogId>>>,
    /// The disk damages the next file that is written.
    #[cfg(test)]
    spoiled: Arc<std::sync::atomic::AtomicBool>,
}

impl SnapshotFile {
    /// The file of a shard in `dir`, which is made if it is not there. What an earlier process has left
    /// unfinished is removed.
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
        // The last snapshot may have been renamed and its name not synced: it does not count before that.
        disk::sync_dir(dir).map_err(io)?;
        Ok(Self {
            path: dir.join(format!("{name}snapshot")),
            shard,
            shards,
            identity,
            newest: Arc::default(),
            #[cfg(test)]
            spoiled: Arc::default(),
        })
    }

    /// The file's name.
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

    /// Replaces the snapshot. Blocks until it is on disk and was read from there, also while there is no room for
    /// it: the log keeps what it would replace.
    pub fn save(&self, meta: &SnapshotMeta, state: &ShardState) -> Result<Stored, SnapshotError> {
        let header = self.header(meta);
        let write = || {
            // After a failure it is gone, as others need its room.
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

    /// A new file beside the snapshot.
    fn temporary(&self) -> io::Result<(Temporary, File)> {
        let name = format!("{:016x}", rand::random::<u64>());
        Temporary::create(self.path.with_extension(name))
    }

    /// The file takes the snapshot's name, unless that covers more already.
    fn rename(&self, fresh: &Temporary, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        // Whoever panicked under the lock has changed nothing.
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

    /// The snapshot, if there is one. Blocks.
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

    /// Reads a file of the previous version, and puts one of this version in its place.
    fn convert(&self) -> Result<Loaded, SnapshotError> {
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
        let length = self.save(&meta, &state)?.length;
        Ok(Loaded {
            meta,
            state,
            length,
        })
    }

    fn open(&self) -> Result<Option<File>, SnapshotError> {
        match disk::open(OpenOptions::new().read(true), &self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SnapshotError::io(&self.path)(source)),
        }
    }

    /// Begins to read what is a snapshot of this shard.
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

    /// The snapshot as it is sent, if there is one. Blocks.
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

    /// Reads a file that has come whole. It is on disk then. Blocks.
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

    /// Replaces the snapshot by another node's. Blocks.
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

    /// What is said of a file that should be there.
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
