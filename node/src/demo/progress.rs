//! What a watching person sees while the demo runs: on standard error, so that the result alone is on
//! standard output.

use std::io::Write as _;
use std::time::Instant;

/// Tells what happens, and when.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
}

impl Progress {
    /// Time counts from here.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// One line.
    pub fn event(&self, text: &str) {
        let time = self.start.elapsed().as_secs_f64();
        // Nobody may be watching any more; that does not change what happens.
        drop(writeln!(std::io::stderr().lock(), "{time:7.2}  {text}"));
    }
}
