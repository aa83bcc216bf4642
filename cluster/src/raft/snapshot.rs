//! Snapshots on disk: one file per shard, replaced as a whole.
//!
//! Written beside its final name, synced, renamed, and the rename synced too: at every instant the name
//! stands for a complete snapshot. A checksum over all of it is verified before anything is used, and a
//! damaged file stops the start and is named: to go on without it would be to forget what was promised
//! (T-70).

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::types::SnapshotMeta;
use crate::ShardId;
use crate::codec;
use crate::disk;

const MAGIC: &[u8; 8] = b"HFSNAP\0\x01";
/// Magic and the length of the metadata.
const HEAD: usize = 12;
/// The checksum.
const TAIL: usize = 4;

/// Why a snapshot can be neither read nor written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is not what was written. Nothing of it was used.
    #[error("snapshot {} is damaged; restore it, or empty the data directory to join anew under a new id", file.display())]
    Damaged {
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

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        let kind = match &error {
            SnapshotError::Damaged { .. } => io::ErrorKind::InvalidData,
            SnapshotError::Missing { .. } => io::ErrorKind::NotFound,
            SnapshotError::Io { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

/// When a shard's state is written to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// After so many bytes of applied entries.
    pub bytes: u64,
    /// After so long, if anything has changed.
    pub age: Duration,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            age: Duration::from_secs(600),
        }
    }
}

/// The place of one shard's snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    path: PathBuf,
}

impl SnapshotFile {
    /// The file of a shard in `dir`, which is made if it is not there.
    pub fn new(dir: &Path, shard: ShardId) -> Result<Self, SnapshotError> {
        // The last snapshot may have been renamed and its name not synced: it does not count before that.
        let made = disk::private_dir(dir).and_then(|()| disk::sync_dir(dir));
        made.map_err(|source| SnapshotError::Io {
            file: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            path: dir.join(format!("shard-{shard}.snapshot")),
        })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the snapshot. Blocks until it is on disk, also while there is no room for it: the log keeps what it
    /// would replace.
    pub fn save(&self, meta: &SnapshotMeta, data: &[u8]) -> Result<(), SnapshotError> {
        let attempt = || {
            // What was written in vain takes up room that others need.
            let give_back = |_: &io::Error| drop(fs::remove_file(self.path.with_extension("tmp")));
            self.write(meta, data).inspect_err(give_back)
        };
        disk::until_there_is_room(&self.path, attempt).map_err(|source| self.io(source))
    }

    fn write(&self, meta: &SnapshotMeta, data: &[u8]) -> io::Result<()> {
        let meta = codec::encode(meta);
        let mut head = Vec::with_capacity(HEAD + meta.len());
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&(meta.len() as u32).to_le_bytes());
        head.extend_from_slice(&meta);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        crc.update(data);
        let fresh = self.path.with_extension("tmp");
        let mut file = disk::create(&fresh)?;
        file.write_all(&head)?;
        file.write_all(data)?;
        file.write_all(&crc.finalize().to_le_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        match self.path.parent() {
            Some(dir) => disk::sync_dir(dir),
            None => Ok(()),
        }
    }

    /// The snapshot, if there is one. Blocks.
    pub fn load(&self) -> Result<Option<(SnapshotMeta, Bytes)>, SnapshotError> {
        let mut bytes = Vec::new();
        match disk::open(OpenOptions::new().read(true), &self.path) {
            Ok(mut file) => file
                .read_to_end(&mut bytes)
                .map_err(|source| self.io(source))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io(source)),
        };
        parse(bytes.into()).map(Some).ok_or_else(|| self.damaged())
    }

    /// What is said of a file whose content makes no sense.
    pub(super) fn damaged(&self) -> SnapshotError {
        SnapshotError::Damaged {
            file: self.path.clone(),
        }
    }

    /// What is said of a file that should be there.
    pub(super) fn missing(&self) -> SnapshotError {
        SnapshotError::Missing {
            file: self.path.clone(),
        }
    }

    fn io(&self, source: io::Error) -> SnapshotError {
        SnapshotError::Io {
            file: self.path.clone(),
            source,
        }
    }
}

/// Nothing is looked at before the checksum is right.
fn parse(mut bytes: Bytes) -> Option<(SnapshotMeta, Bytes)> {
    let end = bytes.len().checked_sub(TAIL).filter(|end| *end >= HEAD)?;
    let crc = bytes.split_off(end);
    if crc32fast::hash(&bytes).to_le_bytes() != crc[..] || !bytes.starts_with(MAGIC) {
        return None;
    }
    let head = bytes.split_to(HEAD);
    let length = u32::from_le_bytes(head[MAGIC.len()..].try_into().ok()?) as usize;
    if length > bytes.len() {
        return None;
    }
    let meta = bytes.split_to(length);
    Some((codec::decode(&meta).ok()?, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, SnapshotFile) {
        let dir = tempfile::tempdir().expect("dir");
        let file = SnapshotFile::new(dir.path(), ShardId(1)).expect("file");
        (dir, file)
    }

    #[test]
    fn the_newest_snapshot_is_the_only_one() {
        let (dir, file) = file();
        assert!(file.load().expect("loads").is_none());
        for data in [b"one".as_slice(), b"two"] {
            file.save(&SnapshotMeta::default(), data).expect("saves");
        }
        let (meta, data) = file.load().expect("loads").expect("is there");
        assert_eq!(
            (meta, &data[..]),
            (SnapshotMeta::default(), b"two".as_slice())
        );
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn an_unfinished_snapshot_does_not_count() {
        let (_dir, file) = file();
        file.save(&SnapshotMeta::default(), b"one").expect("saves");
        fs::write(file.path.with_extension("tmp"), b"HFSN").expect("writes");
        assert_eq!(
            &file.load().expect("loads").expect("is there").1[..],
            b"one"
        );
    }

    #[test]
    fn t_70_every_flipped_byte_and_every_cut_is_refused_by_name() {
        let (_dir, file) = file();
        file.save(&SnapshotMeta::default(), b"state")
            .expect("saves");
        let good = fs::read(&file.path).expect("reads");
        let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|n| good[..n].to_vec()).collect();
        for n in 0..good.len() {
            let mut flipped = good.clone();
            flipped[n] ^= 0x10;
            bad.push(flipped);
        }
        for bytes in bad {
            fs::write(&file.path, &bytes).expect("writes");
            let error = file.load().expect_err("is refused");
            assert!(
                matches!(&error, SnapshotError::Damaged { file: named } if *named == file.path),
                "{error}"
            );
        }
    }
}
