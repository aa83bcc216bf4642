//! Message, presence and iq: a header around a payload.
//!
//! A stanza has two forms. [`Stanza`] is parsed, for code that reads or changes its payload.
//! [`Packet`] is written: its payload is bytes of our own writer, made once, shared by every copy that
//! travels, waits in a queue or is replicated. Headers stay apart, so that a copy with another address,
//! a delay or a stanza-id costs no second serialisation.

pub mod error;
mod kind;
mod packet;
mod parse;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::jid::Jid;
use crate::xml::Element;

pub use error::{Condition, ErrorType, StanzaError};
pub use parse::ParseError;

/// The type of a `<message/>` (RFC 6121 §5.2.2). An absent or unknown one is [`MessageType::Normal`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MessageType {
    /// A single message outside of a conversation.
    #[default]
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

impl Header {
    /// A header without addresses and id.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            from: None,
            to: None,
            id: None,
            lang: None,
        }
    }

    /// The header of an answer: addresses swapped, the same id.
    pub fn reply(&self, kind: Kind) -> Self {
        Self {
            kind,
            from: self.to.clone(),
            to: self.from.clone(),
            id: self.id.clone(),
            lang: None,
        }
    }
}

impl Stanza {
    /// A stanza without addresses, id and payload.
    pub fn new(kind: Kind) -> Self {
        Self {
            header: Header::new(kind),
            payload: Vec::new(),
        }
    }

    /// The empty result of a request.
    pub fn result(request: &Header) -> Self {
        Self {
            header: request.reply(Kind::Iq(IqType::Result)),
            payload: Vec::new(),
        }
    }

    /// The stanza with an addressee.
    pub fn with_to(mut self, to: Jid) -> Self {
        self.header.to = Some(to);
        self
    }

    /// The stanza with a sender.
    pub fn with_from(mut self, from: Jid) -> Self {
        self.header.from = Some(from);
        self
    }

    /// The stanza with an id.
    pub fn with_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.header.id = Some(id.into());
        self
    }

    /// The stanza with a child appended.
    pub fn with_child(mut self, child: Element) -> Self {
        self.payload.push(child);
        self
    }

    /// The first child of this name.
    pub fn child(&self, local: &str, ns: &str) -> Option<&Element> {
        self.payload.iter().find(|child| child.is(local, ns))
    }
}
