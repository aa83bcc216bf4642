//! A disk for tests, which fills up, fails to sync and loses power on demand.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::medium::Medium;

/// See the module. It tells files apart by their inodes, since their names change.
#[derive(Debug, Default)]
pub(super) struct Faulty {
    full: AtomicBool,
    fails: AtomicBool,
    files: Mutex<BTreeMap<u64, Content>>,
}

#[derive(Debug, Default)]
struct Content {
    /// The bytes that survive a loss of power.
    durable: Vec<u8>,
    /// The bytes that are written and not yet synced.
    dirty: Vec<(u64, Vec<u8>)>,
}

impl Faulty {
    /// No file can grow from now on.
    pub(super) fn fill_up(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    /// Files can grow again.
    pub(super) fn make_room(&self) {
        self.full.store(false, Ordering::SeqCst);
    }

    /// The next sync fails, and what it should have written counts as written from then on.
    pub(super) fn fail_once(&self) {
        self.fails.store(true, Ordering::SeqCst);
    }

    /// What was never synced is gone.
    pub(super) fn lose_power(&self, dir: &Path) {
        let files = self.files.lock().expect("lock");
        for entry in fs::read_dir(dir).expect("lists") {
            let path = entry.expect("entry").path();
            let inode = fs::metadata(&path).expect("is there").ino();
            if let Some(content) = files.get(&inode) {
                fs::write(&path, &content.durable).expect("writes");
            }
        }
    }
}

impl Medium for Faulty {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let known = file.metadata()?;
        if self.full.load(Ordering::SeqCst) && at + bytes.len() as u64 > known.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut files = self.files.lock().expect("lock");
        let content = files.entry(known.ino()).or_default();
        content.dirty.push((at, bytes.to_vec()));
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut files = self.files.lock().expect("lock");
        let content = files.entry(file.metadata()?.ino()).or_default();
        let dirty = std::mem::take(&mut content.dirty);
        // Not that of a file which is only being filled with zeros.
        let counts = dirty
            .iter()
            .any(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
        if counts && self.fails.swap(false, Ordering::SeqCst) {
            return Err(io::Error::other("the disk does not answer"));
        }
        for (at, bytes) in dirty {
            let end = at as usize + bytes.len();
            let length = content.durable.len().max(end);
            content.durable.resize(length, 0);
            content.durable[at as usize..end].copy_from_slice(&bytes);
        }
        Ok(())
    }
}
