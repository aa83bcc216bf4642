//! The state of one shard: who owns what of it, and the few ways to change what belongs together.
//!
//! Its fields are private: what the other files do to sessions goes through the owners that it hands out, or through
//! the methods here where two of them must change together, as the attachment of a session and its deadline.

pub(super) mod apply;
#[cfg(test)]
pub(crate) mod invariant;
pub(crate) mod record;

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::announced::Broadcasts;
use super::attachment::Hibernation;
use super::audit::Audit;
use super::clock::{Clock, ShardTime};
use super::cow::CopyOnWrite;
use super::effect::Effect;
use super::fan::Fan;
use super::limits::Overrides;
use super::numbers::Numbers;
use super::old::OldSessions;
use super::outbox::Outboxes;
use super::pending::PendingEffects;
use super::retired::Retired;
use super::session::Session;
use super::settings::Settings;
use super::timers::Timers;
use super::users::Users;
use crate::format::Version;
use crate::id::{EffectId, Epoch, NodeId, Order, Owner, ShardId};
use crate::shard::map::shard_of;

/// Everything that one shard holds. A copy shares what neither of the two changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardState {
    id: ShardId,
    shards: u16,
    clock: Clock,
    settings: Settings,
    users: Users,
    /// When hibernated sessions end.
    deadlines: Timers<Jid>,
    /// When accounts have the first of their old sessions to forget; each account once.
    forgets: Timers<BareJid>,
    outboxes: Outboxes,
    effects: PendingEffects,
    numbers: Numbers,
    /// What operators have set for single accounts.
    limits: Overrides,
    /// The newest version of the formats among the entries that were applied. All members read it.
    format: Version,
    audit: Audit,
    /// Presence that is still to be shown to accounts of this shard.
    fan: Fan,
    /// What everybody here was told.
    broadcasts: Broadcasts,
    /// Nodes that were given up.
    retired: Retired,
}

impl ShardState {
    /// An empty shard, one of `shards`.
    pub fn new(id: ShardId, shards: u16) -> Self {
        Self {
            id,
            shards,
            clock: Clock::default(),
            settings: Settings::default(),
            users: Users::default(),
            deadlines: Timers::default(),
            forgets: Timers::default(),
            outboxes: Outboxes::default(),
            effects: PendingEffects::default(),
            numbers: Numbers::new(),
            limits: Overrides::default(),
            format: Version::V1,
            audit: Audit::default(),
            fan: Fan::default(),
            broadcasts: Broadcasts::default(),
            retired: Retired::default(),
        }
    }

    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The shard that an account lives in.
    pub(super) fn home_of(&self, account: &BareJid) -> ShardId {
        shard_of(account, self.shards)
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> u16 {
        self.shards
    }

    /// The newest version of the formats among its entries.
    pub fn format(&self) -> Version {
        self.format
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// The last leader's clock: it stamps what people see, and decides nothing.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// What has passed for this shard.
    pub(super) fn time(&self) -> ShardTime {
        self.clock.time()
    }

    /// The settings that are in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Other settings are in force from now on; returns those that were.
    pub(super) fn replace_settings(&mut self, settings: Settings) -> Settings {
        std::mem::replace(&mut self.settings, settings)
    }

    /// What is known of an account, if it is nothing too.
    pub(super) fn account<N: Borrow<str> + ?Sized>(&self, name: &N) -> &Account {
        static NOBODY: LazyLock<Account> = LazyLock::new(Account::default);
        self.users.get(name).map_or(&*NOBODY, |user| user)
    }

    pub(super) fn account_mut<N: Borrow<str> + ?Sized>(
        &mut self,
        name: &N,
    ) -> Option<&mut Account> {
        self.users.get_mut(name).map(|user| &mut **user)
    }

    /// The account, of which there is something to know from now on.
    pub(super) fn account_or_new(&mut self, name: BareJid) -> &mut Account {
        self.users.or_default(name)
    }

    /// All accounts of which something is known, in their order.
    pub(super) fn users(&self) -> &Users {
        &self.users
    }

    /// Forgets an account of which nothing is left.
    pub(super) fn tidy(&mut self, account: &BareJid) {
        if self.users.get(account).is_some_and(|user| user.is_empty()) {
            self.users.remove(account);
        }
    }

    pub(super) fn session(&self, jid: &Jid) -> Option<&Session> {
        let user = self.users.get(jid.bare_str())?;
        user.sessions.get(jid.resource()?)
    }

    pub(super) fn session_mut(&mut self, jid: &Jid) -> Option<&mut Session> {
        let user = self.users.get_mut(jid.bare_str())?;
        user.sessions.get_mut(jid.resource()?)
    }

    /// The session, if this epoch's owner still acts for it.
    pub(super) fn owned(&mut self, jid: &Jid, epoch: Epoch) -> Option<&mut Session> {
        self.session_mut(jid)
            .filter(|s| s.epoch() == epoch && s.owner().is_some())
    }

    /// Takes a session out, and out of those that end by themselves.
    pub(super) fn remove_session(&mut self, jid: &Jid) -> Option<Session> {
        let user = self.users.get_mut(jid.bare_str())?;
        let session = user.sessions.remove(jid.resource()?)?;
        if let Some(sleep) = session.hibernation() {
            self.deadlines.cancel(sleep.until, jid.clone());
        }
        Some(session)
    }

    /// A connection acts for the session from now on; returns how it hibernated, if it did.
    pub(super) fn attach(&mut self, jid: &Jid, owner: Owner) -> Option<Hibernation> {
        let slept = self.session_mut(jid)?.attach(owner);
        if let Some(slept) = slept {
            self.deadlines.cancel(slept.until, jid.clone());
        }
        slept
    }

    /// The session hibernates from now on, or until another time than it did.
    pub(super) fn hibernate(&mut self, jid: &Jid, sleep: Hibernation) {
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        let before = session.hibernate(sleep);
        let name = session.name(jid).clone();
        if let Some(before) = before {
            self.deadlines.cancel(before.until, jid.clone());
        }
        self.deadlines.set(sleep.until, name);
    }

    /// When hibernated sessions end.
    pub(super) fn deadlines(&self) -> &Timers<Jid> {
        &self.deadlines
    }

    /// Sessions of this account that may hibernate, and old ones that are remembered.
    pub(super) fn limits_of(&self, account: &BareJid) -> (u32, u32) {
        let set = self.limits.get(account).limits;
        let settings = &self.settings;
        (
            set.hibernated.unwrap_or(settings.max_hibernated_sessions),
            set.old.unwrap_or(settings.max_old_sessions),
        )
    }

    /// The one way to change what is remembered of an account's ended sessions, so that none is above the limit
    /// and `forgets` names each account once, by when the first of them is to be forgotten.
    pub(super) fn change_old(&mut self, account: &BareJid, change: impl FnOnce(&mut OldSessions)) {
        let limit = self.limits_of(account).1 as usize;
        let Some(user) = self.users.get_mut(account) else {
            return;
        };
        let before = user.old.next_forget();
        change(&mut user.old);
        user.old.limit(limit);
        let after = user.old.next_forget();
        if before == after {
            return;
        }
        if let Some(at) = before {
            self.forgets.cancel(at, account.clone());
        }
        if let Some(at) = after {
            self.forgets.set(at, account.clone());
        }
    }

    pub(super) fn limits(&self) -> &Overrides {
        &self.limits
    }

    pub(super) fn limits_mut(&mut self) -> &mut Overrides {
        &mut self.limits
    }

    pub(super) fn outboxes(&self) -> &Outboxes {
        &self.outboxes
    }

    pub(super) fn outboxes_mut(&mut self) -> &mut Outboxes {
        &mut self.outboxes
    }

    pub(super) fn effects(&self) -> &PendingEffects {
        &self.effects
    }

    pub(super) fn effects_mut(&mut self) -> &mut PendingEffects {
        &mut self.effects
    }

    pub(super) fn add_effect(&mut self, effect: Effect) -> EffectId {
        let id = self.numbers.effect(self.clock.now());
        self.effects.insert(id, Arc::new(effect));
        id
    }

    pub(super) fn take_order(&mut self) -> Order {
        self.numbers.order(self.clock.now())
    }

    pub(super) fn take_epoch(&mut self) -> Epoch {
        self.numbers.epoch()
    }

    pub(super) fn audit(&self) -> &Audit {
        &self.audit
    }

    pub(super) fn fan(&self) -> &Fan {
        &self.fan
    }

    pub(super) fn fan_mut(&mut self) -> &mut Fan {
        &mut self.fan
    }

    /// The nodes that are no longer members of the cluster, as far as this shard has heard of it.
    pub fn retired(&self) -> BTreeSet<NodeId> {
        self.retired.iter().collect()
    }

    pub(super) fn broadcasts_mut(&mut self) -> &mut Broadcasts {
        &mut self.broadcasts
    }

    /// An account as it was written down, with all that is to happen to it.
    pub(super) fn put_account(&mut self, name: BareJid, user: CopyOnWrite<Account>) {
        for (resource, session) in user.sessions.iter() {
            if let Some(sleep) = session.hibernation() {
                let jid = name.with_prepared_resource(resource);
                let jid = session.name(&jid).clone();
                self.deadlines.set(sleep.until, jid);
            }
        }
        if let Some(at) = user.old.next_forget() {
            self.forgets.set(at, name.clone());
        }
        self.users.insert(name, user);
    }

    /// For broken builds, and for tests of what is forgotten.
    #[cfg(test)]
    pub(super) fn forgets_mut(&mut self) -> &mut Timers<BareJid> {
        &mut self.forgets
    }
}
