//! Sets up the log: text for people, or one JSON object per line for programs.
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
        // Internal errors would go to standard error, and if that is closed the process would end.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let installed = match log.format {
        LogFormat::Json => builder.json().finish().try_init(),
        LogFormat::Text => builder.with_ansi(false).finish().try_init(),
    };
    // This fails only in a test that starts several nodes in one process.
    drop(installed);
}

/// The modules whose level a bare level sets.
const OURS: [&str; 3] = ["node", "cluster", "proto"];

/// The directives of the log's filter.
///
/// A bare level applies to our own crates only; libraries log at most warnings, so that `debug` shows what this server
/// does. If modules are named, the directives are taken as they are. openraft is held to errors unless it is named,
/// because it warns of every heartbeat to a peer that is down, which our own log reports once (T-74). One part of it is
/// silenced: there, every call to a stopped group is an error, and a node that stops has stopped its groups. Why a
/// group has stopped by itself is logged elsewhere.
fn directives(level: &str) -> String {
    let named = level.contains(['=', ',']);
    let libraries = matches!(level, "info" | "debug" | "trace");
    let level = match !named && libraries {
        true => OURS.iter().fold("warn".to_owned(), |all, module| {
            format!("{all},{module}={level}")
        }),
        false => level.to_owned(),
    };
    match level.contains("openraft") {
        true => level,
        false => format!("{level},openraft=error,openraft::raft::raft_inner=off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_taken_as_it_is_but_for_the_one_library() {
        let library = "openraft=error,openraft::raft::raft_inner=off";
        let info = format!("warn,node=info,cluster=info,proto=info,{library}");
        assert_eq!(directives("info"), info);
        assert_eq!(directives("error"), format!("error,{library}"));
        let chosen = "debug,sqlx=info";
        assert_eq!(directives(chosen), format!("{chosen},{library}"));
        assert_eq!(directives("warn,openraft=debug"), "warn,openraft=debug");
        assert!(EnvFilter::try_new(directives("info,node::session=debug")).is_ok());
    }
}
