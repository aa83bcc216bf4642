//! What a message consists of, found in one pass over its children.

use proto::stanza::{MessageType, Stanza};
use proto::{Element, ns};

/// OpenPGP for XMPP, whose payload carries the text in place of a body (XEP-0373).
const OPENPGP: &str = "urn:xmpp:openpgp:0";
/// The older use of OpenPGP (XEP-0027).
const OPENPGP_LEGACY: &str = "jabber:x:encrypted";
/// Replies, attachments and fallbacks: small messages that refer to others.
const REFERRING: [&str; 3] = [
    "urn:xmpp:reply:0",
    "urn:xmpp:message-attaching:1",
    "urn:xmpp:fallback:0",
];

/// What the children of a message say about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Content {
    /// The message's type.
    pub kind: MessageType,
    /// A body.
    pub body: bool,
    /// A text that only those read who have the key.
    pub encrypted: bool,
    /// An invitation to a room.
    pub invitation: bool,
    /// A call, or what becomes of one.
    pub call: bool,
    /// A receipt or a marker.
    pub signal: bool,
    /// Somebody types, or has stopped.
    pub chat_state: bool,
    /// It changes or adds to another message.
    pub refers: bool,
    /// It holds an event or another message.
    pub wrapper: bool,
    /// Something that is not known here.
    pub other: bool,
    /// Its sender wants no carbons of it.
    pub private: bool,
    /// A hint: no carbons.
    pub no_copy: bool,
    /// A hint: it is not to be kept, nor to wait.
    pub no_store: bool,
    /// A hint: it may wait, and is not to be kept.
    pub no_permanent_store: bool,
    /// A hint: it is to be kept.
    pub store: bool,
}

impl Content {
    /// Looks at a message of this type.
    pub fn of(kind: MessageType, stanza: &Stanza) -> Self {
        let mut content = Self {
            kind,
            ..Self::default()
        };
        for child in &stanza.payload {
            content.see(child);
        }
        content
    }

    fn see(&mut self, child: &Element) {
        match (child.ns(), child.local()) {
            (ns::CLIENT, "body") => self.body = true,
            (ns::CLIENT, "thread") | (ns::SID, _) => {}
            (ns::OMEMO | ns::OMEMO_2, "encrypted") | (ns::EME, "encryption") => {
                self.encrypted = true
            }
            (OPENPGP, "openpgp") | (OPENPGP_LEGACY, "x") => self.encrypted = true,
            (ns::CONFERENCE, "x") => self.invitation = true,
            (ns::MUC_USER, "x") => {
                self.invitation |= child.child("invite", ns::MUC_USER).is_some();
                self.other = true;
            }
            (ns::JINGLE_MESSAGE, _) => self.call = true,
            (ns::RECEIPTS | ns::MARKERS, name) => match name {
                // A wish for an answer, which travels with a body and says nothing alone.
                "request" | "markable" => {}
                _ => self.signal = true,
            },
            (ns::CHATSTATES, _) => self.chat_state = true,
            (ns::REACTIONS | ns::RETRACT | ns::CORRECT, _) => self.refers = true,
            (ns::PUBSUB_EVENT, "event") | (ns::FORWARD, "forwarded") => self.wrapper = true,
            (ns::CARBONS, "private") => self.private = true,
            (ns::HINTS, hint) => self.hint(hint),
            (other, _) if REFERRING.contains(&other) => self.refers = true,
            _ => self.other = true,
        }
    }

    /// Unknown hints are passed on and mean nothing here (IM-56).
    fn hint(&mut self, hint: &str) {
        match hint {
            "no-copy" => self.no_copy = true,
            "no-store" => self.no_store = true,
            "no-permanent-store" => self.no_permanent_store = true,
            "store" => self.store = true,
            _ => {}
        }
    }

    /// Something to read, perhaps for those only who have the key.
    pub fn text(self) -> bool {
        self.body || self.encrypted
    }

    /// Of lasting interest (IM-85).
    pub fn memorable(self) -> bool {
        self.text() || self.store || self.signal || self.refers || self.invitation || self.call
    }

    /// A message that says something but that somebody is typing.
    pub fn says_anything(self) -> bool {
        self.memorable() || self.other
    }

    /// Somebody says something to somebody: it is no event, nor a forwarded message without text of its own.
    pub fn converses(self) -> bool {
        let kind = matches!(self.kind, MessageType::Normal | MessageType::Chat);
        kind && (!self.wrapper || self.text())
    }
}
