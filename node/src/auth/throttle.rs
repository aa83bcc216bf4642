//! Counts failures, so that guessing is slow and nobody pays for a neighbour's failures (T-26, T-40).
//!
//! Too many failures of one block of addresses with one account block just this pair. So a guesser can lock out neither
//! the owner, who comes from elsewhere, nor neighbours that use other accounts. The failures of a block with all
//! accounts, and of all blocks with one account, only delay the next answers, by at most [`SLOWEST`]. Successes cost
//! nothing.
//!
//! # Invariants
//!
//! 1. A blocked pair is free again within [`OVERFLOW`] minutes after its last failure.
//! 2. Memory is bounded: the hashes of [`REMEMBERED`] names of each kind, about 8 MB in all, and [`UNSENT`] names
//!    that other nodes are to hear of, which fit into one frame.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::BareJid;
use serde::{Deserialize, Serialize};

/// How many names of each kind are remembered. Those that failed longest ago are forgotten first.
const REMEMBERED: usize = 50_000;
/// How many names may wait to be told to other nodes. They never learn of more.
const UNSENT: usize = 200;
/// How many failures cause no delay, as people mistype.
const FREE: f64 = 3.0;
/// The delay in seconds that each further failure adds.
const STEP: f64 = 0.1;
/// The longest delay.
const SLOWEST: Duration = Duration::from_secs(2);
/// A bucket holds at most so many times what is allowed per minute.
const OVERFLOW: f64 = 2.0;

/// An address with the part that one customer can change freely cut off: /24 or /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// Whom a failure is counted against.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Culprit {
    account: Option<BareJid>,
    block: Option<Block>,
}

impl Culprit {
    fn new(account: Option<&BareJid>, from: Option<IpAddr>) -> Self {
        Self {
            account: account.cloned(),
            block: from.map(Block::from),
        }
    }
}

/// A bucket that failures fill and time empties.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
    at: Instant,
}

/// How much a bucket holds, and how fast it leaks.
#[derive(Clone, Copy, Debug)]
struct Rate {
    allowed: f64,
    seconds: f64,
}

impl Rate {
    fn level(self, bucket: Option<&Bucket>, now: Instant) -> f64 {
        bucket.map_or(0.0, |bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.level - passed * self.allowed / self.seconds).max(0.0)
        })
    }

    fn most(self) -> f64 {
        self.allowed * OVERFLOW
    }
}

/// The buckets of one kind of name, by the name's hash: strangers choose names, and long ones too.
#[derive(Debug, Default)]
struct Buckets {
    hasher: RandomState,
    of: HashMap<u64, Bucket>,
}

impl Buckets {
    fn level(&self, name: &impl Hash, rate: Rate, now: Instant) -> f64 {
        rate.level(self.of.get(&self.hasher.hash_one(name)), now)
    }

    fn add(&mut self, name: &impl Hash, failures: f64, rate: Rate, now: Instant) {
        let name = self.hasher.hash_one(name);
        if self.of.len() >= REMEMBERED && !self.of.contains_key(&name) {
            self.make_room(rate, now);
        }
        let level = rate.level(self.of.get(&name), now) + failures;
        let level = level.min(rate.most());
        self.of.insert(name, Bucket { level, at: now });
    }

    /// Forgets empty buckets and, if that is too little, the half that failed longest ago, so that this is rarely
    /// necessary.
    fn make_room(&mut self, rate: Rate, now: Instant) {
        self.of.retain(|_, b| rate.level(Some(b), now) >= 1.0);
        if self.of.len() >= REMEMBERED {
            let mut times: Vec<Instant> = self.of.values().map(|b| b.at).collect();
            let middle = *times.select_nth_unstable(REMEMBERED / 2).1;
            self.of.retain(|_, b| b.at > middle);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    pairs: Buckets,
    accounts: Buckets,
    blocks: Buckets,
    unsent: HashMap<Culprit, u32>,
}

/// Counts failures and decides who has to wait.
#[derive(Debug)]
pub struct Throttle {
    /// `None` allows any number.
    rate: Option<Rate>,
    // A lock, as every thread asks, once per login.
    state: Mutex<State>,
}

impl Throttle {
    /// Allows `per_minute` failures; 0 = any number.
    pub fn new(per_minute: u32) -> Self {
        Self::within(per_minute, 60.0)
    }

    /// Allows `per_hour` tries; 0 = any number.
    pub fn hourly(per_hour: u32) -> Self {
        Self::within(per_hour, 3600.0)
    }

    fn within(allowed: u32, seconds: f64) -> Self {
        let allowed = f64::from(allowed);
        Self {
            rate: (allowed > 0.0).then_some(Rate { allowed, seconds }),
            state: Mutex::default(),
        }
    }

    /// Counts a try of whoever is there, if there may be one more. Whether it succeeds makes no difference.
    pub fn take(&self, from: IpAddr, now: Instant) -> bool {
        let Some(rate) = self.rate else { return true };
        let culprit = Culprit::new(None, Some(from));
        let mut state = self.state();
        // What is there counts until a whole one has leaked away.
        if state.pairs.level(&culprit, rate, now) > rate.allowed - 1.0 {
            return false;
        }
        state.note(culprit, rate, now);
        true
    }

    /// Whether this account may be tried from this address now, and after which delay (`None`: not now). The delay
    /// grows with the failures; the first three cost none.
    pub fn check(&self, account: &BareJid, from: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let Some(rate) = self.rate else {
            return Some(Duration::ZERO);
        };
        let culprit = Culprit::new(Some(account), from);
        let state = self.state();
        let pair = state.pairs.level(&culprit, rate, now);
        if pair >= rate.allowed {
            return None;
        }
        let block = culprit.block.as_ref();
        let block = block.map_or(0.0, |block| state.blocks.level(block, rate, now));
        let account = state.accounts.level(account, rate, now);
        let delay = (pair.max(block).max(account) - FREE).max(0.0) * STEP;
        Some(Duration::from_secs_f64(delay).min(SLOWEST))
    }

    /// Counts a failure.
    pub fn failed(&self, account: Option<&BareJid>, from: Option<IpAddr>, now: Instant) {
        let Some(rate) = self.rate else { return };
        self.state().note(Culprit::new(account, from), rate, now);
    }

    /// Takes what has failed here since the last call.
    pub fn take_unsent(&self) -> Vec<(Culprit, u32)> {
        self.state().unsent.drain().collect()
    }

    /// Counts what has failed at another node. It is not passed on.
    pub fn hear(&self, told: &[(Culprit, u32)], now: Instant) {
        let Some(rate) = self.rate else { return };
        let mut state = self.state();
        for (culprit, failures) in told.iter().take(UNSENT) {
            state.count(culprit, f64::from(*failures), rate, now);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts what has happened here.
    fn note(&mut self, culprit: Culprit, rate: Rate, now: Instant) {
        self.count(&culprit, 1.0, rate, now);
        if self.unsent.len() < UNSENT || self.unsent.contains_key(&culprit) {
            *self.unsent.entry(culprit).or_default() += 1;
        }
    }

    fn count(&mut self, culprit: &Culprit, failures: f64, rate: Rate, now: Instant) {
        self.pairs.add(culprit, failures, rate, now);
        if let Some(account) = &culprit.account {
            self.accounts.add(account, failures, rate, now);
        }
        if let Some(block) = &culprit.block {
            self.blocks.add(block, failures, rate, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(text: &str) -> BareJid {
        BareJid::new(text).unwrap()
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn t_26_failures_close_the_door_for_one_account_and_one_block_until_time_passes() {
        let throttle = Throttle::new(30);
        let (alice, bob) = (jid("alice@b"), jid("bob@b"));
        let (near, neighbour) = (address("192.0.2.1"), address("192.0.2.99"));
        let far = address("2001:db8::1");
        let start = Instant::now();
        for _ in 0..36 {
            throttle.failed(Some(&alice), near, start);
        }
        assert_eq!(throttle.check(&alice, neighbour, start), None);
        // The owner elsewhere and the neighbour only wait, and a stranger does not.
        assert_eq!(throttle.check(&alice, far, start), Some(SLOWEST));
        assert_eq!(throttle.check(&bob, neighbour, start), Some(SLOWEST));
        assert_eq!(throttle.check(&bob, far, start), Some(Duration::ZERO));
        let later = start + Duration::from_secs(72);
        assert_eq!(throttle.check(&alice, near, later), Some(Duration::ZERO));
    }

    #[test]
    fn t_26_the_door_is_closed_after_as_many_failures_as_are_allowed_and_not_before() {
        let throttle = Throttle::new(30);
        let (alice, from) = (jid("alice@b"), address("192.0.2.1"));
        let now = Instant::now();
        let mut before = Duration::ZERO;
        for count in 0..30 {
            let delay = throttle.check(&alice, from, now);
            let delay = delay.unwrap_or_else(|| panic!("refused after {count}"));
            assert!(delay >= before && (count > 3 || delay == Duration::ZERO));
            before = delay;
            throttle.failed(Some(&alice), from, now);
        }
        assert!(before > Duration::ZERO);
        assert_eq!(throttle.check(&alice, from, now), None);
    }

    #[test]
    fn t_26_no_number_of_failures_closes_a_door_for_longer_than_two_minutes() {
        let throttle = Throttle::new(30);
        let (alice, from) = (jid("alice@b"), address("192.0.2.1"));
        let start = Instant::now();
        (0..10_000).for_each(|_| throttle.failed(Some(&alice), from, start));
        let later = start + Duration::from_secs(120);
        assert_eq!(throttle.check(&alice, from, later), Some(Duration::ZERO));
    }

    #[test]
    fn t_26_what_other_nodes_tell_counts_and_is_not_passed_on() {
        let (here, there) = (Throttle::new(30), Throttle::new(30));
        let (alice, from) = (jid("alice@b"), address("2001:db8::1"));
        let now = Instant::now();
        (0..30).for_each(|_| here.failed(Some(&alice), from, now));
        let told = here.take_unsent();
        assert_eq!(told.len(), 1);
        assert!(here.take_unsent().is_empty());
        there.hear(&told, now);
        // Another address of the same customer.
        assert_eq!(there.check(&alice, address("2001:db8::2"), now), None);
        assert!(there.take_unsent().is_empty());
    }

    #[test]
    fn a_flood_of_names_takes_bounded_memory_and_forgets_the_oldest_first() {
        let throttle = Throttle::new(30);
        let (alice, from) = (jid("alice@b"), address("192.0.2.1"));
        let start = Instant::now();
        for n in 0..REMEMBERED {
            throttle.failed(Some(&jid(&format!("{n}@b"))), None, start);
        }
        let next = start + Duration::from_millis(1);
        (0..30).for_each(|_| throttle.failed(Some(&alice), from, next));
        assert_eq!(throttle.check(&alice, from, next), None);
        let state = throttle.state();
        assert!(state.pairs.of.len() <= REMEMBERED && state.accounts.of.len() <= REMEMBERED);
        assert!(state.unsent.len() <= UNSENT);
    }

    #[test]
    fn t_31_a_block_has_so_many_tries_an_hour_on_all_nodes_together() {
        let (here, there) = (Throttle::hourly(10), Throttle::hourly(10));
        let [near, neighbour, far] = ["192.0.2.1", "192.0.2.9", "198.51.100.1"];
        let [near, neighbour, far] = [near, neighbour, far].map(|text| text.parse().unwrap());
        let start = Instant::now();
        for count in 0..10 {
            assert!(here.take(near, start), "{count}");
        }
        assert!(!here.take(neighbour, start) && here.take(far, start));
        there.hear(&here.take_unsent(), start);
        assert!(!there.take(near, start) && there.take(far, start));
        let soon = start + Duration::from_secs(350);
        assert!(!here.take(near, soon));
        let later = start + Duration::from_secs(361);
        assert!(here.take(near, later) && !here.take(near, later));
        assert!((0..1000).all(|_| Throttle::hourly(0).take(near, start)));
    }

    #[test]
    fn a_limit_of_zero_is_no_limit() {
        let throttle = Throttle::new(0);
        let (bob, from) = (jid("bob@b"), address("::1"));
        let now = Instant::now();
        (0..1000).for_each(|_| throttle.failed(Some(&bob), from, now));
        assert_eq!(throttle.check(&bob, from, now), Some(Duration::ZERO));
    }
}
