//! A session's queue: what is numbered, and behind it what is not yet.
//!
//! The first part is what the client may have been sent: whole stanzas, each with a number that never
//! changes. It holds no more than `max_queue_stanzas`, `max_queue_bytes` and, with those of the account's other
//! sessions, `max_account_queue_bytes`. What comes beyond that stands
//! behind it without a number ([`Later`]), and moves up when acknowledgements have made room:
//!
//! - a message that the archive shows, or that is to be kept for the user (then a hidden row is written),
//!   gives way to a [`Ticket`] and is read back when its turn comes;
//! - of presence that nobody has seen yet the newest of each contact is enough (SM-40);
//! - whoever asks something with an IQ is told that it is not possible now;
//! - the rest stays whole, within `max_queue_bytes` more.
//!
//! Only more than `max_queue_ids` stanzas, or more bytes that nothing can stand for, end the session.
//! What waited for an absent user goes the same way to the session that gets it, so that there is one
//! order and one bound for both.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::Jid;
use proto::stanza::error::{Condition, StanzaError, reply};
use proto::stanza::{Header, IqType, Kind, MessageType, Packet, PresenceType};

use super::state::{Fetching, Session, ShardState};
use super::ticket::{Body, Later, Ticket};
use super::*;
use crate::id::{EffectId, Mid};

/// Stanzas read back at a time.
const CHUNK: usize = 128;
/// Their bytes, about, if it is more than one.
const CHUNK_BYTES: u64 = 128 << 10;

impl Session {
    /// Stanzas and bytes that it holds.
    pub(super) fn load(&self) -> (usize, u64) {
        (
            self.queue.len() + self.behind.later.len(),
            self.queue_bytes + self.behind.later_bytes,
        )
    }

    /// Something stands behind the queue that could move up, and nobody is at it.
    pub(super) fn is_stuck(&self, settings: &Settings) -> bool {
        self.owner.is_some()
            && self.behind.fetching.is_none()
            && !self.behind.later.is_empty()
            && settings.has_room(self.queue.len(), self.queue_bytes)
    }

    /// Appends to the numbered part; if somebody owns the session the stanza leaves.
    fn number(&mut self, jid: &Jid, item: Arc<Item>, out: &mut Vec<Output>) {
        let seq = self.next_out();
        self.queue_bytes += item.size();
        self.queue.push_back(item.clone());
        if let Some(owner) = self.owner {
            self.sent = seq + 1;
            out.push(Output {
                owner,
                session: jid.clone(),
                epoch: self.epoch,
                event: Event::Stanza { seq, item },
            });
        }
    }

    /// Takes the first numbered stanza.
    pub(super) fn pop(&mut self) -> Option<Arc<Item>> {
        let item = self.queue.pop_front()?;
        self.base += 1;
        self.queue_bytes -= item.size();
        Some(item)
    }

    pub(super) fn postpone(&mut self, later: Later) {
        self.behind.later_bytes += later.size();
        self.behind.later.push_back(later);
    }

    fn advance(&mut self) -> Option<Later> {
        let later = self.behind.later.pop_front()?;
        self.behind.later_bytes -= later.size();
        Some(later)
    }

    /// How many of the first `count` that stand behind the queue go up to the last one which was found.
    fn reach(&self, found: &BTreeMap<Mid, Fetched>, count: usize) -> usize {
        let fetched = |later: &Later| match later {
            Later::Ticket(ticket) => found.contains_key(&ticket.mid()),
            Later::Whole(_) => false,
        };
        let mut asked = self.behind.later.iter().take(count);
        asked.rposition(fetched).map_or(0, |last| last + 1)
    }

    /// Takes away presence of this contact that nobody has seen yet and that is not on its way.
    fn forget_presence(&mut self, from: Option<&Jid>) {
        let busy = self.behind.fetching.as_ref().map_or(0, |f| f.count);
        let same = |later: &Later| match later {
            Later::Whole(item) => {
                is_state(&item.packet) && item.packet.header.from.as_ref() == from
            }
            Later::Ticket(_) => false,
        };
        // At most one, because each that came was looked for.
        let place = self.behind.later.iter().skip(busy).position(same);
        let found = place.and_then(|place| self.behind.later.remove(busy + place));
        self.behind.later_bytes -= found.map_or(0, |later| later.size());
    }
}

/// Availability, of which the newest is all there is to know.
fn is_state(packet: &Packet) -> bool {
    matches!(
        packet.header.kind,
        Kind::Presence(PresenceType::Available | PresenceType::Unavailable)
    )
}

/// What a session may miss in need: errors, answers, presence. Subscription requests are kept elsewhere.
fn is_dispensable(packet: &Packet) -> bool {
    matches!(
        packet.header.kind,
        Kind::Message(MessageType::Error)
            | Kind::Iq(IqType::Result | IqType::Error)
            | Kind::Presence(_)
    )
}

/// Somebody sent it who would want to know that it did not arrive.
fn is_answerable(packet: &Packet) -> bool {
    matches!(
        packet.header.kind,
        Kind::Message(MessageType::Chat | MessageType::Normal | MessageType::Groupchat)
    )
}

/// In place of an answer, an error that says that there is no room for it.
pub(super) fn refusal(answer: Packet) -> Packet {
    let request = Header {
        kind: Kind::Iq(IqType::Get),
        from: answer.header.to.clone(),
        to: answer.header.from.clone(),
        ..answer.header.clone()
    };
    reply(&request, &StanzaError::new(Condition::ResourceConstraint)).unwrap_or(answer)
}

impl ShardState {
    /// Queues a stanza that nobody keeps: an answer, a push, presence.
    pub(super) fn enqueue_plain(&mut self, jid: &Jid, packet: Packet, out: &mut Vec<Output>) {
        let item = Item::plain(packet, self.now);
        self.enqueue(jid, Arc::new(item), out);
        self.notice_queued(jid, None, false);
    }

    /// Queues the server's answer to a request of this session. If there is no room for it the client is told so,
    /// and if there is none even for that its session ends: the request counts as handled.
    pub(super) fn answer(&mut self, jid: &Jid, answer: Packet, out: &mut Vec<Output>) {
        if !self.is_over(jid) {
            return self.enqueue_plain(jid, answer, out);
        }
        let lacks_room = |state: &Self, packet: &Packet| {
            let bytes = Item::plain(packet.clone(), state.now).size();
            state.is_brimful(jid, bytes)
        };
        let answer = match lacks_room(self, &answer) {
            true => refusal(answer),
            false => answer,
        };
        if !lacks_room(self, &answer) {
            self.enqueue_plain(jid, answer, out);
        } else if !self.overflown.contains(jid) {
            self.overflown.push(jid.clone());
        }
    }

    /// Queues a stanza.
    pub(super) fn enqueue(&mut self, jid: &Jid, item: Arc<Item>, out: &mut Vec<Output>) {
        let settings = self.share_of(jid);
        let Some(session) = self.session_mut(jid) else {
            // It ended since it was chosen: what goes for its queue goes for this.
            return self.dispose_item(&jid.bare(), &item, settings.on_timeout.into(), out);
        };
        let (stanzas, bytes) = session.load();
        if settings.is_over(stanzas, bytes) {
            self.line_up_behind(jid, item, out);
        } else if session.behind.later.is_empty() {
            session.number(jid, item, out);
        } else {
            session.postpone(Later::Whole(item));
        }
    }

    /// The queue is over its bounds (SM-34, SM-40).
    fn line_up_behind(&mut self, jid: &Jid, item: Arc<Item>, out: &mut Vec<Output>) {
        let ticket = item.ticket();
        if ticket.is_some() && !item.archived && !item.offline {
            self.write_hidden(&jid.bare(), &item);
        }
        // Errors, answers and presence come unasked too; when nothing can stand for them and there is no
        // room, they are what a session can live without.
        let brimful = ticket.is_none() && self.is_brimful(jid, item.size());
        if brimful && is_dispensable(&item.packet) {
            return;
        }
        // Below that, answers to the session's own messages and requests stay.
        let copy = item.copy.is_some();
        let foreign = item.mid.is_some() || matches!(item.copy, Some(Copied::Carbon(_)));
        let refusable = match item.packet.header.kind {
            Kind::Message(kind) => kind != MessageType::Error && foreign,
            _ => false,
        };
        if refusable && ticket.is_none() && self.is_full(jid) {
            // Of a copy the sender hears only if nobody else holds the message.
            let told = match item.mid.filter(|_| item.shared) {
                Some(mid) => self.release_shared(&jid.bare(), mid, false),
                None => !copy,
            };
            if told && is_answerable(&item.packet) {
                self.bounce(&item.packet, Condition::ResourceConstraint, out);
            }
            return;
        }
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        if is_state(&item.packet) {
            session.forget_presence(item.packet.header.from.as_ref());
        }
        session.postpone(ticket.map_or(Later::Whole(item), Later::Ticket));
        self.note_overflow(jid);
    }

    /// The session's queue has reached its bounds.
    pub(super) fn is_over(&self, jid: &Jid) -> bool {
        let load = self.session(jid).map(Session::load);
        load.is_some_and(|(stanzas, bytes)| self.share_of(jid).is_over(stanzas, bytes))
    }

    /// The settings with the bytes that this session may hold: no more than the others of its account leave,
    /// but never less than its equal share, so that one that is away takes nothing from one that reads. All
    /// together hold no more than twice what the account may have.
    fn share_of(&self, jid: &Jid) -> Settings {
        let mut settings = self.settings;
        let most = settings.max_account_queue_bytes;
        let Some(user) = self.users.get(&jid.bare()).filter(|_| most != 0) else {
            return settings;
        };
        let others = user.sessions.iter();
        let others = others.filter(|(resource, _)| Some(*resource) != jid.resource());
        let taken: u64 = others.map(|(_, session)| session.load().1).sum();
        let equal = most / user.sessions.len().max(1) as u64;
        let share = most.saturating_sub(taken).max(equal).max(1);
        settings.max_queue_bytes = match settings.max_queue_bytes {
            0 => share,
            own => own.min(share),
        };
        settings
    }

    /// There is no room for stanzas that nothing can stand for.
    fn is_full(&self, jid: &Jid) -> bool {
        let most = self.share_of(jid).max_queue_bytes;
        most != 0
            && self
                .session(jid)
                .is_some_and(|s| s.behind.later_bytes >= most)
    }

    /// With so many more bytes the session would end.
    fn is_brimful(&self, jid: &Jid, more: u64) -> bool {
        let most = self.share_of(jid).max_queue_bytes.saturating_mul(2);
        let held = self.session(jid).map_or(0, |s| s.behind.later_bytes);
        most != 0 && held.saturating_add(more) > most
    }

    /// A session that holds more than anything can stand for ends, after the command that is being applied:
    /// others are in the middle of it.
    fn note_overflow(&mut self, jid: &Jid) {
        let settings = self.settings;
        let Some(session) = self.session(jid) else {
            return;
        };
        let ids = settings.max_queue_ids as usize;
        // What came before the queue was full may be as much again.
        let bytes = settings.max_queue_bytes.saturating_mul(2);
        let over = (ids != 0 && session.load().0 > ids)
            || (bytes != 0 && session.behind.later_bytes > bytes);
        if over && !self.overflown.contains(jid) {
            self.overflown.push(jid.clone());
        }
    }

    /// Ends the sessions that [`Self::note_overflow`] found.
    pub(super) fn end_overflown(&mut self, out: &mut Vec<Output>) {
        while let Some(jid) = self.overflown.pop() {
            self.end(&jid, EndReason::Overflow, out);
        }
    }

    /// Forgets stanzas below `upto`, which the client has.
    pub(super) fn trim_queue(&mut self, jid: &Jid, upto: u64) {
        let account = jid.bare();
        let (mut received, mut read) = (Vec::new(), Vec::new());
        while let Some(session) = self.session_mut(jid).filter(|s| s.base < upto) {
            let Some(item) = session.pop() else { break };
            if let Some(Copied::Result(mid)) = item.copy {
                read.push((item.order, mid));
            }
            received.extend(item.mid);
            if let Some(mid) = item.mid.filter(|_| item.shared) {
                self.release_shared(&account, mid, true);
            }
        }
        self.note_read(jid, read);
        self.forget_delivered(&account, Some(received));
    }

    /// Moves up what stands behind the queue, as far as there is room.
    pub(super) fn refill(&mut self, jid: &Jid, out: &mut Vec<Output>) {
        let settings = self.share_of(jid);
        while let Some(session) = self.session_mut(jid).filter(|s| s.is_stuck(&settings)) {
            if let Some(Later::Ticket(_)) = session.behind.later.front() {
                return self.read_back(jid);
            }
            if let Some(Later::Whole(item)) = session.advance() {
                session.number(jid, item, out);
            }
        }
    }

    /// Other bounds may leave more room.
    pub(super) fn refill_all(&mut self, out: &mut Vec<Output>) {
        let mut stuck = Vec::new();
        for (account, user) in self.users.iter() {
            let sessions = user.sessions.iter();
            let sessions = sessions.filter(|(_, s)| s.is_stuck(&self.settings));
            stuck.extend(sessions.map(|(r, _)| account.with_prepared_resource(r)));
        }
        for jid in stuck {
            self.refill(&jid, out);
        }
    }

    /// Has the bodies of the next few read.
    fn read_back(&mut self, jid: &Jid) {
        let Some(session) = self.session(jid) else {
            return;
        };
        let (mut mids, mut count, mut bytes) = (Vec::new(), 0, 0);
        for later in session.behind.later.iter().take(CHUNK) {
            if let Later::Ticket(ticket) = later {
                bytes += ticket.size();
                if !mids.is_empty() && bytes > CHUNK_BYTES {
                    break;
                }
                mids.push(ticket.mid());
            }
            count += 1;
        }
        let effect = self.add_effect(Effect::Fetch {
            session: jid.clone(),
            mids,
        });
        if let Some(session) = self.session_mut(jid) {
            session.behind.fetching = Some(Fetching { effect, count });
        }
    }

    /// Bodies have been read: their stanzas move up, in order. What is gone from the archive is left out. If `rest`
    /// brings more of them, what stands behind the last one that is here waits for it.
    pub(super) fn fetched(
        &mut self,
        jid: &Jid,
        effect: EffectId,
        messages: Vec<Fetched>,
        rest: Option<EffectId>,
        out: &mut Vec<Output>,
    ) {
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        let Some(fetching) = session.behind.fetching.take_if(|f| f.effect == effect) else {
            return;
        };
        let found: BTreeMap<Mid, Fetched> = messages.into_iter().map(|m| (m.mid, m)).collect();
        let (mut gone, mut hidden) = (Vec::new(), Vec::new());
        let count = match rest {
            None => fetching.count,
            Some(_) => session.reach(&found, fetching.count),
        };
        for _ in 0..count {
            match session.advance() {
                None => break,
                Some(Later::Whole(item)) => session.number(jid, item, out),
                // Two tickets may be of one message: its original and a carbon.
                Some(Later::Ticket(ticket)) => match found.get(&ticket.mid()) {
                    Some(message) => {
                        hidden.extend((!message.archived).then_some(message.mid));
                        session.number(jid, Arc::new(read(ticket, message)), out);
                    }
                    None => gone.push(ticket),
                },
            }
        }
        if let Some(effect) = rest {
            let count = fetching.count - count;
            session.behind.fetching = Some(Fetching { effect, count });
        }
        let account = jid.bare();
        if let Some(user) = self.users.get_mut(&account) {
            user.hidden.extend(hidden);
        }
        for ticket in gone.into_iter().filter(|t| t.body().is_shared()) {
            self.release_shared(&account, ticket.mid(), true);
        }
        self.refill(jid, out);
    }

    /// What waited for the account stands behind this session's queue from now on (IM-61), but for what its
    /// archive is just giving it: that waits until it has got it.
    pub(super) fn take_undelivered(&mut self, jid: &Jid, out: &mut Vec<Output>) {
        self.settle_read(jid);
        let Some(user) = self.users.get_mut(&jid.bare()) else {
            return;
        };
        let user = &mut **user;
        let session = jid.resource().and_then(|r| user.sessions.get_mut(r));
        let Some(session) = session.filter(|_| !user.undelivered.is_empty()) else {
            return;
        };
        let given = session.results();
        let mut moved = 0;
        user.undelivered.retain(|order, waiting| {
            let keep = given.contains(&waiting.mid);
            if !keep {
                moved += 1;
                let size = u64::from(waiting.size);
                let ticket = Ticket::new(waiting.mid, *order, size, Body::Waited);
                session.postpone(Later::Ticket(ticket));
            }
            keep
        });
        self.notice_marker(jid, false, moved);
        self.refill(jid, out);
    }
}

/// The stanza that a ticket stood for.
fn read(ticket: Ticket, message: &Fetched) -> Item {
    let body = ticket.body();
    Item {
        packet: message.packet.clone(),
        stamp: message.stamp,
        mid: Some(message.mid),
        archived: message.archived,
        offline: true,
        keep: body.keep(),
        shared: body.is_shared(),
        order: ticket.order(),
        copy: body.copy(),
    }
}

#[cfg(test)]
mod tests;
