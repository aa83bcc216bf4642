//! A shard's state: what a snapshot held, as one value.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proto::{BareJid, Jid};

use super::command::Limits;
use super::relay::{Effect, Relay};
use super::session::Resources;
use super::settings::Settings;
use crate::format::Version;
use crate::id::{EffectId, Mid, ShardId, SmId};
use crate::session::account::{self, Account};
use crate::session::audit::Audit;
use crate::session::clock::{Clock, ShardTime};
use crate::session::fan::Fan;
use crate::session::format::upgrade::{Upgrade, mirror_struct};
use crate::session::numbers::Numbers;
use crate::session::timers::Timers;
use crate::session::{self, old, outbox, push, shared};

#[derive(Clone, Debug, serde::Deserialize)]
pub(in crate::session) struct ShardState {
    id: ShardId,
    shards: u16,
    time: u64,
    now: u64,
    settings: Settings,
    users: BTreeMap<BareJid, Box<User>>,
    deadlines: BTreeSet<(u64, Jid)>,
    forgets: BTreeSet<(u64, BareJid)>,
    outboxes: BTreeMap<ShardId, Outbox>,
    cursors: BTreeMap<ShardId, u64>,
    pending: BTreeMap<EffectId, Arc<Effect>>,
    backlog: u64,
    next_effect: u64,
    next_order: u64,
    next_epoch: u64,
    limits: BTreeMap<BareJid, Override>,
    last_limits: u64,
}

impl Upgrade<session::ShardState> for ShardState {
    fn upgrade(self) -> session::ShardState {
        session::ShardState {
            id: self.id,
            shards: self.shards,
            clock: Clock::new(ShardTime::at(self.time), self.now),
            settings: self.settings.upgrade(),
            users: self.users.upgrade(),
            deadlines: timers(self.deadlines),
            forgets: timers(self.forgets),
            outboxes: self.outboxes.upgrade(),
            cursors: self.cursors,
            pending: self.pending.upgrade(),
            backlog: self.backlog,
            numbers: Numbers::of(self.next_effect, self.next_order, self.next_epoch),
            limits: self.limits.upgrade(),
            last_limits: self.last_limits,
            format: Version::V1,
            audit: Audit::default(),
            revision: None,
            fan: Fan::default(),
        }
    }
}

fn timers<K: Ord + Clone>(all: BTreeSet<(u64, K)>) -> Timers<K> {
    let mut timers = Timers::default();
    for (at, key) in all {
        timers.set(ShardTime::at(at), key);
    }
    timers
}

#[derive(Clone, Debug, serde::Deserialize)]
pub(in crate::session) struct User {
    sessions: Resources,
    old: VecDeque<Old>,
    undelivered: BTreeMap<u64, Waiting>,
    shared: BTreeMap<Mid, Shared>,
    push: BTreeMap<Box<str>, Pushing>,
    hidden: BTreeSet<Mid>,
}

impl Upgrade<Account> for User {
    fn upgrade(self) -> Account {
        let old: VecDeque<old::Old> = self.old.upgrade();
        let shared: BTreeMap<Mid, shared::Shared> = self.shared.upgrade();
        let push: BTreeMap<Box<str>, push::Pushing> = self.push.upgrade();
        let known = (self.sessions.upgrade(), old.into(), push.into());
        Account::of(
            known,
            self.undelivered.upgrade(),
            shared.into(),
            self.hidden.upgrade(),
        )
    }
}

mirror_struct!(Old => old::Old {
    smid: SmId,
    h: u32,
    until: u64,
});

mirror_struct!(Waiting => account::Waiting {
    mid: Mid,
    hidden: bool,
    size: u32,
});

mirror_struct!(Shared => shared::Shared {
    holders: u32,
    acknowledged: bool,
});

mirror_struct!(Pushing => push::Pushing {
    count: u32,
    last: Option<u64>,
} with {
    copies: false,
});

/// It did not know how many bytes it held.
#[derive(Clone, Debug, serde::Deserialize)]
pub(in crate::session) struct Outbox {
    first: u64,
    items: VecDeque<Relay>,
}

impl Upgrade<outbox::Outbox> for Outbox {
    fn upgrade(self) -> outbox::Outbox {
        outbox::Outbox::of(self.first, self.items.upgrade())
    }
}

mirror_struct!(Override => session::Override {
    limits: Limits,
    version: u64,
});
