//! The accounts of a shard by their names, found without a search where they were found before.
//!
//! Each command looks up the same few accounts many times, and a search among ten thousand names compares fourteen of
//! them, each somewhere else in memory. So it is noted where a name was found. A note is a guess that is compared with
//! what lies there: it decides how long a look-up takes, and nothing else.

use std::borrow::Borrow;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use proto::BareJid;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::account::Account;
use super::cow::{CopyOnWrite, Map, Place};

/// Notes for each account at least: a note is shared by all names of one hash. There are at most four times as many, of
/// four bytes each, for the most accounts that there have been since the state was read.
const NOTES: usize = 2;

type Accounts = Map<BareJid, CopyOnWrite<Account>>;

/// See the module.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Users {
    accounts: Accounts,
    /// Where names were found last, by their hash: none, or a power of two.
    #[serde(skip)]
    notes: Box<[AtomicU32]>,
}

impl Users {
    /// What notes where this name was found.
    fn note(&self, name: &str) -> Option<&AtomicU32> {
        let last = self.notes.len().checked_sub(1)?;
        // The number of notes is a power of two, so its lowest bits are a place among them.
        self.notes.get(xxh3_64(name.as_bytes()) as usize & last)
    }

    fn find(&self, name: &str) -> Option<Place> {
        let note = self.note(name);
        let guess = note.map(|note| Place::of_number(note.load(Ordering::Relaxed)));
        let is_there = |place: &Place| {
            self.accounts
                .at(*place)
                .is_some_and(|(known, _)| known.as_str() == name)
        };
        if let Some(place) = guess.filter(is_there) {
            return Some(place);
        }
        let place = self.accounts.find(name)?;
        if let (Some(note), Some(number)) = (note, place.number()) {
            note.store(number, Ordering::Relaxed);
        }
        Some(place)
    }

    pub(super) fn get<N: Borrow<str> + ?Sized>(&self, name: &N) -> Option<&CopyOnWrite<Account>> {
        let place = self.find(name.borrow())?;
        self.accounts.at(place).map(|(_, account)| account)
    }

    pub(super) fn get_mut<N: Borrow<str> + ?Sized>(
        &mut self,
        name: &N,
    ) -> Option<&mut CopyOnWrite<Account>> {
        let place = self.find(name.borrow())?;
        self.accounts.at_mut(place)
    }

    /// The account of this name, a new one if there is none.
    pub(super) fn or_default(&mut self, name: BareJid) -> &mut CopyOnWrite<Account> {
        if self.find(name.as_str()).is_none() {
            self.insert(name.clone(), CopyOnWrite::default());
        }
        // The lines above have found it or put it there.
        self.get_mut(&name).expect("is there")
    }

    pub(super) fn insert(&mut self, name: BareJid, account: CopyOnWrite<Account>) {
        self.accounts.insert(name, account);
        let enough = NOTES * self.accounts.len();
        if self.notes.len() < enough {
            self.notes = (0..2 * enough.next_power_of_two())
                .map(|_| AtomicU32::default())
                .collect();
        }
    }

    pub(super) fn remove(&mut self, name: &BareJid) {
        self.accounts.remove(name);
    }
}

/// What only reads finds the accounts in order.
impl Deref for Users {
    type Target = Accounts;

    fn deref(&self) -> &Accounts {
        &self.accounts
    }
}

/// A copy has no notes: it is made for somebody who goes through all accounts.
impl Clone for Users {
    fn clone(&self) -> Self {
        Self {
            accounts: self.accounts.clone(),
            notes: Box::default(),
        }
    }
}

/// Notes are none of what is known.
impl PartialEq for Users {
    fn eq(&self, other: &Self) -> bool {
        self.accounts == other.accounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> BareJid {
        BareJid::new(&format!("user{n}@example.org")).expect("an address")
    }

    #[test]
    fn accounts_are_found_wherever_others_that_come_and_go_move_them() {
        let mut users = Users::default();
        // Every third goes again, so that what was noted of most others is wrong.
        for n in (0..1000).rev() {
            users.or_default(name(n)).archive_stated = n % 2 == 0;
            if n % 3 == 0 {
                users.remove(&name(n + 3));
            }
        }
        for _ in 0..2 {
            for n in 0..1000 {
                let known = users.get(name(n).as_str()).map(|user| user.archive_stated);
                let expected = (n == 0 || n % 3 != 0).then_some(n % 2 == 0);
                assert_eq!(known, expected, "{n}");
                let changed = users.get_mut(&name(n)).is_some();
                assert_eq!(changed, known.is_some(), "{n}");
            }
        }
        assert_eq!(users.clone(), users);
        assert!(users.clone().get(&name(1)).is_some(), "a copy has no notes");
    }

    #[test]
    fn what_was_found_once_is_found_without_a_search() {
        let mut users = Users::default();
        for n in 0..1000 {
            users.insert(name(n), CopyOnWrite::default());
        }
        let found = users.accounts.find(name(7).as_str());
        assert_eq!(users.find(name(7).as_str()), found);
        let note = users.note(name(7).as_str()).expect("there are notes");
        assert_eq!(Some(Place::of_number(note.load(Ordering::Relaxed))), found);
        // Where the note says otherwise, the name decides.
        note.store(0, Ordering::Relaxed);
        assert_eq!(users.find(name(7).as_str()), found);
    }
}
