//! Message, presence and iq: a header around a payload.
//!
//! A stanza has two forms. [`Stanza`] is parsed, for code that reads or changes its payload.
//! [`Packet`] is written: its payload is bytes of our own writer, made once, shared by every copy that
//! travels, waits in a queue or is replicated. Headers stay apart, so that a copy with another address,
//! a delay or a stanza-id costs no second serialisation.

pub mod error;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::jid::Jid;
use crate::xml::Element;

/// The type of a `<message/>` (RFC 6121 §5.2.2). An absent or unknown one is [`MessageType::Normal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MessageType {
    /// A single message outside of a conversation.
    Normal,
    /// Part of a one-to-one conversation.
    Chat,
    /// From or to a room.
    Groupchat,
    /// An alert that expects no reply.
    Headline,
    /// An error about an earlier message.
    Error,
}

/// The type of a `<presence/>` (RFC 6121 §4.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PresenceType {
    /// No `type` attribute.
    Available,
    /// No longer available.
    Unavailable,
    /// A request to see the recipient's presence.
    Subscribe,
    /// The request is granted.
    Subscribed,
    /// The sender no longer wants to see the recipient's presence.
    Unsubscribe,
    /// The request is refused, or an earlier grant is withdrawn.
    Unsubscribed,
    /// A server asks for the current presence.
    Probe,
    /// An error about an earlier presence stanza.
    Error,
}

/// The type of an `<iq/>` (RFC 6120 §8.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IqType {
    /// Asks for information.
    Get,
    /// Asks for a change.
    Set,
    /// Answers a request.
    Result,
    /// Refuses a request.
    Error,
}

/// What a stanza is: its element name and its `type` attribute in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `<message/>`
    Message(MessageType),
    /// `<presence/>`
    Presence(PresenceType),
    /// `<iq/>`
    Iq(IqType),
}

/// The attributes of a stanza.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Element name and type.
    pub kind: Kind,
    /// The sender; the server stamps it, whatever the client wrote (ST-67).
    pub from: Option<Jid>,
    /// The addressee.
    pub to: Option<Jid>,
    /// Opaque, unique per sender only (ST-74).
    pub id: Option<Box<str>>,
    /// `xml:lang`.
    pub lang: Option<Box<str>>,
}

/// A parsed stanza.
#[derive(Clone, Debug, PartialEq)]
pub struct Stanza {
    /// The attributes.
    pub header: Header,
    /// The child elements, in order.
    pub payload: Vec<Element>,
}

/// A written stanza.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The attributes.
    pub header: Header,
    /// The children, serialised for a parent whose default namespace is `jabber:client`.
    pub payload: Bytes,
}
