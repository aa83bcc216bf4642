//! What the shard knows of one account, beside its sessions: who is remembered, which messages wait, and who holds them.

use std::collections::{BTreeMap, BTreeSet};

use proto::stanza::{Kind, MessageType, Packet};
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::blocklist::Blocklist;
use super::clients::Clients;
use super::old::OldSessions;
use super::queue::{Body, Later, Ticket};
use super::resources::Resources;
use super::session::Session;
use super::settings::Settings;
use super::shared::SharedMessages;
use crate::id::{ArchiveId, Order, SmId};

/// Exists only while there is something to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) sessions: Resources,
    pub(super) old: OldSessions,
    /// Messages that wait for the next session, by their order. The first is the marker. Sessions hold one
    /// as well only if it is shared.
    undelivered: BTreeMap<Order, Waiting>,
    /// Messages that several sessions hold.
    pub(super) shared: SharedMessages,
    /// Clients that can be woken.
    pub(super) push: Clients,
    /// Messages that are out of the archive's sight and whose rows are to go once they are delivered.
    hidden: BTreeSet<ArchiveId>,
    /// Whom it has blocked.
    pub(super) blocklist: Blocklist,
    /// It has said what its archive is to keep.
    pub(super) archive_stated: bool,
}

/// A message in the archive (or hidden beside it) that waits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) mid: ArchiveId,
    pub(super) hidden: bool,
    /// Of the stanza, in bytes.
    pub(super) size: u32,
}

impl Account {
    /// An account as version 1 wrote it down.
    pub(super) fn of(
        (sessions, old, push): (Resources, OldSessions, Clients),
        undelivered: BTreeMap<Order, Waiting>,
        shared: SharedMessages,
        hidden: BTreeSet<ArchiveId>,
    ) -> Self {
        Self {
            sessions,
            old,
            undelivered,
            shared,
            push,
            hidden,
            blocklist: Blocklist::default(),
            archive_stated: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self {
            sessions,
            old,
            undelivered,
            shared,
            push,
            hidden,
            blocklist,
            archive_stated,
        } = self;
        sessions.is_empty()
            && old.is_empty()
            && undelivered.is_empty()
            && shared.is_empty()
            && push.is_empty()
            && hidden.is_empty()
            && blocklist.is_empty()
            && !archive_stated
    }

    /// The sessions of this account, which has this name, that are `wanted`.
    pub(super) fn sessions_where(
        &self,
        name: &BareJid,
        wanted: impl Fn(&Session) -> bool,
    ) -> Vec<Jid> {
        let chosen = self.sessions.iter().filter(|(_, s)| wanted(s));
        chosen
            .map(|(resource, _)| name.with_prepared_resource(resource))
            .collect()
    }

    /// Sessions that get a carbon, without those in `except`.
    pub(super) fn carbon_sessions(&self, name: &BareJid, except: &[Jid]) -> Vec<Jid> {
        let mut sessions = self.sessions_where(name, Session::has_carbons);
        sessions.retain(|jid| !except.contains(jid));
        sessions
    }

    /// Every resource of the highest live priority, and every one with carbons (IM-6). A hibernated one
    /// alone sets the priority only where no live one is (IM-1).
    pub(super) fn chat_targets(&self, name: &BareJid) -> Vec<Jid> {
        let ready = || self.sessions.values().filter(|s| s.is_non_negative());
        let live = ready()
            .filter(|s| s.owner().is_some())
            .map(|s| s.priority())
            .max();
        let Some(highest) = live.or_else(|| ready().map(|s| s.priority()).max()) else {
            return Vec::new();
        };
        self.sessions_where(name, |s| {
            s.is_non_negative() && (s.priority() >= highest || s.has_carbons())
        })
    }

    /// Who gets what an ended session did not take, if any of them is connected. One that holds more than half of
    /// `most` stanzas gets nothing; 0 = no limit.
    pub(super) fn heirs(&self, name: &BareJid, kind: Kind, most: u32) -> Vec<Jid> {
        let mut heirs = match kind {
            Kind::Message(MessageType::Normal) => {
                self.sessions_where(name, Session::is_non_negative)
            }
            _ => self.chat_targets(name),
        };
        let most = most as usize / 2;
        let session = |jid: &Jid| jid.resource().and_then(|r| self.sessions.get(r));
        let has_room = |s: &Session| most == 0 || s.queue.load().0 < most;
        heirs.retain(|jid| session(jid).is_some_and(has_room));
        let connected = |jid: &Jid| session(jid).is_some_and(|s| s.owner().is_some());
        match heirs.iter().any(connected) {
            true => heirs,
            false => Vec::new(),
        }
    }

    /// The available sessions with their last broadcast.
    pub(super) fn available(&self, name: &BareJid) -> Vec<(Jid, Packet)> {
        let available = self.sessions.iter().filter_map(|(resource, session)| {
            let presence = session.presence()?;
            let jid = name.with_prepared_resource(resource);
            Some((jid, presence.packet.clone()))
        });
        available.collect()
    }

    /// The session that is known under this identifier and may be resumed.
    pub(super) fn resumable(&self, name: &BareJid, smid: &SmId) -> Option<Jid> {
        let mut sessions = self.sessions.iter();
        let (resource, _) = sessions.find(|(_, s)| s.smid() == Some(smid))?;
        Some(name.with_prepared_resource(resource))
    }

    /// The session that has hibernated for the longest time, if more than so many do.
    pub(super) fn beyond(&self, name: &BareJid, limit: u32) -> Option<Jid> {
        let sleeping = self
            .sessions
            .iter()
            .filter_map(|(r, s)| Some((s.hibernation()?.since, s.epoch(), r)));
        if sleeping.clone().count() <= limit as usize {
            return None;
        }
        let (_, _, resource) = sleeping.min()?;
        Some(name.with_prepared_resource(resource))
    }

    /// The settings with the bytes that this session may hold: no more than the others of its account leave,
    /// but never less than its equal share, so that one that is away takes nothing from one that reads. All
    /// together hold no more than twice what the account may have.
    pub(super) fn share_of(&self, resource: Option<&str>, mut settings: Settings) -> Settings {
        let most = settings.max_account_queue_bytes;
        if most == 0 {
            return settings;
        }
        let others = self.sessions.iter();
        let others = others.filter(|(other, _)| Some(*other) != resource);
        let taken: u64 = others.map(|(_, session)| session.queue.load().1).sum();
        let equal = most / self.sessions.len().max(1) as u64;
        let share = most.saturating_sub(taken).max(equal).max(1);
        settings.max_queue_bytes = match settings.max_queue_bytes {
            0 => share,
            own => own.min(share),
        };
        settings
    }

    /// How many messages wait for the account's next session.
    pub(super) fn waits(&self) -> usize {
        self.undelivered.len()
    }

    /// A message waits for the account's next session.
    pub(super) fn wait(&mut self, order: Order, waiting: Waiting) {
        if waiting.hidden {
            self.hidden.insert(waiting.mid);
        }
        self.undelivered.insert(order, waiting);
    }

    /// Some message waits that the archive does not show.
    pub(super) fn waits_out_of_sight(&self) -> bool {
        self.undelivered.values().any(|waiting| waiting.hidden)
    }

    /// Takes those messages that wait, with their order, but for those that are `kept`. What was shared still is: who
    /// takes it is its holder now.
    fn take_waiting(&mut self, kept: &BTreeSet<ArchiveId>) -> Vec<(Order, Waiting)> {
        let all = std::mem::take(&mut self.undelivered).into_iter();
        let (keep, taken) = all.partition::<Vec<_>, _>(|(_, w)| kept.contains(&w.mid));
        self.undelivered = BTreeMap::from_iter(keep);
        taken
    }

    /// Messages that wait stand behind the queue of this session from now on, but for those that are `kept`, and for
    /// those that it holds itself, which go on waiting for others. Returns how many no longer wait.
    pub(super) fn give_waiting(&mut self, resource: &str, mut kept: BTreeSet<ArchiveId>) -> usize {
        let is_shared = |waiting: &Waiting| self.shared.contains(waiting.mid);
        if self.undelivered.values().any(is_shared)
            && let Some(session) = self.sessions.get(resource)
        {
            kept.extend(session.queue.mids());
        }
        let taken = self.take_waiting(&kept);
        let moved = taken.len();
        let Some(session) = self.sessions.get_mut(resource) else {
            return moved;
        };
        for (order, waiting) in taken {
            let body = match self.shared.contains(waiting.mid) {
                true => Body::Shared,
                false => Body::Waited,
            };
            let ticket = Ticket::new(waiting.mid, order, waiting.size.into(), body);
            session.queue.defer(Later::Ticket(ticket));
        }
        moved
    }

    /// No message waits any more; returns how many did. `acknowledged`: the user has them, so that who holds one too
    /// leaves it to nobody.
    pub(super) fn forget_waiting(&mut self, acknowledged: bool) -> usize {
        let waited = std::mem::take(&mut self.undelivered);
        for waiting in waited.values() {
            self.shared.release(waiting.mid, acknowledged);
        }
        waited.len()
    }

    /// A message of this order has found its way: whether it waited.
    pub(super) fn no_longer_waits(&mut self, order: Order, mid: ArchiveId) -> bool {
        let waits = self.undelivered.get(&order).is_some_and(|w| w.mid == mid);
        if waits {
            self.undelivered.remove(&order);
            self.shared.release(mid, true);
        }
        waits
    }

    /// Messages of this session that nobody has acknowledged and that other sessions hold: any, or only such as sleep.
    pub(super) fn left_to_others(
        &self,
        ending: &Session,
        only_asleep: bool,
    ) -> BTreeSet<ArchiveId> {
        let mut left = BTreeSet::new();
        if self.shared.is_empty() {
            return left;
        }
        let shared = |mid: &ArchiveId| self.shared.is_left_to_others(*mid);
        left.extend(ending.queue.mids().filter(shared));
        let awake = self.sessions.values().filter(|s| s.owner().is_some());
        for mid in awake
            .filter(|_| only_asleep)
            .flat_map(|session| session.queue.mids())
        {
            left.remove(&mid);
        }
        // What waits already has no need to wait twice.
        for waiting in self.undelivered.values() {
            left.remove(&waiting.mid);
        }
        left
    }

    /// The archive will never have the message: whether it waited there.
    pub(super) fn lose(&mut self, mid: ArchiveId) -> bool {
        self.hidden.remove(&mid);
        let waited = self.undelivered.len();
        self.undelivered.retain(|_, waiting| waiting.mid != mid);
        self.undelivered.len() < waited
    }

    pub(super) fn is_hidden(&self, mid: ArchiveId) -> bool {
        self.hidden.contains(&mid)
    }

    /// The archive does not show the message; returns whether that is news.
    pub(super) fn hide(&mut self, mid: ArchiveId) -> bool {
        self.hidden.insert(mid)
    }

    /// The same of messages that the archive was meant to show.
    pub(super) fn hide_all(&mut self, mids: &[ArchiveId]) {
        for waiting in self.undelivered.values_mut() {
            waiting.hidden |= mids.contains(&waiting.mid);
        }
        self.hidden.extend(mids);
    }

    /// The hidden messages that nobody holds or waits for any more are forgotten. Only of `gone`, if it is known what
    /// may have become free.
    pub(super) fn take_free(&mut self, gone: Option<Vec<ArchiveId>>) -> BTreeSet<ArchiveId> {
        let mut free: BTreeSet<ArchiveId> = match gone {
            Some(gone) => gone.into_iter().filter(|m| self.is_hidden(*m)).collect(),
            None => self.hidden.clone(),
        };
        if free.is_empty() {
            return free;
        }
        self.each_held(|mid| {
            free.remove(&mid);
        });
        self.hidden.retain(|mid| !free.contains(mid));
        free
    }

    /// Tells of every message that somebody holds or that waits for somebody.
    pub(super) fn each_held(&self, mut tell: impl FnMut(ArchiveId)) {
        for session in self.sessions.values() {
            session.queue.mids().for_each(&mut tell);
        }
        self.undelivered.values().for_each(|w| tell(w.mid));
    }

    /// Messages that wait although sessions hold them, or have.
    #[cfg(test)]
    pub(super) fn waiting_and_shared(&self) -> impl Iterator<Item = ArchiveId> {
        let waiting = self.undelivered.values().map(|waiting| waiting.mid);
        waiting.filter(|mid| self.shared.contains(*mid))
    }

    /// For broken builds: as many messages wait as did before.
    #[cfg(test)]
    pub(super) fn wait_as(&mut self, before: &Self) {
        self.undelivered.clone_from(&before.undelivered);
    }
}
