//! What does not pass between an account and whom it has blocked, in either direction (XEP-0191 §3).

use proto::Jid;
use proto::payload::blocking::refusal;
use proto::stanza::error::{Condition, reply};
use proto::stanza::{Header, IqType, Kind, MessageType, Packet, PresenceType};

use super::relay::Relay;
use super::state::ShardState;
use super::step::Step;

impl ShardState {
    /// Something comes from somebody whom its account has blocked: it ends here. Who asks or says something hears
    /// the same as of an account that is not there (IM-69).
    pub(super) fn turns_away(&mut self, relay: &Relay, step: &mut Step) -> bool {
        let packet = match relay {
            Relay::Message(message) => &message.packet,
            Relay::Iq { packet, .. } | Relay::Subscription(packet) => packet,
            _ => return false,
        };
        let Header { kind, from, to, .. } = &packet.header;
        let (Some(from), Some(to)) = (from, to) else {
            return false;
        };
        if !self.has_blocked(to, from) {
            return false;
        }
        match kind {
            Kind::Message(MessageType::Normal | MessageType::Chat)
            | Kind::Iq(IqType::Get | IqType::Set) => {
                self.bounce(packet, Condition::ServiceUnavailable, step);
            }
            // The client waits for it no longer.
            Kind::Iq(IqType::Result | IqType::Error) => {
                if let Some(session) = self.session_mut(to) {
                    session.rare.note_answered(&packet.header);
                }
            }
            Kind::Message(_) | Kind::Presence(_) => {}
        }
        true
    }

    /// A client writes to somebody whom its account has blocked: it does not leave (IM-70).
    pub(super) fn holds_back(&mut self, jid: &Jid, relay: &Relay, step: &mut Step) -> bool {
        let packet = match relay {
            Relay::Message(message) => &message.packet,
            Relay::Iq { packet, .. } => packet,
            Relay::Presence { packet, .. } => {
                let error = packet.header.kind == Kind::Presence(PresenceType::Error);
                return error && self.is_to_blocked(jid, packet);
            }
            _ => return false,
        };
        if !self.is_to_blocked(jid, packet) {
            return false;
        }
        if matches!(packet.header.kind, Kind::Iq(IqType::Result | IqType::Error)) {
            self.answer_instead(jid, packet, step);
        }
        self.refuse_blocked(jid, packet, step);
        true
    }

    /// The same of directed presence. What takes it back passes: it says less than was said before.
    pub(super) fn holds_back_presence(
        &mut self,
        jid: &Jid,
        packet: &Packet,
        step: &mut Step,
    ) -> bool {
        let available = packet.header.kind == Kind::Presence(PresenceType::Available);
        let held = available && self.is_to_blocked(jid, packet);
        if held {
            self.refuse_blocked(jid, packet, step);
        }
        held
    }

    fn is_to_blocked(&self, jid: &Jid, packet: &Packet) -> bool {
        let to = packet.header.to.as_ref();
        to.is_some_and(|to| self.has_blocked(jid, to))
    }

    /// The client is told, unless its stanza is of a kind that no error answers.
    fn refuse_blocked(&mut self, jid: &Jid, packet: &Packet, step: &mut Step) {
        if let Some(error) = reply(&packet.header, &refusal()) {
            self.answer(jid, error, step);
        }
    }

    /// Who has asked before being blocked gets an answer, but not this one (ST-73).
    fn answer_instead(&mut self, jid: &Jid, packet: &Packet, step: &mut Step) {
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        if let Some(question) = session.rare.take_question(&packet.header) {
            self.bounce(&question.packet(jid), Condition::ServiceUnavailable, step);
        }
    }
}

#[cfg(test)]
mod tests;
