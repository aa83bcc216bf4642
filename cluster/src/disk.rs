//! Opens files and directories that only their owner may read, and deals with a full disk. How full a node lets its
//! disk get is decided in `room`.
//!
//! Modes are set when a file is made and again whenever it is opened, so that neither the umask nor what an
//! older version left behind makes a difference (T-33, T-80).

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

/// The mode of a file.
const FILE: u32 = 0o600;
/// The mode of a directory.
pub(crate) const DIRECTORY: u32 = 0o700;
/// Rights of anybody but the owner.
pub(crate) const OTHERS: u32 = 0o077;
/// How long to wait for room before the next attempt.
pub(crate) const AGAIN: Duration = Duration::from_millis(250);

/// Makes a directory and its parents, and closes it to other users.
pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY)
        .create(path)?;
    tighten(path, DIRECTORY)
}

/// Creates an empty file for writing; one of that name is emptied.
pub fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    open(options.write(true).create(true).truncate(true), path)
}

/// Opens a file with these options, and closes it to other users.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.mode(FILE).open(path)?;
    if file.metadata()?.permissions().mode() & OTHERS != 0 {
        file.set_permissions(Permissions::from_mode(FILE))?;
    }
    Ok(file)
}

/// Closes a file to other users, if it exists.
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

/// Syncs a directory, so that the names in it are on disk.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether the same call may succeed later, because the disk is full or too many files are open.
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

/// Repeats `attempt` for as long as the disk is full, which may be for ever. Blocks. It logs nothing: `room` reports
/// the shortage once, for everything that waits for it.
pub(crate) fn until_there_is_room<T>(
    what: &Path,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let mut said = false;
    loop {
        match attempt() {
            Err(error) if passes(&error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::debug!("{} waits for room: {error}", what.display());
                }
                thread::sleep(AGAIN);
            }
            done => return done,
        }
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
}
