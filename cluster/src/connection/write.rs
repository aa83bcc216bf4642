//! From a queue's item to bytes: the stanza with what the server adds for this one client.

use crate::session::Item;
use proto::payload::{delay, stanza_id};
use proto::stanza::{Kind, Packet};
use proto::{BareJid, Element, Jid, ns};

/// Writes the stanza; returns how many bytes it took.
///
/// `session` is whose it is. `late`: it was queued before the stream was resumed, so that its time of arrival
/// says little (SM-58).
pub fn stanza(
    item: &Item,
    (session, account): (&Jid, &BareJid),
    late: bool,
    out: &mut Vec<u8>,
) -> usize {
    let before = out.len();
    let mut extra = Vec::new();
    let packet = item.stanza(session);
    let is_message = matches!(packet.header.kind, Kind::Message(_));
    if let Some(mid) = item.original().filter(|_| item.archived && is_message) {
        extra.push(stanza_id::stanza_id(account.as_str(), &mid.to_string()));
    }
    let is_iq = matches!(packet.header.kind, Kind::Iq(_));
    if (late || item.offline) && !is_iq && !is_delayed(&packet, account.domain()) {
        extra.push(delay::delay(account.domain(), &delay::stamp(item.stamp)));
    }
    packet.write(&extra, out);
    out.len() - before
}

/// The payload carries a delay of ours already. Unpacked only if it names the namespace at all.
fn is_delayed(packet: &Packet, domain: &str) -> bool {
    let name = ns::DELAY.as_bytes();
    let named = packet.payload.windows(name.len()).any(|w| w == name);
    named
        && packet.unpack().is_ok_and(|stanza| {
            let ours = |e: &&Element| e.is("delay", ns::DELAY) && e.attr("from") == Some(domain);
            stanza.payload.iter().any(|e| ours(&e))
        })
}

/// A ping from the domain, which the client answers in whatever way (XEP-0199).
pub fn ping(to: &Jid, id: &str, out: &mut Vec<u8>) {
    use proto::stanza::{IqType, Stanza};
    let mut ping = Stanza::new(Kind::Iq(IqType::Get))
        .with_to(to.clone())
        .with_id(id)
        .with_child(Element::new("ping", ns::PING));
    ping.header.from = Jid::new(to.domain()).ok();
    ping.pack().write(&[], out);
}

#[cfg(test)]
pub(super) mod tests {
    use crate::ArchiveId;
    use crate::session::{Copied, Direction};
    use proto::stanza::{IqType, MessageType, Stanza};

    use super::*;

    pub(in crate::connection) fn item(packet: Packet) -> Item {
        Item::plain(packet, 1_000_000_000_123)
    }

    fn message() -> Stanza {
        Stanza::new(Kind::Message(MessageType::Chat))
            .with_child(Element::new("body", ns::CLIENT).with_text("x"))
    }

    fn written(item: &Item, late: bool) -> String {
        let mut out = Vec::new();
        let session = Jid::new("bob@localhost/desk").unwrap();
        let bytes = stanza(item, (&session, &session.bare()), late, &mut out);
        assert_eq!(bytes, out.len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn im_84_only_what_is_in_the_archive_carries_its_id() {
        let mid = ArchiveId::new(1, 2);
        let hidden = Item {
            mid: Some(mid),
            ..item(message().pack())
        };
        assert!(!written(&hidden, false).contains("stanza-id"));
        let archived = Item {
            archived: true,
            ..hidden
        };
        let text = written(&archived, false);
        assert!(
            text.contains("<stanza-id") && text.contains("by='bob@localhost'"),
            "{text}"
        );
        assert!(text.contains(&mid.to_string()), "{text}");
        assert!(!text.contains("delay"), "{text}");
    }

    #[test]
    fn sm_58_late_stanzas_are_stamped_once_and_iqs_never() {
        let late = written(&item(message().pack()), true);
        assert!(late.contains("2001-09-09T01:46:40.123Z"), "{late}");
        let stamped = message().with_child(delay::delay("localhost", &delay::stamp(5)));
        assert_eq!(
            written(&item(stamped.pack()), true)
                .matches("urn:xmpp:delay")
                .count(),
            1
        );
        let foreign = message().with_child(delay::delay("elsewhere", &delay::stamp(5)));
        assert_eq!(
            written(&item(foreign.pack()), true)
                .matches("urn:xmpp:delay")
                .count(),
            2
        );
        let iq = Stanza::new(Kind::Iq(IqType::Result)).with_id("1");
        assert!(!written(&item(iq.pack()), true).contains("delay"));
    }

    #[test]
    fn im_77_a_copy_is_wrapped_and_has_its_id_inside() {
        let carbon = Item {
            mid: Some(ArchiveId::new(1, 2)),
            archived: true,
            copy: Some(Copied::Carbon(Direction::Received)),
            ..item(message().pack())
        };
        let text = written(&carbon, true);
        let head = "<message to='bob@localhost/desk' from='bob@localhost' type='chat'><received ";
        assert!(text.starts_with(head), "{text}");
        assert_eq!(text.matches("<stanza-id").count(), 1);
        let (inside, outside) = text.split_once("</received>").unwrap();
        assert!(inside.contains("<stanza-id"), "{text}");
        assert!(outside.contains("<delay"), "{text}");
    }

    #[test]
    fn im_61_offline_messages_are_stamped() {
        let offline = Item {
            offline: true,
            ..item(message().pack())
        };
        assert!(written(&offline, false).contains("<delay"));
    }
}
