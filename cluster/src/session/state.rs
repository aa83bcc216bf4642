//! The state of one shard, and the one way in: [`ShardState::apply`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proto::stanza::Packet;
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::audit::Audit;
use super::behind::Behind;
use super::cow::{CopyOnWrite, Map};
use super::fan::Fan;
use super::outbox::Outbox;
use super::pending::PendingEffects;
use super::push::Pushing;
use super::resources::Resources;
use super::revision::Revision;
use super::*;
use crate::format::Version;
use crate::id::{EffectId, Mid, NodeId, Owner, ShardId, SmId};

/// The longest step, in milliseconds, that the shard's time takes from one entry to the next: an outage
/// or a leap of a clock costs a session no more of its hibernation.
pub const MAX_STEP: u64 = 5_000;

/// Sessions that an entry ends or gives up at most, because their time is over or their node is gone. The
/// next entries do the rest, so that no other waits for a mass of them. In tests each entry leaves a rest.
pub(super) const SLICE: usize = if cfg!(test) { 1 } else { 500 };

/// Everything that one shard holds. A copy shares what neither of the two changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardState {
    pub(super) id: ShardId,
    pub(super) shards: u16,
    /// Milliseconds that have passed for this shard. Deadlines are points on this scale.
    pub(super) time: u64,
    /// The last leader's clock.
    pub(super) now: u64,
    pub(super) settings: Settings,
    pub(super) users: Map<BareJid, CopyOnWrite<User>>,
    /// When hibernated sessions end.
    pub(super) deadlines: Map<(u64, Jid), ()>,
    /// When accounts have the first of their old sessions to forget; each account once.
    pub(super) forgets: Map<(u64, BareJid), ()>,
    pub(super) outboxes: BTreeMap<ShardId, Outbox>,
    /// The next item expected from each shard.
    pub(super) cursors: BTreeMap<ShardId, u64>,
    pub(super) pending: PendingEffects,
    /// Bytes of `pending` and `outboxes`, about.
    pub(super) backlog: u64,
    pub(super) next_effect: u64,
    pub(super) next_order: u64,
    pub(super) next_epoch: u64,
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
    /// Sessions that the command which is being applied has given too much; empty between commands.
    #[serde(skip)]
    pub(super) overflown: Vec<Jid>,
    /// Of the entry that is being applied; empty between entries.
    #[serde(skip)]
    pub(super) notices: Vec<Notice>,
    /// Of the entry that is being applied; empty between entries.
    #[serde(skip)]
    pub(super) dissents: Vec<Dissent>,
}

/// What the shard knows of one account. Exists only while there is something to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) sessions: Resources,
    /// Sessions that are over, oldest first.
    pub(super) old: VecDeque<Old>,
    /// Messages not yet delivered to anyone, by their order. The first is the marker.
    pub(super) undelivered: BTreeMap<u64, Waiting>,
    /// Messages that several sessions hold.
    pub(super) shared: BTreeMap<Mid, Shared>,
    /// Clients that can be woken, by resource, connected or not.
    pub(super) push: BTreeMap<Box<str>, Pushing>,
    /// Messages that are out of the archive's sight and whose rows are to go once they are delivered.
    pub(super) hidden: BTreeSet<Mid>,
}

impl User {
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
            && self.old.is_empty()
            && self.undelivered.is_empty()
            && self.shared.is_empty()
            && self.hidden.is_empty()
            && self.push.is_empty()
    }

    /// When the first of its old sessions is forgotten.
    pub(super) fn next_forget(&self) -> Option<u64> {
        self.old.iter().map(|old| old.until).min()
    }
}

/// An ended session: only its inbound count is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Old {
    pub(super) smid: SmId,
    pub(super) h: u32,
    pub(super) until: u64,
}

/// A message in the archive (or hidden beside it) that nobody has got.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) mid: Mid,
    pub(super) hidden: bool,
    /// Of the stanza, in bytes.
    pub(super) size: u32,
}

/// How many sessions hold a message, and whether one of them has acknowledged it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Shared {
    pub(super) holders: u32,
    pub(super) acknowledged: bool,
}

/// One bound resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub(super) owner: Option<Owner>,
    pub(super) epoch: u64,
    /// The absolute number of the next stanza from the client.
    pub(super) next_in: u64,
    /// The absolute number of the first stanza in `queue`.
    pub(super) base: u64,
    /// Stanzas with lower numbers may have been written.
    pub(super) sent: u64,
    pub(super) queue: VecDeque<Arc<Item>>,
    /// Bytes of `queue`.
    pub(super) queue_bytes: u64,
    pub(super) behind: Behind,
    pub(super) sm: Option<Sm>,
    pub(super) presence: Option<Available>,
    pub(super) carbons: bool,
    pub(super) interested: bool,
    /// To whom directed presence was sent (IM-46).
    pub(super) directed: BTreeSet<Jid>,
    pub(super) hibernation: Option<Hibernation>,
    /// Its client is inactive and owes an acknowledgement for long.
    pub(super) overdue: bool,
}

/// Stream management of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sm {
    /// Present if the session may be resumed.
    pub smid: Option<SmId>,
    /// Inbound stanzas up to this number preceded `<enable/>`.
    pub after: u64,
    /// The number of the first stanza that counted after `<enabled/>`.
    pub start: u64,
    /// Where both counters started.
    pub seed: u32,
    /// Hibernation time in seconds.
    pub max: u32,
}

/// A session's last broadcast presence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Available {
    pub(super) packet: Packet,
    pub(super) priority: i8,
}

/// The first `count` of what stands behind a queue are being read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Fetching {
    pub(super) effect: EffectId,
    pub(super) count: usize,
}

/// Since and until when a session has no connection, on the shard's scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Hibernation {
    /// Its client can be woken and has not been: it is at `until`, and the session sleeps on.
    pub(super) patient: bool,
    pub(super) since: u64,
    pub(super) until: u64,
    /// Where its connection was.
    pub(super) node: NodeId,
}

/// What follows from one entry.
#[derive(Debug, Default)]
pub struct Applied {
    /// One for each command, in order.
    pub outcomes: Vec<Outcome>,
    /// For the owners of sessions, in order.
    pub outputs: Vec<Output>,
    /// What happened to sessions, in order.
    pub notices: Vec<Notice>,
    /// Replicas whose hash differs from that of this one.
    pub dissents: Vec<Dissent>,
}

impl ShardState {
    /// An empty shard, one of `shards`.
    pub fn new(id: ShardId, shards: u16) -> Self {
        Self {
            id,
            shards,
            time: 0,
            now: 0,
            settings: Settings::default(),
            users: Map::default(),
            deadlines: Map::default(),
            forgets: Map::default(),
            outboxes: BTreeMap::new(),
            cursors: BTreeMap::new(),
            pending: PendingEffects::default(),
            backlog: 0,
            next_effect: 1,
            next_order: 1,
            next_epoch: 1,
            limits: Map::default(),
            last_limits: 0,
            format: Version::V1,
            audit: Audit::default(),
            revision: None,
            fan: Fan::default(),
            overflown: Vec::new(),
            notices: Vec::new(),
            dissents: Vec::new(),
        }
    }

    /// Applies one entry. Deterministic: equal states and entries give equal states and results.
    pub fn apply(&mut self, batch: Batch) -> Applied {
        let mut out = Applied::default();
        if self.now != 0 {
            self.time += batch.now.saturating_sub(self.now).min(MAX_STEP);
        }
        self.now = batch.now;
        self.fan.begin();
        self.fan_on(&mut out.outputs);
        self.expire(&mut out.outputs);
        self.revise(&mut out.outputs);
        self.resume_farewells();
        self.end_overflown(&mut out.outputs);
        for command in batch.commands {
            let outcome = self.command(command, &mut out.outputs);
            self.end_overflown(&mut out.outputs);
            out.outcomes.push(outcome);
        }
        self.fan.end();
        out.notices = std::mem::take(&mut self.notices);
        out.dissents = std::mem::take(&mut self.dissents);
        out
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

    fn command(&mut self, command: Command, out: &mut Vec<Output>) -> Outcome {
        match command {
            Command::Bind(bind) => self.bind(bind, out),
            Command::Enable(enable) => self.enable(enable, out),
            Command::Resume(resume) => self.resume(resume, out),
            Command::Inbound(inbound) => self.inbound(inbound, out),
            Command::Acknowledge(ack) => self.acknowledge(&ack, out),
            Command::Lost { session, epoch } => self.lost(&session, epoch, out),
            Command::Overdue { session, epoch } => self.overdue(&session, epoch),
            Command::End {
                session,
                epoch,
                reason,
            } => self.end_by(&session, epoch, reason, out),
            Command::NodeLost { node, alive } => self.node_lost(node, alive, out),
            Command::Relay { from, first, items } => self.relayed(from, first, items, out),
            Command::SetLimits { account, limits } => self.set_limits(&account, limits, out),
            Command::Trim { to, upto } => self.trim(to, upto),
            Command::Done(completed) => {
                for completed in completed {
                    self.completed(completed, out);
                }
                Outcome::Done
            }
            Command::Tick => Outcome::Done,
            Command::Settings(settings) => self.set_settings(settings, out),
            Command::DoneInPart { part, rest } => {
                self.completed_in_part(part, rest, out);
                Outcome::Done
            }
            Command::Compare { node, at, hash } => self.compare(node, at, hash),
        }
    }

    /// Ends what is over by the shard's time, a slice of it. While the first deadline has passed the leader
    /// proposes the next entry at once.
    fn expire(&mut self, out: &mut Vec<Output>) {
        for _ in 0..SLICE {
            let Some((until, jid)) = first(&self.deadlines) else {
                break;
            };
            if until > self.time {
                break;
            }
            if self.wake_patient(&jid) {
                continue;
            }
            self.deadlines.remove(&(until, jid.clone()));
            self.end(&jid, EndReason::Expired, out);
        }
        for _ in 0..SLICE {
            let Some((until, account)) = first(&self.forgets) else {
                break;
            };
            if until > self.time {
                break;
            }
            self.forgets.remove(&(until, account.clone()));
            let time = self.time;
            self.change_old(&account, |old| old.retain(|old| old.until > time));
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

    /// The session, if this epoch's owner still acts for it.
    pub(super) fn owned(&mut self, jid: &Jid, epoch: u64) -> Option<&mut Session> {
        self.session_mut(jid)
            .filter(|s| s.epoch == epoch && s.owner.is_some())
    }

    /// Numbers follow the clock as orders do: what the database remembers of an effect is not taken for another
    /// one's when a shard begins anew.
    pub(super) fn add_effect(&mut self, effect: Effect) -> EffectId {
        let id = EffectId(self.next_effect.max(self.now << 16));
        self.next_effect = id.0 + 1;
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

    /// Orders follow the clock as far as they may, so that a shard which begins anew over an old database
    /// puts its rows behind those that are there.
    pub(super) fn take_order(&mut self) -> u64 {
        let order = self.next_order.max(self.now << 16);
        self.next_order = order + 1;
        order
    }

    pub(super) fn take_epoch(&mut self) -> u64 {
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        epoch
    }

    /// Forgets an account of which nothing is left.
    pub(super) fn tidy(&mut self, account: &BareJid) {
        if self.users.get(account).is_some_and(|user| user.is_empty()) {
            self.users.remove(account);
        }
    }
}

fn first<K: Ord + Clone>(set: &Map<K, ()>) -> Option<K> {
    set.first().map(|(key, ())| key.clone())
}

impl Session {
    pub(super) fn new(owner: Owner, epoch: u64) -> Self {
        Self {
            owner: Some(owner),
            epoch,
            next_in: 1,
            base: 1,
            sent: 1,
            queue: VecDeque::new(),
            queue_bytes: 0,
            behind: Behind::default(),
            sm: None,
            presence: None,
            carbons: false,
            interested: false,
            directed: BTreeSet::new(),
            hibernation: None,
            overdue: false,
        }
    }

    /// The number that the next queued stanza gets.
    pub(super) fn next_out(&self) -> u64 {
        self.base + self.queue.len() as u64
    }

    /// Available with a priority that takes part in delivery to the bare JID.
    pub(super) fn is_non_negative(&self) -> bool {
        self.presence.as_ref().is_some_and(|p| p.priority >= 0)
    }

    pub(super) fn priority(&self) -> i8 {
        self.presence.as_ref().map_or(i8::MIN, |p| p.priority)
    }

    /// Our inbound count, as the client knows it (SM-14).
    pub(super) fn h(&self) -> u32 {
        self.sm.as_ref().map_or(0, |sm| {
            let counted = (self.next_in - 1).saturating_sub(sm.after);
            sm.seed.wrapping_add(counted as u32)
        })
    }

    /// Its address `jid`, out of its presence if that has it: then the text is in memory once.
    pub(super) fn name<'a>(&'a self, jid: &'a Jid) -> &'a Jid {
        let presence = self.presence.as_ref();
        let own = presence.and_then(|p| p.packet.header.from.as_ref());
        own.filter(|from| *from == jid).unwrap_or(jid)
    }

    pub(super) fn is_resumable(&self) -> bool {
        self.sm.as_ref().is_some_and(|sm| sm.smid.is_some())
    }
}
