//! What a stanza is, and how that is named on the wire.

use serde::{Deserialize, Serialize};

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

impl Kind {
    /// The element name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message(_) => "message",
            Self::Presence(_) => "presence",
            Self::Iq(_) => "iq",
        }
    }

    /// The `type` attribute, if it is written at all.
    pub fn type_name(self) -> Option<&'static str> {
        match self {
            Self::Message(MessageType::Normal) | Self::Presence(PresenceType::Available) => None,
            Self::Message(MessageType::Chat) => Some("chat"),
            Self::Message(MessageType::Groupchat) => Some("groupchat"),
            Self::Message(MessageType::Headline) => Some("headline"),
            Self::Presence(PresenceType::Unavailable) => Some("unavailable"),
            Self::Presence(PresenceType::Subscribe) => Some("subscribe"),
            Self::Presence(PresenceType::Subscribed) => Some("subscribed"),
            Self::Presence(PresenceType::Unsubscribe) => Some("unsubscribe"),
            Self::Presence(PresenceType::Unsubscribed) => Some("unsubscribed"),
            Self::Presence(PresenceType::Probe) => Some("probe"),
            Self::Iq(IqType::Get) => Some("get"),
            Self::Iq(IqType::Set) => Some("set"),
            Self::Iq(IqType::Result) => Some("result"),
            Self::Message(MessageType::Error)
            | Self::Presence(PresenceType::Error)
            | Self::Iq(IqType::Error) => Some("error"),
        }
    }
}

impl MessageType {
    /// Reads a `type` attribute; an unknown one means `normal` (ST-73).
    pub(super) fn parse(name: Option<&str>) -> Self {
        match name {
            Some("chat") => Self::Chat,
            Some("groupchat") => Self::Groupchat,
            Some("headline") => Self::Headline,
            Some("error") => Self::Error,
            _ => Self::Normal,
        }
    }
}

impl PresenceType {
    /// Reads a `type` attribute.
    pub(super) fn parse(name: Option<&str>) -> Option<Self> {
        Some(match name {
            None => Self::Available,
            Some("unavailable") => Self::Unavailable,
            Some("subscribe") => Self::Subscribe,
            Some("subscribed") => Self::Subscribed,
            Some("unsubscribe") => Self::Unsubscribe,
            Some("unsubscribed") => Self::Unsubscribed,
            Some("probe") => Self::Probe,
            Some("error") => Self::Error,
            Some(_) => return None,
        })
    }
}

impl IqType {
    /// Reads a `type` attribute.
    pub(super) fn parse(name: Option<&str>) -> Option<Self> {
        Some(match name? {
            "get" => Self::Get,
            "set" => Self::Set,
            "result" => Self::Result,
            "error" => Self::Error,
            _ => return None,
        })
    }
}
