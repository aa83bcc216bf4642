//! A small file system for tests of a full disk.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::statvfs::statvfs;

/// A file system in memory. It goes with this.
pub struct Small(PathBuf);

impl Small {
    /// Mounts one. Only root can do that; other users get `None`, and the test is skipped.
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("a place");
        let options = format!("size={size},mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            _ => {
                println!("skipped: a file system cannot be mounted here");
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let found = statvfs(&self.0).expect("it is mounted");
        found.fragment_size() * found.blocks_available()
    }

    /// Fills the file system up, as another program would.
    pub fn fill_up(&self) {
        let mut options = File::options();
        let filler = options.create(true).append(true).open(self.filler());
        let mut filler = filler.expect("a file that holds nothing needs no room");
        for size in [1 << 20, 4096, 1] {
            while filler.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// Gives the room back.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("it was filled up");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A node that was killed may still be letting go of it.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
