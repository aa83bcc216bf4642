//! What the operator decides about connections, as they are told it.

use std::time::Duration;

use cluster::connection::Settings;
use cluster::connection::liveness::Times;

use crate::config::Config;

/// The settings of a configuration.
pub(super) fn settings(config: &Config) -> Settings {
    let (c2s, sm) = (&config.c2s, &config.sm);
    Settings {
        times: Times {
            idle: millis(c2s.idle_timeout),
            patience: millis(c2s.ping_timeout),
            delay: millis(sm.max_ack_delay),
            timeout: millis(sm.ack_timeout),
            unacked: usize::try_from(sm.max_unacked_stanzas).unwrap_or(usize::MAX),
        },
        hibernation: u32::try_from(sm.hibernation_time.as_secs()).unwrap_or(u32::MAX),
        first_count: sm.first_count,
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
