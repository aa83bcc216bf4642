//! What a watching person sees while the demo runs: on standard error, so that the result alone is on
//! standard output.

use std::io::Write as _;
use std::time::Instant;

use tokio::sync::watch;

/// Tells what happens, and when.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    closed: watch::Sender<bool>,
}

impl Progress {
    /// Time counts from here.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            closed: watch::Sender::new(false),
        }
    }

    /// Becomes true when nobody can read any more what is told.
    pub fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// One line.
    pub fn event(&self, text: &str) {
        let time = self.start.elapsed().as_secs_f64();
        if writeln!(std::io::stderr().lock(), "{time:7.2}  {text}").is_err() {
            self.closed.send_replace(true);
        }
    }
}
