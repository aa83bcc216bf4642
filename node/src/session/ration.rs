//! How many lines strangers may cause in the log: a few per address and minute, and some more in all (T-74).
//!
//! Time is not known here: whoever owns a ration calls [`Ration::turn`] once a minute, and writes how many lines
//! there would have been. So a flood costs a bounded number of lines, and is told all the same.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Lines about one address in a minute. What bans addresses acts on fewer.
const PER_ADDRESS: u32 = 20;
/// Lines in a minute. It is also the number of addresses that are remembered.
const IN_ALL: u32 = 600;

/// Lines of one kind. One is used up by strangers without harm to the others.
#[derive(Debug, Default)]
pub struct Ration {
    // A lock: every arbiter has strangers. Held for one look-up.
    minute: Mutex<Minute>,
}

#[derive(Debug, Default)]
struct Minute {
    addresses: HashMap<IpAddr, u32>,
    written: u32,
    left_out: u64,
}

impl Ration {
    /// Whether a line about this address may be written; if not, it is counted.
    pub fn admits(&self, address: IpAddr) -> bool {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let address = block(address);
        let before = minute.addresses.get(&address).copied().unwrap_or_default();
        let admitted = before < PER_ADDRESS && minute.written < IN_ALL;
        match admitted {
            true => {
                minute.addresses.insert(address, before + 1);
                minute.written += 1;
            }
            false => minute.left_out += 1,
        }
        admitted
    }

    /// A minute is over. How many lines were left out in it.
    pub fn turn(&self) -> u64 {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *minute).left_out
    }
}

/// Whoever has one address of IPv6 has the /64 that it is in.
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many lines are admitted, each address in its turn.
    fn admitted(ration: &Ration, lines: u32, address: impl Fn(u32) -> IpAddr) -> u32 {
        let admitted = (0..lines).filter(|n| ration.admits(address(*n)));
        u32::try_from(admitted.count()).unwrap()
    }

    #[test]
    fn t_74_a_flood_costs_few_lines_and_its_number_is_known() {
        let ration = Ration::default();
        let one = |_| IpAddr::from([203, 0, 113, 7]);
        assert_eq!(admitted(&ration, 1000, one), PER_ADDRESS);
        assert!(ration.admits(IpAddr::from([203, 0, 113, 8])), "a neighbour");
        let host = |n| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n)));
        assert_eq!(admitted(&ration, 1000, host), PER_ADDRESS);
        let many = |n: u32| IpAddr::from(n.to_be_bytes());
        let rest = IN_ALL - 2 * PER_ADDRESS - 1;
        assert_eq!(admitted(&ration, 10_000, many), rest);
        let left_out = 2 * (1000 - PER_ADDRESS) + 10_000 - rest;
        assert_eq!(ration.turn(), u64::from(left_out));
        assert!(ration.admits(one(0)), "a new minute");
        assert_eq!(ration.turn(), 0);
    }
}
