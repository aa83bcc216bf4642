//! What all files of a node have in common: they are their owner's alone, and the disk below them may be full.
//!
//! Modes are set when a file is made and again whenever it is opened, so that neither the umask nor what an
//! older version left behind makes a difference (T-72, T-80).

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use tokio::sync::watch;

use crate::raft::log::Log;

/// The mode of a file.
const FILE: u32 = 0o600;
/// The mode of a directory.
pub(crate) const DIRECTORY: u32 = 0o700;
/// Rights of anybody but the owner.
pub(crate) const OTHERS: u32 = 0o077;
/// So much of a file system is kept free, at most.
const RESERVE: u64 = 1 << 30;
/// And this part of it.
const RESERVE_PART: u64 = 20;
/// How long to wait for room before the next attempt.
pub(crate) const AGAIN: Duration = Duration::from_millis(250);
/// How often the room is looked at.
const CHECK: Duration = Duration::from_millis(500);

/// Makes a directory for our files, with those above it, and takes it from anybody else.
pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY)
        .create(path)?;
    tighten(path, DIRECTORY)
}

/// Makes a file for writing, empty, in place of one that may be there.
pub fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    open(options.write(true).create(true).truncate(true), path)
}

/// Opens a file of ours in one way or another.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.mode(FILE).open(path)?;
    if file.metadata()?.permissions().mode() & OTHERS != 0 {
        file.set_permissions(Permissions::from_mode(FILE))?;
    }
    Ok(file)
}

/// Takes a file from anybody but its owner, if it is there.
pub fn private_file(path: &Path) -> io::Result<()> {
    match tighten(path, FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn tighten(path: &Path, mode: u32) -> io::Result<()> {
    if fs::metadata(path)?.permissions().mode() & OTHERS != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Waits until the names in a directory are on disk.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether the same may succeed later: there is no room, or too many files are open.
pub fn passes(error: &io::Error) -> bool {
    let full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    full || lacks_descriptors(error)
}

/// Whether the process or the system has too many files open.
pub(crate) fn lacks_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE))
}

/// Tries again for as long as there is no room, which may be for ever. Blocks.
pub(crate) fn until_there_is_room<T>(
    what: &Path,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let mut said = false;
    loop {
        match attempt() {
            Err(error) if passes(&error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::error!("{} waits for room: {error}", what.display());
                }
                thread::sleep(AGAIN);
            }
            done => return done,
        }
    }
}

/// What the disk or the system does not give at the moment. Nothing is lost, and nothing is acknowledged
/// that would need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// The reserve is touched.
    #[error("the disk is nearly full: {} MiB are free and {} MiB are kept in reserve", free >> 20, reserve >> 20)]
    Reserve {
        /// Bytes.
        free: u64,
        /// Bytes.
        reserve: u64,
    },
    /// Not even the reserve is left.
    #[error("the disk is full, the log waits for room")]
    Full,
    /// Too many files are open.
    #[error("too many files are open, the log waits for the next")]
    Descriptors,
}

/// How much room a file system has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In all.
    pub total: u64,
    /// For us.
    pub free: u64,
}

impl Room {
    /// The room where `path` is.
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = statvfs(path)?;
        let block = found.fragment_size();
        Ok(Self {
            total: block.saturating_mul(found.blocks()),
            free: block.saturating_mul(found.blocks_available()),
        })
    }

    /// What is kept free for promises that were made (T-75).
    pub fn reserve(&self) -> u64 {
        RESERVE.min(self.total / RESERVE_PART)
    }
}

impl Room {
    /// What is lacking. Once the reserve was touched it takes a little more than it to be well again.
    fn shortage(&self, before: Option<Shortage>) -> Option<Shortage> {
        let reserve = self.reserve();
        let enough = match before {
            Some(Shortage::Reserve { .. }) => reserve + reserve / 4,
            _ => reserve,
        };
        (self.free < enough).then_some(Shortage::Reserve {
            free: self.free,
            reserve,
        })
    }
}

/// Tells what is lacking below `dir` or to its log, for as long as anybody listens. The log knows best; the room is
/// looked at because what is acknowledged needs more than the log: rows of a database, snapshots.
pub(crate) async fn watch(dir: PathBuf, log: Log, said: watch::Sender<Option<Shortage>>) {
    let mut reserve = None;
    while !said.is_closed() {
        let place = dir.clone();
        match tokio::task::spawn_blocking(move || Room::at(&place)).await {
            Ok(Ok(room)) => reserve = room.shortage(reserve),
            Ok(Err(error)) => tracing::debug!("the room on the disk is not known: {error}"),
            // The process is about to end.
            Err(_) => return,
        }
        tell(&said, log.usage().lacks.or(reserve));
        tokio::time::sleep(CHECK).await;
    }
}

fn tell(said: &watch::Sender<Option<Shortage>>, now: Option<Shortage>) {
    let before = said.send_replace(now);
    match (before, now) {
        (None, Some(shortage)) => {
            tracing::error!("{shortage}: nothing new is accepted until there is more");
        }
        (Some(_), None) => tracing::info!("there is room on the disk again: the node goes on"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("is there").permissions().mode() & 0o777
    }

    #[test]
    fn t_80_what_was_open_to_others_is_tightened() {
        let dir = tempfile::tempdir().expect("dir");
        let (old, file) = (dir.path().join("old"), dir.path().join("old/file"));
        fs::create_dir(&old).expect("makes");
        fs::write(&file, "x").expect("writes");
        fs::set_permissions(&old, Permissions::from_mode(0o755)).expect("opens up");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("opens up");
        private_dir(&old).expect("tightens");
        private_dir(&dir.path().join("new/below")).expect("makes");
        open(OpenOptions::new().read(true), &file).expect("opens");
        create(&old.join("fresh")).expect("makes");
        private_file(&old.join("absent")).expect("does not matter");
        let modes = ["old", "new", "new/below", "old/file", "old/fresh"]
            .map(|name| mode(&dir.path().join(name)));
        assert_eq!(modes, [0o700, 0o700, 0o700, 0o600, 0o600]);
    }

    #[test]
    fn t_75_the_reserve_grows_with_the_disk_and_ends_at_a_gigabyte() {
        let reserve = |total| Room { total, free: 0 }.reserve();
        assert_eq!((reserve(100), reserve(1 << 40)), (5, 1 << 30));
    }

    #[test]
    fn f_19_what_finds_no_room_is_tried_again_and_what_fails_otherwise_is_not() {
        let mut results = vec![
            Err(io::ErrorKind::PermissionDenied),
            Ok(7),
            Err(io::ErrorKind::QuotaExceeded),
            Err(io::ErrorKind::StorageFull),
        ];
        let mut attempt = || {
            let next = results.pop().expect("is asked no more");
            next.map_err(io::Error::from)
        };
        let place = Path::new("snapshot");
        assert_eq!(until_there_is_room(place, &mut attempt).ok(), Some(7));
        assert!(until_there_is_room(place, &mut attempt).is_err());
    }

    #[test]
    fn t_75_a_little_more_than_the_reserve_makes_well_again() {
        let short = |free, before| Room { total: 1600, free }.shortage(before).is_some();
        let before = Room {
            total: 1600,
            free: 0,
        }
        .shortage(None);
        assert_eq!(
            [79, 80, 99].map(|free| short(free, None)),
            [true, false, false]
        );
        assert_eq!(
            [80, 99, 100].map(|free| short(free, before)),
            [true, true, false]
        );
    }
}
