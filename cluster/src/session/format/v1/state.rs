//! A shard's state: what a snapshot held, as one value.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proto::{BareJid, Jid};

use super::command::Limits;
use super::relay::{Effect, Relay};
use super::session::Resources;
use super::settings::Settings;
use crate::format::Version;
use crate::id::{ArchiveId, EffectId, ShardId, SmId};
use crate::session::account::{self, Account};
use crate::session::audit::Audit;
use crate::session::clock::{Clock, ShardTime};
use crate::session::format::upgrade::{Upgrade, mirror_struct};
use crate::session::numbers::Numbers;
use crate::session::outbox::Outboxes;
use crate::session::state::record::Head;
use crate::session::{self, clients, old, outbox, shared};

#[derive(Clone, Debug, serde::Deserialize)]
pub(in crate::session) struct ShardState {
    id: ShardId,
    shards: u16,
    time: u64,
    now: u64,
    settings: Settings,
    users: BTreeMap<BareJid, Box<User>>,
    #[expect(dead_code, reason = "they follow from the accounts")]
    deadlines: BTreeSet<(u64, Jid)>,
    #[expect(dead_code, reason = "they follow from the accounts")]
    forgets: BTreeSet<(u64, BareJid)>,
    outboxes: BTreeMap<ShardId, Outbox>,
    cursors: BTreeMap<ShardId, u64>,
    pending: BTreeMap<EffectId, Arc<Effect>>,
    #[expect(dead_code, reason = "it is summed up anew")]
    backlog: u64,
    next_effect: u64,
    next_order: u64,
    next_epoch: u64,
    limits: BTreeMap<BareJid, Override>,
    last_limits: u64,
}

impl Upgrade<session::ShardState> for ShardState {
    fn upgrade(self) -> session::ShardState {
        let head = Head {
            id: self.id,
            shards: self.shards,
            clock: Clock::new(ShardTime::at(self.time), self.now),
            settings: self.settings.upgrade(),
            cursors: BTreeMap::new(),
            numbers: Numbers::of(self.next_effect, self.next_order, self.next_epoch),
            last_limits: self.last_limits,
            format: Version::V1,
            audit: Audit::default(),
            revision: None,
            broadcasts: Default::default(),
            retired: Default::default(),
        };
        let mut state = head.state();
        for (account, user) in self.users {
            state.put_account(account, user.upgrade());
        }
        *state.outboxes_mut() = Outboxes::of(self.outboxes.upgrade(), self.cursors);
        *state.effects_mut() = self.pending.upgrade();
        for (account, set) in self.limits {
            state.limits_mut().put(account, set.upgrade());
        }
        state
    }
}

#[derive(Clone, Debug, serde::Deserialize)]
pub(in crate::session) struct User {
    sessions: Resources,
    old: VecDeque<Old>,
    undelivered: BTreeMap<u64, Waiting>,
    shared: BTreeMap<ArchiveId, Shared>,
    push: BTreeMap<Box<str>, Pushing>,
    hidden: BTreeSet<ArchiveId>,
}

impl Upgrade<Account> for User {
    fn upgrade(self) -> Account {
        let old: VecDeque<old::Old> = self.old.upgrade();
        let shared: BTreeMap<ArchiveId, shared::Shared> = self.shared.upgrade();
        let push: BTreeMap<Box<str>, clients::Pushing> = self.push.upgrade();
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
    mid: ArchiveId,
    hidden: bool,
    size: u32,
});

mirror_struct!(Shared => shared::Shared {
    holders: u32,
    acknowledged: bool,
});

mirror_struct!(Pushing => clients::Pushing {
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
