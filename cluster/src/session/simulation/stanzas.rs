//! What clients say and read in the simulation, as it goes over a stream; and what a node makes of it.

use bytes::Bytes;
use proto::sm::SmElement;
use proto::stanza::{Header, IqType, Kind, MessageType, Packet, PresenceType, Stanza};
use proto::stream::Input;
use proto::{BareJid, Element, Jid, ns};

use super::client::{Down, Up};
use super::presence::{Shown, is_subscriber};
use super::shards::mid;
use crate::connection::inbox::Work;
use crate::id::SmId;
use crate::session::{Action, Message, PresenceUpdate, Relay, Traits};

const AVAILABLE: Kind = Kind::Presence(PresenceType::Available);
const CHAT: Kind = Kind::Message(MessageType::Chat);

/// What a client says once it has a session, as the machine of its stream hands it on. A stanza's id is its number.
pub(super) fn said(up: Up) -> Option<Input> {
    let stanza = |kind, number: u64| Stanza::new(kind).with_id(number.to_string());
    let stanza = match up {
        Up::Bind(_) | Up::Resume { .. } => return None,
        Up::Enable => {
            let (resume, max) = (true, None);
            return Some(Input::Enable { resume, max });
        }
        Up::Request => return Some(Input::AckRequest),
        Up::Ack(h) => return Some(Input::Ack(h)),
        Up::Available(session) => stanza(AVAILABLE, session.into()),
        Up::Direct(to, session) => stanza(AVAILABLE, session.into()).with_to(to),
        Up::Carbons => Stanza::new(Kind::Iq(IqType::Set)),
        Up::Send { uid, to } => stanza(CHAT, uid).with_to(to),
        Up::Ask { uid, to } => stanza(Kind::Iq(IqType::Get), uid).with_to(to),
        Up::Answer { uid, to } => stanza(Kind::Iq(IqType::Result), uid).with_to(to),
        Up::Pong { id } => Stanza::new(Kind::Iq(IqType::Result)).with_id(id),
    };
    Some(Input::Stanza(stanza))
}

/// What follows from a stanza of this session.
pub(super) fn resolve(work: &Work, session: &Jid, accounts: &[BareJid]) -> Vec<Action> {
    let Work::Stanza(Stanza { header, .. }) = work else {
        return Vec::new();
    };
    let number = header.id.as_deref().and_then(|id| id.parse().ok());
    let action = match (header.kind, &header.to, number) {
        (AVAILABLE, None, Some(number)) => Action::Presence(available(session, number, accounts)),
        (AVAILABLE, Some(to), Some(number)) => {
            let mut packet = here(session, number);
            packet.header.to = Some(to.clone());
            Action::Directed(packet)
        }
        (CHAT, Some(to), Some(uid)) => Action::Send(Relay::Message(message(uid, session, to))),
        (Kind::Iq(IqType::Set), ..) => Action::Carbons(true),
        (Kind::Iq(kind), Some(to), Some(uid)) => Action::Send(iq(kind, uid, session, to)),
        // The answer to a ping that nobody waits for any more.
        _ => return Vec::new(),
    };
    vec![action]
}

fn available(session: &Jid, number: u64, accounts: &[BareJid]) -> PresenceUpdate {
    let account = session.bare();
    PresenceUpdate {
        packet: here(session, number),
        priority: 0,
        subscribers: contacts(accounts, |other| is_subscriber(other, &account)),
        probes: contacts(accounts, |other| is_subscriber(&account, other)),
        requests: Vec::new(),
    }
}

fn packet(kind: Kind, from: &Jid, to: Option<&Jid>, payload: Bytes) -> Packet {
    Packet {
        header: Header {
            kind,
            from: Some(from.clone()),
            to: to.cloned(),
            id: None,
            lang: None,
        },
        payload,
    }
}

fn here(from: &Jid, session: u64) -> Packet {
    let session = u32::try_from(session).expect("few sessions");
    let payload = Shown::Here(session).write().into();
    packet(AVAILABLE, from, None, payload)
}

fn contacts(accounts: &[BareJid], is_one: impl Fn(&BareJid) -> bool) -> Vec<BareJid> {
    accounts.iter().filter(|a| is_one(a)).cloned().collect()
}

fn iq(kind: IqType, uid: u64, from: &Jid, to: &Jid) -> Relay {
    let mut packet = packet(Kind::Iq(kind), from, Some(to), Bytes::new());
    packet.header.id = Some(uid.to_string().into());
    Relay::Iq {
        packet,
        permitted: true,
    }
}

fn message(uid: u64, from: &Jid, to: &Jid) -> Message {
    let payload = Bytes::from(uid.to_string());
    Message {
        packet: packet(CHAT, from, Some(to), payload),
        mid: mid(uid),
        traits: Traits {
            archive_sent: true,
            // Some are kept out of the archive, and hidden while they wait.
            archive_received: !uid.is_multiple_of(3),
            offline: true,
            carbon: true,
            important: true,
        },
    }
}

/// It has a number in its session, as everything has that the shard puts out.
pub(super) fn is_numbered(element: &Element) -> bool {
    element.ns() == ns::CLIENT && element.child("ping", ns::PING).is_none()
}

/// What a client makes of what was written to it; `late`: it waited somewhere before it came here.
pub(super) fn read(element: &Element, late: bool) -> Result<Down, String> {
    let kind = (element.local(), element.attr("type"));
    Ok(match kind {
        _ if element.ns() == ns::SM => return management(element),
        ("message", Some("chat")) => chat(element, late),
        ("iq", kind) => question(element, kind == Some("get")),
        ("presence", None | Some("unavailable")) => presence(element),
        _ => Down::Other,
    })
}

fn management(element: &Element) -> Result<Down, String> {
    match SmElement::parse(element) {
        Ok(SmElement::Request) => Ok(Down::Request),
        Ok(SmElement::Ack(h)) => Ok(Down::Ack(h)),
        Ok(SmElement::Enabled(enabled)) => {
            let smid = enabled.id.ok_or("enabled without an identifier")?;
            let smid = SmId(smid.into());
            Ok(Down::Enabled { smid })
        }
        other => Err(format!("unexpected element {other:?}")),
    }
}

fn chat(element: &Element, late: bool) -> Down {
    let number = |message: &Element| message.text().parse().ok();
    if let Some(uid) = number(element) {
        return Down::Message { uid, late };
    }
    let copy = element.child("received", ns::CARBONS);
    let copy = copy.and_then(|copy| copy.child("forwarded", ns::FORWARD));
    let copy = copy.and_then(|copy| copy.child("message", ns::CLIENT));
    copy.and_then(number)
        .map_or(Down::Other, |uid| Down::Copy { uid })
}

fn question(element: &Element, is_question: bool) -> Down {
    let id = element.attr("id").unwrap_or_default();
    let from = || element.attr("from").and_then(|from| Jid::new(from).ok());
    match (id.parse().ok(), is_question) {
        (None, true) => Down::Ping { id: id.to_owned() },
        (Some(uid), true) => from().map_or(Down::Other, |from| Down::Question { uid, from }),
        (Some(uid), false) => Down::Answer { uid },
        (None, false) => Down::Other,
    }
}

fn presence(element: &Element) -> Down {
    let from = element.attr("from").and_then(|from| Jid::new(from).ok());
    match (from, Shown::read(&element.text())) {
        (Some(from), Some(shown)) => Down::Presence { from, shown },
        _ => Down::Other,
    }
}
