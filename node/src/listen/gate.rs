//! How many connections may be on their way to a session (T-12).
//!
//! Only those that have not bound or resumed one count: many users may share an address, and a bound
//! session is limited by its account. An address is what one customer has: of IPv6 that is a /64. When all
//! places are taken, the oldest newcomer is shed.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Connections on their way, from all addresses.
const TOTAL: usize = 10_000;

/// The places.
#[derive(Debug)]
pub struct Gate {
    per_address: u32,
    total: usize,
    // A lock: the acceptor enters, every arbiter leaves.
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

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    gate: Arc<Gate>,
    number: u64,
    shed: Arc<Notify>,
}

/// What stands for all addresses that one customer may choose from.
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

    /// Takes a place, unless this address has its share already.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Ticket> {
        let address = customer(address);
        let mut state = self.state();
        if self.is_full(&state, address) {
            return None;
        }
        Some(self.admit(&mut state, address))
    }

    /// Takes a place; if this address has its share already, that of its oldest connection.
    pub fn replace(self: &Arc<Self>, address: IpAddr) -> Ticket {
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

    /// Sheds the oldest, so that there is room for somebody else.
    pub fn shed_oldest(&self) {
        self.state().shed_oldest();
    }

    fn is_full(&self, state: &State, address: IpAddr) -> bool {
        let count = state.addresses.get(&address).copied().unwrap_or_default();
        self.per_address != 0 && count >= self.per_address
    }

    fn admit(self: &Arc<Self>, state: &mut State, address: IpAddr) -> Ticket {
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
        Ticket {
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

    /// Gives a place back; a second time that changes nothing.
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

impl Ticket {
    /// Returns when the place is needed for somebody else.
    pub async fn shed(&self) {
        self.shed.notified().await;
    }

    /// What [`Ticket::shed`] waits for, to be awaited apart from the ticket.
    pub fn signal(&self) -> Arc<Notify> {
        self.shed.clone()
    }
}

impl Drop for Ticket {
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
        for ticket in [&stranger, &other, &newest] {
            assert_eq!(ticket.shed().now_or_never(), None);
        }
        // The one that was shed does not give its place back twice.
        drop(oldest);
        let _next = gate.replace(one);
        assert_eq!(other.shed().now_or_never(), Some(()));
    }
}
