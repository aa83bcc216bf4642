//! The operator's times, as a connection is told them.

use std::time::Duration;

use cluster::connection::liveness::{Times, UNCOUNTED};

use crate::config::Config;

/// The operator's times, for a client that counts or one that does not.
pub(super) fn times(config: &Config, counts: bool) -> Times {
    let (c2s, sm) = (&config.c2s, &config.sm);
    Times {
        idle: millis(c2s.idle_timeout),
        patience: millis(c2s.ping_timeout),
        delay: millis(sm.max_ack_delay),
        timeout: millis(sm.ack_timeout),
        unacked: match counts {
            true => usize::try_from(sm.max_unacked_stanzas).unwrap_or(usize::MAX),
            false => UNCOUNTED,
        },
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
