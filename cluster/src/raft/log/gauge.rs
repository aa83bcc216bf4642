//! What the log takes up and may take up, shared by its writer and those that append entries.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Usage;
use crate::room::Budget;

/// How the log stands to its [`Budget`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pressure {
    /// The log may grow.
    #[default]
    Low,
    /// The log may grow, but its older parts have to go.
    High,
    /// The log takes no entries. Small records, such as purges, are still written if the disk takes them.
    Full,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gauge {
    known: Mutex<(Usage, Budget)>,
    pressure: watch::Sender<Pressure>,
}

impl Gauge {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            known: Mutex::new((Usage::default(), budget)),
            pressure: watch::Sender::default(),
        }
    }

    /// A poisoned lock is usable: both values were right at some time.
    fn lock(&self) -> MutexGuard<'_, (Usage, Budget)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn usage(&self) -> Usage {
        self.lock().0.clone()
    }

    pub(super) fn budget(&self) -> Budget {
        self.lock().1
    }

    pub(super) fn tell(&self, usage: Usage) {
        let mut known = self.lock();
        known.0 = usage;
        self.judge(&known);
    }

    pub(super) fn set_budget(&self, budget: Budget) {
        let mut known = self.lock();
        known.1 = budget;
        self.judge(&known);
    }

    fn judge(&self, (usage, budget): &(Usage, Budget)) {
        let now = match usage.bytes {
            _ if usage.lacks.is_some() => Pressure::Full,
            bytes if bytes > budget.hard => Pressure::Full,
            bytes if bytes > budget.soft => Pressure::High,
            _ => Pressure::Low,
        };
        self.pressure.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    pub(super) fn pressure(&self) -> watch::Receiver<Pressure> {
        self.pressure.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::Shortage;

    #[test]
    fn t_75_the_log_is_full_at_its_bound_and_when_it_cannot_be_written() {
        let gauge = Gauge::new(Budget { soft: 10, hard: 20 });
        let pressure = |bytes, lacks| {
            gauge.tell(Usage {
                bytes,
                lacks,
                ..Usage::default()
            });
            *gauge.pressure().borrow()
        };
        let full = Some(Shortage::Full);
        let found = [(10, None), (11, None), (20, None), (21, None), (1, full)]
            .map(|(bytes, lacks)| pressure(bytes, lacks));
        let (low, high, full) = (Pressure::Low, Pressure::High, Pressure::Full);
        assert_eq!(found, [low, high, high, full, full]);
        gauge.tell(Usage::default());
        gauge.set_budget(Budget { soft: 0, hard: 0 });
        assert_eq!(*gauge.pressure().borrow(), low);
    }
}
