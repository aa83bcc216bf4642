//! Refuses connections: tells their clients why, and the log.
//!
//! Neither may cost much, as there may be a flood of them. Only a few clients are told at a time, and the log gets one
//! line per second, with the number of refusals.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::stream::{Condition, StreamError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many clients are told at a time. The connections of others are just closed.
const TOLD: usize = 32;
/// The shortest time between two lines in the log.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its address has its share of connections without a session already.
    #[error("too many connections from this address have not logged in yet")]
    Address,
    /// There are no descriptors left for clients.
    #[error("the server has no room for more connections")]
    Descriptors,
}

impl From<Refusal> for StreamError {
    fn from(refusal: Refusal) -> Self {
        let condition = match refusal {
            Refusal::Address => Condition::PolicyViolation,
            Refusal::Descriptors => Condition::ResourceConstraint,
        };
        Self::new(condition).with_text(refusal.to_string())
    }
}

/// Tells clients and operators.
#[derive(Debug)]
pub struct Refusals {
    places: Arc<Semaphore>,
    // A lock, since every arbiter refuses connections.
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    last: Option<Instant>,
    unsaid: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(TOLD)),
            log: Mutex::default(),
        }
    }
}

impl Refusals {
    /// Takes a place among those that are told why, if there is one.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Logs a refusal, unless one was logged just now.
    pub fn log(&self, address: IpAddr, refusal: Refusal, now: Instant) {
        let Some(others) = self.due(now) else { return };
        let hint = match refusal {
            Refusal::Address => {
                "if this is a balancer, have it send PROXY headers: c2s.proxy_protocol"
            }
            Refusal::Descriptors => "raise the limit of open files of this process",
        };
        tracing::warn!(%address, others, reason = %refusal, hint, "a connection was refused");
    }

    /// Whether a line is due, and how many refusals had none since the last one.
    fn due(&self, now: Instant) -> Option<u64> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let soon = |last: Instant| now.saturating_duration_since(last) < PAUSE;
        if log.last.is_some_and(soon) {
            log.unsaid += 1;
            return None;
        }
        log.last = Some(now);
        Some(std::mem::take(&mut log.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_one_line_a_second_with_their_number() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.due(start), Some(0));
        for _ in 0..1000 {
            assert_eq!(refusals.due(start + PAUSE / 2), None);
        }
        assert_eq!(refusals.due(start + PAUSE), Some(1000));
    }

    #[test]
    fn few_are_told_at_a_time() {
        let refusals = Refusals::default();
        let places: Vec<_> = (0..TOLD).map(|_| refusals.place().unwrap()).collect();
        assert!(refusals.place().is_none());
        drop(places);
        assert!(refusals.place().is_some());
    }
}
