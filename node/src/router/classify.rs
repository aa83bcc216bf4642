//! What a message may be used for besides delivery, found in one pass over its children.
//!
//! Pure. The tables are those of `proto::rules::im`: what an archive keeps (IM-85), what waits for an absent user
//! (IM-60), what other sessions get a copy of (IM-75), and how hints change that (IM-52). The pass before
//! it, [`strip`], takes out what only a server may say (IM-51, IM-84, T-47, T-48).

use cluster::session::Traits;
use proto::stanza::{Kind, MessageType, Stanza};
use proto::{Element, Jid, ns};

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

/// Removes what claims to come from a server of ours, from however many children, at any position.
///
/// `ours` tells whether a domain is served here.
pub fn strip(stanza: &mut Stanza, ours: impl Fn(&str) -> bool) {
    stanza.payload.retain(|child| !is_forged(child, &ours));
}

/// A child that only we may make: a stanza-id or delay in our name, a carbon, a result of an archive.
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
        ns::CARBONS => matches!(child.local(), "received" | "sent"),
        ns::MAM => child.local() == "result",
        _ => false,
    }
}

/// What the children of a message say about it.
#[derive(Clone, Copy, Debug, Default)]
struct Content {
    body: bool,
    encrypted: bool,
    invitation: bool,
    call: bool,
    signal: bool,
    chat_state: bool,
    refers: bool,
    wrapper: bool,
    other: bool,
    private: bool,
    no_copy: bool,
    no_store: bool,
    no_permanent_store: bool,
    store: bool,
}

impl Content {
    fn of(stanza: &Stanza) -> Self {
        let mut content = Self::default();
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

    fn text(self) -> bool {
        self.body || self.encrypted
    }

    /// Of lasting interest (IM-85).
    fn memorable(self) -> bool {
        self.text() || self.store || self.signal || self.refers || self.invitation || self.call
    }

    /// A message that says something but that somebody is typing.
    fn says_anything(self) -> bool {
        self.memorable() || self.other
    }

    /// An event or a forwarded message without text of its own.
    fn only_wraps(self) -> bool {
        self.wrapper && !self.text()
    }
}

/// The traits of a message; of anything else, none.
pub fn traits(stanza: &Stanza) -> Traits {
    let Kind::Message(kind) = stanza.header.kind else {
        return Traits::default();
    };
    let content = Content::of(stanza);
    match kind {
        MessageType::Normal | MessageType::Chat => conversation(kind, content),
        // It may answer a message of which there were copies (IM-80). Hints are ignored (IM-53).
        MessageType::Error => Traits {
            carbon: !content.private,
            ..Traits::default()
        },
        MessageType::Groupchat | MessageType::Headline => Traits::default(),
    }
}

fn conversation(kind: MessageType, content: Content) -> Traits {
    if content.only_wraps() {
        return Traits::default();
    }
    let lasting = content.memorable() && !content.no_store && !content.no_permanent_store;
    let shared = kind == MessageType::Chat
        || content.text()
        || content.signal
        || content.chat_state
        || content.invitation
        || content.call;
    Traits {
        archive_sent: lasting,
        archive_received: lasting,
        offline: content.says_anything() && !content.no_store,
        carbon: shared && !content.private && !content.no_copy,
        important: (content.text() || content.call || content.invitation) && !content.no_store,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let traits = traits(&message(kind, children));
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
        strip(&mut stanza, |domain| domain == "example.org");
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
