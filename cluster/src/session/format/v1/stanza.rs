//! Stanzas.

use bytes::Bytes;
use proto::Jid;
use proto::stanza;

use crate::session::format::upgrade::{mirror_enum, mirror_struct};

mirror_struct!(Packet => stanza::Packet {
    header: Header,
    payload: Bytes,
});

mirror_struct!(Header => stanza::Header {
    kind: Kind,
    from: Option<Jid>,
    to: Option<Jid>,
    id: Option<Box<str>>,
    lang: Option<Box<str>>,
});

mirror_enum!(Kind => stanza::Kind {
    Message(MessageType),
    Presence(PresenceType),
    Iq(IqType),
});

mirror_enum!(MessageType => stanza::MessageType { Normal, Chat, Groupchat, Headline, Error });

mirror_enum!(PresenceType => stanza::PresenceType {
    Available,
    Unavailable,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Probe,
    Error,
});

mirror_enum!(IqType => stanza::IqType { Get, Set, Result, Error });
