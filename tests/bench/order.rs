//! Numbers messages, and finds out which were lost, doubled or reordered.

use std::collections::BTreeSet;

/// What one client has got from its partner, whose messages are numbered from 0.
#[derive(Debug, Default)]
pub struct Order {
    /// The number that comes next if all is well.
    next: u64,
    /// Lower numbers that have not come.
    missing: BTreeSet<u64>,
    /// How many have come, each counted once.
    pub came: u64,
    /// How many came again.
    pub doubled: u64,
    /// How many came behind a later one.
    pub reordered: u64,
}

impl Order {
    /// Takes the number of a message that has come; whether it is the first time.
    pub fn take(&mut self, number: u64) -> bool {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            self.reordered += 1;
        } else {
            self.doubled += 1;
            return false;
        }
        self.came += 1;
        true
    }
}
