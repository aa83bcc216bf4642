//! From the types of an older version to those of today.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use proto::{BareJid, Jid};

use crate::id::{ArchiveId, BootId, EffectId, Epoch, NodeId, Order, Owner, ShardId, SmId};
use crate::session::Effect;
use crate::session::clock::ShardTime;
use crate::session::cow::{CopyOnWrite, Map, Queue};
use crate::session::pending::PendingEffects;

/// Becomes what it is called today.
pub(super) trait Upgrade<T> {
    fn upgrade(self) -> T;
}

/// Names and numbers, which stay what they are.
macro_rules! unchanged {
    ($($type:ty),* $(,)?) => {
        $(impl Upgrade<$type> for $type {
            fn upgrade(self) -> $type {
                self
            }
        })*
    };
}

unchanged!(
    bool,
    i8,
    u16,
    u32,
    u64,
    usize,
    Box<str>,
    NonZeroU64,
    Bytes,
    BareJid,
    Jid,
    BootId,
    EffectId,
    ArchiveId,
    NodeId,
    Owner,
    ShardId,
    SmId,
);

impl<A: Upgrade<B>, B> Upgrade<Option<B>> for Option<A> {
    fn upgrade(self) -> Option<B> {
        self.map(A::upgrade)
    }
}

impl<A: Upgrade<B>, B> Upgrade<Vec<B>> for Vec<A> {
    fn upgrade(self) -> Vec<B> {
        self.into_iter().map(A::upgrade).collect()
    }
}

impl<A: Upgrade<B>, B> Upgrade<VecDeque<B>> for VecDeque<A> {
    fn upgrade(self) -> VecDeque<B> {
        self.into_iter().map(A::upgrade).collect()
    }
}

impl<A: Upgrade<B>, B: Ord> Upgrade<BTreeSet<B>> for BTreeSet<A> {
    fn upgrade(self) -> BTreeSet<B> {
        self.into_iter().map(A::upgrade).collect()
    }
}

impl<J: Upgrade<K>, K: Ord, A: Upgrade<B>, B> Upgrade<BTreeMap<K, B>> for BTreeMap<J, A> {
    fn upgrade(self) -> BTreeMap<K, B> {
        let upgraded = |(key, value): (J, A)| (key.upgrade(), value.upgrade());
        self.into_iter().map(upgraded).collect()
    }
}

impl<A: Upgrade<B>, B> Upgrade<CopyOnWrite<B>> for Box<A> {
    fn upgrade(self) -> CopyOnWrite<B> {
        CopyOnWrite::new((*self).upgrade())
    }
}

impl<J: Upgrade<K>, K: Ord + Clone, A: Upgrade<B>, B: Clone> Upgrade<Map<K, B>> for BTreeMap<J, A> {
    fn upgrade(self) -> Map<K, B> {
        let mut map = Map::default();
        for (key, value) in self {
            map.insert(key.upgrade(), value.upgrade());
        }
        map
    }
}

impl<A: Upgrade<Effect> + Clone> Upgrade<PendingEffects> for BTreeMap<EffectId, Arc<A>> {
    fn upgrade(self) -> PendingEffects {
        let effects: Map<EffectId, Arc<Effect>> = self.upgrade();
        effects.into()
    }
}

impl Upgrade<Epoch> for u64 {
    fn upgrade(self) -> Epoch {
        Epoch(self)
    }
}

impl Upgrade<Order> for u64 {
    fn upgrade(self) -> Order {
        Order(self)
    }
}

impl Upgrade<ShardTime> for u64 {
    fn upgrade(self) -> ShardTime {
        ShardTime::at(self)
    }
}

impl<A: Upgrade<B>, B: Clone> Upgrade<Queue<CopyOnWrite<B>>> for VecDeque<A> {
    fn upgrade(self) -> Queue<CopyOnWrite<B>> {
        let mut queue = Queue::default();
        for value in self {
            queue.push_back(CopyOnWrite::new(value.upgrade()));
        }
        queue
    }
}

impl<A: Upgrade<B>, B, C: Upgrade<D>, D> Upgrade<(B, D)> for (A, C) {
    fn upgrade(self) -> (B, D) {
        (self.0.upgrade(), self.1.upgrade())
    }
}

impl<A: Upgrade<B>, B> Upgrade<Box<B>> for Box<A> {
    fn upgrade(self) -> Box<B> {
        Box::new((*self).upgrade())
    }
}

impl<A: Upgrade<B> + Clone, B> Upgrade<Arc<B>> for Arc<A> {
    fn upgrade(self) -> Arc<B> {
        Arc::new(Arc::unwrap_or_clone(self).upgrade())
    }
}

/// A struct as it once was, and its conversion; `with` gives values to fields that it did not have.
macro_rules! mirror_struct {
    ($name:ident => $now:ty { $($field:ident: $type:ty),* $(,)? } $(with { $($new:ident: $value:expr),* $(,)? })?) => {
        #[derive(Clone, Debug, serde::Deserialize)]
        pub(in crate::session) struct $name {
            $($field: $type,)*
        }

        impl $crate::session::format::upgrade::Upgrade<$now> for $name {
            fn upgrade(self) -> $now {
                #[allow(unused_imports)]
                use $crate::session::format::upgrade::Upgrade as _;
                type Now = $now;
                Now {
                    $($field: self.$field.upgrade(),)*
                    $($($new: $value,)*)?
                }
            }
        }
    };
}

/// An enum as it once was, and its conversion; `with` gives values to fields that a variant did not have.
macro_rules! mirror_enum {
    ($name:ident => $now:ty { $($variant:ident $(($inner:ty))? $({
        $($field:ident: $type:ty),* $(,)?
    } $(with { $($new:ident: $value:expr),* $(,)? })?)?),* $(,)? }) => {
        #[derive(Clone, Debug, serde::Deserialize)]
        pub(in crate::session) enum $name {
            $($variant $(($inner))? $({ $($field: $type),* })?,)*
        }

        impl $crate::session::format::upgrade::Upgrade<$now> for $name {
            fn upgrade(self) -> $now {
                #[allow(unused_imports)]
                use $crate::session::format::upgrade::{Upgrade as _, bind};
                type Now = $now;
                match self {
                    $(Self::$variant $((bind!(inner, $inner)))? $({ $($field),* })? => {
                        Now::$variant $((bind!(inner, $inner).upgrade()))? $({
                            $($field: $field.upgrade(),)*
                            $($($new: $value,)*)?
                        })?
                    })*
                }
            }
        }
    };
}

/// The name that a variant's only value is bound to; the type says that there is one.
macro_rules! bind {
    ($name:ident, $type:ty) => {
        $name
    };
}

pub(super) use {bind, mirror_enum, mirror_struct};
