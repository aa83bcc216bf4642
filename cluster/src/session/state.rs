//! The state of one shard, and the one way in: [`ShardState::apply`].

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::audit::Audit;
use super::clock::Clock;
use super::cow::{CopyOnWrite, Map};
use super::fan::Fan;
use super::numbers::Numbers;
use super::outbox::Outbox;
use super::pending::PendingEffects;
use super::revision::Revision;
use super::step::Step;
use super::timers::Timers;
use super::*;
use crate::format::Version;
use crate::id::{EffectId, ShardId};

/// Sessions that an entry ends or gives up at most, because their time is over or their node is gone. The
/// next entries do the rest, so that no other waits for a mass of them. In tests each entry leaves a rest.
pub(super) const SLICE: usize = if cfg!(test) { 1 } else { 500 };

/// Everything that one shard holds. A copy shares what neither of the two changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardState {
    pub(super) id: ShardId,
    pub(super) shards: u16,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) users: Map<BareJid, CopyOnWrite<Account>>,
    /// When hibernated sessions end.
    pub(super) deadlines: Timers<Jid>,
    /// When accounts have the first of their old sessions to forget; each account once.
    pub(super) forgets: Timers<BareJid>,
    pub(super) outboxes: BTreeMap<ShardId, Outbox>,
    /// The next item expected from each shard.
    pub(super) cursors: BTreeMap<ShardId, u64>,
    pub(super) pending: PendingEffects,
    /// Bytes of `pending` and `outboxes`, about.
    pub(super) backlog: u64,
    pub(super) numbers: Numbers,
    /// What operators have set for single accounts.
    pub(super) limits: Map<BareJid, Override>,
    /// The version of the last change to them.
    pub(super) last_limits: u64,
    /// The newest version of the formats among the entries that were applied. All members read it.
    pub(super) format: Version,
    pub(super) audit: Audit,
    /// Accounts have yet to be held to lower limits.
    pub(super) revision: Option<Revision>,
    /// Presence that is still to be shown to accounts of this shard.
    pub(super) fan: Fan,
}

impl ShardState {
    /// An empty shard, one of `shards`.
    pub fn new(id: ShardId, shards: u16) -> Self {
        Self {
            id,
            shards,
            clock: Clock::default(),
            settings: Settings::default(),
            users: Map::default(),
            deadlines: Timers::default(),
            forgets: Timers::default(),
            outboxes: BTreeMap::new(),
            cursors: BTreeMap::new(),
            pending: PendingEffects::default(),
            backlog: 0,
            numbers: Numbers::new(),
            limits: Map::default(),
            last_limits: 0,
            format: Version::V1,
            audit: Audit::default(),
            revision: None,
            fan: Fan::default(),
        }
    }

    /// Applies one entry. Deterministic: equal states and entries give equal states and results.
    pub fn apply(&mut self, batch: Batch) -> Applied {
        let mut step = Step::default();
        self.clock.advance(batch.now);
        self.fan.begin();
        self.fan_on(&mut step);
        self.expire(&mut step);
        self.revise(&mut step);
        self.resume_farewells();
        self.end_overflown(&mut step);
        let mut outcomes = Vec::with_capacity(batch.commands.len());
        for command in batch.commands {
            outcomes.push(self.command(command, &mut step));
            self.end_overflown(&mut step);
        }
        self.fan.end();
        step.applied(outcomes)
    }

    /// Applies an entry that was written in this version.
    pub fn apply_as(&mut self, version: Version, batch: Batch) -> Applied {
        self.format = self.format.max(version);
        let applied = self.apply(batch);
        if version >= Version::V2 {
            self.audit(&applied);
        }
        applied
    }

    fn command(&mut self, command: Command, step: &mut Step) -> Outcome {
        match command {
            Command::Bind(bind) => self.bind(bind, step),
            Command::Enable(enable) => self.enable(enable, step),
            Command::Resume(resume) => self.resume(resume, step),
            Command::Inbound(inbound) => self.inbound(inbound, step),
            Command::Acknowledge(ack) => self.acknowledge(&ack, step),
            Command::Lost { session, epoch } => self.lost(&session, epoch, step),
            Command::Overdue { session, epoch } => self.overdue(&session, epoch),
            Command::End {
                session,
                epoch,
                reason,
            } => self.end_by(&session, epoch, reason, step),
            Command::NodeLost { node, alive } => self.node_lost(node, alive, step),
            Command::Relay { from, first, items } => self.relayed(from, first, items, step),
            Command::SetLimits { account, limits } => self.set_limits(&account, limits, step),
            Command::Trim { to, upto } => self.trim(to, upto),
            Command::Done(completed) => {
                for completed in completed {
                    self.completed(completed, step);
                }
                Outcome::Done
            }
            Command::Tick => Outcome::Done,
            Command::Settings(settings) => self.set_settings(settings, step),
            Command::DoneInPart { part, rest } => {
                self.completed_in_part(part, rest, step);
                Outcome::Done
            }
            Command::Compare { node, at, hash } => self.compare(node, at, hash, step),
        }
    }

    /// Ends what is over by the shard's time, a slice of it. While the first deadline has passed the leader
    /// proposes the next entry at once.
    fn expire(&mut self, step: &mut Step) {
        let time = self.clock.time();
        for _ in 0..SLICE {
            let Some((until, jid)) = self.deadlines.due(time) else {
                break;
            };
            if self.wake_patient(&jid) {
                continue;
            }
            self.deadlines.cancel(until, jid.clone());
            self.end(&jid, EndReason::Expired, step);
        }
        for _ in 0..SLICE {
            let Some((until, account)) = self.forgets.due(time) else {
                break;
            };
            self.forgets.cancel(until, account.clone());
            self.change_old(&account, |old| old.forget_until(time));
            self.tidy(&account);
        }
    }

    pub(super) fn session(&self, jid: &Jid) -> Option<&Session> {
        let user = self.users.get(&jid.bare())?;
        user.sessions.get(jid.resource()?)
    }

    pub(super) fn session_mut(&mut self, jid: &Jid) -> Option<&mut Session> {
        let user = self.users.get_mut(&jid.bare())?;
        user.sessions.get_mut(jid.resource()?)
    }

    /// Takes a session out, and out of those that end by themselves.
    pub(super) fn remove_session(&mut self, jid: &Jid) -> Option<Session> {
        let user = self.users.get_mut(&jid.bare())?;
        let session = user.sessions.remove(jid.resource()?)?;
        if let Some(sleep) = session.attachment.hibernation() {
            self.deadlines.cancel(sleep.until, jid.clone());
        }
        Some(session)
    }

    /// The session, if this epoch's owner still acts for it.
    pub(super) fn owned(&mut self, jid: &Jid, epoch: u64) -> Option<&mut Session> {
        self.session_mut(jid)
            .filter(|s| s.epoch == epoch && s.owner().is_some())
    }

    pub(super) fn add_effect(&mut self, effect: Effect) -> EffectId {
        let id = self.numbers.effect(self.clock.now());
        self.put_effect(id, Arc::new(effect));
        id
    }

    pub(super) fn put_effect(&mut self, id: EffectId, effect: Arc<Effect>) {
        self.backlog += effect.size();
        self.pending.insert(id, effect);
    }

    /// An effect is done, or nobody wants it any more.
    pub(super) fn remove_effect(&mut self, id: EffectId) -> Option<Arc<Effect>> {
        let effect = self.pending.remove(id)?;
        self.backlog -= effect.size();
        Some(effect)
    }

    pub(super) fn take_order(&mut self) -> u64 {
        self.numbers.order(self.clock.now())
    }

    pub(super) fn take_epoch(&mut self) -> u64 {
        self.numbers.epoch()
    }

    /// Forgets an account of which nothing is left.
    pub(super) fn tidy(&mut self, account: &BareJid) {
        if self.users.get(account).is_some_and(|user| user.is_empty()) {
            self.users.remove(account);
        }
    }
}
