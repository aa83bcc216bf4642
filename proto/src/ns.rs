//! Every namespace that the server speaks, once.
//!
//! [`known`] lets the reader share these strings instead of copying them for each element.

/// Declares the constants and the table that finds them again.
macro_rules! namespaces {
    ($($(#[$doc:meta])* $name:ident = $uri:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $uri;)*

        /// The shared copy of a namespace that has a name here.
        pub fn known(uri: &str) -> Option<&'static str> {
            match uri {
                $($uri => Some($uri),)*
                _ => None,
            }
        }
    };
}

namespaces! {
    /// Content of client streams.
    CLIENT = "jabber:client";
    /// Content of server streams.
    SERVER = "jabber:server";
    /// Content of component streams (XEP-0114).
    COMPONENT = "jabber:component:accept";
    /// The stream element, its features and its error.
    STREAM = "http://etherx.jabber.org/streams";
    /// Conditions of stream errors.
    STREAMS = "urn:ietf:params:xml:ns:xmpp-streams";
    /// Conditions of stanza errors.
    STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas";
    /// Application conditions of errors (`stanza-too-big`).
    ERRORS = "urn:xmpp:errors";
    /// SASL, first profile (RFC 6120 §6).
    SASL = "urn:ietf:params:xml:ns:xmpp-sasl";
    /// SASL2 (XEP-0388).
    SASL2 = "urn:xmpp:sasl:2";
    /// Keys for further mechanisms, asked for along with a login (XEP-0480).
    UPGRADE = "urn:xmpp:sasl:upgrade:0";
    /// The same for those of SCRAM.
    SCRAM_UPGRADE = "urn:xmpp:scram-upgrade:0";
    /// Bind 2 (XEP-0386).
    BIND2 = "urn:xmpp:bind:0";
    /// Fast authentication (XEP-0484).
    FAST = "urn:xmpp:fast:0";
    /// STARTTLS.
    TLS = "urn:ietf:params:xml:ns:xmpp-tls";
    /// Resource binding.
    BIND = "urn:ietf:params:xml:ns:xmpp-bind";
    /// The legacy session request.
    SESSION = "urn:ietf:params:xml:ns:xmpp-session";
    /// Framing over WebSocket (RFC 7395).
    FRAMING = "urn:ietf:params:xml:ns:xmpp-framing";
    /// A link to the WebSocket of a server (XEP-0156).
    ALT_WEBSOCKET = "urn:xmpp:alt-connections:websocket";
    /// A link to the BOSH of a server (XEP-0156).
    ALT_BOSH = "urn:xmpp:alt-connections:xbosh";
    /// XML over requests of HTTP (XEP-0124).
    BOSH = "http://jabber.org/protocol/httpbind";
    /// XMPP over BOSH (XEP-0206).
    XBOSH = "urn:xmpp:xbosh";
    /// What a web host tells about itself (RFC 6415).
    XRD = "http://docs.oasis-open.org/ns/xri/xrd-1.0";
    /// Stream management (XEP-0198).
    SM = "urn:xmpp:sm:3";
    /// Rosters (RFC 6121).
    ROSTER = "jabber:iq:roster";
    /// The feature of roster versions.
    ROSTERVER = "urn:xmpp:features:rosterver";
    /// The feature of subscriptions approved in advance.
    PREAPPROVAL = "urn:xmpp:features:pre-approval";
    /// What an entity can do (XEP-0030).
    DISCO_INFO = "http://jabber.org/protocol/disco#info";
    /// What an entity contains (XEP-0030).
    DISCO_ITEMS = "http://jabber.org/protocol/disco#items";
    /// Commands (XEP-0050).
    COMMANDS = "http://jabber.org/protocol/commands";
    /// Forms of service administration (XEP-0133).
    ADMIN = "http://jabber.org/protocol/admin";
    /// Services outside of XMPP (XEP-0215).
    EXTERNAL_SERVICES = "urn:xmpp:extdisco:2";
    /// Where to learn of outages (XEP-0455).
    OUTAGE = "urn:xmpp:sos:0";
    /// Entity capabilities (XEP-0115).
    CAPS = "http://jabber.org/protocol/caps";
    /// Ping (XEP-0199).
    PING = "urn:xmpp:ping";
    /// Software version (XEP-0092).
    VERSION = "jabber:iq:version";
    /// Entity time (XEP-0202).
    TIME = "urn:xmpp:time";
    /// Last activity (XEP-0012).
    LAST = "jabber:iq:last";
    /// Addresses of those who run the service (XEP-0157).
    SERVER_INFO = "http://jabber.org/network/serverinfo";
    /// vCards (XEP-0054).
    VCARD = "vcard-temp";
    /// The avatar hash in presence (XEP-0153).
    VCARD_UPDATE = "vcard-temp:x:update";
    /// Message carbons (XEP-0280).
    CARBONS = "urn:xmpp:carbons:2";
    /// Forwarding (XEP-0297).
    FORWARD = "urn:xmpp:forward:0";
    /// Message archive (XEP-0313).
    MAM = "urn:xmpp:mam:2";
    /// Extended archive queries (XEP-0313).
    MAM_EXTENDED = "urn:xmpp:mam:2#extended";
    /// Searches of a message archive for words (XEP-0431).
    FULLTEXT = "urn:xmpp:fulltext:0";
    /// Result sets (XEP-0059).
    RSM = "http://jabber.org/protocol/rsm";
    /// Data forms (XEP-0004).
    DATA_FORM = "jabber:x:data";
    /// Delayed delivery (XEP-0203).
    DELAY = "urn:xmpp:delay";
    /// Processing hints (XEP-0334).
    HINTS = "urn:xmpp:hints";
    /// Unique and stable ids (XEP-0359).
    SID = "urn:xmpp:sid:0";
    /// Chat states (XEP-0085).
    CHATSTATES = "http://jabber.org/protocol/chatstates";
    /// Delivery receipts (XEP-0184).
    RECEIPTS = "urn:xmpp:receipts";
    /// Chat markers (XEP-0333).
    MARKERS = "urn:xmpp:chat-markers:0";
    /// Client state (XEP-0352).
    CSI = "urn:xmpp:csi:0";
    /// Channel-binding types (XEP-0440).
    SASL_CB = "urn:xmpp:sasl-cb:0";
    /// Stream limits (XEP-0478).
    LIMITS = "urn:xmpp:stream-limits:0";
    /// Blocking (XEP-0191).
    BLOCKING = "urn:xmpp:blocking";
    /// The condition of a blocked stanza (XEP-0191).
    BLOCKING_ERRORS = "urn:xmpp:blocking:errors";
    /// Reports of spam and abuse (XEP-0377).
    REPORTING = "urn:xmpp:reporting:1";
    /// Rooms (XEP-0045).
    MUC = "http://jabber.org/protocol/muc";
    /// What a room tells an occupant (XEP-0045).
    MUC_USER = "http://jabber.org/protocol/muc#user";
    /// Direct invitations (XEP-0249).
    CONFERENCE = "jabber:x:conference";
    /// Publish-subscribe (XEP-0060).
    PUBSUB = "http://jabber.org/protocol/pubsub";
    /// Notifications of nodes (XEP-0060).
    PUBSUB_EVENT = "http://jabber.org/protocol/pubsub#event";
    /// What only a node's owner may do (XEP-0060).
    PUBSUB_OWNER = "http://jabber.org/protocol/pubsub#owner";
    /// Conditions of node requests (XEP-0060).
    PUBSUB_ERRORS = "http://jabber.org/protocol/pubsub#errors";
    /// Options given together with an item (XEP-0060).
    PUBSUB_PUBLISH_OPTIONS = "http://jabber.org/protocol/pubsub#publish-options";
    /// Call invitations in messages (XEP-0353).
    JINGLE_MESSAGE = "urn:xmpp:jingle-message:0";
    /// Says how a message is encrypted (XEP-0380).
    EME = "urn:xmpp:eme:0";
    /// End-to-end encryption, the deployed version (XEP-0384).
    OMEMO = "eu.siacs.conversations.axolotl";
    /// End-to-end encryption, current version (XEP-0384).
    OMEMO_2 = "urn:xmpp:omemo:2";
    /// Reactions (XEP-0444).
    REACTIONS = "urn:xmpp:reactions:0";
    /// Retraction of messages (XEP-0424).
    RETRACT = "urn:xmpp:message-retract:1";
    /// Correction of messages (XEP-0308).
    CORRECT = "urn:xmpp:message-correct:0";
    /// The feature of offline storage (XEP-0160).
    OFFLINE = "msgoffline";
    /// Private XML storage (XEP-0049).
    PRIVATE = "jabber:iq:private";
    /// In-band registration (XEP-0077).
    REGISTER = "jabber:iq:register";
    /// The stream feature of in-band registration (XEP-0077).
    REGISTER_FEATURE = "http://jabber.org/features/iq-register";
    /// The stream feature of registration by invitation (XEP-0445).
    IBR_TOKEN = "urn:xmpp:ibr-token:0";
    /// An invitation that is shown (XEP-0379, XEP-0445).
    PREAUTH = "urn:xmpp:pars:0";
    /// Push notifications (XEP-0357).
    PUSH = "urn:xmpp:push:0";
    /// The prefix `xml`, always bound.
    XML = "http://www.w3.org/XML/1998/namespace";
    /// The prefix `xmlns`, which no element or attribute may use.
    XMLNS = "http://www.w3.org/2000/xmlns/";
}
