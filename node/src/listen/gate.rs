//! How many connections may be on their way to a session (T-12).
//!
//! Only those that have not bound or resumed one count: many users may share an address, and a bound
//! session is limited by its account. When all places are taken, the oldest newcomer is shed.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

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
    inside: BTreeMap<u64, Arc<Notify>>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    gate: Arc<Gate>,
    number: u64,
    address: IpAddr,
    shed: Arc<Notify>,
}

impl Gate {
    /// `per_address` places for each address; 0 = any number.
    pub fn new(per_address: u32) -> Arc<Self> {
        Self::with_total(per_address, TOTAL)
    }

    fn with_total(per_address: u32, total: usize) -> Arc<Self> {
        Arc::new(Self {
            per_address,
            total,
            state: Mutex::default(),
        })
    }

    /// Takes a place, unless this address has its share already.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Ticket> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = state.addresses.entry(address).or_default();
        if self.per_address != 0 && *count >= self.per_address {
            return None;
        }
        *count += 1;
        if state.inside.len() >= self.total
            && let Some((_, oldest)) = state.inside.pop_first()
        {
            oldest.notify_one();
        }
        state.last += 1;
        let shed = Arc::new(Notify::new());
        let number = state.last;
        state.inside.insert(number, shed.clone());
        Some(Ticket {
            gate: self.clone(),
            number,
            address,
            shed,
        })
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
        let mut state = self
            .gate
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.inside.remove(&self.number);
        if let Some(count) = state.addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                state.addresses.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn t_12_an_address_has_its_share_and_gets_places_back() {
        let gate = Gate::new(2);
        let (one, two): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = gate.enter(one).unwrap();
        let _second = gate.enter(one).unwrap();
        assert!(gate.enter(one).is_none());
        assert!(gate.enter(two).is_some());
        drop(first);
        assert!(gate.enter(one).is_some());
    }

    #[test]
    fn t_12_the_oldest_newcomer_is_shed_first() {
        let gate = Gate::with_total(0, 2);
        let address = "::1".parse().unwrap();
        let oldest = gate.enter(address).unwrap();
        let other = gate.enter(address).unwrap();
        let _newest = gate.enter(address).unwrap();
        assert_eq!(oldest.shed().now_or_never(), Some(()));
        assert_eq!(other.shed().now_or_never(), None);
    }
}
