//! The files of the log: which there are, how they come and go.
//!
//! A segment is filled with zeros once and then recycled: writing over blocks that exist takes half as
//! long to sync as making a file grow. It gets its name only when its header is on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use super::segment::Header;
use super::{LogError, Options};

/// So many freed segments are kept for later.
const SPARES: usize = 2;
const ZEROS: usize = 1 << 20;

/// The directory of the log, with what is there for future segments.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    segment_bytes: u64,
    fsync: bool,
    spares: Vec<PathBuf>,
    preparing: Option<JoinHandle<io::Result<PathBuf>>>,
}

/// A directory that has been opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) files: Files,
    /// The segments that are there, oldest first.
    pub(super) segments: Vec<(u64, PathBuf)>,
    /// Holds the directory for this process as long as it is open.
    pub(super) lock: File,
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) seed: u32,
    /// Where the next frame goes.
    pub(super) at: u64,
}

impl Files {
    /// Makes the directory if need be, and takes it for this process.
    pub(super) fn open(dir: &Path, options: &Options) -> Result<Found, LogError> {
        let failed = |source| LogError::io(dir, source);
        fs::create_dir_all(dir).map_err(failed)?;
        let lock = File::create(dir.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(LogError::Locked {
                    dir: dir.to_owned(),
                });
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut segments = Vec::new();
        let mut spares = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if let Some(seq) = name
                .strip_prefix("wal-")
                .and_then(|n| u64::from_str_radix(n, 16).ok())
            {
                segments.push((seq, path));
            } else if name.starts_with("spare-") {
                spares.push(path);
            }
        }
        segments.sort();
        let files = Self {
            dir: dir.to_owned(),
            segment_bytes: options.segment_bytes,
            fsync: options.fsync,
            spares,
            preparing: None,
        };
        Ok(Found {
            files,
            segments,
            lock,
        })
    }

    /// The name of a segment.
    pub(super) fn path_of(&self, seq: u64) -> PathBuf {
        self.dir.join(format!("wal-{seq:016x}"))
    }

    /// Makes a segment, out of a spare if there is one. When this returns it is on disk.
    pub(super) fn create(&mut self, header: &Header) -> Result<Active, LogError> {
        let path = self.path_of(header.seq);
        let mut make = || -> io::Result<Active> {
            let blank = self.blank()?;
            let file = OpenOptions::new().write(true).open(&blank)?;
            file.write_all_at(&header.encode(), 0)?;
            if self.fsync {
                file.sync_all()?;
            }
            fs::rename(&blank, &path)?;
            self.sync_names()?;
            Ok(Active {
                path: path.clone(),
                file,
                seed: header.seed(),
                at: super::segment::HEADER as u64,
            })
        };
        make().map_err(|source| LogError::io(&path, source))
    }

    /// Goes on with a segment that is there.
    pub(super) fn reopen(&self, header: &Header, at: u64) -> Result<Active, LogError> {
        let path = self.path_of(header.seq);
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(|source| LogError::io(&path, source))?;
        Ok(Active {
            path,
            file,
            seed: header.seed(),
            at,
        })
    }

    /// Sees to it, in the background, that a spare is there when the next segment is made.
    pub(super) fn prepare(&mut self) {
        if !self.spares.is_empty() || self.preparing.is_some() {
            return;
        }
        let (to, size, fsync) = (self.dir.join("spare-0"), self.segment_bytes, self.fsync);
        let work = move || fill(&to, size, fsync).map(|()| to);
        // Without a thread the next segment takes a little longer.
        self.preparing = std::thread::Builder::new()
            .name("wal-spare".into())
            .spawn(work)
            .ok();
    }

    /// A segment that nobody needs any more becomes a spare, or goes.
    pub(super) fn free(&mut self, path: &Path) -> Result<(), LogError> {
        let mut go = || -> io::Result<()> {
            let usual = fs::metadata(path)?.len() == self.segment_bytes;
            if usual && self.spares.len() < SPARES {
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or("0");
                let spare = self.dir.join(format!("spare-{name}"));
                fs::rename(path, &spare)?;
                self.spares.push(spare);
            } else {
                fs::remove_file(path)?;
            }
            // The oldest must be gone before the next oldest is, or the replay would see a gap.
            self.sync_names()
        };
        go().map_err(|source| LogError::io(path, source))
    }

    fn blank(&mut self) -> io::Result<PathBuf> {
        if let Some(spare) = self.spares.pop() {
            return Ok(spare);
        }
        if let Some(thread) = self.preparing.take() {
            match thread.join() {
                Ok(spare) => return spare,
                Err(_) => tracing::warn!("the thread that prepares log files has failed"),
            }
        }
        let fresh = self.dir.join("spare-1");
        fill(&fresh, self.segment_bytes, self.fsync)?;
        Ok(fresh)
    }

    fn sync_names(&self) -> io::Result<()> {
        if self.fsync {
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(thread) = self.preparing.take() {
            // What it found matters to nobody now; only its file must not appear later.
            let _ = thread.join();
        }
    }
}

/// A file of zeros. A spare that was left unfinished by a crash is filled again by its first user's
/// writes; its name does not make it a segment.
fn fill(path: &Path, size: u64, fsync: bool) -> io::Result<()> {
    let mut file = File::create(path)?;
    if !fsync {
        return file.set_len(size);
    }
    let zeros = vec![0; ZEROS];
    let mut left = size;
    while left > 0 {
        let some = left.min(ZEROS as u64) as usize;
        file.write_all(&zeros[..some])?;
        left -= some as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Files {
        let options = Options {
            segment_bytes: 4096,
            ..Options::default()
        };
        Files::open(dir, &options).expect("opens").files
    }

    #[test]
    fn a_freed_segment_is_used_again() {
        let dir = tempfile::tempdir().expect("dir");
        let mut files = files(dir.path());
        let header = Header {
            seq: 1,
            first: 0,
            nonce: 1,
        };
        let active = files.create(&header).expect("makes");
        active
            .file
            .write_all_at(b"previous life", 1000)
            .expect("writes");
        files.free(&active.path).expect("frees");
        let active = files
            .create(&Header {
                seq: 2,
                first: 9,
                nonce: 2,
            })
            .expect("makes");
        let bytes = fs::read(&active.path).expect("reads");
        assert_eq!(
            (bytes.len(), &bytes[1000..1013]),
            (4096, b"previous life".as_slice())
        );
        assert!(!files.path_of(1).exists());
    }

    #[test]
    fn a_directory_serves_one_log_at_a_time() {
        let dir = tempfile::tempdir().expect("dir");
        let options = Options::default();
        let first = Files::open(dir.path(), &options).expect("opens");
        assert!(matches!(
            Files::open(dir.path(), &options),
            Err(LogError::Locked { .. })
        ));
        drop(first);
        assert!(Files::open(dir.path(), &options).is_ok());
    }

    #[test]
    fn a_full_disk_is_called_by_its_name() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = LogError::io(Path::new("wal-1"), full);
        assert!(
            error
                .to_string()
                .starts_with("no space left for log file wal-1")
        );
    }
}
