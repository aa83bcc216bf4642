//! What a message may be used for besides delivery, and what is taken out of it before.
//!
//! What an archive keeps (IM-85), what waits for an absent user (IM-60), what other sessions get a copy of (IM-75), and
//! how hints change that (IM-52) is for services to say. What only a server may say is taken out first (IM-51, IM-84,
//! T-47, T-48).

use cluster::session::Traits;
use proto::stanza::{Kind, Stanza};
use proto::{Element, Jid, ns};

use crate::hooks::{Content, Registry};

/// Removes what claims to come from a server of ours, from however many children, at any position.
///
/// `ours` tells whether a domain is served here.
pub fn strip(services: &Registry, stanza: &mut Stanza, ours: impl Fn(&str) -> bool) {
    stanza
        .payload
        .retain(|child| !is_forged(child, &ours) && !services.is_forged(child));
}

/// A child that only we may make: a stanza-id or a delay in our name.
fn is_forged(child: &Element, ours: &impl Fn(&str) -> bool) -> bool {
    let claims = |attr: &str| {
        child
            .attr(attr)
            .map(|jid| Jid::new(jid).is_ok_and(|jid| ours(jid.domain())))
    };
    match child.ns() {
        // One without `by` names nobody, so that a reader might take it for ours.
        ns::SID => child.local() == "stanza-id" && claims("by").unwrap_or(true),
        ns::DELAY => claims("from").unwrap_or(false),
        _ => false,
    }
}

/// The traits of a message; of anything else, none.
pub fn traits(services: &Registry, stanza: &Stanza) -> Traits {
    match stanza.header.kind {
        Kind::Message(kind) => services.traits(Content::of(kind, stanza)),
        Kind::Presence(_) | Kind::Iq(_) => Traits::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::services;
    use proto::stanza::MessageType;

    fn services() -> Registry {
        Registry::new(services::ALL, &Config::default()).unwrap()
    }

    fn message(kind: MessageType, children: &str) -> Stanza {
        let mut stanza = Stanza::new(Kind::Message(kind));
        let xml = format!("<message xmlns='jabber:client'>{children}</message>");
        let element = Element::parse(xml.as_bytes()).unwrap();
        stanza.payload = element.elements().cloned().collect();
        stanza
    }

    /// `expect`: a = archive, o = offline, c = carbons, i = important.
    #[track_caller]
    fn check(kind: MessageType, children: &str, expect: &str) {
        let traits = traits(&services(), &message(kind, children));
        assert_eq!(traits.archive_sent, traits.archive_received);
        let flags = [
            (traits.archive_received, 'a'),
            (traits.offline, 'o'),
            (traits.carbon, 'c'),
            (traits.important, 'i'),
        ];
        let found: String = flags
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, c)| c)
            .collect();
        assert_eq!(found, expect, "{kind:?} {children}");
    }

    const BODY: &str = "<body>hi</body>";

    use MessageType::{Chat, Error, Groupchat, Headline, Normal};

    /// Every kind of content, by type, and every hint, with what becomes of it.
    const TABLE: &[(&[MessageType], &str, &str)] = &[
        // Text of any kind.
        (&[Chat, Normal], "BODY", "aoci"),
        (
            &[Chat, Normal],
            "<encrypted xmlns='urn:xmpp:omemo:2'/>",
            "aoci",
        ),
        (
            &[Chat, Normal],
            "<encrypted xmlns='eu.siacs.conversations.axolotl'/>",
            "aoci",
        ),
        (
            &[Chat, Normal],
            "<openpgp xmlns='urn:xmpp:openpgp:0'/>",
            "aoci",
        ),
        (
            &[Chat, Normal],
            "<x xmlns='jabber:x:encrypted'>k</x>",
            "aoci",
        ),
        (
            &[Chat, Normal],
            "<encryption xmlns='urn:xmpp:eme:0'/>",
            "aoci",
        ),
        (
            &[Chat],
            "BODY<x xmlns='http://jabber.org/protocol/muc#user'/>",
            "aoci",
        ),
        // Types that are never kept, whatever they say.
        (&[Groupchat, Headline], "BODY", ""),
        (&[Groupchat, Headline], "BODY STORE", ""),
        // An error may answer a message that was copied (IM-80), and no hint changes that (IM-53).
        (&[Error], "BODY", "c"),
        (&[Error], "BODY STORE", "c"),
        // Somebody types.
        (
            &[Chat, Normal],
            "<active xmlns='http://jabber.org/protocol/chatstates'/>",
            "c",
        ),
        (
            &[Chat, Normal],
            "<composing xmlns='http://jabber.org/protocol/chatstates'/><thread>t</thread>",
            "c",
        ),
        (
            &[Chat, Normal],
            "BODY<active xmlns='http://jabber.org/protocol/chatstates'/>",
            "aoci",
        ),
        // Receipts and markers; wishes for them say nothing alone.
        (
            &[Chat, Normal],
            "<received xmlns='urn:xmpp:receipts' id='1'/>",
            "aoc",
        ),
        (
            &[Chat, Normal],
            "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
            "aoc",
        ),
        (&[Normal], "<request xmlns='urn:xmpp:receipts'/>", ""),
        (&[Normal], "<markable xmlns='urn:xmpp:chat-markers:0'/>", ""),
        // What refers to other messages.
        (
            &[Chat],
            "<reactions xmlns='urn:xmpp:reactions:0' id='1'/>",
            "aoc",
        ),
        (
            &[Chat],
            "<retract xmlns='urn:xmpp:message-retract:1' id='1'/>",
            "aoc",
        ),
        (
            &[Chat],
            "<replace xmlns='urn:xmpp:message-correct:0' id='1'/>",
            "aoc",
        ),
        (&[Chat], "<reply xmlns='urn:xmpp:reply:0' id='1'/>", "aoc"),
        (
            &[Chat],
            "<attach-to xmlns='urn:xmpp:message-attaching:1' id='1'/>",
            "aoc",
        ),
        // Invitations and calls.
        (
            &[Normal],
            "<x xmlns='jabber:x:conference' jid='r@m'/>",
            "aoci",
        ),
        (
            &[Normal],
            "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='a@b'/></x>",
            "aoci",
        ),
        (
            &[Chat, Normal],
            "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>",
            "aoci",
        ),
        // Events, wrapped messages, the unknown, nothing.
        (
            &[Chat],
            "<event xmlns='http://jabber.org/protocol/pubsub#event'/>",
            "",
        ),
        (
            &[Normal, Headline],
            "<event xmlns='http://jabber.org/protocol/pubsub#event'/>",
            "",
        ),
        (
            &[Normal],
            "<event xmlns='http://jabber.org/protocol/pubsub#event'/>STORE",
            "",
        ),
        (
            &[Chat, Normal],
            "<forwarded xmlns='urn:xmpp:forward:0'/>",
            "",
        ),
        (&[Normal], "<data xmlns='urn:example'/>", "o"),
        (&[Chat], "<data xmlns='urn:example'/>", "oc"),
        (&[Normal], "", ""),
        // Hints.
        (&[Chat, Normal], "BODY NO-STORE", "c"),
        (&[Chat, Normal], "BODY NO-PERMANENT-STORE", "oci"),
        (&[Chat, Normal], "BODY NO-COPY", "aoi"),
        (&[Chat, Normal], "BODY STORE", "aoci"),
        (&[Chat, Normal], "BODY STORE NO-STORE", "c"),
        (&[Chat, Normal], "BODY STORE NO-PERMANENT-STORE", "oci"),
        (&[Chat, Normal], "BODY NO-STORE NO-COPY", ""),
        (&[Chat, Normal], "BODY UNHEARD-OF", "aoci"),
        (&[Normal], "STORE", "ao"),
        (&[Error], "NO-COPY", "c"),
        (
            &[Chat],
            "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>NO-STORE",
            "c",
        ),
        // Private.
        (
            &[Chat, Normal],
            "BODY<private xmlns='urn:xmpp:carbons:2'/>",
            "aoi",
        ),
        (&[Error], "<private xmlns='urn:xmpp:carbons:2'/>", ""),
    ];

    #[test]
    fn im_52_im_60_im_75_im_78_im_85_im_105_what_is_kept_copied_and_told() {
        for (kinds, children, expect) in TABLE {
            for kind in *kinds {
                check(*kind, &written(children), expect);
            }
        }
    }

    /// `BODY` and the names of hints stand for their elements.
    fn written(children: &str) -> String {
        let mut xml = children.replace("BODY", BODY);
        for hint in [
            "NO-PERMANENT-STORE",
            "NO-STORE",
            "NO-COPY",
            "UNHEARD-OF",
            "STORE",
        ] {
            let element = format!("<{} xmlns='urn:xmpp:hints'/>", hint.to_lowercase());
            xml = xml.replace(hint, &element);
        }
        xml
    }

    #[track_caller]
    fn check_strip(children: &str, kept: usize) {
        let mut stanza = message(MessageType::Chat, children);
        strip(&services(), &mut stanza, |domain| domain == "example.org");
        assert_eq!(stanza.payload.len(), kept, "{children}");
    }

    #[test]
    fn t_48_what_claims_to_be_ours_is_removed() {
        let forged = "<stanza-id xmlns='urn:xmpp:sid:0' by='a@example.org' id='1'/>";
        check_strip(&forged.repeat(100), 0);
        check_strip(&format!("{BODY}{forged}{BODY}{forged}"), 2);
        check_strip("<stanza-id xmlns='urn:xmpp:sid:0' id='1'/>", 0);
        check_strip(
            "<delay xmlns='urn:xmpp:delay' from='example.org' stamp='2026-01-01T00:00:00Z'/>",
            0,
        );
        check_strip("<result xmlns='urn:xmpp:mam:2' id='1'/>", 0);
    }

    #[test]
    fn t_47_carbons_are_made_by_the_server_only() {
        check_strip(
            "<received xmlns='urn:xmpp:carbons:2'/><sent xmlns='urn:xmpp:carbons:2'/>",
            0,
        );
        check_strip("<private xmlns='urn:xmpp:carbons:2'/>", 1);
    }

    #[test]
    fn im_51_and_im_84_what_others_say_stays() {
        check_strip(
            "<stanza-id xmlns='urn:xmpp:sid:0' by='room@muc.example.net' id='1'/>",
            1,
        );
        check_strip("<origin-id xmlns='urn:xmpp:sid:0' id='1'/>", 1);
        check_strip(
            "<delay xmlns='urn:xmpp:delay' from='example.net' stamp='2026-01-01T00:00:00Z'/>",
            1,
        );
    }
}
