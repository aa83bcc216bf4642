//! Lets no more into the shards than they can get rid of.
//!
//! What clients say becomes rows for the database and items for other shards, which wait in a shard's state
//! until somebody takes them. Whoever says it faster than they are taken is to be read more slowly, not
//! refused: a node asks here before it proposes stanzas, and holds them, and reads no more from their
//! client, until there is room on each way that they go.
//!
//! # Bounds
//!
//! For the database an eighth of `max_backlog_bytes` may wait in a shard, for each other shard
//! `outbox::SLOW`, as long as something goes now and then. A way that has not moved
//! for two seconds leads to a database or a shard that is away: chat goes on without it, until all of
//! `max_backlog_bytes`, or `outbox::FULL`, waits. Only if nothing has moved for ten
//! seconds by then, something is refused: by the node if the database is away, by `apply` if the shard is.
//! Other ways are not affected. Besides, a node has under way at most a sixteenth of what may wait for the database,
//! a quarter of what may wait for another shard, and one command.
//!
//! # Neighbours
//!
//! Whoever says little does not wait for those who say much. Of what is large, be it said or asked for, a
//! node has 128 KiB under way to a shard: what is small finds little before it. What is small on a
//! way passes what is not, and finds twice the room.

#[cfg(test)]
mod tests;
mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use self::way::{Bound, Meter, Size, Verdict, Way, demand};
use super::Group;
use crate::ShardId;
use crate::bound;
use crate::session::{Action, Load};

/// Whoever waits looks so often at least.
const OFTEN: Duration = Duration::from_millis(200);

/// Bytes of large commands that a node has under way to a shard at a time.
const LARGE: u32 = 128 << 10;

/// Whose turn it is to look for room.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// What the holders of permits share with those who wait.
#[derive(Default)]
struct Ways {
    meters: Mutex<BTreeMap<Way, Meter>>,
    turns: Mutex<BTreeMap<(Way, Size), Turn>>,
    freed: Notify,
}

impl Ways {
    fn meters(&self) -> MutexGuard<'_, BTreeMap<Way, Meter>> {
        // Numbers are whole whoever panics in between.
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One looks at a time, the others wait behind it in the order of their arrival.
    async fn turn(&self, way: Way, size: Size) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry((way, size)).or_default().clone()
        };
        turn.lock_owned().await
    }
}

/// What was let in; to be kept until it is committed, or is not going to be.
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

/// Counts somebody among those who wait.
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

/// The way in, for everything that is said on this node.
pub struct Admission<G> {
    groups: Arc<[Arc<G>]>,
    ways: Arc<Ways>,
    /// By number of the shard.
    large: Vec<Arc<Semaphore>>,
}

impl<G: Group> Admission<G> {
    /// `groups` are the shards on this node, by number.
    pub fn new(groups: Arc<[Arc<G>]>) -> Self {
        let room = || Arc::new(Semaphore::new(LARGE as usize));
        Self {
            large: groups.iter().map(|_| room()).collect(),
            groups,
            ways: Arc::default(),
        }
    }

    /// Waits until these stanzas of the shard's account may go. Returns also to which shards' accounts no
    /// messages may go at all now, since the database takes nothing and is not waited for any longer.
    pub async fn admit(
        &self,
        from: ShardId,
        stanzas: &[Vec<Action>],
    ) -> (Permit, BTreeSet<ShardId>) {
        // A node has all shards.
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
                    // What was another way's must not be held while this one's is waited for.
                    drop(turn.take());
                    let size = Size::of(demand.get(&way).copied().unwrap_or_default());
                    turn = Some(self.wait(way, size).await);
                }
            }
        }
    }

    /// Waits behind the other large commands for the shard, if this is one. They are under way, so it is not for long.
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
        // Nobody closes it.
        room.acquire_many_owned(bytes).await.ok()
    }

    /// Takes room on all ways, or says which of them has none. Whoever is new does not pass those who wait
    /// with no more to say.
    fn reserve(&self, demand: &BTreeMap<Way, u64>, is_new: bool) -> Result<Permit, (Way, Verdict)> {
        let ways: Vec<Way> = demand.keys().copied().collect();
        let loads = self.loads(&ways);
        let now = Instant::now();
        let mut meters = self.ways.meters();
        for (way, load, bound) in loads {
            let meter = meters.entry(way).or_insert_with(|| Meter::new(load, now));
            let size = Size::of(demand.get(&way).copied().unwrap_or_default());
            let wait = |size: Size| meter.waiting[size as usize] > 0;
            let behind = wait(Size::Light) || (size == Size::Heavy && wait(Size::Heavy));
            let verdict = match meter.judge(load, bound, size, now) {
                // What of it may not go comes back when it is applied.
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

    /// Waits until the way has room, or is known to be closed, and keeps the turn.
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
        let now = Instant::now();
        let mut meters = self.ways.meters();
        loads.into_iter().any(|(way, load, bound)| {
            let meter = meters.entry(way).or_insert_with(|| Meter::new(load, now));
            meter.judge(load, bound, size, now) == Verdict::Wait
        })
    }

    /// What waits on these ways, in order, and what may.
    fn loads(&self, ways: &[Way]) -> Vec<(Way, Load, Bound)> {
        let mut loads = Vec::with_capacity(ways.len());
        for ways in ways.chunk_by(|a, b| a.shard == b.shard) {
            let Some(group) = self.groups.get(usize::from(ways[0].shard.0)) else {
                continue;
            };
            group.read(|state| {
                let load = |way: &Way| (*way, way.load(state), way.bound(state));
                loads.extend(ways.iter().map(load));
            });
        }
        loads
    }
}
