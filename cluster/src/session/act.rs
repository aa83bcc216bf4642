//! What a client's stanzas do.

use std::sync::Arc;

use proto::Jid;
use proto::stanza::error::Condition;
use proto::stanza::{Header, IqType, Kind, Packet, PresenceType};

use super::action::{Action, PresenceUpdate};
use super::command::{Inbound, Outcome};
use super::effect::{ArchiveRow, Effect};
use super::enqueue::refusal;
use super::output::{Copied, Direction, Item};
use super::question::Standing;
use super::relay::{Message, Relay};
use super::state::ShardState;
use super::step::Step;
use crate::id::Order;

impl ShardState {
    pub(super) fn inbound(&mut self, inbound: Inbound, step: &mut Step) -> Outcome {
        let jid = inbound.session;
        for (k, actions) in (inbound.first..).zip(inbound.stanzas) {
            let Some(session) = self.owned(&jid, inbound.epoch) else {
                return Outcome::Stale;
            };
            match session.take_in(k) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(expected) => return Outcome::Gap { expected },
            }
            for action in actions {
                self.act(&jid, action, step);
            }
        }
        match self.session(&jid) {
            Some(session) if session.epoch() == inbound.epoch => Outcome::Handled {
                next: session.next_in(),
            },
            _ => Outcome::Stale,
        }
    }

    fn act(&mut self, jid: &Jid, action: Action, step: &mut Step) {
        match action {
            Action::Reply(packet) => self.answer(jid, packet, step),
            Action::Send(relay) if self.holds_back(jid, &relay, step) => {}
            Action::Send(relay) if self.turns_back(&relay, step) => {}
            Action::Send(Relay::Message(message)) => self.send_message(jid, message, step),
            Action::Send(Relay::Iq { packet, permitted }) => {
                self.send_iq(jid, packet, permitted, step);
            }
            Action::Send(relay) => self.send(relay, step),
            Action::Presence(update) if self.keeps_away(jid, &update) => {
                let packet = update.packet;
                self.refuse_presence(jid, packet, step);
            }
            Action::Presence(update) => self.presence(jid, update, step),
            Action::Directed(packet) if self.holds_back_presence(jid, &packet, step) => {}
            Action::Directed(packet) if self.is_in_vain(jid, &packet) => {
                self.refuse_presence(jid, packet, step);
            }
            Action::Directed(packet) => self.directed(jid, packet, step),
            Action::Carbons(on) => {
                if let Some(session) = self.session_mut(jid) {
                    session.set_carbons(on);
                }
            }
            Action::Interested => {
                if let Some(session) = self.session_mut(jid) {
                    session.set_interested();
                }
            }
            Action::PushEnabled(on) => self.set_push(jid, on),
            Action::Result { mid, order, packet } => {
                self.enqueue_result(jid, (mid, order), packet, step);
            }
            Action::FollowsBlocklist => {
                if let Some(session) = self.session_mut(jid) {
                    session.follow_blocklist();
                }
            }
            Action::Blocklist(update) => self.change_blocklist(jid, update, step),
            Action::BlocklistAt(revision) => self.confirm_blocklist(&jid.bare(), revision),
            Action::ArchiveStated => self.account_or_new(jid.bare()).archive_stated = true,
            Action::Interest(nodes) => self.take_interest(jid, nodes),
        }
    }

    /// What a client sends to a shard that takes nothing comes back before it is acknowledged, but for what takes
    /// something back and for answers. Nobody is told of a client's own error message.
    pub(super) fn turns_back(&mut self, relay: &Relay, step: &mut Step) -> bool {
        let packet = match relay {
            Relay::Message(message) => &message.packet,
            Relay::Iq { packet, .. } | Relay::Subscription(packet) => packet,
            _ => return false,
        };
        let answers = matches!(packet.header.kind, Kind::Iq(IqType::Result | IqType::Error));
        let refused = !answers && self.is_out_of_reach(packet);
        if refused {
            self.bounce(packet, Condition::ResourceConstraint, step);
        }
        refused
    }

    /// Sends a request, or the answer to one. A shard that takes nothing is told that there was no room for the
    /// answer, which takes less than the request did; what answers nothing does not go there at all.
    fn send_iq(&mut self, jid: &Jid, packet: Packet, permitted: bool, step: &mut Step) {
        let cut_off = |to: &Jid| self.is_cut_off(&to.bare());
        let cut_off = packet.header.to.as_ref().is_some_and(cut_off);
        let session = self.session_mut(jid);
        let standing = session.map_or_else(
            || Standing::without_session(&packet.header),
            |session| session.rare.note_answer(&packet.header),
        );
        let packet = match standing {
            Standing::Settled => return,
            Standing::Request if !self.may_ask(jid, &packet.header) => {
                return self.bounce(&packet, Condition::ResourceConstraint, step);
            }
            Standing::Unasked if cut_off => return,
            Standing::Awaited if cut_off => refusal(packet),
            Standing::Request | Standing::Awaited | Standing::Unasked => packet,
        };
        self.send(Relay::Iq { packet, permitted }, step);
    }

    /// Notes a request of the session's client: whether it may make it.
    fn may_ask(&mut self, jid: &Jid, header: &Header) -> bool {
        let session = self.session_mut(jid);
        session.is_none_or(|session| session.rare.note_asked(header))
    }

    /// Its addressee's shard takes nothing.
    pub(super) fn is_out_of_reach(&self, packet: &Packet) -> bool {
        let Some(to) = &packet.header.to else {
            return false;
        };
        match packet.header.kind {
            // Each takes back what was accepted before, once.
            Kind::Presence(PresenceType::Unavailable | PresenceType::Unsubscribed) => false,
            // It may be said for no reason, and be said again.
            Kind::Presence(PresenceType::Unsubscribe) => self.is_flooded(&to.bare()),
            _ => self.is_cut_off(&to.bare()),
        }
    }

    /// Directed presence that would go to a shard which takes nothing, without taking anything back.
    fn is_in_vain(&self, jid: &Jid, packet: &Packet) -> bool {
        let gone = packet.header.kind == Kind::Presence(PresenceType::Unavailable);
        let shown = |to: &Jid| self.session(jid).is_some_and(|s| s.directed().contains(to));
        let to = packet.header.to.as_ref();
        let nothing = |to: &Jid| gone && !shown(to) && self.is_cut_off(&to.bare());
        self.is_out_of_reach(packet) || to.is_some_and(nothing)
    }

    /// A presence that would go to a shard that takes nothing is not shown to anybody.
    fn keeps_away(&self, jid: &Jid, update: &PresenceUpdate) -> bool {
        let available = update.packet.header.kind == Kind::Presence(PresenceType::Available);
        let mut reached = update.subscribers.iter().chain(&update.probes);
        available && self.session(jid).is_some() && reached.any(|account| self.is_cut_off(account))
    }

    /// The client is told that its presence was not taken.
    fn refuse_presence(&mut self, jid: &Jid, mut packet: Packet, step: &mut Step) {
        packet.header.from = Some(jid.clone());
        let to = packet.header.to.take();
        packet.header.to = to.or_else(|| Some(Jid::from(&jid.bare())));
        self.bounce(&packet, Condition::ResourceConstraint, step);
    }

    /// Sends to whichever shard, or shards, the addressees live in.
    pub(super) fn send(&mut self, relay: Relay, step: &mut Step) {
        let account = match &relay {
            Relay::Message(m) => m.packet.header.to.as_ref().map(Jid::bare),
            Relay::Iq { packet, .. } | Relay::Subscription(packet) => {
                packet.header.to.as_ref().map(Jid::bare)
            }
            Relay::RosterPush { account, .. }
            | Relay::Announcement { account, .. }
            | Relay::Hidden { account, .. }
            | Relay::NoPush { account, .. }
            | Relay::Unkept { account, .. }
            | Relay::Blocklist { account, .. }
            | Relay::Revealed { account, .. }
            | Relay::EndAll { account, .. } => Some(account.clone()),
            Relay::LastEvents { session, .. } | Relay::End { session, .. } => Some(session.bare()),
            Relay::Presence { .. }
            | Relay::Probe { .. }
            | Relay::Event { .. }
            | Relay::Broadcast { .. } => None,
        };
        match (relay, account) {
            (Relay::Presence { packet, to }, _) => self.spread_presence(&packet, to, step),
            (Relay::Probe { from, to }, _) => self.spread_probe(&from, to, step),
            (Relay::Event { event, to }, _) => self.spread_event(&event, to, step),
            (Relay::Broadcast { id, packet, .. }, _) => self.spread_broadcast(id, &packet, step),
            (relay, Some(account)) => self.dispatch(&account, relay, step),
            (_, None) => {}
        }
    }

    /// Archive and carbons of the sender first, then on to the recipient.
    fn send_message(&mut self, jid: &Jid, message: Message, step: &mut Step) {
        let account = jid.bare();
        let Some(to) = message.packet.header.to.clone() else {
            return;
        };
        if to.bare() != account {
            let archived = message.traits.archive_sent && self.may_archive(&account);
            let order = match archived {
                true => self.take_order(),
                false => Order::default(),
            };
            if archived {
                let row = ArchiveRow {
                    owner: account.clone(),
                    mid: message.mid,
                    order,
                    with: to.clone(),
                    stamp: self.now(),
                    hidden: false,
                    packet: message.packet.clone(),
                };
                self.add_effect(Effect::Archive(row));
            }
            if message.traits.carbon {
                let copy = Arc::new(Item {
                    mid: archived.then_some(message.mid),
                    archived,
                    order,
                    copy: Some(Copied::Carbon(Direction::Sent)),
                    ..Item::plain(message.packet.clone(), self.now())
                });
                let known = self.account(&account);
                for other in known.carbon_sessions(&account, std::slice::from_ref(jid)) {
                    self.enqueue(&other, copy.clone(), step);
                    self.notice_queued(&other, None, false, step);
                }
            }
        }
        self.dispatch(&to.bare(), Relay::Message(message), step);
    }

    fn directed(&mut self, jid: &Jid, packet: Packet, step: &mut Step) {
        let Some(to) = packet.header.to.clone() else {
            return;
        };
        let settings = *self.settings();
        if let Some(session) = self.session_mut(jid) {
            match packet.header.kind {
                // One that is not remembered would never be taken back: it is not sent either (T-51).
                Kind::Presence(PresenceType::Available) if !session.has_place(&to, &settings) => {
                    return self.bounce(&packet, Condition::PolicyViolation, step);
                }
                Kind::Presence(PresenceType::Available) => {
                    session.direct_to(to.clone());
                }
                Kind::Presence(PresenceType::Unavailable) => {
                    session.take_back_from(&to);
                }
                _ => {}
            }
        }
        self.dispatch(
            &to.bare(),
            Relay::Presence {
                packet,
                to: vec![to],
            },
            step,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, packet, stanzas};
    use super::*;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";

    /// Alice directs presence to so many addresses of bob's; how many she is told are too many.
    fn refused(settings: impl Fn(&mut Settings), count: usize) -> usize {
        let mut stage = Stage::new();
        settings(&mut stage.settings);
        stage.bind(ALICE, None);
        stage.bind("bob@example.org/00", Some(0));
        let mut refused = 0;
        for n in 0..count {
            let to = format!("bob@example.org/{n:02}");
            let kind = Kind::Presence(PresenceType::Available);
            for _ in 0..2 {
                let outputs = stage.act(ALICE, Action::Directed(packet(kind, ALICE, Some(&to))));
                let error = (ALICE.to_owned(), Kind::Presence(PresenceType::Error));
                refused += usize::from(stanzas(&outputs).contains(&error));
            }
        }
        let session = stage.state.session(&ALICE.parse().expect("valid"));
        let directed = session.expect("bound").directed().len();
        assert_eq!(directed + refused / 2, count, "what is sent is remembered");
        refused / 2
    }

    #[test]
    fn t_51_directed_presence_is_bounded_in_number_and_bytes_and_the_client_is_told() {
        for (count, expect) in [(2, 0), (3, 0), (4, 1)] {
            assert_eq!(refused(|settings| settings.max_directed = 3, count), expect);
            // Eighteen bytes each.
            let bytes = |settings: &mut Settings| settings.max_directed_bytes = 3 * 18;
            assert_eq!(refused(bytes, count), expect);
        }
    }
}
