//! Bounds how many connections may be without a session yet (T-12).
//!
//! Connections that have bound or resumed a session do not count: many users may share an address, and the number of
//! sessions is limited by account. For IPv6 an address means the /64 that one customer has. When all places are taken,
//! the oldest connection without a session is closed.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many connections from all addresses may be without a session.
const TOTAL: usize = 10_000;

/// Counts the connections without a session.
#[derive(Debug)]
pub struct Gate {
    per_address: u32,
    total: usize,
    // A lock, since the acceptor adds connections and every arbiter removes them.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    addresses: HashMap<IpAddr, u32>,
    inside: BTreeMap<u64, Inside>,
}

#[derive(Debug)]
struct Inside {
    address: IpAddr,
    shed: Arc<Notify>,
}

/// A connection's place, which is given back when this is dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    number: u64,
    shed: Arc<Notify>,
}

/// Maps all addresses that one customer can choose from to one.
fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

impl Gate {
    /// `per_address` places for each address; 0 = any number.
    pub fn new(per_address: u32) -> Arc<Self> {
        Self::with_total(per_address, TOTAL)
    }

    /// The same with so many places in all.
    pub fn with_total(per_address: u32, total: usize) -> Arc<Self> {
        Arc::new(Self {
            per_address,
            total,
            state: Mutex::default(),
        })
    }

    /// Takes a place; `None` if this address has its share already.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let address = customer(address);
        let mut state = self.state();
        if self.is_full(&state, address) {
            return None;
        }
        Some(self.admit(&mut state, address))
    }

    /// Takes a place. If this address has its share already, its oldest connection is closed.
    pub fn replace(self: &Arc<Self>, address: IpAddr) -> Permit {
        let address = customer(address);
        let mut state = self.state();
        if self.is_full(&state, address) {
            let mut inside = state.inside.iter();
            let oldest = inside.find(|(_, inside)| inside.address == address);
            if let Some(number) = oldest.map(|(number, _)| *number) {
                state.shed(number);
            }
        }
        self.admit(&mut state, address)
    }

    /// Closes the oldest connection, to make room for another one.
    pub fn shed_oldest(&self) {
        self.state().shed_oldest();
    }

    fn is_full(&self, state: &State, address: IpAddr) -> bool {
        let count = state.addresses.get(&address).copied().unwrap_or_default();
        self.per_address != 0 && count >= self.per_address
    }

    fn admit(self: &Arc<Self>, state: &mut State, address: IpAddr) -> Permit {
        if state.inside.len() >= self.total {
            state.shed_oldest();
        }
        *state.addresses.entry(address).or_default() += 1;
        state.last += 1;
        let (number, shed) = (state.last, Arc::new(Notify::new()));
        let inside = Inside {
            address,
            shed: shed.clone(),
        };
        state.inside.insert(number, inside);
        Permit {
            gate: self.clone(),
            number,
            shed,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn shed_oldest(&mut self) {
        let oldest = self.inside.first_key_value().map(|(number, _)| *number);
        if let Some(number) = oldest {
            self.shed(number);
        }
    }

    fn shed(&mut self, number: u64) {
        if let Some(inside) = self.leave(number) {
            inside.shed.notify_one();
        }
    }

    /// Gives a place back. A second call changes nothing.
    fn leave(&mut self, number: u64) -> Option<Inside> {
        let inside = self.inside.remove(&number)?;
        if let Some(count) = self.addresses.get_mut(&inside.address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&inside.address);
            }
        }
        Some(inside)
    }
}

impl Permit {
    /// Returns when this connection has to close for another one.
    pub async fn shed(&self) {
        self.shed.notified().await;
    }

    /// What [`Permit::shed`] waits for, to be awaited apart from the permit.
    pub fn signal(&self) -> Arc<Notify> {
        self.shed.clone()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.state().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn t_12_an_address_has_its_share_and_gets_places_back() {
        let gate = Gate::new(2);
        let (one, two) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let first = gate.enter(one).unwrap();
        let _second = gate.enter(one).unwrap();
        assert!(gate.enter(one).is_none());
        assert!(gate.enter(two).is_some());
        drop(first);
        assert!(gate.enter(one).is_some());
    }

    #[test]
    fn t_12_an_address_of_ipv6_is_a_64_and_one_of_ipv4_is_itself_however_written() {
        let gate = Gate::new(1);
        let _first = gate.enter(ip("2001:db8::1")).unwrap();
        assert!(gate.enter(ip("2001:db8::ffff:1:2:3")).is_none());
        assert!(gate.enter(ip("2001:db8:0:1::1")).is_some());
        let _four = gate.enter(ip("192.0.2.1")).unwrap();
        assert!(gate.enter(ip("::ffff:192.0.2.1")).is_none());
        assert!(gate.enter(ip("::ffff:192.0.2.2")).is_some());
    }

    #[test]
    fn t_12_the_oldest_newcomer_is_shed_first() {
        let gate = Gate::with_total(0, 2);
        let address = ip("::1");
        let oldest = gate.enter(address).unwrap();
        let other = gate.enter(address).unwrap();
        let _newest = gate.enter(address).unwrap();
        assert_eq!(oldest.shed().now_or_never(), Some(()));
        assert_eq!(other.shed().now_or_never(), None);
        drop(oldest);
        gate.shed_oldest();
        assert_eq!(other.shed().now_or_never(), Some(()));
    }

    #[test]
    fn who_replaces_takes_the_place_of_the_same_address() {
        let gate = Gate::with_total(2, 8);
        let (one, two) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let stranger = gate.replace(two);
        let (oldest, other) = (gate.replace(one), gate.replace(one));
        let newest = gate.replace(one);
        assert_eq!(oldest.shed().now_or_never(), Some(()));
        for permit in [&stranger, &other, &newest] {
            assert_eq!(permit.shed().now_or_never(), None);
        }
        // The one that was shed does not give its place back twice.
        drop(oldest);
        let _next = gate.replace(one);
        assert_eq!(other.shed().now_or_never(), Some(()));
    }
}
