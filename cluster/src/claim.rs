//! Checks whether the data directory is fit to hold secrets, and claims it for one process.
//!
//! A start claims the directory before anything else. So a second process with the same directory fails with a clear
//! error, and not at whatever port or file the two would share next. `holdfast check` runs the same checks without
//! claiming.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::disk::{self, DIRECTORY, OTHERS};

/// The file that says which process has the data directory.
const CLAIM: &str = "lock";
/// Where a node that has started once says who it is.
const IDENTITY: &str = "identity";
/// How the names begin of what only this server makes, also before its first start.
const OWN: [&str; 4] = ["addresses.json", "admin.token", "holdfast.db", "localhost."];
/// How the names begin of what a first start makes beside [`CLAIM`]. Others have such names too.
const CLAIMED: [&str; 4] = [CLAIM, IDENTITY, "log", "snapshots"];
/// The mode bit that lets every user make and remove files.
const ANYBODY_WRITES: u32 = 0o002;

/// A directory is not fit to hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// It cannot be made, or not even looked at.
    #[error("cannot use the data directory {}: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Anybody may put files there.
    #[error("anybody may write in the data directory {}: choose one that is this server's alone", dir.display())]
    Shared {
        /// The directory.
        dir: PathBuf,
    },
    /// Others may look into it, and this process cannot change that.
    #[error("the data directory {} is open to others (mode {mode:o}) and not ours to close: give it mode 700 and to the user of this process, or choose one below it", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is open to others, and what is in it is not of this server.
    #[error("the data directory {} is open to others (mode {mode:o}) and holds {entry:?}, which is not of this server: choose one that is this server's alone", dir.display())]
    Strange {
        /// The directory.
        dir: PathBuf,
        /// Its mode.
        mode: u32,
        /// The name of what is in it.
        entry: String,
    },
    /// Another process has claimed it.
    #[error("the data directory {} is in use by {}", dir.display(), by(*process))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Whose it is, if that can be read.
        process: Option<u32>,
    },
}

/// Names another process in an error for people.
fn by(process: Option<u32>) -> String {
    process.map_or_else(
        || String::from("another process"),
        |id| format!("process {id}"),
    )
}

/// A warning about a directory that can be used nevertheless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirWarning {
    /// Other users may read it until the start closes it to them.
    #[error("{} is open to others (mode {mode:o}); the start closes it to them (mode 700)", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to another user, who can read what is in it.
    #[error("{} belongs to user {owner} and this process runs as user {user}: run it as its owner, who could not read what it makes there", dir.display())]
    Owner {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
}

/// The data directory, for as long as this process runs.
#[derive(Debug)]
#[must_use = "it is free again when this is dropped"]
pub struct Claim {
    _lock: File,
}

/// Makes the data directory, or takes an existing one over. If other users may read it, it is closed to them. If they
/// may write to it, or if another process has it, it is refused.
pub fn claim_dir(path: &Path) -> Result<Claim, DirError> {
    let failed = |source| DirError::Io {
        dir: path.to_owned(),
        source,
    };
    let made = DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY)
        .create(path);
    made.map_err(failed)?;
    for notice in check_dir(path)? {
        tracing::warn!("{notice}");
        if let DirWarning::Open { mode, .. } = notice {
            fs::set_permissions(path, Permissions::from_mode(DIRECTORY))
                .map_err(|_| foreign(path, mode))?;
        }
    }
    let file = path.join(CLAIM);
    let options = &mut OpenOptions::new();
    let mut lock =
        disk::open(options.read(true).write(true).create(true), &file).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(path, &mut lock)),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // The process id is written for people only, so an error is ignored: the lock itself says that the directory is
    // taken, and a full disk must not keep a node from starting.
    let _ = lock.set_len(0);
    let _ = writeln!(lock, "{}", std::process::id());
    Ok(Claim { _lock: lock })
}

/// Claims the data directory of a node that has run before, and writes nothing; none if no node has.
pub fn hold_dir(path: &Path) -> Result<Option<Claim>, DirError> {
    let failed = |source| DirError::Io {
        dir: path.to_owned(),
        source,
    };
    check_dir(path)?;
    let mut lock = match File::open(path.join(CLAIM)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(Claim { _lock: lock })),
        Err(TryLockError::WouldBlock) => Err(in_use(path, &mut lock)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Checks whether the directory can be used, if it exists, and returns what an operator should know of it. Nothing is
/// changed: to find out whether the mode could be set, the mode that it already has is set once more.
pub fn check_dir(path: &Path) -> Result<Vec<DirWarning>, DirError> {
    let dir = path.to_owned();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(DirError::Io { dir, source }),
    };
    let mode = found.permissions().mode() & 0o7777;
    let (owner, user) = (found.uid(), nix::unistd::geteuid().as_raw());
    if mode & ANYBODY_WRITES != 0 {
        return Err(DirError::Shared { dir });
    }
    let mut notices = Vec::new();
    if mode & OTHERS != 0 {
        let same = Permissions::from_mode(mode);
        fs::set_permissions(path, same).map_err(|_| foreign(path, mode))?;
        if let Some(entry) = stranger(path).map_err(|source| DirError::Io {
            dir: dir.clone(),
            source,
        })? {
            return Err(DirError::Strange { dir, mode, entry });
        }
        let dir = dir.clone();
        notices.push(DirWarning::Open { dir, mode });
    }
    if owner != user {
        notices.push(DirWarning::Owner { dir, owner, user });
    }
    Ok(notices)
}

/// The name of something in a directory that is not of a node. Closing `/var` to others would be the end of more than
/// this server, and there are directories with a `lock` and a `log` that no node has made.
fn stranger(path: &Path) -> io::Result<Option<String>> {
    let is_file = |name| {
        let found = fs::symlink_metadata(path.join(name));
        found.is_ok_and(|found| found.is_file())
    };
    if is_file(IDENTITY) {
        return Ok(None);
    }
    let claimed = is_file(CLAIM);
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let begins_as = |known: &&str| name.starts_with(known);
        let own = OWN.iter().any(begins_as) || (claimed && CLAIMED.iter().any(begins_as));
        // File systems begin with the latter.
        if !own && name != "lost+found" {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// An error if another process has claimed the directory now.
pub fn check_claim(path: &Path) -> Result<(), DirError> {
    let Ok(mut lock) = File::open(path.join(CLAIM)) else {
        return Ok(());
    };
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(in_use(path, &mut lock)),
        // An error other than a held lock is found, and reported, by the next start.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn foreign(path: &Path, mode: u32) -> DirError {
    DirError::Foreign {
        dir: path.to_owned(),
        mode,
    }
}

fn in_use(path: &Path, lock: &mut File) -> DirError {
    let mut said = String::new();
    let read = lock.take(32).read_to_string(&mut said);
    DirError::InUse {
        dir: path.to_owned(),
        process: read.ok().and_then(|_| said.trim().parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("is there").permissions().mode() & 0o777
    }

    #[test]
    fn t_80_a_directory_that_anybody_may_write_in_is_refused_and_another_tightened() {
        let dir = tempfile::tempdir().expect("dir");
        let with = |mode| {
            let place = dir.path().join(format!("{mode:o}"));
            fs::create_dir(&place).expect("makes");
            fs::set_permissions(&place, Permissions::from_mode(mode)).expect("sets");
            let claimed = claim_dir(&place);
            (claimed.is_ok(), super::tests::mode(&place))
        };
        assert_eq!(with(0o1777), (false, 0o777));
        assert_eq!(with(0o750), (true, 0o700));
        assert_eq!(with(0o755), (true, 0o700));
        drop(claim_dir(&dir.path().join("not/there")).expect("makes"));
        assert_eq!(mode(&dir.path().join("not")), 0o700);
    }

    #[test]
    fn t_80_a_directory_of_others_is_not_closed_to_them() {
        let dir = tempfile::tempdir().expect("dir");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("sets");
        fs::create_dir(dir.path().join("lost+found")).expect("makes");
        assert!(check_dir(dir.path()).is_ok());
        fs::write(dir.path().join("else"), "").expect("writes");
        let refused = claim_dir(dir.path()).map(drop).expect_err("is not ours");
        assert!(refused.to_string().contains("\"else\""), "{refused}");
        assert_eq!(mode(dir.path()), 0o755);
        // Accounts may be made before the first start.
        fs::write(dir.path().join("holdfast.db-wal"), "").expect("writes");
        assert!(check_dir(dir.path()).is_err());
        // Neither the name of a lock nor a lock beside others' things makes it ours.
        fs::remove_file(dir.path().join("else")).expect("removes");
        fs::create_dir(dir.path().join(CLAIM)).expect("makes");
        assert!(check_dir(dir.path()).is_err());
        fs::remove_dir(dir.path().join(CLAIM)).expect("removes");
        fs::write(dir.path().join(CLAIM), "").expect("writes");
        fs::create_dir(dir.path().join("log")).expect("makes");
        assert!(check_dir(dir.path()).is_ok());
        fs::write(dir.path().join("else"), "").expect("writes");
        assert!(check_dir(dir.path()).is_err());
        fs::write(dir.path().join(IDENTITY), "").expect("writes");
        assert!(check_dir(dir.path()).is_ok());
    }

    #[test]
    fn t_80_what_a_start_will_say_or_refuse_is_known_before_it() {
        let dir = tempfile::tempdir().expect("dir");
        let set = |mode| fs::set_permissions(dir.path(), Permissions::from_mode(mode));
        set(0o700).expect("sets");
        assert_eq!(check_dir(dir.path()).expect("ours"), []);
        assert_eq!(check_dir(&dir.path().join("absent")).expect("ours"), []);
        set(0o2770).expect("sets");
        let open = DirWarning::Open {
            dir: dir.path().to_owned(),
            mode: 0o2770,
        };
        assert_eq!(check_dir(dir.path()).expect("ours"), [open]);
        // Nobody may change that one.
        let refused = check_dir(Path::new("/proc/self"));
        assert!(matches!(refused, Err(DirError::Foreign { .. })));
    }

    #[test]
    fn a_directory_has_one_process_and_the_next_is_told_which() {
        let dir = tempfile::tempdir().expect("dir");
        check_claim(dir.path()).expect("is free");
        let claim = claim_dir(dir.path()).expect("is free");
        let own = format!("is in use by process {}", std::process::id());
        for refused in [claim_dir(dir.path()).map(drop), check_claim(dir.path())] {
            let refused = refused.expect_err("is taken").to_string();
            assert!(refused.ends_with(&own), "{refused}");
        }
        drop(claim);
        check_claim(dir.path()).expect("is free again");
    }
}
