//! The numbers that a shard gives out, each once.

use serde::{Deserialize, Serialize};

use crate::id::{EffectId, Epoch, Order};

/// The next of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbers {
    effect: u64,
    order: u64,
    epoch: u64,
}

impl Numbers {
    pub(super) const fn new() -> Self {
        Self::of(1, 1, 1)
    }

    pub(super) const fn of(effect: u64, order: u64, epoch: u64) -> Self {
        Self {
            effect,
            order,
            epoch,
        }
    }

    /// Numbers of effects follow the clock as orders do: what the database remembers of an effect is not taken for
    /// another one's when a shard begins anew.
    pub(super) fn effect(&mut self, now: u64) -> EffectId {
        let id = self.effect.max(now << 16);
        self.effect = id + 1;
        EffectId(id)
    }

    /// Orders follow the clock as far as they may, so that a shard which begins anew over an old database
    /// puts its rows behind those that are there.
    pub(super) fn order(&mut self, now: u64) -> Order {
        let order = self.order.max(now << 16);
        self.order = order + 1;
        Order(order)
    }

    pub(super) fn epoch(&mut self) -> Epoch {
        let epoch = self.epoch;
        self.epoch += 1;
        Epoch(epoch)
    }

    /// All of them, for a hash.
    pub(super) const fn all(&self) -> [u64; 3] {
        [self.effect, self.order, self.epoch]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_and_orders_follow_the_clock_and_never_go_back() {
        let mut numbers = Numbers::new();
        let orders = [0, 0, 7, 7, 3].map(|now| numbers.order(now).0);
        assert_eq!(orders, [1, 2, 7 << 16, (7 << 16) + 1, (7 << 16) + 2]);
        let effects = [0, 7, 3].map(|now| numbers.effect(now).0);
        assert_eq!(effects, [1, 7 << 16, (7 << 16) + 1]);
        assert_eq!([numbers.epoch(), numbers.epoch()], [Epoch(1), Epoch(2)]);
    }
}
