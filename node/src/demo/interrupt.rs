//! Ends a demo early: on a signal, or because nobody reads its output any more.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The signal that ended it, by its number. A closed output counts as SIGPIPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted(i32);

impl Interrupted {
    /// Nobody reads the output any more.
    pub const CLOSED: Self = Self(nix::sys::signal::Signal::SIGPIPE as i32);

    /// The code that shells give to a program which a signal ended.
    pub fn exit_code(self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(u8::MAX)
    }
}

/// Receives the signals that end a demo. The nodes do not get them, since they are in process groups of their own.
pub struct Interrupts {
    signals: [Signal; 3],
    closed: watch::Receiver<bool>,
}

impl Interrupts {
    /// Listens from now on; `closed` becomes true when the output is closed.
    pub fn new(closed: watch::Receiver<bool>) -> io::Result<Self> {
        let [int, term, hup] = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        Ok(Self {
            signals: [signal(int)?, signal(term)?, signal(hup)?],
            closed,
        })
    }

    /// The next reason to stop.
    pub async fn next(&mut self) -> Interrupted {
        let [int, term, hup] = &mut self.signals;
        let kind = tokio::select! {
            _ = int.recv() => SignalKind::interrupt(),
            _ = term.recv() => SignalKind::terminate(),
            _ = hup.recv() => SignalKind::hangup(),
            closed = self.closed.wait_for(|closed| *closed) => match closed {
                Ok(_) => return Interrupted::CLOSED,
                // The sender is gone, so the demo has ended and this future is about to be dropped.
                Err(_) => std::future::pending().await,
            },
        };
        Interrupted(kind.as_raw_value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_and_a_closed_output_have_the_codes_that_shells_know() {
        let (closing, closed) = watch::channel(false);
        let mut interrupts = Interrupts::new(closed).unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(interrupts.next().await.exit_code(), 143);
        closing.send_replace(true);
        assert_eq!(interrupts.next().await.exit_code(), 141);
    }
}
