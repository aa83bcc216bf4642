//! What an inactive client (XEP-0352) need not have at once, so that its radio may sleep (IM-100).
//!
//! Stanzas have their numbers already, which their order and the client's count go by. So none is dropped, replaced or
//! overtaken: only the writing is postponed, of all that is unwritten, and only while none of it is urgent. A stanza
//! that is postponed counts as one that a slow reader has not taken yet, and is resent like that one.

use proto::stanza::{Kind, MessageType, Packet, PresenceType};
use proto::{Element, Jid, ns};

use super::unwritten::{Entry, Unwritten};
use crate::session::Item;

/// How many stanzas, and about how many bytes, may be postponed. The queue in the shard holds as many more.
const MOST: (usize, usize) = (200, 64 * 1024);
/// So long may the oldest of them wait, in milliseconds.
const LONGEST: u64 = 5 * 60_000;
/// A larger payload is not even looked at: it goes at once.
const SMALL: usize = 16 * 1024;
/// The status of a client's own presence in a room, which says that it has entered (XEP-0045 §7.2.2).
const SELF_PRESENCE: &str = "110";

/// What becomes of the unwritten stanzas of an inactive client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Postponed {
    /// The oldest of them have been looked at and may wait.
    Waiting {
        /// So many.
        stanzas: usize,
        /// So large are they, about.
        bytes: usize,
        /// So long, in milliseconds.
        until: u64,
    },
    /// They go, and what comes before the last of them is written goes too.
    Due,
}

impl Default for Postponed {
    fn default() -> Self {
        Self::Waiting {
            stanzas: 0,
            bytes: 0,
            until: u64::MAX,
        }
    }
}

impl Postponed {
    /// Looks at what is new among the unwritten stanzas of a session; returns whether all of them may wait.
    pub fn may_wait(&mut self, now: u64, unwritten: &Unwritten, session: &Jid) -> bool {
        let Self::Waiting {
            stanzas,
            bytes,
            until,
        } = self
        else {
            return false;
        };
        let mut is_due = false;
        for entry in unwritten.behind(*stanzas) {
            match entry {
                Entry::Stanza(_, item) if can_wait(item, session) => {
                    *stanzas += 1;
                    *bytes += item.packet.size();
                    *until = (*until).min(now.saturating_add(LONGEST));
                }
                Entry::Stanza(..) | Entry::Enabled(_) => is_due = true,
            }
            is_due |= *stanzas >= MOST.0 || *bytes >= MOST.1;
            if is_due {
                break;
            }
        }
        if is_due || now >= *until {
            *self = Self::Due;
            return false;
        }
        true
    }

    /// Everything goes.
    pub fn is_due(&self) -> bool {
        matches!(self, Self::Due)
    }

    /// When they are due if nothing else happens before, in milliseconds.
    pub fn until(&self) -> u64 {
        match self {
            Self::Waiting { until, .. } => *until,
            Self::Due => u64::MAX,
        }
    }
}

/// Whether nobody misses the stanza before they look at their client again. The client's own presence comes back when
/// it has just been sent, so that it is awake anyway.
fn can_wait(item: &Item, session: &Jid) -> bool {
    let packet = &item.packet;
    if packet.payload_len() > SMALL || packet.header.from.as_ref() == Some(session) {
        return false;
    }
    match packet.header.kind {
        Kind::Presence(PresenceType::Available | PresenceType::Unavailable) => {
            !is_self_presence(packet)
        }
        Kind::Message(MessageType::Headline) => {
            consists_of(packet, |it| it.is("event", ns::PUBSUB_EVENT))
        }
        Kind::Message(MessageType::Normal | MessageType::Chat | MessageType::Groupchat) => {
            consists_of(packet, |it| it.ns() == ns::CHATSTATES)
        }
        Kind::Message(MessageType::Error) | Kind::Presence(_) | Kind::Iq(_) => false,
    }
}

/// The client waits for it: it is how a room lets it in, or says that it is out.
fn is_self_presence(packet: &Packet) -> bool {
    let is_own = |status: &Element| {
        status.is("status", ns::MUC_USER) && status.attr("code") == Some(SELF_PRESENCE)
    };
    mentions(packet, ns::MUC_USER)
        && packet.unpack().map_or(true, |stanza| {
            let mut rooms = stanza.payload.iter().filter(|it| it.ns() == ns::MUC_USER);
            rooms.any(|room| room.elements().any(is_own))
        })
}

/// There is such a child, and besides it only what says how the message is to be treated. A hint that it is to be kept
/// says that it matters.
fn consists_of(packet: &Packet, is_wanted: impl Fn(&Element) -> bool) -> bool {
    let is_aside = |child: &Element| match (child.ns(), child.local()) {
        (ns::CLIENT, "thread") | (ns::SID, _) | (ns::DELAY, _) => true,
        (ns::HINTS, hint) => hint != "store",
        _ => false,
    };
    packet.unpack().is_ok_and(|stanza| {
        let mut children = stanza.payload.iter();
        stanza.payload.iter().any(&is_wanted)
            && children.all(|child| is_wanted(child) || is_aside(child))
    })
}

/// The payload names the namespace at all: only then it is worth reading.
fn mentions(packet: &Packet, namespace: &str) -> bool {
    let name = namespace.as_bytes();
    packet.payload.windows(name.len()).any(|at| at == name)
}

#[cfg(test)]
mod tests {
    use super::super::write::tests::item;
    use super::*;

    const SESSION: &str = "alice@example.org/desk";

    fn jid(text: &str) -> Jid {
        Jid::new(text).expect("valid")
    }

    fn packet(kind: Kind, from: &str, payload: &str) -> Packet {
        let mut packet = proto::stanza::Stanza::new(kind).pack();
        packet.header.from = Some(jid(from));
        packet.payload = payload.to_owned().into();
        packet
    }

    #[track_caller]
    fn check(kind: Kind, payload: &str, waits: bool) {
        let packet = packet(kind, "bob@example.org/desk", payload);
        let can_wait = can_wait(&item(packet), &jid(SESSION));
        assert_eq!(can_wait, waits, "{kind:?} {payload}");
    }

    #[test]
    fn im_100_presence_may_wait_but_not_what_asks_or_answers() {
        use PresenceType::*;
        for kind in [Available, Unavailable] {
            check(Kind::Presence(kind), "<show>away</show>", true);
        }
        for kind in [Subscribe, Subscribed, Unsubscribe, Unsubscribed, Error] {
            check(Kind::Presence(kind), "", false);
        }
        check(Kind::Iq(proto::stanza::IqType::Set), "", false);
    }

    #[test]
    fn im_100_how_a_room_lets_a_client_in_does_not_wait() {
        let room = "<x xmlns='http://jabber.org/protocol/muc#user'>STATUS</x>";
        let kind = Kind::Presence(PresenceType::Available);
        check(kind, &room.replace("STATUS", ""), true);
        check(kind, &room.replace("STATUS", "<status code='110'/>"), false);
    }

    #[test]
    fn im_100_what_a_client_said_itself_comes_back_at_once() {
        let own = packet(Kind::Presence(PresenceType::Available), SESSION, "");
        assert!(!can_wait(&item(own), &jid(SESSION)));
    }

    #[test]
    fn im_100_that_somebody_types_may_wait_and_what_is_said_may_not() {
        let state = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
        let chat = Kind::Message(MessageType::Chat);
        check(chat, state, true);
        let aside = "<thread>1</thread><no-store xmlns='urn:xmpp:hints'/>";
        check(chat, &format!("{aside}{state}"), true);
        for more in [
            "<body>hello</body>",
            "<received xmlns='urn:xmpp:receipts' id='1'/>",
            "<encrypted xmlns='urn:xmpp:omemo:2'/>",
            "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>",
            "<store xmlns='urn:xmpp:hints'/>",
        ] {
            check(chat, &format!("{state}{more}"), false);
        }
        check(chat, "<thread>1</thread>", false);
        check(Kind::Message(MessageType::Error), state, false);
    }

    #[test]
    fn im_100_events_may_wait() {
        let event = "<event xmlns='http://jabber.org/protocol/pubsub#event'>\
                     <items node='urn:xmpp:avatar:metadata'><item id='1'/></items></event>";
        let headline = Kind::Message(MessageType::Headline);
        check(headline, event, true);
        check(Kind::Message(MessageType::Normal), event, false);
        check(headline, &format!("{event}<body>news</body>"), false);
        check(headline, "<body>news</body>", false);
        let large = event.replace("<item id='1'/>", &"<item/>".repeat(SMALL / 7));
        check(headline, &large, false);
    }
}
