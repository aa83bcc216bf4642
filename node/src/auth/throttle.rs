//! Failures counted per account and per address block (T-26, T-40).
//!
//! Only failures cost anything, so a user who knows the password is never slowed by their own logins.
//! Memory is bounded: when the table is full, those whose failures are oldest are forgotten.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::BareJid;

/// How many accounts, and how many blocks, are remembered.
const REMEMBERED: usize = 50_000;

/// An address with the part that one customer can change freely cut off: /24 or /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block(u64);

impl From<IpAddr> for Block {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits() >> 8)),
            // The first 64 bits; none of the global unicast ones collide with a shifted IPv4 address.
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }
}

/// A bucket that failures fill and time empties.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
    at: Instant,
}

/// The buckets of one kind of name.
#[derive(Debug)]
struct Buckets<K> {
    of: HashMap<K, Bucket>,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    fn level(&self, key: &K, per_second: f64, now: Instant) -> f64 {
        self.of
            .get(key)
            .map_or(0.0, |b| leaked(*b, per_second, now))
    }

    fn add(&mut self, key: K, per_second: f64, now: Instant) {
        if self.of.len() >= REMEMBERED && !self.of.contains_key(&key) {
            self.of.retain(|_, b| leaked(*b, per_second, now) >= 1.0);
            if self.of.len() >= REMEMBERED {
                self.of.clear();
            }
        }
        let level = self.level(&key, per_second, now) + 1.0;
        self.of.insert(key, Bucket { level, at: now });
    }
}

fn leaked(bucket: Bucket, per_second: f64, now: Instant) -> f64 {
    let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
    (bucket.level - passed * per_second).max(0.0)
}

/// Counts failures and says who has to wait.
#[derive(Debug)]
pub struct Throttle {
    per_minute: u32,
    // A lock: every arbiter asks, once per login.
    state: Mutex<(Buckets<BareJid>, Buckets<Block>)>,
}

impl Throttle {
    /// Allows `per_minute` failures; 0 = any number.
    pub fn new(per_minute: u32) -> Self {
        let state = (
            Buckets { of: HashMap::new() },
            Buckets { of: HashMap::new() },
        );
        Self {
            per_minute,
            state: Mutex::new(state),
        }
    }

    /// May this account be tried from this address now? If so, after which delay: it grows with the
    /// failures seen, and the first three cost none.
    pub fn check(&self, account: &BareJid, from: Option<IpAddr>, now: Instant) -> Option<Duration> {
        if self.per_minute == 0 {
            return Some(Duration::ZERO);
        }
        let rate = f64::from(self.per_minute) / 60.0;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let block = from.map_or(0.0, |from| state.1.level(&from.into(), rate, now));
        let level = state.0.level(account, rate, now).max(block);
        if level >= f64::from(self.per_minute) {
            return None;
        }
        Some(Duration::from_secs_f64(
            (level - 3.0).clamp(0.0, 20.0) * 0.1,
        ))
    }

    /// A failure.
    pub fn failed(&self, account: Option<&BareJid>, from: Option<IpAddr>, now: Instant) {
        let rate = f64::from(self.per_minute) / 60.0;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = account {
            state.0.add(account.clone(), rate, now);
        }
        if let Some(from) = from {
            state.1.add(from.into(), rate, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_26_failures_close_the_door_for_the_account_and_the_block_until_time_passes() {
        let throttle = Throttle::new(30);
        let (mallory, bob) = (BareJid::new("m@b").unwrap(), BareJid::new("bob@b").unwrap());
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let (near, neighbour) = (address("192.0.2.1"), address("192.0.2.99"));
        let far = address("2001:db8::1");
        let start = Instant::now();
        for _ in 0..30 {
            assert!(throttle.check(&mallory, near, start).is_some());
            throttle.failed(Some(&mallory), near, start);
        }
        assert_eq!(throttle.check(&mallory, far, start), None);
        assert_eq!(throttle.check(&bob, neighbour, start), None);
        assert_eq!(throttle.check(&bob, far, start), Some(Duration::ZERO));
        let later = start + Duration::from_secs(60);
        assert_eq!(throttle.check(&mallory, near, later), Some(Duration::ZERO));
    }

    #[test]
    fn a_limit_of_zero_is_no_limit() {
        let throttle = Throttle::new(0);
        let (bob, from) = (BareJid::new("bob@b").unwrap(), "::1".parse().ok());
        let now = Instant::now();
        (0..1000).for_each(|_| throttle.failed(Some(&bob), from, now));
        assert!(throttle.check(&bob, from, now).is_some());
    }
}
