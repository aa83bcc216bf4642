//! Lets no more into the shards than they can get rid of.
//!
//! What clients say becomes rows for the database and items for other shards, which wait in a shard's state
//! until somebody takes them. Whoever says it faster than they are taken is to be read more slowly, not
//! refused: a node asks here before it proposes messages, and holds them, and reads no more from their
//! client, until there is room on each [`Way`] that they go.
//!
//! # Bounds
//!
//! Of `max_backlog_bytes` an eighth may wait on a way that moves. One that has not moved for [`PATIENCE`]
//! leads to a database or a shard that is away: then chat goes on without it, until all of it is full. Only
//! if nothing has moved for [`AWAY`] by then, messages are refused. Other ways are not affected.
//!
//! So a shard that works holds an eighth in rows and an eighth for each other shard; besides, each node has
//! let in no more than that which it has not yet seen committed, or one message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::{Instant, sleep};

use super::Group;
use crate::ShardId;
use crate::session::Load;

/// The part of the bound that may wait while the way moves.
const SHARE: u64 = 8;
/// A way that has not moved for so long is cut off.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so long whatever it leads to counts as away, and what is too much is refused.
const AWAY: Duration = Duration::from_secs(10);
/// Whoever waits looks so often at least.
const OFTEN: Duration = Duration::from_millis(200);

/// Where something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// From a shard into the database.
    Rows(ShardId),
    /// From a shard to another one.
    Between(ShardId, ShardId),
}

impl Way {
    /// The ways of a message from one shard to one.
    fn all(from: ShardId, to: ShardId) -> impl Iterator<Item = Self> {
        let between = (from != to).then_some(Self::Between(from, to));
        let rows = BTreeSet::from([from, to]).into_iter().map(Self::Rows);
        rows.chain(between)
    }

    /// The shard in whose state it waits.
    fn shard(self) -> ShardId {
        match self {
            Self::Rows(shard) | Self::Between(shard, _) => shard,
        }
    }
}

/// Whether something may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Room,
    Wait,
    Refused,
}

/// What this node knows of a way.
#[derive(Clone, Copy, Debug)]
struct Meter {
    /// Bytes that are let in and not yet seen to be committed.
    reserved: u64,
    /// See [`Load::gone`], as it was last seen.
    gone: u64,
    /// When something was last seen to go, or too little waited for that to matter.
    moved: Instant,
}

impl Meter {
    fn judge(&mut self, load: Load, most: u64, now: Instant) -> Verdict {
        let share = most / SHARE;
        if load.gone != self.gone || load.bytes < share {
            self.gone = load.gone;
            self.moved = now;
        }
        let held = load.bytes.saturating_add(self.reserved);
        let still = now.saturating_duration_since(self.moved);
        let room = held == 0 || held < share || (still >= PATIENCE && held < most);
        match (most == 0 || room, still >= AWAY) {
            (true, _) => Verdict::Room,
            (false, false) => Verdict::Wait,
            (false, true) => Verdict::Refused,
        }
    }
}

/// What the holders of permits share with those who wait.
#[derive(Default)]
struct Ways {
    meters: Mutex<BTreeMap<Way, Meter>>,
    turns: Mutex<BTreeMap<Way, Arc<tokio::sync::Mutex<()>>>>,
    freed: Notify,
}

impl Ways {
    fn meters(&self) -> MutexGuard<'_, BTreeMap<Way, Meter>> {
        // Numbers are whole whoever panics in between.
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One looks at a time, the others wait behind it in the order of their arrival.
    async fn turn(&self, way: Way) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(way).or_default().clone()
        };
        turn.lock_owned().await
    }
}

/// What was let in; to be kept until it is committed, or is not going to be.
#[must_use]
pub struct Permit {
    ways: Arc<Ways>,
    taken: BTreeMap<Way, u64>,
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

/// The way in, for everything that is said on this node.
pub struct Admission<G> {
    groups: Arc<[Arc<G>]>,
    ways: Arc<Ways>,
}

impl<G: Group> Admission<G> {
    /// `groups` are the shards on this node, by number.
    pub fn new(groups: Arc<[Arc<G>]>) -> Self {
        Self {
            groups,
            ways: Arc::default(),
        }
    }

    /// Waits until messages of so many bytes may go from one shard to those. Returns also to which of them
    /// nothing may go at all now.
    pub async fn admit(
        &self,
        from: ShardId,
        bytes: &BTreeMap<ShardId, u64>,
    ) -> (Permit, BTreeSet<ShardId>) {
        let mut refused = BTreeSet::new();
        let mut turn = None;
        loop {
            let open = bytes.iter().filter(|(to, _)| !refused.contains(*to));
            let open: BTreeMap<ShardId, u64> = open.map(|(to, bytes)| (*to, *bytes)).collect();
            match self.reserve(from, &open) {
                Ok(permit) => return (permit, refused),
                Err((way, Verdict::Refused)) => {
                    refused.extend(
                        open.keys()
                            .filter(|to| Way::all(from, **to).any(|w| w == way)),
                    );
                }
                Err((way, _)) => {
                    // What was another way's must not be held while this one's is waited for.
                    drop(turn.take());
                    turn = Some(self.wait(way).await);
                }
            }
        }
    }

    /// Takes room on all ways, or says which of them has none.
    fn reserve(
        &self,
        from: ShardId,
        bytes: &BTreeMap<ShardId, u64>,
    ) -> Result<Permit, (Way, Verdict)> {
        let mut taken = BTreeMap::new();
        for (to, bytes) in bytes {
            for way in Way::all(from, *to) {
                *taken.entry(way).or_default() += bytes;
            }
        }
        let loads: Vec<(Way, Load, u64)> = taken.keys().map(|way| self.load(*way)).collect();
        let mut meters = self.ways.meters();
        for (way, load, most) in loads {
            let verdict = judge(&mut meters, way, load, most);
            if verdict != Verdict::Room {
                return Err((way, verdict));
            }
        }
        for (way, bytes) in &taken {
            if let Some(meter) = meters.get_mut(way) {
                meter.reserved += bytes;
            }
        }
        let ways = self.ways.clone();
        Ok(Permit { ways, taken })
    }

    /// Waits until the way has room, or is known to be closed, and keeps the turn.
    async fn wait(&self, way: Way) -> OwnedMutexGuard<()> {
        let turn = self.ways.turn(way).await;
        let group = self.groups.get(usize::from(way.shard().0));
        let mut applied = group.map(|group| group.applied());
        loop {
            let freed = self.ways.freed.notified();
            let (way, load, most) = self.load(way);
            if judge(&mut self.ways.meters(), way, load, most) != Verdict::Wait {
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

    fn load(&self, way: Way) -> (Way, Load, u64) {
        let Some(group) = self.groups.get(usize::from(way.shard().0)) else {
            return (way, Load::default(), 0);
        };
        let (load, most) = group.read(|state| {
            let load = match way {
                Way::Rows(_) => state.row_load(),
                Way::Between(_, to) => state.outbox_load(to),
            };
            (load, state.max_backlog())
        });
        (way, load, most)
    }
}

fn judge(meters: &mut BTreeMap<Way, Meter>, way: Way, load: Load, most: u64) -> Verdict {
    let now = Instant::now();
    let meter = meters.entry(way).or_insert(Meter {
        reserved: 0,
        gone: load.gone,
        moved: now,
    });
    meter.judge(load, most, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 800;

    /// What is said of a way at these times, in seconds: bytes that wait, and how many have gone.
    fn verdicts(seen: &[(u64, u64, u64)]) -> Vec<Verdict> {
        let start = Instant::now();
        let mut meter = Meter {
            reserved: 0,
            gone: 0,
            moved: start,
        };
        let judge = |(at, bytes, gone): &(u64, u64, u64)| {
            let load = Load {
                bytes: *bytes,
                gone: *gone,
            };
            meter.judge(load, MOST, start + Duration::from_secs(*at))
        };
        seen.iter().map(judge).collect()
    }

    use Verdict::{Refused, Room, Wait};

    #[test]
    fn a_way_that_moves_is_waited_for_however_long_it_takes() {
        let moving: Vec<_> = (0..60).map(|at| (at, 700, at)).collect();
        assert!(verdicts(&moving).iter().all(|verdict| *verdict == Wait));
        assert_eq!(
            verdicts(&[(0, 99, 0), (1, 100, 0), (2, 99, 1)]),
            [Room, Wait, Room]
        );
    }

    #[test]
    fn one_that_stands_still_fills_up_before_anything_is_refused() {
        let seen = [
            (0, 100, 0),
            (1, 100, 0),
            (2, 100, 0),
            (5, 799, 0),
            (6, 800, 0),
            (9, 800, 0),
        ];
        assert_eq!(verdicts(&seen), [Wait, Wait, Room, Room, Wait, Wait]);
        let seen = [
            (0, 100, 0),
            (10, 800, 0),
            (11, 799, 1),
            (12, 799, 1),
            (13, 799, 1),
        ];
        assert_eq!(verdicts(&seen), [Wait, Refused, Wait, Wait, Room]);
    }

    #[test]
    fn an_idle_way_that_fills_up_at_once_does_not_count_as_one_that_stood_still() {
        assert_eq!(verdicts(&[(3600, 0, 0), (3601, 800, 0)]), [Room, Wait]);
    }

    #[test]
    fn a_message_goes_one_s_own_shard_s_way_once() {
        let (a, b) = (ShardId(0), ShardId(1));
        assert_eq!(Way::all(a, a).collect::<Vec<_>>(), [Way::Rows(a)]);
        let ways: Vec<_> = Way::all(b, a).collect();
        assert_eq!(ways, [Way::Rows(a), Way::Rows(b), Way::Between(b, a)]);
    }
}
