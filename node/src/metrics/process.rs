//! What the operating system and the allocator tell of this process, under the names that all servers use.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use tikv_jemalloc_ctl::{epoch, stats};

/// Registers what is known now; `started` is when the process began, in milliseconds since 1970.
pub(super) fn register(registry: &mut Registry, started: u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Memory of this process that is not paged out",
            field(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024),
        ),
        (
            "process_virtual_memory_bytes",
            "Addresses that this process has taken",
            field(&status, "VmSize:").map(|kilobytes| kilobytes * 1024),
        ),
        (
            "process_threads",
            "Threads of this process",
            field(&status, "Threads:"),
        ),
        (
            "process_open_fds",
            "File descriptors that this process has open",
            open_descriptors(),
        ),
        (
            "process_max_fds",
            "File descriptors that this process may have",
            getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _)| soft),
        ),
    ] {
        if let Some(value) = value {
            registry.register(name, help, ConstGauge::new(value));
        }
    }
    registry.register(
        "process_start_time_seconds",
        "When this process began, in seconds since 1970",
        ConstGauge::new(started as f64 / 1000.0),
    );
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        registry.register(
            "process_cpu_seconds",
            "Time that this process has spent on processors",
            ConstCounter::new(seconds(usage.user_time()) + seconds(usage.system_time())),
        );
    }
}

/// Registers how much memory the allocator has, by what it is for it.
pub(super) fn register_allocator(registry: &mut Registry) {
    // The allocator's numbers are those of the last epoch.
    if epoch::advance().is_err() {
        return;
    }
    let kinds = [
        ("allocated", stats::allocated::read()),
        ("active", stats::active::read()),
        ("metadata", stats::metadata::read()),
        ("resident", stats::resident::read()),
        ("retained", stats::retained::read()),
    ];
    let bytes: Family<[(&str, &str); 1], Gauge> = Family::default();
    for (kind, found) in kinds {
        if let Ok(found) = found {
            let found = i64::try_from(found).unwrap_or(i64::MAX);
            bytes.get_or_create(&[("kind", kind)]).set(found);
        }
    }
    registry.register(
        "allocator_bytes",
        "Memory of the allocator: in use, in pages in use, for itself, in memory, kept for later",
        bytes,
    );
}

/// The number behind a name in what the system tells of a process.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Without the one by which they are counted.
fn open_descriptors() -> Option<u64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(open.saturating_sub(1)).ok()
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let mut registry = Registry::default();
        register(&mut registry, 1_500);
        register_allocator(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {text}"))
                .trim()
                .parse()
                .unwrap()
        };
        assert_eq!(value("process_start_time_seconds "), 1.5);
        let resident = value("process_resident_memory_bytes ");
        assert!(resident > 1e6 && resident < value("process_virtual_memory_bytes "));
        let open = value("process_open_fds ");
        assert!(open >= 1.0 && open < value("process_max_fds "));
        assert!(value("process_threads ") >= 1.0);
        assert!(value("process_cpu_seconds_total ") > 0.0);
        let resident = value("allocator_bytes{kind=\"resident\"} ");
        assert!(resident >= value("allocator_bytes{kind=\"active\"} "));
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Name:\tx\nVmSize:\t  20 kB\nVmRSS:\t   7 kB\n";
        assert_eq!(field(status, "VmRSS:"), Some(7));
        assert_eq!(field(status, "VmSwap:"), None);
    }
}
