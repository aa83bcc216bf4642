//! The names of stanzas and their types on the wire.

use super::{IqType, Kind, MessageType, PresenceType};

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
