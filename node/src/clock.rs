//! The one place that reads the clock and draws random numbers; everything that decides gets them as
//! arguments. The linter sees to it.

#![allow(
    clippy::disallowed_methods,
    reason = "the one place that may look at the world"
)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock, in milliseconds since 1970. Never used for order or deadlines (T-76).
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as u64)
}

/// Milliseconds since 1970 as RFC 3339 writes them; none for times that no calendar has.
pub fn text(millis: u64) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(millis).ok()?).ok()?;
    Some(format!("{at:.0}"))
}

/// A point on a scale that only rises, for deadlines within this process.
pub fn instant() -> Instant {
    Instant::now()
}

/// The same for tasks: the runtime's timers go by it.
pub fn timer() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Random bytes from a generator that the operating system seeds.
pub fn bytes<const N: usize>() -> [u8; N] {
    rand::random()
}

/// Random bytes in hexadecimal digits, for secrets that people may have to copy.
pub fn hex<const N: usize>() -> String {
    let digits = bytes::<N>();
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A random number below `end`, which must not be 0.
pub fn below(end: usize) -> usize {
    rand::random_range(0..end)
}

/// 128 bits from a generator that the operating system seeds.
pub fn random() -> u128 {
    rand::random()
}

/// Sixteen random bytes.
pub fn entropy() -> [u8; 16] {
    random().to_be_bytes()
}

/// A random name of 16 or 32 lower-case letters and digits, for stream ids, resources and SM-IDs.
pub fn name(bits: u32) -> String {
    match bits {
        ..=64 => format!("{:016x}", random() as u64),
        _ => format!("{:032x}", random()),
    }
}
