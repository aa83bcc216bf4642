//! Admission control: it holds stanzas of clients back until the shards have room for what follows from them.
//!
//! Stanzas become rows for the database and items for other shards, which wait in a shard's state until they are taken.
//! A client that sends faster than they are taken should be slowed down and not refused. So before a node proposes
//! stanzas it asks here, and reads nothing more from their client until there is room on each way ([`way`]) that they
//! go.
//!
//! # Bounds
//!
//! While a way moves, an eighth of `max_backlog_bytes` may wait for the database in a shard, and `outbox::SLOW` for
//! each other shard. If a way has not moved for two seconds, the database or the shard at its end is taken to be away.
//! Chat goes on without it until all of `max_backlog_bytes`, or `outbox::FULL`, waits. If by then nothing has moved for
//! ten seconds, messages are refused: by the node if the database is away, by `apply` if the shard is. Other ways are
//! not affected. Besides, one node may have only a part under way: a sixteenth of what may wait for the database, a
//! quarter of what may wait for another shard, and one command.
//!
//! # Neighbours
//!
//! A client that sends little must not wait for those that send much. Of large commands, a node has at most 128 KiB
//! under way to a shard, so that a small one finds little in front of it. Light demand on a way passes heavy demand,
//! and finds twice the room.

#[cfg(test)]
mod tests;
mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use self::way::{Bound, Meter, Size, Verdict, Way, demand};
use super::ShardGroup;
use crate::ShardId;
use crate::bound;
use crate::clock;
use crate::session::{Action, Load};

/// A waiting caller checks for room at least this often.
const OFTEN: Duration = Duration::from_millis(200);

/// Bytes of large commands that a node has under way to a shard at a time.
const LARGE: u32 = 128 << 10;

/// Held by the caller whose turn it is to check for room; the others queue up behind it.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// What permits and waiting callers share.
#[derive(Default)]
struct Ways {
    meters: Mutex<BTreeMap<Way, Meter>>,
    turns: Mutex<BTreeMap<(Way, Size), Turn>>,
    freed: Notify,
}

impl Ways {
    fn meters(&self) -> MutexGuard<'_, BTreeMap<Way, Meter>> {
        // The numbers are consistent even if a holder of the lock has panicked.
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of the caller, in the order of arrival.
    async fn turn(&self, way: Way, size: Size) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry((way, size)).or_default().clone()
        };
        turn.lock_owned().await
    }
}

/// The room that admitted stanzas take. It is to be kept until they are committed, or will not be.
#[must_use]
pub struct Permit {
    ways: Arc<Ways>,
    taken: BTreeMap<Way, u64>,
    _large: Option<OwnedSemaphorePermit>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut meters = self.ways.meters();
        for (way, bytes) in &self.taken {
            if let Some(meter) = meters.get_mut(way) {
                meter.reserved = meter.reserved.saturating_sub(*bytes);
            }
        }
        drop(meters);
        self.ways.freed.notify_waiters();
    }
}

/// Counts a caller among those that wait, until it is dropped.
struct Waiting<'a>(&'a Ways, Way, Size);

impl<'a> Waiting<'a> {
    fn new(ways: &'a Ways, way: Way, size: Size) -> Self {
        if let Some(meter) = ways.meters().get_mut(&way) {
            meter.waiting[size as usize] += 1;
        }
        Self(ways, way, size)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(meter) = self.0.meters().get_mut(&self.1) {
            meter.waiting[self.2 as usize] -= 1;
        }
    }
}

/// Admits the stanzas of all clients of this node.
pub struct Admission<G> {
    groups: Arc<[Arc<G>]>,
    ways: Arc<Ways>,
    /// For each shard, by number: one permit for each byte of large commands that may be under way.
    large: Vec<Arc<Semaphore>>,
}

impl<G: ShardGroup> Admission<G> {
    /// `groups` are the shards on this node, by number.
    pub fn new(groups: Arc<[Arc<G>]>) -> Self {
        let room = || Arc::new(Semaphore::new(LARGE as usize));
        Self {
            large: groups.iter().map(|_| room()).collect(),
            groups,
            ways: Arc::default(),
        }
    }

    /// Waits until these stanzas of an account of the shard may be proposed. The set names shards whose accounts may
    /// get no messages at the moment, because the database takes nothing and has been waited for long enough.
    pub async fn admit(
        &self,
        from: ShardId,
        stanzas: &[Vec<Action>],
    ) -> (Permit, BTreeSet<ShardId>) {
        // There are as many groups as shards, with a replica or without.
        let shards = u16::try_from(self.groups.len()).unwrap_or(u16::MAX);
        let mut demand = demand(from, shards, stanzas);
        let mut refused = BTreeSet::new();
        let mut turn = None;
        loop {
            match self.reserve(&demand, turn.is_none()) {
                Ok(mut permit) => {
                    drop(turn.take());
                    permit._large = self.room_for_large(from, stanzas).await;
                    return (permit, refused);
                }
                Err((way, Verdict::Full)) => {
                    let shards = (0..shards).map(ShardId);
                    refused.extend(
                        shards.filter(|to| Way::archives(from, *to).any(|other| other == way)),
                    );
                    demand.remove(&way);
                }
                Err((way, _)) => {
                    // The turn on one way must not be held while waiting for that on another.
                    drop(turn.take());
                    let size = Size::of(demand.get(&way).copied().unwrap_or_default());
                    turn = Some(self.wait(way, size).await);
                }
            }
        }
    }

    /// A large command waits behind the other large ones for the shard. Those are under way already, so the wait is
    /// short.
    async fn room_for_large(
        &self,
        shard: ShardId,
        stanzas: &[Vec<Action>],
    ) -> Option<OwnedSemaphorePermit> {
        let size = |action: &Action| action.size() + action.answer_size();
        let bytes: usize = stanzas.iter().flatten().map(size).sum();
        if bytes <= bound::SMALL {
            return None;
        }
        let bytes = u32::try_from(bytes).unwrap_or(LARGE).min(LARGE);
        let room = self.large.get(usize::from(shard.0))?.clone();
        // The semaphore is never closed.
        room.acquire_many_owned(bytes).await.ok()
    }

    /// Takes room on all ways, or says which of them has none. A new caller does not pass waiting ones whose demand is
    /// as light as its own.
    fn reserve(&self, demand: &BTreeMap<Way, u64>, is_new: bool) -> Result<Permit, (Way, Verdict)> {
        let ways: Vec<Way> = demand.keys().copied().collect();
        let loads = self.loads(&ways);
        let now = clock::timer();
        let mut meters = self.ways.meters();
        for (way, load, bound) in loads {
            let meter = meters.entry(way).or_insert_with(|| Meter::new(load, now));
            let size = Size::of(demand.get(&way).copied().unwrap_or_default());
            let wait = |size: Size| meter.waiting[size as usize] > 0;
            let behind = wait(Size::Light) || (size == Size::Heavy && wait(Size::Heavy));
            let verdict = match meter.judge(load, bound, size, now) {
                // For another shard there is no refusal here: `apply` returns what may not go.
                Verdict::Full if way.to.is_some() => Verdict::Room,
                Verdict::Room if is_new && behind => Verdict::Wait,
                verdict => verdict,
            };
            if verdict != Verdict::Room {
                return Err((way, verdict));
            }
        }
        for (way, bytes) in demand {
            if let Some(meter) = meters.get_mut(way) {
                meter.reserved += bytes;
            }
        }
        Ok(Permit {
            ways: self.ways.clone(),
            taken: demand.clone(),
            _large: None,
        })
    }

    /// Waits until there is room on the way or it turns out to be cut off. The caller keeps its turn.
    async fn wait(&self, way: Way, size: Size) -> OwnedMutexGuard<()> {
        let _waiting = Waiting::new(&self.ways, way, size);
        let turn = self.ways.turn(way, size).await;
        let group = self.groups.get(usize::from(way.shard.0));
        let mut applied = group.map(|group| group.applied());
        loop {
            let freed = self.ways.freed.notified();
            if !self.is_waited_for(way, size) {
                return turn;
            }
            let changed = async {
                match &mut applied {
                    Some(applied) => applied.changed().await.is_ok(),
                    None => false,
                }
            };
            tokio::select! {
                true = changed => {}
                () = freed => {}
                () = sleep(OFTEN) => {}
            }
        }
    }

    fn is_waited_for(&self, way: Way, size: Size) -> bool {
        let loads = self.loads(&[way]);
        let now = clock::timer();
        let mut meters = self.ways.meters();
        loads.into_iter().any(|(way, load, bound)| {
            let meter = meters.entry(way).or_insert_with(|| Meter::new(load, now));
            meter.judge(load, bound, size, now) == Verdict::Wait
        })
    }

    /// The load of each of these ways, and its bound.
    fn loads(&self, ways: &[Way]) -> Vec<(Way, Load, Bound)> {
        let mut loads = Vec::with_capacity(ways.len());
        for ways in ways.chunk_by(|a, b| a.shard == b.shard) {
            let Some(group) = self.groups.get(usize::from(ways[0].shard.0)) else {
                continue;
            };
            group.with_loads(|state| {
                let load = |way: &Way| (*way, way.load(state), way.bound(state));
                loads.extend(ways.iter().map(load));
            });
        }
        loads
    }
}
