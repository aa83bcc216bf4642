//! Logs: text for people or one JSON object per line for programs.
//!
//! Bodies, credentials and SM-IDs are never logged (T-73).

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Installs the subscriber of this process. A second call, as in tests, changes nothing.
pub fn install(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match log.format {
        LogFormat::Json => builder.json().finish().try_init(),
        LogFormat::Text => builder.with_ansi(false).finish().try_init(),
    };
    // Only a test that starts several nodes in one process gets here with an error.
    drop(installed);
}
