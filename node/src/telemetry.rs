//! Logs: text for people or one JSON object per line for programs.
//!
//! Bodies, credentials and SM-IDs are never logged (T-73).

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Installs the subscriber of this process. A second call, as in tests, changes nothing.
pub fn install(log: &Log) {
    let filter =
        EnvFilter::try_new(directives(&log.level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Told to standard error, which is what cannot be written then: that would end the process.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let installed = match log.format {
        LogFormat::Json => builder.json().finish().try_init(),
        LogFormat::Text => builder.with_ansi(false).finish().try_init(),
    };
    // Only a test that starts several nodes in one process gets here with an error.
    drop(installed);
}

/// The configured level, with a library held to errors, unless it is asked for by name: it tells its life
/// story at `info` and warns of every heartbeat to a peer that is down, which our own log says once (T-74).
fn directives(level: &str) -> String {
    match level.contains("openraft") {
        true => level.to_owned(),
        false => format!("{level},openraft=error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_taken_as_it_is_but_for_the_one_library() {
        assert_eq!(directives("info"), "info,openraft=error");
        assert_eq!(directives("warn,openraft=debug"), "warn,openraft=debug");
        assert!(EnvFilter::try_new(directives("info,node::session=debug")).is_ok());
    }
}
