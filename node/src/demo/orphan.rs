//! Ends the nodes of a demo that was killed.
//!
//! A demo that is killed cannot clean up, so its nodes do it. The standard input of each is a pipe from the demo, which
//! closes when the demo ends, however that happens.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};

/// How often, and with which pauses, removing the files is tried: other nodes may still be writing theirs.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// Ends this process as soon as its standard input does, and removes `files` before, if that is wanted.
pub fn end_with_input(files: Option<PathBuf>) {
    thread::spawn(move || {
        // Nothing is ever written to the pipe, and an error counts as its end.
        drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
        if let Some(files) = files {
            remove(&files);
        }
        // The process may just be killed, as the demo does with its nodes all the time.
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
