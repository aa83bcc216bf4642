//! A note beside the segments that says how many frames were certainly synced.
//!
//! If the end of the log was cut off, zeroed or removed, it looks as if it had never been synced. So the writer notes
//! each sync in a separate file. The note itself is not synced: it survives the death of the process at once, and a
//! loss of power a little later. Whatever it says was true when it was written, so if replay finds fewer frames,
//! something that was promised is lost.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::LogError;
use crate::disk;

const NAME: &str = "synced";
/// The size of the note: a count (u64) and its checksum (u32).
const SIZE: usize = 12;

/// The open note.
#[derive(Debug)]
pub(super) struct Synced {
    file: File,
}

impl Synced {
    /// Opens the note in `dir` and returns its count. A directory without segments gets a new note; one with segments
    /// must have one.
    pub(super) fn open(dir: &Path, segments: bool) -> Result<(Self, u64), LogError> {
        let path = dir.join(NAME);
        let failed = |source| LogError::io(&path, source);
        let mut options = OpenOptions::new();
        let file = match disk::open(options.read(true).write(true), &path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && segments => {
                return Err(LogError::Missing { file: path });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk::open(options.create(true), &path).map_err(failed)?;
                file.write_all_at(&encode(0), 0).map_err(failed)?;
                file.sync_all().map_err(failed)?;
                return Ok((Self { file }, 0));
            }
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = [0; SIZE];
        let read = file.read_exact_at(&mut bytes, 0);
        // Without segments nothing was promised, so the note may be incomplete: the first start may have ended early.
        match read.ok().and_then(|()| decode(&bytes)) {
            Some(frames) => Ok((Self { file }, frames)),
            None if !segments => {
                let fresh = Self { file };
                fresh
                    .note(0)
                    .and_then(|()| fresh.file.sync_all())
                    .map_err(failed)?;
                Ok((fresh, 0))
            }
            None => Err(LogError::Damaged {
                file: path,
                offset: 0,
            }),
        }
    }

    /// Notes that so many frames are synced. The caller has synced them.
    pub(super) fn note(&self, frames: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(frames), 0)
    }
}

fn encode(frames: u64) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..8].copy_from_slice(&frames.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..8]);
    bytes[8..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; SIZE]) -> Option<u64> {
    let (count, crc) = bytes.split_first_chunk()?;
    (crc == crc32fast::hash(count).to_le_bytes()).then(|| u64::from_le_bytes(*count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_again() {
        let dir = tempfile::tempdir().expect("dir");
        let (synced, none) = Synced::open(dir.path(), false).expect("makes");
        synced.note(77).expect("notes");
        let (_, some) = Synced::open(dir.path(), true).expect("opens");
        assert_eq!((none, some), (0, 77));
    }

    #[test]
    fn t_70_segments_without_a_note_or_with_a_damaged_one_are_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let missing = Synced::open(dir.path(), true).map(|_| ());
        assert!(matches!(missing, Err(LogError::Missing { .. })));
        let (synced, _) = Synced::open(dir.path(), false).expect("makes");
        synced.file.write_all_at(&[1], 3).expect("writes");
        let damaged = Synced::open(dir.path(), true).map(|_| ());
        assert!(matches!(damaged, Err(LogError::Damaged { .. })));
    }
}
