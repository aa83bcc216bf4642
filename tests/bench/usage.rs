//! What the servers' processes take: processor time, wake-ups, bytes written, memory, syncs of the log.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::Failure;

/// Clock ticks a second, as the kernel counts processor time on every Linux there is.
const TICKS: u64 = 100;

/// The counters of some processes at one moment.
pub struct Usage {
    at: Instant,
    /// Processor time of the processes, in nanoseconds, in steps of a tick.
    ticked: u64,
    /// The same of each thread that lives, exactly.
    threads: BTreeMap<String, Thread>,
    written: u64,
    syncs: Option<u64>,
}

#[derive(Clone, Copy, Default)]
struct Thread {
    nanos: u64,
    wakeups: u64,
}

/// What the processes took between two moments.
#[derive(Clone, Copy, Default)]
pub struct Spent {
    /// Wall time.
    pub took: Duration,
    /// Processor time, user and system.
    pub cpu: Duration,
    wakeups: u64,
    written: u64,
    syncs: Option<u64>,
}

impl Usage {
    /// Reads the counters. `syncs` are those that the servers themselves tell, if they do.
    pub fn read(pids: &[u32], syncs: Option<u64>) -> Result<Self, Failure> {
        let mut usage = Self {
            at: Instant::now(),
            ticked: 0,
            threads: BTreeMap::new(),
            written: 0,
            syncs,
        };
        for pid in pids {
            usage.add(*pid).map_err(|error| {
                format!("process {pid} cannot be measured (is it there, and ours?): {error}")
            })?;
        }
        Ok(usage)
    }

    fn add(&mut self, pid: u32) -> Result<(), Failure> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after = stat.rsplit(')').next().unwrap_or_default();
        let times = after.split_whitespace().skip(11).take(2);
        let ticks: u64 = times.filter_map(|text| text.parse::<u64>().ok()).sum();
        self.ticked += ticks * (1_000_000_000 / TICKS);
        let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
        // Not `write_bytes`: where the page cache has large folios, that counts a whole one for each byte in it.
        self.written += field(&io, "wchar:");
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = entry?.path();
            // A thread may end between two reads.
            let read = |name| fs::read_to_string(path.join(name)).unwrap_or_default();
            let nanos = read("schedstat");
            let nanos = nanos.split_whitespace().next().unwrap_or_default();
            let thread = Thread {
                nanos: nanos.parse().unwrap_or_default(),
                wakeups: field(&read("status"), "voluntary_ctxt_switches:"),
            };
            self.threads.insert(path.display().to_string(), thread);
        }
        Ok(())
    }

    /// What was taken since an earlier moment.
    pub fn since(&self, earlier: &Self) -> Spent {
        let (mut exact, mut wakeups) = (0, 0);
        for (name, now) in &self.threads {
            let then = earlier.threads.get(name).copied().unwrap_or_default();
            exact += now.nanos.saturating_sub(then.nanos);
            wakeups += now.wakeups.saturating_sub(then.wakeups);
        }
        let ticked = self.ticked.saturating_sub(earlier.ticked);
        // A step of a tick is too coarse for a process that sleeps, and what a thread took that has ended is in the
        // ticks alone.
        let cpu = if ticked > exact + exact / 10 {
            ticked
        } else {
            exact
        };
        let syncs = self.syncs.zip(earlier.syncs);
        Spent {
            took: self.at - earlier.at,
            cpu: Duration::from_nanos(cpu),
            wakeups,
            written: self.written.saturating_sub(earlier.written),
            syncs: syncs.map(|(now, then)| now.saturating_sub(then)),
        }
    }
}

impl Spent {
    /// Processor time for each of so many things, in microseconds.
    pub fn micros_per(&self, count: u64) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count.max(1) as f64
    }

    /// The share of one core.
    pub fn percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.took.as_secs_f64().max(1e-9)
    }

    /// Adds the costs of each of `count` things to a line.
    pub fn tell(&self, line: &mut Map<String, Value>, unit: &str, count: u64) {
        let per = |total: u64| total as f64 / count.max(1) as f64;
        let mut put = |what: &str, value: Value| line.insert(format!("{what}_per_{unit}"), value);
        put("cpu_us", json!(tenths(self.micros_per(count))));
        put("wakeups", json!(hundredths(per(self.wakeups))));
        put("written_bytes", json!(per(self.written).round()));
        if let Some(syncs) = self.syncs {
            put("syncs", json!(hundredths(per(syncs))));
        }
    }
}

/// The memory of these processes, in KiB; what they share with others counts in parts (PSS).
pub fn memory(pids: &[u32]) -> Result<u64, Failure> {
    let mut total = 0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let text = text.map_err(|error| format!("the memory of process {pid}: {error}"))?;
        total += field(&text, "Pss:");
    }
    Ok(total)
}

/// The number behind a name, at the start of a line.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}

/// Rounded to one digit behind the point.
pub fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Rounded to two digits behind the point.
pub fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Adds the median and the 99th percentile of some times in microseconds to a line, in milliseconds.
pub fn percentiles(line: &mut Map<String, Value>, what: &str, times: &mut [u32]) {
    times.sort_unstable();
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let place = (times.len() as f64 * part) as usize;
        let time = times.get(place.min(times.len().saturating_sub(1)));
        let millis = time.map(|micros| hundredths(f64::from(*micros) / 1e3));
        line.insert(format!("{what}_{name}_ms"), json!(millis));
    }
}
