//! The ways on which consequences of stanzas queue up, and how much may wait on each. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::ShardId;
use crate::propose::LoadsOf;
use crate::session::outbox::{FULL, SLOW};
use crate::session::{Action, Load, Relay};
use crate::shard::map::shard_of;

/// While the database takes something, one part in so many of `max_backlog_bytes` may wait for it.
const SHARE: u64 = 8;
/// One node may have one part in so many of what may wait under way, without having seen it committed: first for the
/// database, then for another shard.
const UNDER_WAY: (u64, u64) = (16, 4);
/// Demand of at most so many bytes is light: it need not wait behind heavy demand.
const LIGHT: u64 = 8 << 10;
/// A way that has not moved for so long counts as cut off.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so long without any movement, what is too much is refused.
const AWAY: Duration = Duration::from_secs(10);

/// A queue in a shard's state, for the database or for another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    /// The shard in whose state it is.
    pub shard: ShardId,
    /// The shard that it leads to; `None` for the database.
    pub to: Option<ShardId>,
}

impl Way {
    fn rows(shard: ShardId) -> Self {
        Self { shard, to: None }
    }

    /// The ways into the archives of both sides of a message.
    pub fn archives(from: ShardId, to: ShardId) -> impl Iterator<Item = Self> {
        BTreeSet::from([from, to]).into_iter().map(Self::rows)
    }

    pub fn load(self, state: &dyn LoadsOf) -> Load {
        match self.to {
            None => state.rows(),
            Some(to) => state.outbox(to),
        }
    }

    pub fn bound(self, state: &dyn LoadsOf) -> Bound {
        match (self.to, state.max_backlog()) {
            (Some(_), _) => Bound {
                moving: SLOW,
                still: FULL,
                under_way: SLOW / UNDER_WAY.1,
            },
            (None, 0) => Bound {
                moving: u64::MAX,
                still: u64::MAX,
                under_way: u64::MAX,
            },
            (None, most) => Bound {
                moving: most / SHARE,
                still: most,
                under_way: most / SHARE / UNDER_WAY.0,
            },
        }
    }
}

/// The bytes that stanzas of one shard's account add on each way.
pub(super) fn demand(from: ShardId, shards: u16, stanzas: &[Vec<Action>]) -> BTreeMap<Way, u64> {
    let mut demand = BTreeMap::new();
    for action in stanzas.iter().flatten() {
        let mut accounts: BTreeMap<ShardId, u64> = BTreeMap::new();
        action.each_account(&mut |account| {
            *accounts.entry(shard_of(account, shards)).or_default() += 1;
        });
        let size = action.size() as u64;
        for (to, accounts) in accounts {
            let way = Way {
                shard: from,
                to: Some(to),
            };
            if to != from {
                *demand.entry(way).or_default() += size + 32 * accounts;
            }
            if let Action::Send(Relay::Message(message)) = action
                && message.is_refusable()
            {
                for way in Way::archives(from, to) {
                    *demand.entry(way).or_default() += size;
                }
            }
        }
    }
    demand
}

/// How many bytes may wait on a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// The bound while the way moves.
    pub moving: u64,
    /// The bound when it has not moved for [`PATIENCE`].
    pub still: u64,
    /// The bound on what one node has proposed and not yet seen committed.
    pub under_way: u64,
}

/// How much a caller demands on a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Size {
    /// At most [`LIGHT`] bytes. It passes heavy demand, and its bound is twice as high.
    Light,
    /// Anything else.
    Heavy,
}

impl Size {
    pub fn of(bytes: u64) -> Self {
        match bytes <= LIGHT {
            true => Self::Light,
            false => Self::Heavy,
        }
    }
}

/// Whether there is room on a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Room,
    Wait,
    Full,
}

/// What this node knows of a way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    /// Bytes that were admitted and not yet seen committed.
    pub reserved: u64,
    /// How many callers wait, by the [`Size`] of their demand.
    pub waiting: [usize; 2],
    /// The last known value of [`Load::gone`].
    gone: u64,
    /// When the way last moved, or so little waited on it that it need not move.
    moved: Instant,
}

impl Meter {
    pub fn new(load: Load, now: Instant) -> Self {
        Self {
            reserved: 0,
            waiting: [0; 2],
            gone: load.gone,
            moved: now,
        }
    }

    pub fn judge(&mut self, load: Load, bound: Bound, size: Size, now: Instant) -> Verdict {
        if load.gone != self.gone || load.bytes < bound.moving {
            self.gone = load.gone;
            self.moved = now;
        }
        let still = now.saturating_duration_since(self.moved);
        let stretch = match size {
            Size::Light => 2,
            Size::Heavy => 1,
        };
        let most = match still >= PATIENCE {
            true => bound.still,
            false => bound.moving.saturating_mul(stretch).min(bound.still),
        };
        let held = load.bytes.saturating_add(self.reserved);
        let few = self.reserved == 0 || self.reserved < bound.under_way.saturating_mul(stretch);
        if held == 0 || (held < most && few) {
            return Verdict::Room;
        }
        match still >= AWAY && load.bytes >= bound.still {
            true => Verdict::Full,
            false => Verdict::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Full, Room, Wait};
    use super::*;

    /// What is said of a way at these times, in seconds: bytes that wait, and how many have gone.
    fn verdicts(seen: &[(u64, u64, u64)]) -> Vec<Verdict> {
        let start = Instant::now();
        let mut meter = Meter::new(Load::default(), start);
        let bound = Bound {
            moving: 100,
            still: 800,
            under_way: 10,
        };
        let judge = |(at, bytes, gone): &(u64, u64, u64)| {
            let load = Load {
                bytes: *bytes,
                gone: *gone,
            };
            meter.judge(load, bound, Size::Heavy, start + Duration::from_secs(*at))
        };
        seen.iter().map(judge).collect()
    }

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
        assert_eq!(verdicts(&seen), [Wait, Full, Wait, Wait, Room]);
    }

    #[test]
    fn an_idle_way_that_fills_up_at_once_does_not_count_as_one_that_stood_still() {
        assert_eq!(verdicts(&[(3600, 0, 0), (3601, 800, 0)]), [Room, Wait]);
    }

    #[test]
    fn little_is_under_way_at_a_time_so_that_many_nodes_do_not_pass_the_bound_together() {
        let now = Instant::now();
        let mut meter = Meter::new(Load::default(), now);
        let bound = Bound {
            moving: SLOW,
            still: FULL,
            under_way: 100,
        };
        let mut judged = |reserved, size| {
            meter.reserved = reserved;
            meter.judge(Load::default(), bound, size, now)
        };
        let heavy = [0, 99, 100].map(|reserved| judged(reserved, Size::Heavy));
        assert_eq!(heavy, [Room, Room, Wait]);
        let light = [100, 199, 200].map(|reserved| judged(reserved, Size::Light));
        assert_eq!(light, [Room, Room, Wait]);
    }

    #[test]
    fn who_has_little_to_say_finds_room_where_others_wait() {
        let now = Instant::now();
        let bound = Bound {
            moving: 100,
            still: 800,
            under_way: 10,
        };
        let judged = |bytes, size| {
            let load = Load { bytes, gone: 0 };
            Meter::new(load, now).judge(load, bound, size, now)
        };
        assert_eq!(
            [99, 100].map(|bytes| judged(bytes, Size::Heavy)),
            [Room, Wait]
        );
        assert_eq!(
            [199, 200].map(|bytes| judged(bytes, Size::Light)),
            [Room, Wait]
        );
        assert_eq!([LIGHT, LIGHT + 1].map(Size::of), [Size::Light, Size::Heavy]);
    }

    #[test]
    fn a_message_goes_its_own_ways_and_each_once() {
        use crate::lead::tests::accounts;
        use proto::stanza::{Header, Kind, MessageType, Packet};

        let [a, b] = accounts(2).try_into().expect("two");
        let ways = |to: &proto::BareJid, kept| {
            let header = Header {
                kind: Kind::Message(MessageType::Chat),
                from: None,
                to: Some(to.into()),
                id: None,
                lang: None,
            };
            let message = crate::session::Message {
                packet: Packet {
                    header,
                    payload: bytes::Bytes::new(),
                },
                mid: crate::ArchiveId::new(1, 1),
                traits: crate::session::Traits {
                    archive_sent: kept,
                    ..Default::default()
                },
            };
            let stanzas = vec![vec![Action::Send(Relay::Message(message))]];
            demand(ShardId(0), 2, &stanzas)
                .into_keys()
                .collect::<Vec<_>>()
        };
        let (rows_a, rows_b) = (Way::rows(ShardId(0)), Way::rows(ShardId(1)));
        let between = Way {
            shard: ShardId(0),
            to: Some(ShardId(1)),
        };
        assert_eq!(ways(&a, true), [rows_a]);
        assert_eq!(ways(&b, true), [rows_a, between, rows_b]);
        assert_eq!(ways(&b, false), [between]);
        assert_eq!(ways(&a, false), []);
    }
}
