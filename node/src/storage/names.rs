//! What numbers stand for names in a table, as far as this node remembers.
//!
//! A table may be shared with other nodes, which may take numbers back. So whoever uses a remembered number asks for
//! the table's version in the same transaction; each number that is taken back raises it, and then all is forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::BareJid;

/// Numbers that are remembered; when there are more, all are forgotten and asked for anew.
const REMEMBERED: usize = 50_000;

/// The numbers of names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    // Held for the rows of one transaction, and never across an await.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    version: i64,
    count: usize,
    owners: HashMap<BareJid, Numbers>,
}

/// The numbers of an owner, and of what is numbered for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    /// Its own.
    pub(crate) own: Option<i64>,
    /// Those of parties.
    pub(crate) parties: HashMap<BareJid, i64>,
}

impl Names {
    /// Looks at what is remembered of a version of the table.
    pub(crate) fn look<T>(
        &self,
        version: i64,
        look: impl FnOnce(&HashMap<BareJid, Numbers>) -> T,
    ) -> T {
        let mut known = self.known();
        if known.version != version {
            *known = Known {
                version,
                ..Known::default()
            };
        }
        look(&known.owners)
    }

    /// Remembers numbers that were committed; those without a party are owners'. What is of another version than the
    /// one that was looked at last is not.
    pub(crate) fn remember(
        &self,
        version: i64,
        numbers: impl IntoIterator<Item = (BareJid, Option<BareJid>, i64)>,
    ) {
        let mut known = self.known();
        if known.version != version {
            return;
        }
        for (owner, party, number) in numbers {
            if known.count >= REMEMBERED {
                known.owners.clear();
                known.count = 0;
            }
            known.count += 1;
            let owner = known.owners.entry(owner).or_default();
            match party {
                Some(party) => drop(owner.parties.insert(party, number)),
                None => owner.own = Some(number),
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(names: &Names, version: i64) -> Option<i64> {
        names.look(version, |owners| owners.get(&alice())?.own)
    }

    fn alice() -> BareJid {
        BareJid::new("alice@example.org").unwrap()
    }

    #[test]
    fn numbers_of_another_version_are_forgotten_and_not_remembered() {
        let names = Names::default();
        names.remember(0, [(alice(), None, 7)]);
        assert_eq!(own(&names, 0), Some(7));
        assert_eq!(own(&names, 1), None);
        names.remember(0, [(alice(), None, 7)]);
        assert_eq!(own(&names, 1), None);
        names.remember(1, [(alice(), None, 8)]);
        assert_eq!(own(&names, 1), Some(8));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let names = Names::default();
        names.remember(0, [(alice(), None, 7)]);
        let party = |number| BareJid::new(&format!("{number}@example.org")).unwrap();
        for number in 0..REMEMBERED {
            names.remember(0, [(alice(), Some(party(number)), number as i64)]);
        }
        assert_eq!(own(&names, 0), None);
        let left = names.look(0, |owners| owners[&alice()].parties.len());
        assert_eq!(left, 1);
    }
}
