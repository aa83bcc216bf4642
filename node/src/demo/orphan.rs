//! A node of a demo that has lost its demo.
//!
//! A demo that is killed can clean up nothing, so its nodes do: each holds the end of a pipe, its standard input,
//! whose other end is the demo's alone and closes with it, however it ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};

/// How often, and after which pauses, the files are removed: other nodes may still be writing theirs.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// Ends this process as soon as its standard input does, and removes `files` before, if that is wanted.
pub fn end_with_input(files: Option<PathBuf>) {
    thread::spawn(move || {
        // Nothing is ever written there, and an error is an end as well.
        drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
        if let Some(files) = files {
            remove(&files);
        }
        // Nothing has to be tidied up that the demo's own `kill -9` would not have left.
        let _ = raise(Signal::SIGKILL);
    });
}

fn remove(files: &Path) {
    for _ in 0..TRIES {
        match fs::remove_dir_all(files) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => thread::sleep(PAUSE),
            Ok(()) | Err(_) => return,
        }
    }
}
