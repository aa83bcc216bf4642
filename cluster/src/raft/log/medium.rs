//! Writes the log's bytes to disk. Tests replace it by one that fills up, fails or loses power.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// How bytes get to disk.
pub trait Medium: fmt::Debug + Send + Sync {
    /// Writes all of it, into the cache of the system at least.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Waits until what was written is on the disk, with the file's length if that has changed.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Medium for Disk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}
