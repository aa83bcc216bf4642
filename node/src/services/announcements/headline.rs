//! What is said in the name of a domain.

use cluster::ArchiveId;
use proto::stanza::{Kind, MessageType, Packet, Stanza};
use proto::{BareJid, Element, ns};

/// The most bytes of a text: each session that is away holds it until its client comes back.
pub const MOST_TEXT: usize = 8 << 10;

/// A text from a domain, for nobody yet.
pub fn headline(domain: &BareJid, text: &str) -> Stanza {
    let body = Element::new("body", ns::CLIENT).with_text(text);
    Stanza::new(Kind::Message(MessageType::Headline))
        .with_from(domain.into())
        .with_child(body)
}

/// An announcement, for everybody.
pub fn announcement(domain: &BareJid, id: ArchiveId, text: &str) -> Packet {
    headline(domain, text).with_id(id.to_string()).pack()
}
