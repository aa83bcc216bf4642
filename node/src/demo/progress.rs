//! Prints what happens while the demo runs. It goes to standard error, so that only the result is on standard output.

use std::io::Write as _;
use std::time::Instant;

use tokio::sync::watch;

use crate::clock;

/// Prints events with their times.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    closed: watch::Sender<bool>,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        Self {
            start: clock::instant(),
            closed: watch::Sender::new(false),
        }
    }

    /// Becomes true when the output is closed.
    pub fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Prints one line.
    pub fn event(&self, text: &str) {
        let time = (clock::instant() - self.start).as_secs_f64();
        if writeln!(std::io::stderr().lock(), "{time:7.2}  {text}").is_err() {
            self.closed.send_replace(true);
        }
    }
}
