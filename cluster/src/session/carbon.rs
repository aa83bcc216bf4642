//! Message carbons (XEP-0280): the wrapper around a copy.

use std::borrow::Cow;

use bytes::Bytes;
use proto::stanza::{Header, Kind, MessageType, Packet};
use proto::{BareJid, Element, Jid, ns};

use super::output::{Copied, Direction, Item};
use crate::id::ArchiveId;

impl Item {
    /// The stanza as the session `to` gets it, without stanza-id and delay.
    pub(crate) fn stanza(&self, to: &Jid) -> Cow<'_, Packet> {
        match self.copy {
            Some(Copied::Carbon(direction)) => {
                let archived = self.mid.filter(|_| self.archived);
                Cow::Owned(wrap(&self.packet, archived, direction, &to.bare(), to))
            }
            Some(Copied::Result(_) | Copied::Event(_)) | None => Cow::Borrowed(&self.packet),
        }
    }
}

/// A carbon copy of `original` for the session `to` (IM-77), with our stanza-id inside if it is archived.
fn wrap(
    original: &Packet,
    archived: Option<ArchiveId>,
    direction: Direction,
    account: &BareJid,
    to: &Jid,
) -> Packet {
    let name = match direction {
        Direction::Sent => "sent",
        Direction::Received => "received",
    };
    let id = archived.map(|mid| {
        Element::new("stanza-id", ns::SID)
            .with_attr("by", account.as_str())
            .with_attr("id", mid.to_string())
    });
    let mut inner = Vec::new();
    original.write(id.as_slice(), &mut inner);
    let head = b"<message".len();
    let mut payload = Vec::with_capacity(inner.len() + 160);
    payload.extend_from_slice(
        format!(
            "<{name} xmlns='{}'><forwarded xmlns='{}'><message xmlns='{}'",
            ns::CARBONS,
            ns::FORWARD,
            ns::CLIENT
        )
        .as_bytes(),
    );
    payload.extend_from_slice(&inner[head.min(inner.len())..]);
    payload.extend_from_slice(format!("</forwarded></{name}>").as_bytes());
    let kind = match original.header.kind {
        Kind::Message(kind) => kind,
        _ => MessageType::Normal,
    };
    Packet {
        header: Header {
            kind: Kind::Message(kind),
            from: Some(account.into()),
            to: Some(to.clone()),
            id: None,
            lang: None,
        },
        payload: Bytes::from(payload),
    }
}
