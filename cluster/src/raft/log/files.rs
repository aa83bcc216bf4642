//! Manages the files of the log.
//!
//! A segment is filled with zeros once and then recycled, since overwriting existing blocks takes half as long to sync
//! as growing a file. It gets its name only when its header is on disk. The next segment is opened before it is needed,
//! and the directory stays open. So a process that can open no more files can still go on with its log.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::medium::Medium;
use super::segment::{HEADER, Header};
use super::{LogError, Options};
use crate::clock;
use crate::disk;

/// How many free segments are kept for later.
const SPARES: usize = 2;
const ZEROS: usize = 1 << 20;
/// The longest pause after writing a piece of zeros. On a disk that is slower than this, longer pauses would not help.
const PAUSE: Duration = Duration::from_millis(50);
/// The name of a spare file that has never been a segment.
const FRESH: &str = "spare-new";

/// The directory of the log, with what is there for future segments.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// The open directory, so that its names can be synced.
    names: File,
    segment_bytes: u64,
    fsync: bool,
    medium: Arc<dyn Medium>,
    spares: Vec<PathBuf>,
    next: Next,
}

/// The file that will become the next segment.
#[derive(Debug)]
enum Next {
    /// There is none yet, as it could not be opened.
    Missing,
    Open(Spare),
    /// A thread is filling it with zeros. The flag tells it to make no pauses, because the file is needed now.
    Filling(JoinHandle<Spare>, Arc<AtomicBool>),
}

#[derive(Debug)]
struct Spare {
    path: PathBuf,
    file: File,
    filled: bool,
}

/// A directory that has been opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) files: Files,
    /// The existing segments, oldest first.
    pub(super) segments: Vec<(u64, PathBuf)>,
    /// The lock on the directory, which is held while this is open.
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
    /// Locks the directory for this process and lists it.
    pub(super) fn open(dir: &Path, options: &Options) -> Result<Found, LogError> {
        let failed = |source| LogError::io(dir, source);
        let lock = disk::create(&dir.join(super::LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(LogError::Locked {
                    dir: dir.to_owned(),
                });
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let names = File::open(dir).map_err(failed)?;
        if options.fsync {
            // The last run may have renamed files without syncing the directory.
            names.sync_all().map_err(failed)?;
            dir.parent()
                .map_or(Ok(()), disk::sync_dir)
                .map_err(failed)?;
        }
        let Listed { segments, spares } = list(dir).map_err(failed)?;
        let files = Self {
            dir: dir.to_owned(),
            names,
            segment_bytes: options.segment_bytes,
            fsync: options.fsync,
            medium: options.medium.clone(),
            spares,
            next: Next::Missing,
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

    /// Makes a segment, which is on disk when this returns. If there is no room, it may be called again.
    pub(super) fn create(&mut self, header: &Header) -> Result<Active, LogError> {
        let path = self.path_of(header.seq);
        let mut spare = match std::mem::replace(&mut self.next, Next::Missing) {
            Next::Open(spare) => spare,
            Next::Filling(thread, hurry) => {
                hurry.store(true, Ordering::Relaxed);
                match thread.join() {
                    Ok(spare) => spare,
                    Err(_) => self.open_spare()?,
                }
            }
            Next::Missing => self.open_spare()?,
        };
        if let Err(error) = self.begin(&mut spare, header, &path) {
            self.next = Next::Open(spare);
            return Err(error);
        }
        Ok(Active {
            path,
            file: spare.file,
            seed: header.seed(),
            at: HEADER as u64,
        })
    }

    fn begin(&self, spare: &mut Spare, header: &Header, path: &Path) -> Result<(), LogError> {
        if !spare.filled {
            let wait = |_| {};
            fill(spare, self.segment_bytes, self.fsync, &*self.medium, wait)
                .map_err(|source| LogError::io(path, source))?;
        }
        self.medium
            .write(&spare.file, &header.encode(), 0)
            .map_err(|source| LogError::io(path, source))?;
        if self.fsync {
            let synced = self.medium.sync(&spare.file);
            synced.map_err(|source| LogError::sync(path, source))?;
        }
        fs::rename(&spare.path, path).map_err(|source| LogError::io(path, source))?;
        self.sync_names()
            .map_err(|source| LogError::sync(path, source))
    }

    /// Opens an existing segment for more frames.
    pub(super) fn reopen(&self, header: &Header, at: u64) -> Result<Active, LogError> {
        let path = self.path_of(header.seq);
        let file = self.writable(&path)?;
        Ok(Active {
            path,
            file,
            seed: header.seed(),
            at,
        })
    }

    /// Writes again what was read from a segment at `at`, and syncs it. The bytes may have been only in the cache:
    /// after a failed sync the system believes that they are on disk.
    pub(super) fn rewrite(&self, path: &Path, bytes: &[u8], at: u64) -> Result<(), LogError> {
        let file = self.writable(path)?;
        self.medium
            .write(&file, bytes, at)
            .map_err(|source| LogError::io(path, source))?;
        self.medium
            .sync(&file)
            .map_err(|source| LogError::sync(path, source))
    }

    fn writable(&self, path: &Path) -> Result<File, LogError> {
        disk::open(OpenOptions::new().write(true), path)
            .map_err(|source| LogError::io(path, source))
    }

    /// Opens what the next segment will be made of. If that is impossible now it is tried again.
    pub(super) fn open_ahead(&mut self) {
        if let Next::Missing = self.next {
            match self.open_spare() {
                Ok(spare) => self.next = Next::Open(spare),
                Err(error) => tracing::warn!("the next file of the log is not opened yet: {error}"),
            }
        }
    }

    fn open_spare(&mut self) -> Result<Spare, LogError> {
        let known = self.spares.last().cloned();
        let path = known.unwrap_or_else(|| self.dir.join(FRESH));
        let mut options = OpenOptions::new();
        let opened = disk::open(options.write(true).create(true), &path)
            .and_then(|file| Ok((file.metadata()?.len() >= self.segment_bytes, file)));
        let (filled, file) = opened.map_err(|source| LogError::io(&path, source))?;
        self.spares.pop();
        Ok(Spare { path, file, filled })
    }

    /// Fills the next segment with zeros in the background, so that its blocks exist when it is needed.
    pub(super) fn prepare(&mut self) {
        self.open_ahead();
        if !matches!(&self.next, Next::Open(spare) if !spare.filled) {
            return;
        }
        let Next::Open(mut spare) = std::mem::replace(&mut self.next, Next::Missing) else {
            return;
        };
        let (size, fsync, medium) = (self.segment_bytes, self.fsync, self.medium.clone());
        let now = Arc::new(AtomicBool::new(false));
        let hurry = now.clone();
        let work = move || {
            // An error is ignored: whoever makes a segment of the file meets it again and handles it.
            let pause = |took: Duration| {
                if !hurry.load(Ordering::Relaxed) {
                    thread::sleep(took.min(PAUSE));
                }
            };
            if let Err(error) = fill(&mut spare, size, fsync, &*medium, pause) {
                tracing::debug!("the next file of the log is not filled yet: {error}");
            }
            spare
        };
        // If no thread can be started, the next segment takes a little longer.
        if let Ok(thread) = thread::Builder::new().name("wal-spare".into()).spawn(work) {
            self.next = Next::Filling(thread, now);
        }
    }

    /// Turns a segment that nobody needs any more into a spare, or removes it.
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
            // The names are synced, so that the oldest is gone before the next oldest. Otherwise replay would see a
            // gap.
            self.sync_names()
        };
        go().map_err(|source| LogError::io(path, source))
    }

    fn sync_names(&self) -> io::Result<()> {
        match self.fsync {
            true => self.names.sync_all(),
            false => Ok(()),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Next::Filling(thread, hurry) = std::mem::replace(&mut self.next, Next::Missing) {
            hurry.store(true, Ordering::Relaxed);
            // Its result does not matter any more, but it must not write to the file later.
            let _ = thread.join();
        }
    }
}

/// What is in the directory.
#[derive(Default)]
struct Listed {
    /// By number, oldest first.
    segments: Vec<(u64, PathBuf)>,
    spares: Vec<PathBuf>,
}

fn list(dir: &Path) -> io::Result<Listed> {
    let mut listed = Listed::default();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let seq = name
            .strip_prefix("wal-")
            .map(|n| u64::from_str_radix(n, 16));
        if let Some(Ok(seq)) = seq {
            listed.segments.push((seq, path));
        } else if name.starts_with("spare-") {
            listed.spares.push(path);
        }
    }
    listed.segments.sort();
    Ok(listed)
}

/// Fills a file with zeros from where it ends, as a crash or a full disk may have left it unfinished. Each piece is
/// synced, and followed by `pause`, which is told how long the piece took. So the log's own syncs wait for one piece at
/// most, not for the whole file.
fn fill(
    spare: &mut Spare,
    size: u64,
    fsync: bool,
    medium: &dyn Medium,
    pause: impl Fn(Duration),
) -> io::Result<()> {
    if fsync {
        let zeros = vec![0; ZEROS];
        let mut at = spare.file.metadata()?.len();
        while at < size {
            let some = (size - at).min(ZEROS as u64);
            let begun = clock::instant();
            medium.write(&spare.file, &zeros[..some as usize], at)?;
            medium.sync(&spare.file)?;
            pause(clock::instant() - begun);
            at += some;
        }
    } else {
        spare.file.set_len(size)?;
    }
    spare.filled = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

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
