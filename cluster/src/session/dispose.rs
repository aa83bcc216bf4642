//! The end of a session: contacts are told once, what it did not get finds another way (SM-62…65).

use proto::stanza::error::{Condition, StanzaError, reply};
use proto::stanza::{Header, IqType, Kind, MessageType, Packet, PresenceType};
use proto::{BareJid, Jid};

use super::state::{Old, Session, ShardState, Waiting};
use super::*;
use crate::id::Mid;

impl ShardState {
    /// Ends a session in full. Does nothing if there is none.
    pub(super) fn end(&mut self, jid: &Jid, reason: EndReason, out: &mut Vec<Output>) {
        let account = jid.bare();
        let Some(user) = self.users.get_mut(&account) else {
            return;
        };
        let Some(session) = jid.resource().and_then(|r| user.sessions.remove(r)) else {
            return;
        };
        out.extend(session.owner.map(|owner| Output {
            owner,
            session: jid.clone(),
            epoch: session.epoch,
            event: Event::Detached(Detached::Ended(reason)),
        }));
        if let Some(sleep) = session.hibernation {
            self.deadlines.remove(&(sleep.until, jid.clone()));
        }
        let smid = session.sm.as_ref().and_then(|sm| sm.smid.clone());
        self.notice(jid, smid, Occasion::Ended(reason));
        self.remember(&account, &session);
        self.say_unavailable(jid, &session, out);
        let waited = self.undelivered(&account);
        self.dispose(&account, session, out);
        let wait = self.undelivered(&account).saturating_sub(waited);
        self.notice_marker(jid, true, wait);
        self.forget_delivered(&account);
        self.tidy(&account);
    }

    /// Keeps the inbound count of a session that could have been resumed (SM-47).
    fn remember(&mut self, account: &BareJid, session: &Session) {
        let Some(smid) = session.sm.as_ref().and_then(|sm| sm.smid.clone()) else {
            return;
        };
        let until = self.time + self.settings.old_session_ttl;
        if let Some(user) = self.users.get_mut(account) {
            user.old.push_back(Old {
                smid,
                h: session.h(),
                until,
            });
            self.forgets.insert((until, account.clone()));
            self.enforce_old(account);
        }
    }

    /// Subscribers hear of it through an effect, which knows the roster; the others at once (IM-41, IM-47).
    fn say_unavailable(&mut self, jid: &Jid, session: &Session, out: &mut Vec<Output>) {
        let packet = Packet {
            header: Header {
                kind: Kind::Presence(PresenceType::Unavailable),
                from: Some(jid.clone()),
                to: None,
                id: None,
                lang: None,
            },
            payload: bytes::Bytes::new(),
        };
        if session.presence.is_some() {
            self.show_to_own(&jid.bare(), &packet, out);
            self.add_effect(Effect::Unavailable {
                packet: packet.clone(),
            });
        }
        for to in &session.directed {
            let relay = Relay::Presence {
                packet: packet.clone(),
                to: vec![to.clone()],
            };
            self.dispatch(&to.bare(), relay, out);
        }
    }

    fn dispose(&mut self, account: &BareJid, session: Session, out: &mut Vec<Output>) {
        let mut held = session.queue;
        if let Some(fetching) = session.fetching {
            // Its effect completes into nothing; the messages wait again.
            self.pending.remove(&fetching.effect);
            let user = self.users.entry(account.clone()).or_default();
            user.undelivered.extend(fetching.waiting);
            held.extend(fetching.held);
        }
        for item in held {
            match item.packet.header.kind {
                Kind::Message(MessageType::Normal | MessageType::Chat) if item.keep => {
                    self.dispose_message(account, &item, out);
                }
                Kind::Message(MessageType::Groupchat) => {
                    self.bounce(&item.packet, Condition::RecipientUnavailable, out);
                }
                Kind::Iq(IqType::Get | IqType::Set) => {
                    self.bounce(&item.packet, Condition::ServiceUnavailable, out);
                }
                Kind::Message(_) | Kind::Presence(_) | Kind::Iq(_) => {}
            }
        }
    }

    fn dispose_message(&mut self, account: &BareJid, item: &Item, out: &mut Vec<Output>) {
        let Some(mid) = item.mid else { return };
        if item.shared && !self.release_shared(account, mid, false) {
            return;
        }
        match self.settings.on_timeout {
            OnTimeout::Archive => self.keep(account, item, mid),
            OnTimeout::Bounce => self.bounce(&item.packet, Condition::RecipientUnavailable, out),
            OnTimeout::Silent => {}
        }
    }

    /// The message waits for the account's next session: the marker moves back to it if need be.
    fn keep(&mut self, account: &BareJid, item: &Item, mid: Mid) {
        if !item.archived && !item.offline {
            let row = ArchiveRow {
                owner: account.clone(),
                mid,
                order: item.order,
                with: item
                    .packet
                    .header
                    .from
                    .clone()
                    .unwrap_or_else(|| account.into()),
                stamp: item.stamp,
                hidden: true,
                packet: item.packet.clone(),
            };
            self.add_effect(Effect::Archive(row));
        }
        let waiting = Waiting {
            mid,
            hidden: !item.archived,
        };
        self.users
            .entry(account.clone())
            .or_default()
            .wait(item.order, waiting);
    }

    /// One holder of a shared message lets go of it. True if it was the last and none has acknowledged.
    pub(super) fn release_shared(
        &mut self,
        account: &BareJid,
        mid: Mid,
        acknowledged: bool,
    ) -> bool {
        let Some(user) = self.users.get_mut(account) else {
            return true;
        };
        let Some(shared) = user.shared.get_mut(&mid) else {
            return !acknowledged;
        };
        shared.holders = shared.holders.saturating_sub(1);
        shared.acknowledged |= acknowledged;
        let (last, nobody) = (shared.holders == 0, !shared.acknowledged);
        if last {
            user.shared.remove(&mid);
        }
        last && nobody
    }

    /// Tells the sender, once, that a stanza did not arrive. Never answers errors (SM-65).
    pub(super) fn bounce(&mut self, packet: &Packet, condition: Condition, out: &mut Vec<Output>) {
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
                mid: Mid(0),
                traits: Traits::default(),
            }),
        };
        self.dispatch(&to.bare(), relay, out);
    }
}
