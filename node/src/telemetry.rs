//! Sets up the log: text for people, or one JSON object per line for programs.
//!
//! Bodies, credentials and SM-IDs are never logged (T-73).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

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
    if installed.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// A panic is a line of the log like all else, so that programs which read the log find it too.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string);
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(
        thread = thread.name(),
        trace,
        "panicked at {}: {}",
        place.as_deref().unwrap_or("an unknown place"),
        panic.payload_as_str().unwrap_or("without a message")
    );
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
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn i_21_a_panic_is_one_line_for_programs() {
        let lines = Lines::default();
        let to = lines.clone();
        let log = tracing_subscriber::fmt().json();
        let log = log.with_writer(move || to.clone()).finish();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        let ended = tracing::subscriber::with_default(log, || {
            std::panic::catch_unwind(|| panic!("of some\nreason"))
        });
        std::panic::set_hook(before);
        assert!(ended.is_err());
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let message = line["fields"]["message"].as_str().unwrap();
        assert!(message.starts_with("panicked at "), "{message}");
        assert!(message.ends_with("of some\nreason"), "{message}");
    }

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
