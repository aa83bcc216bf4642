//! The end of a session: contacts are told once, what it did not get finds another way (SM-62…65).

use std::collections::BTreeSet;

use proto::stanza::error::{Condition, StanzaError, reply};
use proto::stanza::{Kind, MessageType, Packet};
use proto::{BareJid, Jid};

use super::account::Waiting;
use super::effect::Effect;
use super::notice::SessionEvent;
use super::old::Old;
use super::output::{Detached, Event, Item};
use super::queue::{Body, Later, Ticket};
use super::reason::EndReason;
use super::relay::{Message, Relay, Traits};
use super::session::Session;
use super::settings::OnTimeout;
use super::state::ShardState;
use super::step::Step;
use crate::id::{ArchiveId, Order};

/// Messages that one effect returns. Few, so that what follows from them makes small entries, between which others get
/// their turn. Who carries the effect out splits what is still too large for an entry.
const AT_ONCE: usize = 8;

impl ShardState {
    /// Ends a session in full, and tells whoever acts for it. Does nothing if there is none.
    pub(super) fn end(&mut self, jid: &Jid, reason: EndReason, step: &mut Step) {
        let Some(session) = self.remove_session(jid) else {
            return;
        };
        let event = Event::Detached(Detached::Ended(reason));
        step.tell_owner(jid, &session, event);
        self.over(jid, session, reason, step);
    }

    /// What follows from the end of a session that is no longer there.
    pub(super) fn over(&mut self, jid: &Jid, session: Session, reason: EndReason, step: &mut Step) {
        let account = jid.bare();
        step.notice(jid, session.smid().cloned(), SessionEvent::Ended(reason));
        self.remember(&account, &session, reason);
        self.note_over(jid, &session);
        self.say_unavailable(jid, &session, step);
        let mut fate = match reason {
            EndReason::Conflict => Fate::AWAITED,
            EndReason::Removed => Fate::RETURNED,
            _ => self.settings().on_timeout.into(),
        };
        if fate.rule == OnTimeout::Archive {
            // Who binds the same name again waits for nobody, awake or asleep.
            let only_asleep = reason != EndReason::Conflict;
            fate.left = self.account(&account).left_to_others(&session, only_asleep);
        }
        let waited = self.undelivered(&account);
        self.dispose(jid, session, &fate, step);
        let wait = self.undelivered(&account).saturating_sub(waited);
        step.notice_marker(jid, true, wait);
        self.forget_delivered(&account, None);
        self.tidy(&account);
    }

    /// Keeps the inbound count of a session that could have been resumed (SM-47). A client that closed its stream
    /// does not ask for it; one that was sent away may, and makes room first for those whose time was over.
    fn remember(&mut self, account: &BareJid, session: &Session, reason: EndReason) {
        let smid = session.smid().cloned();
        let Some(smid) = smid.filter(|_| reason != EndReason::Closed) else {
            return;
        };
        let until = self.time().after(self.settings().old_session_ttl);
        let h = session.h();
        self.change_old(account, |old| match reason {
            EndReason::Expired | EndReason::Limit => old.add(Old { smid, h, until }),
            _ => old.add_first(Old { smid, h, until }),
        });
    }

    /// What a session did not acknowledge finds another way, kind by kind (SM-63).
    fn dispose(&mut self, jid: &Jid, session: Session, fate: &Fate, step: &mut Step) {
        let account = jid.bare();
        // Whoever still waits for an answer of the session gets one from the server.
        for question in session.rare.open() {
            self.bounce(&question.packet(jid), Condition::ServiceUnavailable, step);
        }
        if let Some(effect) = session.queue.awaits() {
            self.effects_mut().remove(effect);
        }
        let mut returned = Vec::new();
        let (numbered, deferred) = session.queue.into_stanzas();
        // What follows from many stanzas is too much for one entry: those that can be read back are returned by and by.
        let many = numbered.len() + deferred.len() > AT_ONCE;
        let numbered = numbered.into_iter().map(Later::Whole);
        for later in numbered.chain(deferred) {
            match later {
                Later::Whole(item) if many && item.is_returnable(fate) => {
                    let mid = item
                        .mid
                        .filter(|mid| !item.shared || self.release_shared(&account, *mid, false));
                    returned.extend(mid);
                }
                Later::Whole(item) => self.dispose_item(&account, &item, fate, step),
                Later::Ticket(ticket) => {
                    let mid = self.dispose_ticket(&account, ticket, fate, step);
                    returned.extend(mid);
                }
            }
        }
        for mids in returned.chunks(AT_ONCE) {
            self.add_effect(Effect::Return {
                account: account.clone(),
                mids: mids.to_vec(),
            });
        }
    }

    pub(super) fn dispose_item(
        &mut self,
        account: &BareJid,
        item: &Item,
        fate: &Fate,
        step: &mut Step,
    ) {
        // A copy that stands for itself alone, and what was read in an archive, had its time.
        if item.copy.is_some() && !item.shared {
            return;
        }
        match (item.packet.header.kind, item.mid) {
            (Kind::Message(MessageType::Normal | MessageType::Chat), Some(mid)) => {
                self.dispose_message(account, item, mid, fate, step);
            }
            // A room learns that its occupant is gone (IM-7).
            (Kind::Message(MessageType::Groupchat), Some(_)) => {
                self.bounce(&item.packet, Condition::RecipientUnavailable, step);
            }
            // Headlines, errors and presence too. Requests are answered by themselves.
            (Kind::Message(_) | Kind::Presence(_) | Kind::Iq(_), _) => {}
        }
    }

    fn dispose_message(
        &mut self,
        account: &BareJid,
        item: &Item,
        mid: ArchiveId,
        fate: &Fate,
        step: &mut Step,
    ) {
        // What others hold finds its way as if they did not, but its sender hears of it only when they end too.
        let left = fate.left.contains(&mid);
        if item.shared && !left && !self.release_shared(account, mid, false) {
            return;
        }
        if fate.rule == OnTimeout::Archive {
            if fate.passed_on && self.pass_on(account, item, mid, step) {
                if left {
                    self.release_shared(account, mid, false);
                }
                return;
            }
            if item.keep {
                if !item.archived && !item.offline {
                    self.write_hidden(account, item);
                }
                self.put_aside(account, mid, item.order, item.size());
                return;
            }
        }
        if left {
            self.release_shared(account, mid, false);
            return;
        }
        let told = match fate.rule {
            OnTimeout::Bounce => true,
            OnTimeout::Archive => item.is_missed(),
            OnTimeout::Silent => false,
        };
        if told {
            self.bounce(&item.packet, Condition::RecipientUnavailable, step);
        }
    }

    /// The message, if it is to be read back and returned.
    fn dispose_ticket(
        &mut self,
        account: &BareJid,
        ticket: Ticket,
        fate: &Fate,
        step: &mut Step,
    ) -> Option<ArchiveId> {
        let (mid, body) = (ticket.archive_id(), ticket.body());
        let left = fate.left.contains(&mid);
        if matches!(body, Body::Carbon(_))
            || (body.is_shared() && !left && !self.release_shared(account, mid, false))
        {
            return None;
        }
        if body == Body::Waited || (body.keep() && fate.rule == OnTimeout::Archive) {
            if !fate.passed_on || !self.pass_on_ticket(account, ticket, step) {
                self.put_aside(account, mid, ticket.order(), ticket.size());
            } else if left {
                self.release_shared(account, mid, false);
            }
            return None;
        }
        (fate.rule == OnTimeout::Bounce).then_some(mid)
    }

    /// The message waits for the account's next session: the marker moves back to it if need be.
    fn put_aside(&mut self, account: &BareJid, mid: ArchiveId, order: Order, size: u64) {
        let user = self.account_or_new(account.clone());
        let waiting = Waiting {
            mid,
            hidden: user.is_hidden(mid),
            size: u32::try_from(size).unwrap_or(u32::MAX),
        };
        user.wait(order, waiting);
    }

    /// One holder of a shared message lets go of it. True if it was the last and none has acknowledged.
    pub(super) fn release_shared(
        &mut self,
        account: &BareJid,
        mid: ArchiveId,
        acknowledged: bool,
    ) -> bool {
        let known = self.account_mut(account);
        known.is_none_or(|known| known.shared.release(mid, acknowledged))
    }

    /// Tells the sender, once, that a stanza did not arrive. Never answers errors (SM-65).
    pub(super) fn bounce(&mut self, packet: &Packet, condition: Condition, step: &mut Step) {
        let Some(error) = reply(&packet.header, &StanzaError::new(condition)) else {
            return;
        };
        let Some(to) = error.header.to.clone().filter(|to| to.local().is_some()) else {
            return;
        };
        let relay = match error.header.kind {
            Kind::Iq(_) => Relay::Iq {
                packet: error,
                permitted: true,
            },
            Kind::Presence(_) => Relay::Presence {
                packet: error,
                to: vec![to.clone()],
            },
            Kind::Message(_) => Relay::Message(Message {
                packet: error,
                mid: ArchiveId(0),
                traits: Traits::default(),
            }),
        };
        self.dispatch(&to.bare(), relay, step);
    }
}

/// Something is said to somebody, rather than signalled.
pub(super) fn has_body(packet: &Packet) -> bool {
    // Our own writer made the payload, and in it no other element of a message begins like this.
    packet.payload.windows(5).any(|bytes| bytes == b"<body")
}

/// What becomes of what a session did not acknowledge.
#[derive(Debug)]
pub(super) struct Fate {
    rule: OnTimeout,
    /// The account's other sessions come before a later one.
    passed_on: bool,
    /// Messages that others hold too, and that go where they would go if those did not: the others sleep, perhaps for
    /// ever, or the same user is there again.
    left: BTreeSet<ArchiveId>,
}

impl Fate {
    /// Who binds the same name again is the same user: what the old session did not get is theirs.
    const AWAITED: Self = Self {
        rule: OnTimeout::Archive,
        passed_on: false,
        left: BTreeSet::new(),
    };
    /// The account is gone: there is no later session, and none of the others stays.
    const RETURNED: Self = Self {
        rule: OnTimeout::Bounce,
        passed_on: false,
        left: BTreeSet::new(),
    };
}

impl From<OnTimeout> for Fate {
    fn from(rule: OnTimeout) -> Self {
        Self {
            rule,
            passed_on: true,
            left: BTreeSet::new(),
        }
    }
}

impl Item {
    /// It goes back to its sender, and the archive has it and will keep it.
    fn is_returnable(&self, fate: &Fate) -> bool {
        let kind = self.packet.header.kind;
        let own = self.copy.is_none() || self.shared;
        let said = matches!(kind, Kind::Message(MessageType::Normal | MessageType::Chat));
        fate.rule == OnTimeout::Bounce
            && fate.passed_on
            && said
            && own
            && self.archived
            && self.mid.is_some()
    }

    /// Nothing keeps it, and its sender would want to know that it did not arrive: something is said to
    /// somebody, rather than signalled.
    pub(super) fn is_missed(&self) -> bool {
        let said = Kind::Message(MessageType::Chat) == self.packet.header.kind
            || Kind::Message(MessageType::Normal) == self.packet.header.kind;
        said && !self.archived && has_body(&self.packet)
    }
}

#[cfg(test)]
mod tests;
