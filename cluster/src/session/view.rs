//! What others may read of a shard.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::stanza::Packet;
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::effect::{Effect, Pending};
use super::load::Load;
use super::output::{Event, Unheard};
use super::pending::Lane;
use super::relay::Relay;
use super::session::{Session, Sm};
use super::state::ShardState;
use crate::id::{ArchiveId, BootId, ConnId, EffectId, Epoch, NodeId, Owner, ShardId, SmId};

/// Users looked at in one go: entries wait meanwhile.
const LOOK: usize = 4096;

/// A session as an operator sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionView {
    /// The full JID.
    pub jid: Jid,
    /// Whose connection acts for it; none = hibernated.
    pub owner: Option<Owner>,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// Stream management is on and the session may be resumed.
    pub resumable: bool,
    /// Stanzas that the client has not acknowledged.
    pub queue: usize,
    /// Their bytes in memory, about.
    pub queue_bytes: usize,
    /// When the first of them was queued, in milliseconds since 1970 by the leader's clock.
    pub oldest: Option<u64>,
    /// Available, with this priority.
    pub priority: Option<i8>,
    /// How long it will hibernate yet, in milliseconds.
    pub hibernates_for: Option<u64>,
}

impl ShardState {
    /// Sessions in all, and how many of them hibernate.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let all = self.users().values().map(|u| u.sessions.len()).sum();
        (all, self.deadlines().len())
    }

    /// The last entry has left something to the next one.
    pub(super) fn is_busy(&self) -> bool {
        let farewells = self.outboxes().has_farewells_due();
        self.limits().revision().is_some() || farewells || !self.fan().is_empty()
    }

    /// Milliseconds of shard time until something ends by itself.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if self.is_busy() {
            return Some(0);
        }
        let next = self.deadlines().next();
        next.map(|until| until.since(self.time()))
    }

    /// The processes whose connections act for sessions.
    pub(crate) fn owners(&self) -> BTreeSet<(NodeId, BootId)> {
        let sessions = self.users().values().flat_map(|u| u.sessions.values());
        sessions
            .filter_map(Session::owner)
            .map(|o| (o.node, o.boot))
            .collect()
    }

    /// Sessions that connections of a process own, with their epochs. Looks at some accounts behind `after`, and says
    /// where the next look begins.
    pub(crate) fn owned_by(
        &self,
        process: (NodeId, BootId),
        after: Option<&BareJid>,
    ) -> (Vec<(Jid, Epoch, ConnId)>, Option<BareJid>) {
        let mut found = Vec::new();
        let mut last: Option<&BareJid> = None;
        for (n, (account, user)) in self.users().after(after).enumerate() {
            if n >= LOOK {
                return (found, last.cloned());
            }
            let owned = user.sessions.iter().filter_map(|(resource, session)| {
                let owner = session.owner()?;
                let jid = || account.with_prepared_resource(resource);
                let ours = (owner.node, owner.boot) == process;
                ours.then(|| (jid(), session.epoch(), owner.conn))
            });
            found.extend(owned);
            last = Some(account);
        }
        (found, None)
    }

    /// Accounts of a domain that have sessions. Looks at some behind `after`, and says where the next look begins.
    pub(crate) fn online(
        &self,
        domain: &str,
        after: Option<&BareJid>,
    ) -> (Vec<BareJid>, Option<BareJid>) {
        let mut found = Vec::new();
        let mut last: Option<&BareJid> = None;
        for (n, (account, user)) in self.users().after(after).enumerate() {
            if n >= LOOK {
                return (found, last.cloned());
            }
            if !user.sessions.is_empty() && account.domain() == domain {
                found.push(account.clone());
            }
            last = Some(account);
        }
        (found, None)
    }

    /// Effects after `after`, in order.
    pub fn pending(&self, after: EffectId, max: usize) -> Vec<Pending> {
        self.effects().after(&after).take(max).collect()
    }

    /// Effects of a lane after `after`, in order: so many, and about so many bytes if it is more than one.
    pub(crate) fn pending_in(
        &self,
        lane: Lane,
        after: EffectId,
        max: usize,
        max_bytes: u64,
    ) -> Vec<Pending> {
        let mut bytes = 0;
        let found = self.effects().lane(lane, &after).take(max);
        let found = found.take_while(|pending| {
            let fits = bytes < max_bytes;
            bytes += pending.effect.size();
            fits
        });
        found.collect()
    }

    /// Rows that must be written before these effects, and are not known to be.
    pub(crate) fn rows_before(&self, effects: &[Pending]) -> Vec<Pending> {
        let mut rows = Vec::new();
        for pending in effects {
            match &*pending.effect {
                Effect::Fetch { session, mids } => {
                    rows.extend(self.effects().rows_among(&session.bare(), mids));
                }
                Effect::Return { account, mids } => {
                    rows.extend(self.effects().rows_among(account, mids));
                }
                _ => {}
            }
        }
        rows.sort_unstable_by_key(|row| row.id);
        rows.dedup_by_key(|row| row.id);
        rows
    }

    /// What an effect of another lane has to do first is done: a row that is deleted before it is written
    /// would come back, and before it is read back for its sender, nobody would hear of it.
    pub(crate) fn may_begin(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Forget { account, mids } => !self.effects().needs_rows(account, mids),
            _ => true,
        }
    }

    /// What waits for the database to take it as a row of an archive.
    pub(crate) fn row_load(&self) -> Load {
        self.effects().row_load()
    }

    /// See [`Settings::max_backlog_bytes`](super::Settings::max_backlog_bytes), as the last leader had it.
    pub(crate) fn max_backlog(&self) -> u64 {
        self.settings().max_backlog_bytes
    }

    /// Bytes of pending effects and of what waits for other shards, about.
    pub(crate) fn backlog(&self) -> u64 {
        self.effects().bytes() + self.outboxes().bytes()
    }

    /// How many effects are pending.
    pub fn pending_count(&self) -> usize {
        self.effects().len()
    }

    /// What the owner with this epoch should have heard first; none if it does not act for the session.
    pub fn opened(&self, session: &Jid, epoch: Epoch) -> Option<Event> {
        let session = self.owned_with(session, epoch)?;
        // A session that was just bound has no stream management yet.
        Some(session.resumed().map_or(Event::Bound, Event::Resumed))
    }

    /// What the owner with this epoch is to write from number `from` on; none if it no longer acts for
    /// the session.
    pub fn missed(&self, session: &Jid, epoch: Epoch, from: u64) -> Option<Unheard> {
        let session = self.owned_with(session, epoch)?;
        let stanzas = session.queue.numbered();
        Some(Unheard {
            enabled: session.sm().map(Sm::enabled),
            stanzas: stanzas
                .filter(|(seq, _)| *seq >= from)
                .map(|(seq, item)| (seq, item.clone()))
                .collect(),
        })
    }

    fn owned_with(&self, session: &Jid, epoch: Epoch) -> Option<&Session> {
        let session = self.session(session)?;
        (session.epoch() == epoch && session.owner().is_some()).then_some(session)
    }

    /// What waits for another shard to take it.
    pub(crate) fn outbox_load(&self, to: ShardId) -> Load {
        self.outboxes().load(to)
    }

    /// The numbers of the first unconfirmed item for `to` and of the next one to come.
    pub(crate) fn outbox_range(&self, to: ShardId) -> (u64, u64) {
        self.outboxes().range(to)
    }

    /// Items for `to` from number `from` (or the first there is) on, at most `max_items` and `max_bytes` of them as
    /// they are encoded, or one, with the number of the first.
    pub(crate) fn outbox(
        &self,
        to: ShardId,
        from: u64,
        max_items: usize,
        max_bytes: usize,
    ) -> (u64, Vec<Relay>) {
        self.outboxes().items(to, from, max_items, max_bytes)
    }

    /// After how many entries this replica last had a hash to tell, and what it was.
    pub(crate) fn checkpoint(&self) -> Option<(u64, u64)> {
        self.audit().checkpoint()
    }

    /// The last entry made a checkpoint.
    #[cfg(test)]
    pub(super) fn is_at_checkpoint(&self) -> bool {
        self.audit().is_at_checkpoint()
    }

    /// The hash of most voters, if it is another one than that of this replica.
    pub(crate) fn outvoted(&self, at: u64, voters: &BTreeSet<NodeId>) -> Option<u64> {
        self.audit().outvoted(at, voters)
    }

    /// The account's sessions.
    pub fn sessions(&self, account: &BareJid) -> Vec<SessionView> {
        let views = self
            .account(account)
            .sessions
            .iter()
            .map(|(resource, s)| SessionView {
                jid: account.with_prepared_resource(resource),
                owner: s.owner(),
                epoch: s.epoch(),
                resumable: s.is_resumable(),
                queue: s.queue.load().0,
                queue_bytes: usize::try_from(s.queue.load().1).unwrap_or(usize::MAX),
                oldest: s.queue.stanzas().front().map(|item| item.stamp),
                priority: s.presence().map(|p| p.priority),
                hibernates_for: s.hibernation().map(|h| h.until.since(self.time())),
            });
        views.collect()
    }

    /// The node at which the session that may be resumed under this identifier has its connection, or had its last.
    pub fn last_node(&self, account: &BareJid, smid: &SmId) -> Option<NodeId> {
        let jid = self.resumable(account, smid).ok()?;
        let session = self.session(&jid)?;
        let owner = session.owner().map(|owner| owner.node);
        owner.or_else(|| Some(session.hibernation()?.node))
    }

    /// The first `max` sessions behind an address, in the order of addresses.
    pub(crate) fn sessions_after(&self, after: &str, max: usize) -> Vec<SessionView> {
        let accounts = self.users().iter().filter(|(_, u)| !u.sessions.is_empty());
        let sessions = accounts.flat_map(|(account, _)| self.sessions(account));
        let mut views: Vec<_> = sessions.filter(|view| view.jid.as_str() > after).collect();
        views.sort_by(|a, b| a.jid.cmp(&b.jid));
        views.truncate(max);
        views
    }

    /// The last broadcast of each available session of the account.
    pub fn presences(&self, account: &BareJid) -> Vec<(Jid, Packet)> {
        self.account(account).available(account)
    }

    /// The rows for an account's archive that are not yet reported as written: all that it may have been told
    /// of and that cannot be read there.
    pub fn archive_tail(&self, account: &BareJid) -> Vec<Arc<Effect>> {
        let rows = self.effects().rows_of(account);
        rows.map(|row| row.effect).collect()
    }

    /// Those of the messages that nobody holds and that wait for nobody.
    pub fn not_held(&self, account: &BareJid, mut mids: Vec<ArchiveId>) -> Vec<ArchiveId> {
        let user = self.account(account);
        user.each_held(|held| mids.retain(|mid| *mid != held));
        mids
    }

    /// Messages that wait for the account.
    pub(crate) fn undelivered(&self, account: &BareJid) -> usize {
        self.account(account).waits()
    }
}
