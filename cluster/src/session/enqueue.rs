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

use std::sync::Arc;

use proto::Jid;
use proto::stanza::error::{Condition, StanzaError, reply};
use proto::stanza::{Header, IqType, Kind, MessageType, Packet};

use super::effect::{Effect, Fetched};
use super::notice::SessionEvent;
use super::output::{Copied, Event, Item};
use super::queue::{Later, Progress, Pushed, is_availability};
use super::reason::EndReason;
use super::session::Session;
use super::settings::Settings;
use super::state::ShardState;
use super::step::Step;
use crate::id::{ArchiveId, EffectId};

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
    pub(super) fn enqueue_plain(&mut self, jid: &Jid, packet: Packet, step: &mut Step) {
        let item = Item::plain(packet, self.now());
        self.enqueue(jid, Arc::new(item), step);
        self.notice_queued(jid, None, false, step);
    }

    /// Queues the server's answer to a request of this session. If there is no room for it the client is told so,
    /// and if there is none even for that its session ends: the request counts as handled.
    pub(super) fn answer(&mut self, jid: &Jid, answer: Packet, step: &mut Step) {
        if !self.is_over(jid) {
            return self.enqueue_plain(jid, answer, step);
        }
        let lacks_room = |state: &Self, packet: &Packet| {
            let bytes = Item::plain(packet.clone(), state.now()).size();
            state.is_brimful(jid, bytes)
        };
        let answer = match lacks_room(self, &answer) {
            true => refusal(answer),
            false => answer,
        };
        if !lacks_room(self, &answer) {
            self.enqueue_plain(jid, answer, step);
        } else {
            step.overflow(jid);
        }
    }

    /// Tells of a stanza for a session, if that hibernates.
    pub(super) fn notice_queued(
        &self,
        jid: &Jid,
        mid: Option<ArchiveId>,
        important: bool,
        step: &mut Step,
    ) {
        if let Some(sleeping) = self.session(jid).filter(|s| s.owner().is_none()) {
            let what = SessionEvent::StanzaQueued { mid, important };
            step.notice(jid, sleeping.smid().cloned(), what);
        }
    }

    /// Queues a stanza.
    pub(super) fn enqueue(&mut self, jid: &Jid, item: Arc<Item>, step: &mut Step) {
        let settings = self.share_of(jid);
        let Some(session) = self.session_mut(jid) else {
            // It ended since it was chosen: what goes for its queue goes for this.
            return self.dispose_item(&jid.bare(), &item, &settings.on_timeout.into(), step);
        };
        let is_owned = session.owner().is_some();
        match session.queue.push(item, &settings, is_owned) {
            Pushed::Numbered(seq, item) => {
                step.tell_owner(jid, session, Event::Stanza { seq, item });
            }
            Pushed::Deferred => {}
            Pushed::Refused(item) => self.line_up_behind(jid, item, step),
        }
    }

    /// The queue is over its bounds (SM-34, SM-40).
    fn line_up_behind(&mut self, jid: &Jid, item: Arc<Item>, step: &mut Step) {
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
        // Of an event whoever wants to know reads what was published.
        if matches!(item.copy, Some(Copied::Event(_))) && self.is_full(jid) {
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
                self.bounce(&item.packet, Condition::ResourceConstraint, step);
            }
            return;
        }
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        if is_availability(&item.packet) {
            let from = item.packet.header.from.as_ref();
            session.queue.forget_presence(from);
        }
        session
            .queue
            .defer(ticket.map_or(Later::Whole(item), Later::Ticket));
        self.note_overflow(jid, step);
    }

    /// The session's queue has reached its bounds.
    pub(super) fn is_over(&self, jid: &Jid) -> bool {
        let load = self.session(jid).map(|s| s.queue.load());
        load.is_some_and(|(stanzas, bytes)| self.share_of(jid).is_over(stanzas, bytes))
    }

    /// The settings with the bytes that this session may hold beside the others of its account.
    fn share_of(&self, jid: &Jid) -> Settings {
        let account = self.account(jid.bare_str());
        account.share_of(jid.resource(), *self.settings())
    }

    /// There is no room for stanzas that nothing can stand for.
    fn is_full(&self, jid: &Jid) -> bool {
        let most = self.share_of(jid).max_queue_bytes;
        most != 0
            && self
                .session(jid)
                .is_some_and(|s| s.queue.deferred_bytes() >= most)
    }

    /// With so many more bytes the session would end.
    fn is_brimful(&self, jid: &Jid, more: u64) -> bool {
        let most = self.share_of(jid).max_queue_bytes.saturating_mul(2);
        let held = self.session(jid).map_or(0, |s| s.queue.deferred_bytes());
        most != 0 && held.saturating_add(more) > most
    }

    /// A session that holds more than anything can stand for ends.
    fn note_overflow(&self, jid: &Jid, step: &mut Step) {
        let settings = *self.settings();
        let Some(session) = self.session(jid) else {
            return;
        };
        let ids = settings.max_queue_ids as usize;
        // What came before the queue was full may be as much again.
        let bytes = settings.max_queue_bytes.saturating_mul(2);
        let over = (ids != 0 && session.queue.load().0 > ids)
            || (bytes != 0 && session.queue.deferred_bytes() > bytes);
        if over {
            step.overflow(jid);
        }
    }

    /// Ends the sessions that [`Self::note_overflow`] found.
    pub(super) fn end_overflown(&mut self, step: &mut Step) {
        while let Some(jid) = step.take_overflown() {
            self.end(&jid, EndReason::Overflow, step);
        }
    }

    /// Forgets stanzas below `upto`, which the client has.
    pub(super) fn trim_queue(&mut self, jid: &Jid, upto: u64, step: &mut Step) {
        let account = jid.bare();
        let (mut received, mut read, mut waited) = (Vec::new(), Vec::new(), 0);
        let freed = self.session_mut(jid).map(|s| s.queue.acknowledge(upto));
        for item in freed.into_iter().flatten() {
            if let Some(Copied::Result(mid)) = item.copy {
                read.push((item.order, mid));
            }
            received.extend(item.mid);
            if let Some(mid) = item.mid.filter(|_| item.shared) {
                // It may wait for others at the same time.
                if let Some(user) = self.account_mut(&account) {
                    user.shared.release(mid, true);
                    waited += usize::from(user.no_longer_waits(item.order, mid));
                }
            }
        }
        step.notice_marker(jid, false, waited);
        self.note_read(jid, read, step);
        self.forget_delivered(&account, Some(received));
    }

    /// Moves up what stands behind the queue, as far as there is room, and has the bodies of the next few read.
    pub(super) fn refill(&mut self, jid: &Jid, step: &mut Step) {
        let settings = self.share_of(jid);
        while let Some(session) = self.session_mut(jid).filter(|s| s.owner().is_some()) {
            match session.queue.go_on(&settings, true) {
                None => return,
                Some(Progress::Numbered(seq, item)) => {
                    step.tell_owner(jid, session, Event::Stanza { seq, item });
                }
                Some(Progress::Bodies(mids, count)) => {
                    let effect = self.add_effect(Effect::Fetch {
                        session: jid.clone(),
                        mids,
                    });
                    if let Some(session) = self.session_mut(jid) {
                        session.queue.await_bodies(effect, count);
                    }
                    return;
                }
            }
        }
    }

    /// Other bounds may leave more room.
    pub(super) fn refill_all(&mut self, step: &mut Step) {
        let mut stuck = Vec::new();
        for (account, user) in self.users().iter() {
            let sessions = user.sessions.iter();
            let sessions = sessions.filter(|(_, s)| s.is_stuck(self.settings()));
            stuck.extend(sessions.map(|(r, _)| account.with_prepared_resource(r)));
        }
        for jid in stuck {
            self.refill(&jid, step);
        }
    }

    /// Bodies have been read: what waited for them moves up. `rest` brings more of them.
    pub(super) fn fetched(
        &mut self,
        jid: &Jid,
        effect: EffectId,
        messages: Vec<Fetched>,
        rest: Option<EffectId>,
        step: &mut Step,
    ) {
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        let is_owned = session.owner().is_some();
        let Some(arrived) = session.queue.arrive(effect, messages, rest, is_owned) else {
            return;
        };
        for (seq, item) in arrived.numbered {
            step.tell_owner(jid, session, Event::Stanza { seq, item });
        }
        let account = jid.bare();
        if let Some(user) = self.account_mut(&account) {
            for mid in arrived.hidden {
                user.hide(mid);
            }
        }
        let gone = arrived.gone.into_iter();
        for ticket in gone.filter(|ticket| ticket.body().is_shared()) {
            self.release_shared(&account, ticket.archive_id(), true);
        }
        self.refill(jid, step);
    }

    /// What waited for the account stands behind this session's queue from now on (IM-61), but for what its
    /// archive is just giving it: that waits until it has got it.
    pub(super) fn take_undelivered(&mut self, jid: &Jid, step: &mut Step) {
        self.settle_read(jid, step);
        if self.account(jid.bare_str()).waits() == 0 {
            return;
        }
        let Some(given) = self.session(jid).map(Session::results) else {
            return;
        };
        let Some(user) = self.account_mut(jid.bare_str()) else {
            return;
        };
        let moved = user.give_waiting(jid.resource().unwrap_or_default(), given);
        step.notice_marker(jid, false, moved);
        self.refill(jid, step);
    }
}

#[cfg(test)]
mod tests;
